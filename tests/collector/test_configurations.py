"""The files of collector-config/ combine, start, and are what their heads and the README say."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.backends import CONFIGS, NOWHERE, README, README_BLOCKS, backend, collector, settings, tool
from tests.support.harness import clean_environment
from tests.support.otlp_requests import certificates, log_request, post

BASES = ["agent.yaml", "gateway.yaml"]
STAGES = ["redaction.yaml", "sampling.yaml"]
DESTINATIONS = sorted(path.name for path in CONFIGS.glob("to-*.yaml"))
FILES = [*BASES, *STAGES, *DESTINATIONS]

TO_START = [text for marks, text in README_BLOCKS if marks[0] == "otelcol"]


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A certificate and a token for a gateway, in files of the names that the README has for them."""
    directory = tmp_path_factory.mktemp("gateway") / "tls"
    made = certificates(directory)
    (directory / "token").write_text(made["GATEWAY_TOKEN"])
    return made


@pytest.mark.e2e
def test_the_readmes_certificate_and_token_are_good(tmp_path: Path) -> None:
    """A sender that trusts the certificate, under a name that it has, and knows the token is let in."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which the README's commands use, is not on this machine")
    [commands] = [text for marks, text in README_BLOCKS if marks == ["openssl"]]
    subprocess.run(["bash", "-ec", commands], cwd=tmp_path, check=True, capture_output=True)
    token, certificate = (tmp_path / "token").read_text().strip(), str(tmp_path / "tls.crt")
    environ = {
        "GATEWAY_TOKEN": token,
        "TLS_CERT_FILE": certificate,
        "TLS_KEY_FILE": str(tmp_path / "tls.key"),
    }
    with collector([CONFIGS / "gateway.yaml"], tmp_path / "gateway", environ, tls=True) as gateway:
        url = gateway.http_endpoint.replace("127.0.0.1", "localhost")
        assert post(url, log_request("hello"), certificate, Authorization=f"Bearer {token}") == 200


def validate(files: list[str], environ: dict[str, str]) -> str:
    """Return what the Collector has against a combination: nothing, if it is well."""
    command = [str(tool("otelcol")), "validate", *(f"--config={CONFIGS / name}" for name in files)]
    ran = subprocess.run(
        command, env=clean_environment() | environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert bool(ran.returncode) == bool(ran.stderr.strip()), ran.stderr
    return ran.stderr


@pytest.mark.e2e
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize(
    "stages", [[], ["redaction.yaml"], ["sampling.yaml"], STAGES, STAGES[::-1]], ids="+".join
)
def test_every_combination_is_valid(
    base: str, stages: list[str], tls: dict[str, str], tmp_path: Path
) -> None:
    """A base with no destination, with each alone and with all, and with stages before or after them."""
    environ = settings(tmp_path) | tls
    for destinations in ([], *([name] for name in DESTINATIONS), DESTINATIONS):
        assert validate([base, *destinations, *stages], environ) == ""
    assert validate([base, *stages, *DESTINATIONS], environ) == ""


@pytest.mark.e2e
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize(
    "more", [[], *([name] for name in DESTINATIONS + STAGES), DESTINATIONS + STAGES], ids="+".join
)
def test_every_file_starts(base: str, more: list[str], tls: dict[str, str], tmp_path: Path) -> None:
    """Each destination and stage with each base, and all of them at once, without a warning."""
    command = [str(tool("otelcol")), *(f"--config={CONFIGS / name}" for name in [base, *more])]
    with backend(command, tmp_path, settings(tmp_path) | tls) as program:
        pass
    complaints = [line for line in program.output.splitlines() if re.search(r"\t(warn|error)\t", line)]
    # The names that old Collectors know. And a destination that is not there is told of, rightly.
    known = re.compile(r"alias is deprecated|connection refused")
    assert [line for line in complaints if not known.search(line)] == []


@pytest.mark.e2e
@pytest.mark.parametrize("text", TO_START, ids=lambda text: text.splitlines()[-1].removeprefix("otelcol "))
def test_the_readmes_commands_start(text: str, tls: dict[str, str], tmp_path: Path) -> None:
    """Each as it stands there, but for the ports that it listens on, with no directory but the user's own."""
    environ = settings(tmp_path) | {"HOME": str(tmp_path / "home")}
    text = text.replace("/var/tmp/", f"{tmp_path}/")
    for name in ("LISTEN_GRPC", "LISTEN_HTTP"):
        text = re.sub(rf"{name}=\S+", f"{name}={environ[name]}", text)
    *exports, start = text.rstrip().split("\n")
    certificate = Path(tls["TLS_CERT_FILE"])
    for path in (
        *(CONFIGS / name for name in FILES),
        *(certificate.with_name(name) for name in ("tls.crt", "tls.key", "token")),
    ):
        shutil.copy(path, tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "otelcol").symlink_to(tool("otelcol"))
    environ["PATH"] = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    for name in ("QUEUE_DIR", *NOWHERE):
        del environ[name]
    with backend(["bash", "-ec", "\n".join([*exports, f"exec {start}"])], tmp_path, environ):
        [queue] = tmp_path.rglob("torchelastic-*")
        assert list(queue.iterdir())


def test_every_command_of_the_readme_is_tried() -> None:
    """By a test of this file, of the delivery, of the compose files, of the manifests, or of monitoring."""
    kinds = [" ".join(marks) for marks, _ in README_BLOCKS]
    assert sorted(set(kinds)) == [
        "compose", "kubernetes", "monitoring", "openssl", "otelcol", "otelcol agent", "otelcol gateway",
        "torchrun collector", "torchrun grafana", "torchrun jaeger",
    ]  # fmt: skip
    assert len(TO_START) == 6


def test_the_readme_names_every_file() -> None:
    """Its table has each base, destination and stage, and these are all files that there are."""
    assert sorted(FILES) == sorted(
        path.name for path in CONFIGS.glob("*.yaml") if path.name != "kustomization.yaml"
    )
    assert set(re.findall(r"^\| \[([\w-]+\.yaml)\]", README, re.MULTILINE)) == set(FILES)


@pytest.mark.parametrize("name", [*FILES, "jaeger/jaeger.yaml", "kubernetes/k8sattributes.yaml"])
def test_the_head_of_a_file_tells_its_variables(name: str) -> None:
    """Those that it reads, each with its default, and no other."""
    text = (CONFIGS / name).read_text()
    head = text[: text.index("\n\n")]
    told = re.findall(r"^#   ([A-Z][A-Z_, ]*[A-Z])  ", head, re.MULTILINE)
    told = [variable for names in told for variable in names.split(", ")]
    # HOME is the place of a default, and no variable of the file.
    text = text.replace("${env:HOME:-/var/lib/otelcol}/", "")
    used = dict(re.findall(r"\$\{env:([A-Z_]+)(?::-([^}]*))?\}", text))
    named = set(re.findall(r"\b(?:node_from_env_var): ([A-Z0-9_]+)", text))
    assert sorted(told) == sorted({*used, *named} - {"K8S_NODE_NAME"})
    for variable, default in used.items():
        assert default in head, f"{variable} has the default {default}, and the head does not say so"


@pytest.mark.parametrize("name", FILES)
def test_every_address_and_token_is_a_variable(name: str) -> None:
    """No host, port or path is written down but as the default of a variable."""
    text = re.sub(r"#.*", "", (CONFIGS / name).read_text())
    variable = re.compile(r"\$\{env:\w+(:-[^{}]*)?\}")
    fixed = variable.sub("", variable.sub("", text))  # twice: a default may have a variable in it
    assert re.findall(r"localhost|\d+\.\d+\.\d+\.\d+|:\d{4,5}\b|/var/|/etc/|https?://", fixed) == []


def load(name: str) -> dict[str, Any]:
    """Read a file."""
    data: dict[str, Any] = yaml.safe_load((CONFIGS / name).read_text())
    return data


def test_gateway_and_agent_differ_in_who_may_send_alone() -> None:
    """Pipelines, queues and limits are the same, but for TLS, the token, and defaults of size and path."""
    agent, gateway = load("agent.yaml"), load("gateway.yaml")
    for protocol in ("grpc", "http"):
        served = gateway["receivers"]["otlp"]["protocols"][protocol]
        assert set(served.pop("tls")) == {"cert_file", "key_file", "reload_interval"}
        assert served.pop("auth") == {"authenticator": "bearertokenauth"}
    assert gateway["extensions"].pop("bearertokenauth") == {"token": "${env:GATEWAY_TOKEN}"}
    gateway["service"]["extensions"].remove("bearertokenauth")

    def shown(config: dict[str, Any]) -> str:
        return (
            yaml.safe_dump(config)
            .replace("torchelastic-gateway", "torchelastic-agent")
            .replace(":-1024", ":-256")
        )

    assert shown(gateway) == shown(agent)


@pytest.mark.parametrize("name", DESTINATIONS)
def test_a_destination_over_the_network_has_a_queue_on_disk_and_never_gives_up(name: str) -> None:
    """Those that write here need none."""
    for exporter, config in load(name)["exporters"].items():
        if exporter.partition("/")[0] not in ("file", "debug"):
            assert config["sending_queue"]["storage"] == "file_storage"
            assert config["retry_on_failure"]["max_elapsed_time"] == 0


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("missing", "destination", "said"),
    [
        ("GATEWAY_TOKEN", "to-debug.yaml", "bearertokenauth: no bearer token provided"),
        (
            "TLS_CERT_FILE",
            "to-debug.yaml",
            "failed to load TLS cert and key: open /etc/otelcol/tls/tls.crt: no such file",
        ),
        ("VENDOR_ENDPOINT", "to-vendor.yaml", "otlphttp/vendor: at least one endpoint must be specified"),
        ("JAEGER_ENDPOINT", "to-jaeger.yaml", 'otlp/jaeger: requires a non-empty "endpoint"'),
        ("TEMPO_ENDPOINT", "to-grafana.yaml", 'otlp/tempo: requires a non-empty "endpoint"'),
        ("GATEWAY_ENDPOINT", "to-gateway.yaml", 'otlp/gateway: requires a non-empty "endpoint"'),
    ],
)
def test_what_must_be_set_is_asked_for(
    missing: str, destination: str, said: str, tls: dict[str, str], tmp_path: Path
) -> None:
    """Without it a gateway does not start, and its last word says what it lacks."""
    environ = clean_environment() | settings(tmp_path) | tls
    del environ[missing]
    command = [
        str(tool("otelcol")),
        *(f"--config={CONFIGS / name}" for name in ("gateway.yaml", destination)),
    ]
    ran = subprocess.run(
        command, env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 1
    assert said in ran.stderr.splitlines()[-1]


def test_the_readmes_links_lead_somewhere() -> None:
    """A link into the project names a file that is there."""
    links = re.findall(r"\]\(([^)#\s]+)", README)
    assert [link for link in links if "://" not in link and not (CONFIGS / link).exists()] == []
