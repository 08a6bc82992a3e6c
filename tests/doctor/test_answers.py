"""The doctor tells what a server answered, and what to do about it."""

from __future__ import annotations

import contextlib
import socketserver
import threading

import pytest

from otlp_receiver import OtlpReceiver
from tests.support.doctor import SECRET, Doctor, endpoint_of, to

PROTOCOLS = ("grpc", "http/protobuf")

each_protocol = pytest.mark.parametrize("protocol", PROTOCOLS)


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
