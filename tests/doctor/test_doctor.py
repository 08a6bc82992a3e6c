"""The doctor finds the usual mistakes at real servers, and says in one sentence each what to do."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs

from otlp_receiver import OtlpReceiver, TlsFiles
from torchelastic_otel._config.otlp import OtlpTarget
from torchelastic_otel._config.variables import VARIABLES
from torchelastic_otel._delivery.spool import Spool
from torchelastic_otel._doctor.network import Address, proxy_of

SOURCE = Path(__file__).parents[2] / "src"
SIGNALS = ("traces", "logs", "metrics")
PROTOCOLS = ("grpc", "http/protobuf")
PROBE = "torchelastic_otel.doctor"
SECRET = "s3cr3t-t0ken"

each_protocol = pytest.mark.parametrize("protocol", PROTOCOLS)


# --- help -----------------------------------------------------------------------------------------


@dataclass
class Found:
    """What the doctor said."""

    code: int
    out: str
    err: str

    @property
    def last_line(self) -> str:
        """The verdict for people."""
        return self.out.splitlines()[-1]

    @property
    def report(self) -> dict[str, Any]:
        """The JSON object."""
        report: dict[str, Any] = json.loads(self.out)
        return report

    def checks(self, name: str) -> list[dict[str, str]]:
        """Return all checks of that name."""
        return [check for check in self.report["checks"] if check["name"] == name]

    def check(self, name: str) -> tuple[str, str, str]:
        """Return the status, message and advice of the one check of that name."""
        (found,) = self.checks(name)
        return found["status"], found["message"], found["advice"]

    def says(self, name: str, status: str, message: str, advice: str = "") -> bool:
        """Tell whether there is such a check."""
        return any(
            (check["status"], message in check["message"], advice in check["advice"]) == (status, True, True)
            for check in self.checks(name)
        )


@dataclass
class Doctor:
    """Runs the command with a clean environment."""

    folder: Path

    @property
    def spool(self) -> Path:
        """Its spool."""
        return self.folder / f"torchelastic-otel-{os.geteuid()}"

    def __call__(
        self,
        variables: Mapping[str, str] | None = None,
        /,
        *,
        arguments: tuple[str, ...] = ("--json",),
        python: tuple[str, ...] = (),
        path: tuple[Path, ...] = (),
    ) -> Found:
        """Run ``torchelastic-otel doctor --json``, or with other arguments."""
        environ = {
            "PATH": os.environ["PATH"],
            "TORCHELASTIC_OTEL_SPOOL_DIR": str(self.spool),
            "PYTHONPATH": os.pathsep.join(map(str, (*path, SOURCE))),
            **(variables or {}),
        }
        done = subprocess.run(
            [sys.executable, *python, "-m", "torchelastic_otel.cli", "doctor", *arguments],
            env=environ,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
        )
        return Found(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def doctor(tmp_path: Path) -> Doctor:
    """A doctor with a spool of its own."""
    return Doctor(tmp_path)


@dataclass
class Authority:
    """PEM files of an authority, and of a server that it vouches for."""

    ca: Path
    server: TlsFiles
    strict_server: TlsFiles
    other_name: TlsFiles


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Make the certificates once."""
    folder = tmp_path_factory.mktemp("authority")
    ca = trustme.CA()
    ca.cert_pem.write_to_path(folder / "ca.pem")
    pairs = []
    for name in ("127.0.0.1", "elsewhere.example"):
        issued = ca.issue_cert(name)
        issued.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
        issued.private_key_pem.write_to_path(folder / f"{name}.key")
        pairs.append((folder / f"{name}.pem", folder / f"{name}.key"))
    return Authority(
        folder / "ca.pem",
        TlsFiles(*pairs[0]),
        TlsFiles(*pairs[0], folder / "ca.pem"),
        TlsFiles(*pairs[1]),
    )


def port_of(endpoint: str) -> str:
    """Return the port of a URL."""
    return endpoint.rpartition(":")[2]


def endpoint_of(receiver: OtlpReceiver, protocol: str) -> str:
    """Return the receiver's endpoint."""
    return receiver.grpc_endpoint if protocol == "grpc" else receiver.http_endpoint


def to(endpoint: str, protocol: str = "http/protobuf") -> dict[str, str]:
    """Return the variables that lead there."""
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}


@contextmanager
def closed_port(port: int = 0) -> Iterator[int]:
    """Hold a port that refuses connections."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", port))
        yield held.getsockname()[1]


class _Proxy(BaseHTTPRequestHandler):
    """A proxy that lets nobody through."""

    def do_CONNECT(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", "0")))
        self.send_error(403, "not through here")

    do_POST = do_CONNECT  # noqa: N815 - http.server's name

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        pass


@pytest.fixture
def proxy() -> Iterator[str]:
    """A proxy that answers 403 to everything."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Proxy) as server:
        threading.Thread(target=server.serve_forever, args=(0.005,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


# --- all is well ----------------------------------------------------------------------------------


@each_protocol
def test_a_probe_of_each_signal_arrives(doctor: Doctor, receiver: OtlpReceiver, protocol: str) -> None:
    """A log record, a span of the same trace, and a metric, from the bridge's own resource."""
    found = doctor({**to(endpoint_of(receiver, protocol), protocol), "OTEL_SERVICE_NAME": "training"})
    assert (found.code, found.err) == (0, "")
    assert found.report["ok"] is True
    assert {found.check(signal)[0] for signal in SIGNALS} == {"ok"}
    (log,), (span,), (metric,) = receiver.logs, receiver.spans, receiver.metrics
    assert (log.event_name, span.name, metric.name) == (PROBE, PROBE, PROBE)
    assert log.trace_id == span.trace_id
    for sent in (log, span, metric):
        assert sent.scope_name == "torchelastic_otel"
        assert sent.resource["service.name"] == "training"
        assert sent.resource["host.name"] == socket.gethostname()


def test_the_last_line_for_people_is_the_verdict(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """Without --json it is text, plain enough for a log file."""
    found = doctor(to(receiver.http_endpoint), arguments=())
    assert found.code == 0
    assert found.last_line == "Telemetry would arrive."
    assert "\x1b" not in found.out


def test_settings_are_shown_with_their_sources(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """A signal's own variable, the general one, the default, and what is not accepted."""
    found = doctor(
        {
            **to(receiver.http_endpoint),
            "OTEL_EXPORTER_OTLP_LOGS_TIMEOUT": "7",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "brotli",
            "OTEL_EXPORTER_OTLP_HEADERS": f"api-key={SECRET},x-tenant=blue-team",
            "OTEL_RESOURCE_ATTRIBUTES": "team=vision",
            "TORCHELASTIC_OTEL_HEARTBEATS": "log",
        }
    )
    settings = found.report["settings"]
    logs, package = settings["logs"], settings["package"]
    general = "OTEL_EXPORTER_OTLP_ENDPOINT"
    assert logs["endpoint"] == {"value": f"{receiver.http_endpoint}/v1/logs", "source": general}
    assert logs["protocol"] == {"value": "http/protobuf", "source": "OTEL_EXPORTER_OTLP_PROTOCOL"}
    assert logs["encryption"] == {"value": "none", "source": f"by {general}"}
    assert logs["timeout in s"] == {"value": 7, "source": "OTEL_EXPORTER_OTLP_LOGS_TIMEOUT"}
    assert settings["traces"]["timeout in s"] == {"value": 10, "source": "default"}
    assert logs["compression"]["value"] == "none"
    assert logs["compression"]["source"] == "default (OTEL_EXPORTER_OTLP_COMPRESSION is not accepted)"
    assert logs["headers"] == {"value": ["api-key", "x-tenant"], "source": "OTEL_EXPORTER_OTLP_HEADERS"}
    assert settings["resource"]["team"] == {"value": "vision", "source": "OTEL_RESOURCE_ATTRIBUTES"}
    assert settings["resource"]["service.name"] == {"value": "torchelastic", "source": "default"}
    assert settings["opentelemetry"]["OTEL_SDK_DISABLED"] == {"value": False, "source": "default"}
    name = "TORCHELASTIC_OTEL_HEARTBEATS"
    assert package[name] == {"value": "log", "source": name}
    assert package["TORCHELASTIC_OTEL_SPOOL_DIR"] == {
        "value": str(doctor.spool),
        "source": "TORCHELASTIC_OTEL_SPOOL_DIR",
    }


def test_every_setting_of_the_package_is_under_the_name_that_is_read(
    doctor: Doctor, receiver: OtlpReceiver
) -> None:
    """No more and no fewer than the table of variables has."""
    names = doctor(to(receiver.http_endpoint)).report["settings"]["package"]
    assert set(names) == {row.name for row in VARIABLES if row.setting}


def test_tls_that_is_right_is_found_right(doctor: Doctor, authority: Authority) -> None:
    """With the authority named, on both protocols; its file is shown."""
    with OtlpReceiver(tls=authority.server) as receiver:
        for protocol in PROTOCOLS:
            found = doctor(
                {
                    **to(endpoint_of(receiver, protocol), protocol),
                    "OTEL_EXPORTER_OTLP_CERTIFICATE": str(authority.ca),
                }
            )
            assert found.code == 0
            settings = found.report["settings"]["traces"]
            assert settings["encryption"]["value"] == "TLS"
            assert settings["authorities"]["value"] == str(authority.ca)


# --- secrets --------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [("--json",), ()], ids=["json", "text"])
def test_secrets_are_never_shown(doctor: Doctor, receiver: OtlpReceiver, arguments: tuple[str, ...]) -> None:
    """Not in settings, nor in warnings, nor where the server quotes them."""
    receiver.respond(
        status=401, body=f"no such key: {SECRET}".encode(), headers={"Content-Type": "text/plain"}
    )
    port = port_of(receiver.http_endpoint)
    found = doctor(
        {
            **to(f"127.0.0.1:{port}"),
            "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{SECRET},{SECRET}-alone",
            "OTEL_EXPORTER_OTLP_METRICS_HEADERS": f"x={SECRET}-für-uns",
            "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": f"user:{SECRET}@127.0.0.1:{port}/v1/logs?key={SECRET}",
            "HTTPS_PROXY": f"http://user:{SECRET}@proxy.example:3128",
        },
        arguments=arguments,
    )
    assert found.code == 1
    assert "no such key: ***" in found.out
    assert SECRET not in found.out + found.err


# --- the way there --------------------------------------------------------------------------------


def test_nothing_set_means_localhost(doctor: Doctor) -> None:
    """Which is what the user has to know when nothing listens there."""
    try:
        with closed_port(4317):
            found = doctor()
    except OSError:
        pytest.skip("something listens on port 4317 here")
    assert found.code == 1
    status, message, advice = found.check("logs")
    assert status == "problem"
    assert "OTEL_EXPORTER_OTLP_ENDPOINT is not set, so that localhost:4317 counts." in message
    assert "Set OTEL_EXPORTER_OTLP_ENDPOINT to your collector" in advice


@each_protocol
def test_a_port_where_nothing_listens(doctor: Doctor, protocol: str) -> None:
    """Said once for all signals in the last line."""
    with closed_port() as port:
        variables = to(f"http://127.0.0.1:{port}", protocol)
        found = doctor(variables, arguments=())
    assert found.code == 1
    assert found.last_line == (
        f"Problem: traces, logs, metrics: Nothing listens on 127.0.0.1:{port}: the connection was refused. "
        "Start the collector there, or correct the port in OTEL_EXPORTER_OTLP_ENDPOINT."
    )


def test_a_name_that_does_not_exist(doctor: Doctor) -> None:
    """The variable with the name is named."""
    found = doctor(to("http://collector.invalid:4318"))
    assert found.code == 1
    assert found.says(
        "traces",
        "problem",
        "The name collector.invalid cannot be resolved",
        "Correct the name in OTEL_EXPORTER_OTLP_ENDPOINT",
    )


def test_http_spoken_to_a_grpc_port(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """As an endpoint on an unusual port has it by default."""
    found = doctor({"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.grpc_endpoint})
    assert found.code == 1
    assert found.says(
        "logs",
        "problem",
        "speaks gRPC, and OTLP over HTTP was sent to it",
        "Set OTEL_EXPORTER_OTLP_PROTOCOL=grpc, or name the server's port for HTTP (usually 4318)",
    )


def test_grpc_spoken_to_an_http_port(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """The other way round."""
    found = doctor(to(receiver.http_endpoint, "grpc"))
    assert found.code == 1
    assert found.says(
        "logs",
        "problem",
        "speaks HTTP, and OTLP over gRPC was sent to it",
        "Set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf, or name the server's port for gRPC (usually 4317)",
    )


def test_a_protocol_that_the_exporters_name_fixes(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """The advice is to change that name, since the protocol's variable has no effect."""
    found = doctor({**to(receiver.http_endpoint), "OTEL_LOGS_EXPORTER": "otlp_proto_grpc"})
    assert found.code == 1
    assert found.says("logs", "problem", "speaks HTTP", "Write otlp in OTEL_LOGS_EXPORTER")
    assert found.check("traces")[0] == "ok"


@each_protocol
def test_a_protocol_mixed_up_under_tls(doctor: Doctor, authority: Authority, protocol: str) -> None:
    """It is seen inside of TLS as well."""
    other = "grpc" if protocol == "http/protobuf" else "http/protobuf"
    with OtlpReceiver(tls=authority.server) as receiver:
        found = doctor(
            {
                **to(endpoint_of(receiver, protocol), other),
                "OTEL_EXPORTER_OTLP_CERTIFICATE": str(authority.ca),
            }
        )
    assert found.code == 1
    name = {"grpc": "gRPC", "http/protobuf": "HTTP"}[protocol]
    assert found.says("traces", "problem", f"speaks {name}", f"Set OTEL_EXPORTER_OTLP_PROTOCOL={protocol}")


def test_a_path_that_is_missing(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """A signal's own endpoint is used as it is."""
    found = doctor({**to(receiver.http_endpoint), "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": receiver.http_endpoint})
    assert found.code == 1
    assert found.says(
        "logs", "problem", "has nothing at /", "Add /v1/logs to OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"
    )
    assert found.check("traces")[0] == "ok"


def test_a_path_that_is_doubled(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """The general endpoint is a base."""
    found = doctor(to(f"{receiver.http_endpoint}/v1/traces"))
    assert found.code == 1
    assert found.says(
        "logs",
        "problem",
        "has nothing at /v1/traces/v1/logs, a path that is doubled",
        "Leave /v1/traces out of OTEL_EXPORTER_OTLP_ENDPOINT: /v1/logs is added to it.",
    )


def test_a_path_of_another_signal(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """Nothing is sent there: some servers would take it for something else."""
    other = f"{receiver.http_endpoint}/v1/metrics"
    found = doctor({**to(receiver.http_endpoint), "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": other})
    assert found.code == 1
    assert found.says("logs", "problem", "which is for metrics", "Write /v1/logs at the end")


def test_a_path_that_the_server_does_not_know(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """As behind a gateway."""
    found = doctor(to(f"{receiver.http_endpoint}/otlp"))
    assert found.code == 1
    assert found.says("logs", "problem", "has nothing at /otlp/v1/logs", "Correct the path in")


@each_protocol
def test_plain_text_to_a_tls_port(doctor: Doctor, authority: Authority, protocol: str) -> None:
    """The usual http:// where https:// belongs."""
    with OtlpReceiver(tls=authority.server) as receiver:
        found = doctor(to(endpoint_of(receiver, protocol).replace("https", "http"), protocol))
    assert found.code == 1
    assert found.says(
        "traces", "problem", "expects TLS and was spoken to in plain text", "Write https:// in OTEL_EXPORTER"
    )


@each_protocol
def test_tls_to_a_plain_port(doctor: Doctor, receiver: OtlpReceiver, protocol: str) -> None:
    """And the other way round."""
    found = doctor(to(endpoint_of(receiver, protocol).replace("http", "https"), protocol))
    assert found.code == 1
    assert found.says(
        "traces", "problem", "does not use TLS, and TLS was spoken to it", "Write http:// in OTEL_EXPORTER"
    )


def test_a_grpc_endpoint_without_a_scheme(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """It means TLS, which is the bridge's warning, and the cause is found as well."""
    found = doctor(to(receiver.grpc_endpoint.removeprefix("http://"), "grpc"))
    assert found.code == 1
    assert found.says("traces", "problem", "does not use TLS")
    assert found.says("configuration", "warning", "does not say whether to encrypt; TLS is used")


@each_protocol
def test_a_certificate_that_is_not_trusted(doctor: Doctor, authority: Authority, protocol: str) -> None:
    """The advice names the variable for its authority."""
    with OtlpReceiver(tls=authority.server) as receiver:
        found = doctor(to(endpoint_of(receiver, protocol), protocol))
    assert found.code == 1
    status, message, advice = found.check("traces")
    assert status == "problem"
    assert message.startswith("The certificate of 127.0.0.1:")
    assert message.endswith("is not trusted: unable to get local issuer certificate.")
    assert advice == "Name the PEM file of the authority that issued it in OTEL_EXPORTER_OTLP_CERTIFICATE."


@each_protocol
def test_a_certificate_for_another_name(doctor: Doctor, authority: Authority, protocol: str) -> None:
    """Trusted, but somebody else's."""
    with OtlpReceiver(tls=authority.other_name) as receiver:
        found = doctor(
            {
                **to(endpoint_of(receiver, protocol), protocol),
                "OTEL_EXPORTER_OTLP_CERTIFICATE": str(authority.ca),
            }
        )
    assert found.code == 1
    assert found.says(
        "traces", "problem", "is not for 127.0.0.1", "Use a name in OTEL_EXPORTER_OTLP_ENDPOINT"
    )


@each_protocol
def test_a_server_that_demands_a_certificate(doctor: Doctor, authority: Authority, protocol: str) -> None:
    """Mutual TLS, and the client has none."""
    with OtlpReceiver(tls=authority.strict_server) as receiver:
        found = doctor(
            {
                **to(endpoint_of(receiver, protocol), protocol),
                "OTEL_EXPORTER_OTLP_CERTIFICATE": str(authority.ca),
            }
        )
    assert found.code == 1
    assert found.says(
        "traces", "problem", "seems to demand a certificate of its clients", "_CLIENT_CERTIFICATE"
    )


def test_a_certificate_file_that_cannot_be_read(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """The signal is not sent at all, which is a problem and not only a warning."""
    found = doctor(
        {**to("https://127.0.0.1:4318"), "OTEL_EXPORTER_OTLP_CERTIFICATE": str(doctor.folder / "none.pem")}
    )
    assert found.code == 1
    assert found.says("logs", "problem", "OTEL_EXPORTER_OTLP_CERTIFICATE=")
    assert not found.checks("configuration")


@each_protocol
def test_a_proxy_in_the_way(doctor: Doctor, receiver: OtlpReceiver, proxy: str, protocol: str) -> None:
    """What it answers is told as its own; the endpoint is well."""
    found = doctor({**to(endpoint_of(receiver, protocol), protocol), "http_proxy": proxy})
    assert found.code == 1
    assert found.says(
        "logs",
        "problem",
        f"The probe went to the proxy {proxy.removeprefix('http://')} (http_proxy) and was not taken",
        "If 127.0.0.1 is to be reached directly, add it to",
    )
    assert not receiver.requests


@each_protocol
def test_a_proxy_that_is_not_there(doctor: Doctor, receiver: OtlpReceiver, protocol: str) -> None:
    """The proxy is to be corrected, not the endpoint."""
    with closed_port() as port:
        variables = {"http_proxy": f"http://127.0.0.1:{port}"}
        found = doctor({**to(endpoint_of(receiver, protocol), protocol), **variables})
    assert found.code == 1
    assert found.says(
        "logs",
        "problem",
        "is through the proxy in http_proxy. Nothing listens on",
        "Correct http_proxy, or add",
    )


@each_protocol
def test_a_proxy_that_makes_an_exception(
    doctor: Doctor, receiver: OtlpReceiver, proxy: str, protocol: str
) -> None:
    """Then it is not in the way."""
    found = doctor(
        {**to(endpoint_of(receiver, protocol), protocol), "http_proxy": proxy, "no_proxy": "127.0.0.1"}
    )
    assert found.code == 0
    assert len(receiver.requests) == 3


@pytest.mark.parametrize("exceptions", ["", "example", "10.0.0.0/8,.example", "10.1.0.0/16", "collector"])
def test_grpc_takes_the_proxy_that_the_doctor_says(exceptions: str) -> None:
    """The end of a name, or a network, is excepted."""
    target = OtlpTarget("grpc", "http://collector.example:4317")
    environ = {"http_proxy": "http://proxy:3128", "no_proxy": exceptions}
    by_name = proxy_of(target, Address("collector.example", 4317), environ)
    by_address = proxy_of(target, Address("10.1.2.3", 4317), environ)
    assert (by_name is None) == ("example" in exceptions)
    assert (by_address is None) == ("10." in exceptions)


# --- what the server says -------------------------------------------------------------------------


@each_protocol
def test_credentials_that_are_refused(doctor: Doctor, receiver: OtlpReceiver, protocol: str) -> None:
    """The headers that are there are named."""
    receiver.respond(status=401, grpc_status="UNAUTHENTICATED", message="who are you?")
    found = doctor(
        {**to(endpoint_of(receiver, protocol), protocol), "OTEL_EXPORTER_OTLP_HEADERS": f"api-key={SECRET}"}
    )
    assert found.code == 1
    assert found.says(
        "logs",
        "problem",
        "rejected the credentials: who are you?",
        "Check the credentials in OTEL_EXPORTER_OTLP_HEADERS (headers there: api-key)",
    )


def test_a_redirect(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """None is followed, so the place it leads to is what should be configured."""
    receiver.respond(status=308, headers={"Location": "https://elsewhere.example/v1/logs"})
    found = doctor(to(receiver.http_endpoint))
    assert found.code == 1
    assert found.says(
        "logs", "problem", "redirected to https://elsewhere.example/v1/logs", "Write that place in"
    )


@each_protocol
def test_a_server_that_takes_only_some_signals(doctor: Doctor, receiver: OtlpReceiver, protocol: str) -> None:
    """The signal can be turned off."""
    receiver.respond(status=404, grpc_status="UNIMPLEMENTED", message="unknown service")
    found = doctor(to(endpoint_of(receiver, protocol), protocol))
    assert found.code == 1
    assert found.says("metrics", "problem", "takes no metrics", "OTEL_METRICS_EXPORTER=none")


def test_a_compression_that_the_server_does_not_know(doctor: Doctor) -> None:
    """As deflate for the Collector."""
    with OtlpReceiver(grpc_encodings=()) as receiver:
        found = doctor({**to(receiver.grpc_endpoint, "grpc"), "OTEL_EXPORTER_OTLP_COMPRESSION": "deflate"})
    assert found.code == 1
    assert found.says(
        "logs", "problem", "does not know the compression", "Set OTEL_EXPORTER_OTLP_COMPRESSION"
    )


@each_protocol
def test_a_partial_success_is_a_refusal(doctor: Doctor, receiver: OtlpReceiver, protocol: str) -> None:
    """The one probe in the request was the refused one."""
    receiver.respond(rejected=1, message="too many labels.")
    found = doctor(to(endpoint_of(receiver, protocol), protocol))
    assert found.code == 1
    assert found.says("logs", "problem", "refused the probe: too many labels.")


@each_protocol
def test_words_of_a_server_that_takes_all_are_a_warning(
    doctor: Doctor, receiver: OtlpReceiver, protocol: str
) -> None:
    """They stop nothing."""
    receiver.respond(message="this endpoint goes away soon")
    found = doctor(to(endpoint_of(receiver, protocol), protocol))
    assert found.code == 0
    assert found.says("logs", "warning", "it says: this endpoint goes away soon.")


@each_protocol
def test_a_server_in_trouble(doctor: Doctor, receiver: OtlpReceiver, protocol: str) -> None:
    """Its words are told."""
    receiver.respond(status=503, grpc_status="UNAVAILABLE", message="the queue is full")
    found = doctor(to(endpoint_of(receiver, protocol), protocol))
    assert found.code == 1
    assert found.says(
        "logs", "problem", "did not take the probe: the queue is full.", "Look at the server's own log"
    )


@each_protocol
def test_a_server_that_never_answers(doctor: Doctor, receiver: OtlpReceiver, protocol: str) -> None:
    """The configured timeout bounds the wait."""
    receiver.respond(delay=300)
    variables = {"OTEL_EXPORTER_OTLP_TIMEOUT": "0.2"}
    found = doctor({**to(endpoint_of(receiver, protocol), protocol), **variables})
    assert found.code == 1
    assert found.says("logs", "problem", "did not take the probe")


# --- variables ------------------------------------------------------------------------------------


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n"])
def test_a_server_that_drips(doctor: Doctor, begun: bytes) -> None:
    """There is one bound for all that is asked of it."""
    stop = threading.Event()

    class Dripping(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                self.request.sendall(begun)
                while not stop.wait(0.05):
                    self.request.sendall(b"H")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Dripping) as server:
        threading.Thread(target=server.serve_forever, args=(0.005,), daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        found = doctor({**to(endpoint), "OTEL_EXPORTER_OTLP_TIMEOUT": "1"})
        stop.set()
        server.shutdown()
    assert found.code == 1
    assert found.check("logs")[0] == "problem"


def test_a_page_of_something_else(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """200 with HTML is no delivery."""
    receiver.respond(headers={"Content-Type": "text/html"}, body=b"<title>Sign in</title>")
    found = doctor(to(receiver.http_endpoint))
    assert found.code == 1
    assert found.says("logs", "problem", "is no OTLP server: HTTP 200 with text/html", "Correct the host")
    assert "would arrive" not in found.report["verdict"]


def test_a_signal_that_is_turned_off_is_no_problem(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """It is what the user wants."""
    found = doctor({**to(receiver.http_endpoint), "OTEL_METRICS_EXPORTER": "none"})
    assert found.code == 0
    assert found.check("metrics") == ("off", "Off, by OTEL_METRICS_EXPORTER.", "")
    assert found.report["settings"]["metrics"] == {
        "exporter": {"value": "none", "source": "OTEL_METRICS_EXPORTER"}
    }


@pytest.mark.parametrize(
    "variables",
    [{"OTEL_SDK_DISABLED": "true"}, {f"OTEL_{signal.upper()}_EXPORTER": "none" for signal in SIGNALS}],
    ids=["disabled", "none"],
)
def test_nothing_sent_at_all_is_a_problem(
    doctor: Doctor, receiver: OtlpReceiver, variables: dict[str, str]
) -> None:
    """Nobody asks the doctor who wants that; the variable is named."""
    found = doctor({**to(receiver.http_endpoint), **variables})
    assert found.code == 1
    assert {found.check(signal)[0] for signal in SIGNALS} == {"off"}
    assert found.says("configuration", "problem", "Nothing is sent", "Unset OTEL_")
    assert not receiver.requests


def test_headers_that_are_replaced(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """Those of a signal are not merged with the general ones."""
    found = doctor(
        {
            **to(receiver.http_endpoint),
            "OTEL_EXPORTER_OTLP_HEADERS": f"authorization={SECRET}",
            "OTEL_EXPORTER_OTLP_LOGS_HEADERS": "x-tenant=blue",
        }
    )
    assert found.code == 0
    assert found.says(
        "configuration",
        "warning",
        "LOGS_HEADERS replaces OTEL_EXPORTER_OTLP_HEADERS: logs are sent without authorization.",
    )


@pytest.mark.parametrize(
    ("text", "said"), [("500", "looks like milliseconds, and means seconds"), ("10000", "not milliseconds")]
)
def test_a_timeout_in_milliseconds(doctor: Doctor, receiver: OtlpReceiver, text: str, said: str) -> None:
    """As the specification has it, and Python does not."""
    found = doctor({**to(receiver.http_endpoint), "OTEL_EXPORTER_OTLP_TIMEOUT": text})
    assert found.code == 0
    assert found.says("configuration", "warning", said)
    assert len([check for check in found.checks("configuration") if text in check["message"]]) == 1


def test_a_name_that_is_misspelt(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """What nothing reads, and what may be meant."""
    found = doctor(
        {
            **to(receiver.http_endpoint),
            "OTEL_EXPORTER_OTLP_HEADER": "x-tenant=blue",
            "TORCHELASTIC_OTEL_HEARTBEAT": "log",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "OTEL_PYTHON_LOG_CORRELATION": "true",
        }
    )
    assert found.code == 0
    assert {check["message"]: check["advice"] for check in found.checks("configuration")} == {
        "OTEL_EXPORTER_OTLP_HEADER is not a recognised variable.": "Write OTEL_EXPORTER_OTLP_HEADERS.",
        "TORCHELASTIC_OTEL_HEARTBEAT is not a recognised variable.": "Write TORCHELASTIC_OTEL_HEARTBEATS.",
    }


def test_warnings_of_the_bridge_are_told_once(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """All that reading the variables gives, not once for each signal."""
    found = doctor(
        {
            **to(receiver.http_endpoint),
            "OTEL_EXPORTER_OTLP_COMPRESSION": "brotli",
            "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "sometimes",
            "OTEL_TRACES_SAMPLER_ARG": "much",
            "OTEL_TRACES_SAMPLER": "traceidratio",
            "OTEL_BLRP_SCHEDULE_DELAY": "soon",
            "OTEL_RESOURCE_ATTRIBUTES": "nonsense",
            "TORCHELASTIC_OTEL_EXIT_TIMEOUT": "never",
        }
    )
    assert found.code == 0
    warned = [check["message"].partition("=")[0].partition(":")[0] for check in found.checks("configuration")]
    assert sorted(warned) == [
        "OTEL_BLRP_SCHEDULE_DELAY",
        "OTEL_EXPORTER_OTLP_COMPRESSION",
        "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
        "OTEL_RESOURCE_ATTRIBUTES",
        "OTEL_TRACES_SAMPLER_ARG",
        "TORCHELASTIC_OTEL_EXIT_TIMEOUT",
    ]


def test_an_endpoint_that_is_none(doctor: Doctor) -> None:
    """What stops the signals is their problem, and told once."""
    found = doctor({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:port"})
    assert found.code == 1
    assert {found.check(signal)[0] for signal in SIGNALS} == {"problem"}
    assert not found.checks("configuration")


def test_a_sampler_that_takes_nothing(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """The probe arrives, and spans of jobs would not."""
    found = doctor({**to(receiver.http_endpoint), "OTEL_TRACES_SAMPLER": "always_off"})
    assert found.code == 0
    assert found.says("configuration", "warning", "OTEL_TRACES_SAMPLER=always_off samples no trace")


def test_another_exporter_is_not_tried(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """Nothing is known about where it sends."""
    found = doctor({**to(receiver.http_endpoint), "OTEL_LOGS_EXPORTER": "console"})
    assert found.code == 0
    assert found.says("logs", "ok", "Goes to the exporter 'console', which is not tried here.")


def test_an_exporter_that_is_not_installed(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """The signal would not be sent."""
    found = doctor({**to(receiver.http_endpoint), "OTEL_LOGS_EXPORTER": "otpl"})
    assert found.code == 1
    assert found.says("logs", "problem", "OTEL_LOGS_EXPORTER='otpl' is not accepted")


def test_a_configuration_file_counts_instead(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """No probe is sent past it, and the verdict does not pretend that one was."""
    pytest.importorskip("opentelemetry.configuration")
    file = doctor.folder / "otel.yaml"
    file.write_text("file_format: '1.0'\n")
    found = doctor({**to(receiver.http_endpoint), "OTEL_CONFIG_FILE": str(file)})
    assert found.code == 0
    assert found.report["verdict"] == "No problem was found, but nothing was sent."
    assert not receiver.requests


def test_a_configuration_file_that_cannot_be_used(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """The variables count then, and are tried."""
    found = doctor({**to(receiver.http_endpoint), "OTEL_CONFIG_FILE": str(doctor.folder / "none.yaml")})
    assert found.code == 0
    assert found.says("configuration", "warning", "cannot be used", "or unset the variable")
    assert len(receiver.requests) == 3


# --- torch ----------------------------------------------------------------------------------------


def packages_without(folder: Path, *names: str) -> Path:
    """Return a folder with all that is installed but the distributions ``names``."""
    made = folder / "packages"
    made.mkdir()
    for root in {Path(str(found.locate_file(""))) for found in importlib.metadata.distributions()}:
        if root.name != "site-packages":
            continue
        for each in root.iterdir():
            if not each.name.startswith(tuple(f"{name}-" for name in names)):
                (made / each.name).symlink_to(each)
    return made


def installed(folder: Path, name: str, version: str, entry_points: str = "") -> Path:
    """Return a folder with the metadata of a distribution."""
    made = folder / f"{name}-{version}"
    metadata = made / f"{name}-{version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (metadata / "entry_points.txt").write_text(entry_points)
    return made


def test_torch_and_the_registration_are_found(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """Both by metadata: torch itself is not imported."""
    torch = installed(doctor.folder, "torch", "2.8.0+cu128")
    points = "[torchrun.handlers]\notel = torchelastic_otel._torch.entry:register\n"
    ours = installed(doctor.folder, "torchelastic_otel", "1", points)
    found = doctor(to(receiver.http_endpoint), path=(torch, ours))
    assert found.code == 0
    assert found.check("torch") == ("ok", "torch 2.8.0+cu128.", "")
    assert found.check("registration")[0] == "ok"


def test_a_torch_that_is_too_old(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """It has no event destinations to add to."""
    torch = installed(doctor.folder, "torch", "2.7.1")
    found = doctor(to(receiver.http_endpoint), path=(torch,))
    assert found.code == 1
    assert found.check("torch") == ("problem", "torch 2.7.1 is too old.", "Install torch 2.8 or newer.")


def test_no_torch_and_no_registration(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """As in a Python that is not the one of torchrun."""
    packages = packages_without(doctor.folder, "torch", "torchelastic_otel")
    found = doctor(to(receiver.http_endpoint), python=("-S",), path=(packages,))
    assert found.code == 1
    assert found.says("torch", "problem", "torch is not installed in this Python", "that torchrun uses")
    assert found.says(
        "registration", "problem", "otel is not known to torchrun", "pip install torchelastic-otel"
    )
    assert found.check("logs")[0] == "ok"


# --- the spool ------------------------------------------------------------------------------------


def test_a_spool_that_can_be_used_is_not_made(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """The doctor may be another user than the jobs, who could not use it then."""
    found = doctor(to(receiver.http_endpoint))
    assert found.check("spool")[0] == "ok"
    assert not doctor.spool.exists()


def test_a_spool_that_is_off(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """What that costs is said."""
    found = doctor({**to(receiver.http_endpoint), "TORCHELASTIC_OTEL_SPOOL_DIR": "off"})
    assert found.code == 0
    assert found.says("spool", "off", "what is not delivered when a process ends is lost")


def test_a_spool_that_cannot_be_made(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """Telemetry arrives without, so it is a warning."""
    (doctor.folder / "file").touch()
    directory = doctor.folder / "file" / "spool"
    found = doctor({**to(receiver.http_endpoint), "TORCHELASTIC_OTEL_SPOOL_DIR": str(directory)})
    assert found.code == 0
    assert found.says("spool", "warning", "is no directory", "Name another in TORCHELASTIC_OTEL_SPOOL_DIR.")


@pytest.mark.parametrize("what", ["written by others", "is a symbolic link", "belongs to user 65534"])
def test_a_spool_that_is_not_ours_alone(doctor: Doctor, receiver: OtlpReceiver, what: str) -> None:
    """Jobs would not use it."""
    directory = doctor.folder / "spool"
    if what == "is a symbolic link":
        directory.symlink_to(doctor.folder)
    else:
        directory.mkdir(mode=0o700)
    if what == "written by others":
        directory.chmod(0o777)
    if what == "belongs to user 65534":
        if os.geteuid() != 0:
            pytest.skip("only root can give a directory away")
        os.chown(directory, 65534, -1)
    found = doctor({**to(receiver.http_endpoint), "TORCHELASTIC_OTEL_SPOOL_DIR": str(directory)})
    assert found.code == 0
    assert found.says("spool", "warning", what)


def test_a_spool_that_cannot_be_written_to(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """As on a read-only file system, which stops root as well."""
    read_only = next(
        (path for path in map(Path, ("/proc/sys", "/sys/kernel")) if not os.access(path, os.W_OK)), None
    )
    if read_only is None:
        if os.geteuid() == 0:
            pytest.skip("root can write everywhere here")
        read_only = doctor.folder / "read-only"
        read_only.mkdir(mode=0o500)
    found = doctor({**to(receiver.http_endpoint), "TORCHELASTIC_OTEL_SPOOL_DIR": str(read_only / "spool")})
    assert found.code == 0
    assert found.says("spool", "warning", "cannot be written to")


def test_what_earlier_jobs_left_is_counted_and_stays(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """How much, and how to send it; the doctor itself sends none of it."""
    header = ResourceLogs(scope_logs=[ScopeLogs()]).SerializeToString()
    payload = LogRecord(time_unix_nano=1).SerializeToString()
    spool = Spool.create(doctor.spool, 1 << 20, {})
    spool.add("logs", spool.scope("logs", header), [payload] * 3, last_ns=1)
    spool.keep_open_span("a", 1, b"")
    spool.close()
    for _ in range(2):
        found = doctor(to(receiver.http_endpoint))
        assert found.code == 0
        message = f"3 log records and 1 spans of earlier jobs wait in {doctor.spool}."
        assert found.says("spool", "warning", message, "torchelastic-otel replay")
    assert {request.items for request in receiver.requests} == {1}


def test_what_a_running_job_has_is_not_counted(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """It is on its way."""
    spool = Spool.create(doctor.spool, 1 << 20, {})
    try:
        spool.replace_metrics(b"")
        assert doctor(to(receiver.http_endpoint)).check("spool")[0] == "ok"
    finally:
        spool.discard()


def test_a_damaged_spool_is_a_warning_of_the_report(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """What the package logs goes into the report, and not between its lines."""
    Spool.create(doctor.spool, 1 << 20, {}).close()
    (doctor.spool / "node-1-00000000.spool").write_bytes(b"not SQLite at all" * 100)
    found = doctor(to(receiver.http_endpoint))
    assert (found.code, found.err) == (0, "")
    assert any(".damaged" in check["message"] for check in found.checks("configuration"))


# --- the command ----------------------------------------------------------------------------------


def test_wrong_usage_is_told_apart(doctor: Doctor) -> None:
    """By the exit status 2."""
    assert doctor(arguments=("--yaml",)).code == 2
