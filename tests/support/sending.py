"""Requests, where they go, and servers that break rules."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, get_args

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otlp_receiver import OtlpReceiver, Request
from torchelastic_otel._config.environment import Signal
from torchelastic_otel._config.otlp import OtlpTarget, plan_otlp
from torchelastic_otel._config.otlp_variables import Protocol
from torchelastic_otel._delivery.answer import Answer
from torchelastic_otel._delivery.sender import make_sender

SIGNALS: tuple[Signal, ...] = get_args(Signal)
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)
LONG_S = 20.0
"""Enough for every answer that comes."""


def payload_of(signal: Signal) -> bytes:
    """Return a request with one item."""
    request: Any
    if signal == "logs":
        request = ExportLogsServiceRequest()
        request.resource_logs.add().scope_logs.add().log_records.add(event_name="hello")
    elif signal == "traces":
        request = ExportTraceServiceRequest()
        request.resource_spans.add().scope_spans.add().spans.add(name="hello")
    else:
        request = ExportMetricsServiceRequest()
        metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="hello")
        metric.gauge.data_points.add(as_int=1)
    payload: bytes = request.SerializeToString()
    return payload


def target_of(endpoint: str, protocol: Protocol, signal: Signal = "logs", **variables: str) -> OtlpTarget:
    """Return the target that OpenTelemetry's variables name, without the common part of their names."""
    environ = {f"OTEL_EXPORTER_OTLP_{name}": value for name, value in variables.items()}
    warnings: list[str] = []
    target = plan_otlp(
        signal, protocol, {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, **environ}, warnings.append
    )
    assert target is not None, warnings
    return target


def endpoint_of(receiver: OtlpReceiver, protocol: Protocol) -> str:
    """Return where ``receiver`` listens."""
    return receiver.grpc_endpoint if protocol == "grpc" else receiver.http_endpoint


def send_to(target: OtlpTarget, signal: Signal = "logs", timeout_s: float = LONG_S) -> Answer:
    """Send one item with a sender of its own."""
    sender = make_sender(signal, target)
    try:
        return sender.send(payload_of(signal), timeout_s)
    finally:
        sender.close()


def send(receiver: OtlpReceiver, protocol: Protocol, signal: Signal = "logs", **variables: str) -> Answer:
    """Send one item to ``receiver``."""
    return send_to(target_of(endpoint_of(receiver, protocol), protocol, signal, **variables), signal)


def only_request(receiver: OtlpReceiver) -> Request:
    """Return the one request that has arrived."""
    [request] = receiver.requests
    return request


@contextmanager
def raw_server(serve: Callable[[socket.socket], object]) -> Iterator[str]:
    """Listen and hand each connection to ``serve``, which may break any rule; yield host and port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    with connection:
                        serve(connection)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)
    thread.join(LONG_S)


def read_request(connection: socket.socket) -> bytes:
    """Read an HTTP request to its end."""
    read = b""
    while b"\r\n\r\n" not in read:
        read += connection.recv(65536)
    head, _, body = read.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: *(\d+)", head)
    while length and len(body) < int(length[1]):
        body += connection.recv(65536)
    return head


def answer_with(text: bytes) -> Callable[[socket.socket], None]:
    """Return what reads a request, answers ``text``, and hangs up."""

    def serve(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(text)

    return serve
