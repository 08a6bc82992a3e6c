"""The compose files, and every configuration that they mount, as far as it can be tried without an engine."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from tests.support.backends import CONFIGS, README_BLOCKS, Program, backend, ended, fetch, tool
from tests.support.harness import clean_environment, free_port

FILES = {name: CONFIGS / name / "compose.yaml" for name in ("jaeger", "grafana")}
SERVICES = [
    (name, service) for name in FILES for service in yaml.safe_load(FILES[name].read_text())["services"]
]


def as_run(file: str) -> str:
    """Return a compose file as it is for a user without variables of their own."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", FILES[file].read_text())


def service_of(file: str, name: str) -> dict[str, Any]:
    """Return a service of it."""
    service: dict[str, Any] = yaml.safe_load(as_run(file))["services"][name]
    return service


def mounts(file: str, service: dict[str, Any]) -> dict[str, Path]:
    """Return the files and directories that a service is given, by where it finds them."""
    bound = [volume.split(":") for volume in service.get("volumes", []) if volume.startswith(".")]
    assert all(mode == "ro" for _, _, mode in bound)
    return {inside: (FILES[file].parent / outside).resolve() for outside, inside, _ in bound}


@pytest.mark.parametrize("name", FILES)
def test_it_is_a_compose_file(name: str) -> None:
    """By the Compose specification, with nothing that it does not know."""
    parsed = PyCompose.from_yaml(as_run(name))
    assert set(parsed.services or {}) == {service for file, service in SERVICES if file == name}


def test_the_readmes_commands_name_these_files() -> None:
    """Each `docker compose` command of the README, from the directory that it is run in."""
    commands = [text for marks, text in README_BLOCKS if marks == ["compose"]]
    named = [
        CONFIGS / path for text in commands for path in re.findall(r"docker compose -f (\S+) up -d", text)
    ]
    assert named == list(FILES.values())


@pytest.mark.parametrize(("file", "name"), SERVICES)
def test_images_are_pinned_and_ports_are_for_this_machine_alone(file: str, name: str) -> None:
    """No `latest`, no port for others, and data on named volumes that are declared."""
    service = service_of(file, name)
    assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+", service["image"])
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    volumes = {volume.split(":")[0] for volume in service["volumes"] if not volume.startswith(".")}
    assert volumes
    assert volumes <= set(yaml.safe_load(FILES[file].read_text())["volumes"])


@pytest.mark.parametrize(("file", "name"), SERVICES)
def test_what_is_mounted_is_there(file: str, name: str) -> None:
    """Compose makes a directory of a file that is missing, and the service fails in a puzzling way."""
    service = service_of(file, name)
    found = mounts(file, service)
    assert all(path.exists() for path in found.values()), found
    for argument in service.get("command", []):
        for path in re.findall(r"=(/etc/\S+)", argument):
            assert path in found


def test_all_versions_are_those_that_were_tested() -> None:
    """The Collector's image is the same everywhere."""
    texts = [path.read_text() for path in CONFIGS.rglob("*.yaml")]
    versions = {
        version for text in texts for version in re.findall(r"opentelemetry-collector\S*:(\S+)", text)
    }
    assert len(versions) == 1


@pytest.mark.e2e
def test_the_stacks_collector_starts(tmp_path: Path) -> None:
    """With the arguments and variables of its service, but for directories and ports."""
    service = service_of("grafana", "collector")
    found = mounts("grafana", service)
    arguments = [
        argument.replace("=" + (path := argument[9:]), f"={found[path]}") for argument in service["command"]
    ]
    environ = {key: str(value) for key, value in service["environment"].items()} | {
        "QUEUE_DIR": str(tmp_path / "queue"),
        "METRICS_PORT": str(free_port()),
    }
    listens = {name: f"127.0.0.1:{free_port()}" for name in environ if name.startswith("LISTEN_")}
    environ |= {**listens, "LISTEN_HEALTH": f"127.0.0.1:{free_port()}", "METRICS_HOST": "127.0.0.1"}
    with backend([str(tool("otelcol")), *arguments], tmp_path, environ):
        pass
    # What it sends to are services of the same file, at ports that they listen on.
    services = yaml.safe_load(FILES["grafana"].read_text())["services"]
    for variable in ("TEMPO_ENDPOINT", "LOKI_ENDPOINT", "PROMETHEUS_ENDPOINT"):
        assert re.sub(r"^https?://", "", environ[variable]).partition(":")[0] in services


@pytest.mark.e2e
def test_jaeger_starts_and_keeps_its_traces(tmp_path: Path) -> None:
    """With its file, and with a directory that outlives it."""
    ui = free_port()
    environ = {
        "JAEGER_DIR": str(tmp_path / "traces"),
        "JAEGER_LISTEN_GRPC": str(free_port()),
        "JAEGER_LISTEN_HTTP": str(free_port()),
        "JAEGER_LISTEN_UI": str(ui),
        "JAEGER_LISTEN_QUERY": str(free_port()),
    }
    command = [str(tool("jaeger")), f"--config={CONFIGS / 'jaeger' / 'jaeger.yaml'}"]
    with backend(command, tmp_path, environ) as program:
        assert b'"errors":null' in fetch(f"http://127.0.0.1:{ui}/api/services").replace(b" ", b"")
        program.kill()
    assert list((tmp_path / "traces" / "keys").iterdir())


@pytest.mark.e2e
def test_prometheus_reads_its_files_where_compose_puts_them(tmp_path: Path) -> None:
    """The configuration and the rules that it names, laid out as in the container."""
    service = service_of("grafana", "prometheus")
    root = tmp_path / "etc"
    for inside, outside in mounts("grafana", service).items():
        target = root / Path(inside).relative_to("/etc")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(outside, target) if outside.is_dir() else shutil.copy(outside, target)
    config = next(
        argument.partition("=/etc/")[2] for argument in service["command"] if "config.file" in argument
    )
    command = [str(tool("promtool")), "check", "config", str(root / config)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "rules found" in ran.stdout
    flags = [
        argument
        for argument in service["command"]
        if not argument.startswith(("--config", "--storage.tsdb.path"))
    ]
    url = f"http://127.0.0.1:{free_port()}"
    command = [
        str(tool("prometheus")),
        f"--config.file={root / config}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address={url.removeprefix('http://')}",
        *flags,
    ]
    with ended(Program(command, tmp_path, f"{url}/-/ready")):
        assert b"exemplar-storage" in fetch(f"{url}/api/v1/status/flags")


@pytest.mark.e2e
def test_loki_knows_all_its_settings(tmp_path: Path) -> None:
    """Loki refuses a file with a setting that it does not know; this one it takes."""
    command = [
        str(tool("loki")),
        "-verify-config",
        f"-config.file={CONFIGS / 'grafana' / 'loki.yaml'}",
        f"-common.storage.filesystem.chunk-directory={tmp_path}",
        f"-common.storage.filesystem.rules-directory={tmp_path}",
        f"-common.path-prefix={tmp_path}",
    ]
    ran = subprocess.run(
        command, env=clean_environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr


def provisioned() -> dict[str, dict[str, Any]]:
    """Return Grafana's data sources by uid."""
    path = CONFIGS / "grafana" / "provisioning" / "datasources" / "torchelastic.yaml"
    return {source["uid"]: source for source in yaml.safe_load(path.read_text())["datasources"]}


def test_data_sources_lead_to_each_other() -> None:
    """Each link of one names another that is there, under the uids that the dashboards use."""
    sources = provisioned()
    assert set(sources) == {"prometheus", "loki", "tempo"}
    [exemplars] = sources["prometheus"]["jsonData"]["exemplarTraceIdDestinations"]
    [derived] = sources["loki"]["jsonData"]["derivedFields"]
    to_logs = sources["tempo"]["jsonData"]["tracesToLogsV2"]
    assert (exemplars["datasourceUid"], derived["datasourceUid"], to_logs["datasourceUid"]) == (
        "tempo",
        "tempo",
        "loki",
    )
    services = yaml.safe_load(FILES["grafana"].read_text())["services"]
    assert {re.findall(r"//(\w+):", source["url"])[0] for source in sources.values()} <= set(services)


def test_dashboards_are_found_where_they_are_mounted() -> None:
    """The provider's path is a mount of the service, and the home dashboard is one of them."""
    service = service_of("grafana", "grafana")
    path = CONFIGS / "grafana" / "provisioning" / "dashboards" / "torchelastic.yaml"
    [provider] = yaml.safe_load(path.read_text())["providers"]
    directory = mounts("grafana", service)[provider["options"]["path"]]
    home = Path(service["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert str(home.parent) == provider["options"]["path"]
    assert (directory / home.name).is_file()
