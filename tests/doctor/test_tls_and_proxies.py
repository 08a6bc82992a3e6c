"""The doctor finds what is between it and a server: TLS on one side alone, certificates, proxies."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from otlp_receiver import OtlpReceiver
from tests.support.credentials import Authority
from tests.support.doctor import Doctor, endpoint_of, to
from torchelastic_otel._config.otlp import OtlpTarget
from torchelastic_otel._doctor.network import Address, proxy_of

PROTOCOLS = ("grpc", "http/protobuf")

each_protocol = pytest.mark.parametrize("protocol", PROTOCOLS)


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


@each_protocol
def test_plain_text_to_a_tls_port(doctor: Doctor, authority: Authority, protocol: str) -> None:
    """The usual http:// where https:// belongs."""
    with authority.server() as receiver:
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
    with authority.server() as receiver:
        found = doctor(to(endpoint_of(receiver, protocol), protocol))
    assert found.code == 1
    status, message, advice = found.check("traces")
    assert status == "problem"
    assert message.startswith("The certificate of 127.0.0.1:")
    assert message.endswith("is not trusted: unable to get local issuer certificate.")
    assert advice == "Name the PEM file of the authority that issued it in OTEL_EXPORTER_OTLP_CERTIFICATE."


@each_protocol
def test_a_certificate_for_another_name(doctor: Doctor, tmp_path: Path, protocol: str) -> None:
    """Trusted, but somebody else's."""
    authority = Authority(tmp_path / "authority", "elsewhere.example")
    with authority.server() as receiver:
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
    with authority.server(demand_client=True) as receiver:
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


# --- proxies ---


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
