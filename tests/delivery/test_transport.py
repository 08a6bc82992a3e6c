"""What servers answer is what a sender says became of the data: each answer comes from a real server."""

from __future__ import annotations

import os
import re
import signal as signal_module
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from typing import Any, get_args

import grpc  # type: ignore[import-untyped]
import pytest
import trustme
from google.protobuf.any_pb2 import Any as AnyMessage  # type: ignore[import-untyped]
from google.protobuf.duration_pb2 import Duration  # type: ignore[import-untyped]
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otlp_receiver import OtlpReceiver, Request, TlsFiles
from tests.support.credentials import PROVIDER_POINTS, PROVIDERS, Authority
from tests.support.harness import free_port
from tests.support.programs import python
from torchelastic_otel._config.environment import Signal
from torchelastic_otel._config.otlp import OtlpTarget, plan_otlp
from torchelastic_otel._config.otlp_variables import Protocol
from torchelastic_otel._delivery.credentials import CredentialError
from torchelastic_otel._delivery.sender import Answer, make_sender

SIGNALS: tuple[Signal, ...] = get_args(Signal)
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)
LONG_S = 20.0
"""Enough for every answer that comes."""
SHORT_S = 0.2
"""Soon over where none comes."""

each_signal = pytest.mark.parametrize("signal", SIGNALS)
each_protocol = pytest.mark.parametrize("protocol", PROTOCOLS)


# --- help -----------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if re.match(r"OTEL_|GRPC_|.*_PROXY$|.*CA_BUNDLE$", name, re.IGNORECASE):
            monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Make the certificates once."""
    return Authority(tmp_path_factory.mktemp("authority"))


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


# --- what arrives ---------------------------------------------------------------------------------


@each_protocol
@each_signal
def test_payload_arrives_as_it_is(receiver: OtlpReceiver, protocol: Protocol, signal: Signal) -> None:
    """At the signal's own path or method."""
    assert send(receiver, protocol, signal) == Answer("delivered")
    request = only_request(receiver)
    assert (request.signal, request.protocol, request.items, request.accepted) == (signal, protocol, 1, True)


@each_protocol
def test_sender_may_be_used_again(receiver: OtlpReceiver, protocol: Protocol) -> None:
    """Also after it was closed, which costs a connection."""
    sender = make_sender("logs", target_of(endpoint_of(receiver, protocol), protocol))
    for _ in range(2):
        assert sender.send(payload_of("logs"), LONG_S).kind == "delivered"
    sender.close()
    assert sender.send(payload_of("logs"), LONG_S).kind == "delivered"
    sender.close()
    assert len(receiver.logs) == 3


@each_protocol
def test_headers_arrive(receiver: OtlpReceiver, protocol: Protocol) -> None:
    """Along with the name that OpenTelemetry's exporters go by."""
    send(receiver, protocol, HEADERS="x-tenant=blue,authorization=Bearer%20token")
    headers = only_request(receiver).headers
    assert headers["x-tenant"] == "blue"
    assert headers["authorization"] == "Bearer token"
    assert re.match(r"OTel-OTLP-Exporter-Python/\d+\.\d+", headers["user-agent"])
    assert protocol == "grpc" or headers["content-type"] == "application/x-protobuf"


def test_headers_of_the_user_count_before_the_senders(receiver: OtlpReceiver) -> None:
    """As with the stock exporters."""
    send(receiver, "http/protobuf", HEADERS="user-agent=mine")
    assert only_request(receiver).headers["user-agent"] == "mine"


@pytest.mark.parametrize("compression", ["none", "gzip", "deflate"])
def test_http_compression_can_be_undone(receiver: OtlpReceiver, compression: str) -> None:
    """The receiver reads what it is sent, and is told how."""
    assert send(receiver, "http/protobuf", COMPRESSION=compression).kind == "delivered"
    assert only_request(receiver).content_encoding == ("" if compression == "none" else compression)
    assert [record.event_name for record in receiver.logs] == ["hello"]


@pytest.mark.parametrize("compression", ["gzip", "deflate"])
def test_grpc_compression_is_the_one_asked_for(compression: str) -> None:
    """A receiver that knows it reads it, one that does not refuses it."""
    with OtlpReceiver(grpc_encodings=[compression]) as knowing, OtlpReceiver(grpc_encodings=[]) as ignorant:
        assert send(knowing, "grpc", COMPRESSION=compression).kind == "delivered"
        assert len(knowing.logs) == 1
        assert send(ignorant, "grpc", COMPRESSION=compression).kind == "unsupported"
        assert send(ignorant, "grpc").kind == "delivered"


def test_header_that_cannot_be_sent_holds_and_is_not_quoted(receiver: OtlpReceiver) -> None:
    """It may be a credential."""
    target = replace(
        target_of(receiver.http_endpoint, "http/protobuf"), headers=(("authorization", "secret\n"),)
    )
    answer = send_to(target)
    assert answer.kind == "held"
    assert "InvalidHeader" in answer.message
    assert "secret" not in answer.message


# --- what the server says -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, "delivered"),
        (202, "delivered"),
        (204, "delivered"),
        (301, "held"),
        (302, "held"),
        (307, "held"),
        (400, "rejected"),
        (401, "held"),
        (403, "held"),
        (404, "unsupported"),
        (405, "unsupported"),
        (407, "held"),
        (408, "retry"),
        (413, "rejected"),
        (422, "rejected"),
        (429, "retry"),
        (500, "retry"),
        (502, "retry"),
        (503, "retry"),
        (504, "retry"),
    ],
)
def test_http_status_says_what_became_of_it(receiver: OtlpReceiver, status: int, kind: str) -> None:
    """One attempt, whatever it is."""
    receiver.respond(status=status)
    answer = send(receiver, "http/protobuf")
    assert answer.kind == kind
    assert kind == "delivered" or str(status) in answer.message
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("OK", "delivered"),
        ("CANCELLED", "retry"),
        ("UNKNOWN", "retry"),
        ("INVALID_ARGUMENT", "rejected"),
        ("DEADLINE_EXCEEDED", "retry"),
        ("NOT_FOUND", "rejected"),
        ("ALREADY_EXISTS", "rejected"),
        ("PERMISSION_DENIED", "held"),
        ("RESOURCE_EXHAUSTED", "retry"),
        ("FAILED_PRECONDITION", "rejected"),
        ("ABORTED", "retry"),
        ("OUT_OF_RANGE", "retry"),
        ("UNIMPLEMENTED", "unsupported"),
        ("INTERNAL", "retry"),
        ("UNAVAILABLE", "retry"),
        ("DATA_LOSS", "retry"),
        ("UNAUTHENTICATED", "held"),
    ],
)
def test_grpc_status_says_what_became_of_it(receiver: OtlpReceiver, code: str, kind: str) -> None:
    """One attempt, whatever it is."""
    receiver.respond(grpc_status=code)
    answer = send(receiver, "grpc")
    assert answer == Answer(kind, "" if kind == "delivered" else "as the receiver was told")  # type: ignore[arg-type]
    assert len(receiver.requests) == 1


@each_protocol
@each_signal
def test_partial_success_is_counted(receiver: OtlpReceiver, protocol: Protocol, signal: Signal) -> None:
    """With what the server says about it."""
    receiver.respond(rejected=3, message="three are too long")
    assert send(receiver, protocol, signal) == Answer("delivered", "three are too long", rejected=3)


@each_protocol
def test_partial_success_may_be_a_mere_warning(receiver: OtlpReceiver, protocol: Protocol) -> None:
    """Nothing is refused then."""
    receiver.respond(message="this will be refused next year")
    assert send(receiver, protocol) == Answer("delivered", "this will be refused next year")


@each_protocol
def test_fewer_than_none_are_none(receiver: OtlpReceiver, protocol: Protocol) -> None:
    """A count that a server got wrong."""
    receiver.respond(rejected=-1)
    assert send(receiver, protocol) == Answer("delivered")


def test_partial_success_in_json_is_counted(receiver: OtlpReceiver) -> None:
    """Some servers answer in JSON whatever they are sent."""
    receiver.respond(
        headers={"Content-Type": "application/json; charset=utf-8"},
        body=b'{"partialSuccess": {"rejectedLogRecords": "2", "errorMessage": "no", "more": 1}}',
    )
    assert send(receiver, "http/protobuf") == Answer("delivered", "no", rejected=2)


@pytest.mark.parametrize("content_type", ["application/json", "application/x-protobuf", "text/html"])
def test_delivered_with_an_answer_that_nobody_can_read(receiver: OtlpReceiver, content_type: str) -> None:
    """The status has decided."""
    receiver.respond(headers={"Content-Type": content_type}, body=b"<html>\xff ok")
    assert send(receiver, "http/protobuf") == Answer("delivered")


@each_protocol
def test_refusal_is_told_in_the_servers_words(receiver: OtlpReceiver, protocol: Protocol) -> None:
    """In HTTP they are a status message in protobuf."""
    receiver.respond(status=400, grpc_status="INVALID_ARGUMENT", message="no tenant\nof that name")
    assert send(receiver, protocol) == Answer("rejected", "no tenant of that name")


@pytest.mark.parametrize("content_type", ["text/plain; charset=utf-8", "application/x-protobuf"])
def test_refusal_may_be_text(receiver: OtlpReceiver, content_type: str) -> None:
    """Also under a wrong name."""
    receiver.respond(status=400, headers={"Content-Type": content_type}, body=b"no tenant\r\n\x1b[31mred")
    assert send(receiver, "http/protobuf") == Answer("rejected", "no tenant [31mred")


@each_protocol
def test_long_refusal_is_cut(receiver: OtlpReceiver, protocol: Protocol) -> None:
    """After 512 characters."""
    receiver.respond(status=400, grpc_status="INVALID_ARGUMENT", message="no " * 2000)
    message = send(receiver, protocol).message
    assert len(message) == 512
    assert message.startswith("no no no")


def test_endless_answer_is_not_read_to_its_end() -> None:
    """Its beginning says enough."""

    def serve(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n\r\n")
        with suppress(OSError):
            while True:
                connection.sendall(b"no " * 10_000)

    with raw_server(serve) as address:
        answer = send_to(target_of(f"http://{address}", "http/protobuf"))
    assert answer.kind == "rejected"
    assert answer.message.startswith("no no no")


@each_protocol
@pytest.mark.parametrize(
    "words",
    [
        "out of order sample",
        "too old sample",
        "out of bounds",
        "the sample has been rejected because its timestamp is too old (err-mimir-sample-timestamp-too-old)",
        "received a sample whose timestamp is too far in the past",
        "the sample was rejected because it is out-of-order",
        "entry with timestamp 2023-07-02 05:47:13 +0000 UTC ignored, reason: 'entry too far behind, oldest"
        ' acceptable timestamp is: 2023-07-05T14:03:33Z\' for stream: {a="b"}',
        "entry for stream '{foo=\"bar2\"}' has timestamp too old: 2019-10-11T07:57:18Z, oldest acceptable"
        " timestamp is: 2024-01-18T08:00:00Z",
        "x" * 3000 + " Entry too far behind",
    ],
)
def test_refusal_for_its_age_is_late(receiver: OtlpReceiver, protocol: Protocol, words: str) -> None:
    """The words are those of Prometheus, Mimir and Loki."""
    receiver.respond(status=400, grpc_status="INVALID_ARGUMENT", message=words)
    assert send(receiver, protocol).kind == "late"


def test_age_that_is_called_an_internal_error_is_late(receiver: OtlpReceiver) -> None:
    """Prometheus long did so, and would never have taken it."""
    plain = {"Content-Type": "text/plain"}
    receiver.respond(status=500, headers=plain, body=b"too old sample\n")
    assert send(receiver, "http/protobuf") == Answer("late", "too old sample")
    receiver.respond(status=500, headers=plain, body=b"index 3 out of bounds for length 2")
    assert send(receiver, "http/protobuf").kind == "retry"


@each_protocol
def test_door_that_is_shut_is_no_matter_of_age(receiver: OtlpReceiver, protocol: Protocol) -> None:
    """Whatever words are used."""
    receiver.respond(status=401, grpc_status="UNAUTHENTICATED", message="token out of bounds")
    assert send(receiver, protocol).kind == "held"


def test_grpc_message_that_is_too_large_is_rejected(receiver: OtlpReceiver) -> None:
    """Though the status is that of a server that is exhausted."""
    request = ExportLogsServiceRequest()
    request.resource_logs.add().scope_logs.add().log_records.add(event_name="x" * 5_000_000)
    sender = make_sender("logs", target_of(receiver.grpc_endpoint, "grpc"))
    answer = sender.send(request.SerializeToString(), LONG_S)
    sender.close()
    assert answer.kind == "rejected"
    assert "larger than max" in answer.message


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_not_followed(receiver: OtlpReceiver, status: int) -> None:
    """It is told where it leads, without what may be a secret."""
    with OtlpReceiver() as elsewhere:
        location = f"{elsewhere.http_endpoint}/v1/logs"
        receiver.respond(status=status, headers={"Location": f"{location}?token=secret"})
        answer = send(receiver, "http/protobuf", HEADERS="authorization=secret")
        assert answer == Answer("held", f"HTTP {status}, redirected to {location}")
        assert elsewhere.requests == []


# --- when to come again ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("100000", 3600.0),
        ("inf", 3600.0),
        ("nan", None),
        ("soon", None),
        ("", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Wed, 21 Oct 2015 07:28:00 -0000", 0.0),
        ("Fri, 31 Dec 2999 23:59:59 GMT", 3600.0),
        ("Wed, 99 Oct 2015 07:28:00 GMT", None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_read(receiver: OtlpReceiver, status: int, value: str, seconds: float | None) -> None:
    """Seconds or a date; never negative, and never more than an hour."""
    receiver.respond(status=status, headers={"Retry-After": value})
    answer = send(receiver, "http/protobuf")
    assert (answer.kind, answer.retry_after_s) == ("retry", seconds)


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
@pytest.mark.parametrize("usegmt", [True, False])
def test_retry_after_a_date_to_come(
    receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch, zone: str, usegmt: bool
) -> None:
    """It is the time from now on, wherever the machine is."""
    receiver.respond(status=503, headers={"Retry-After": formatdate(time.time() + 1000, usegmt=usegmt)})
    with monkeypatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        seconds = send(receiver, "http/protobuf").retry_after_s
    time.tzset()
    assert seconds is not None
    assert 0 < seconds <= 1000


@each_protocol
def test_only_what_is_retried_has_a_time_for_it(receiver: OtlpReceiver, protocol: Protocol) -> None:
    """To come again would change nothing about the rest."""
    receiver.respond(
        status=400,
        headers={"Retry-After": "7"},
        grpc_status="INVALID_ARGUMENT",
        grpc_metadata=retry_info(7),
    )
    assert send(receiver, protocol).retry_after_s is None


def retry_info(seconds: int, nanos: int = 0) -> dict[str, str | bytes]:
    """Return the trailing metadata of a server that asks for a pause, among other details."""
    other, asked = AnyMessage(type_url="example.com/other", value=b"\x00"), AnyMessage()
    asked.Pack(RetryInfo(retry_delay=Duration(seconds=seconds, nanos=nanos)))
    return {"grpc-status-details-bin": Status(details=[other, asked]).SerializeToString()}


@pytest.mark.parametrize(
    ("metadata", "seconds"),
    [
        (retry_info(7, 500_000_000), 7.5),
        (retry_info(-3), 0.0),
        (retry_info(100_000), 3600.0),
        ({"grpc-status-details-bin": Status().SerializeToString()}, None),
        ({"grpc-status-details-bin": b"\xff"}, None),
        ({"other": "1"}, None),
        ({}, None),
    ],
)
@pytest.mark.parametrize("code", ["UNAVAILABLE", "RESOURCE_EXHAUSTED"])
def test_retry_info_is_read(
    receiver: OtlpReceiver, code: str, metadata: dict[str, str | bytes], seconds: float | None
) -> None:
    """Never negative, and never more than an hour."""
    receiver.respond(grpc_status=code, grpc_metadata=metadata)
    answer = send(receiver, "grpc")
    assert (answer.kind, answer.retry_after_s) == ("retry", seconds)


# --- when nobody answers --------------------------------------------------------------------------


@each_protocol
def test_refused_connection_is_to_be_retried(protocol: Protocol) -> None:
    """The message says what happened, without the path, which may hold secrets."""
    answer = send_to(target_of(f"http://127.0.0.1:{free_port()}/secret", protocol))
    assert answer.kind == "retry"
    assert "refused" in answer.message
    assert "secret" not in answer.message


@each_protocol
def test_unknown_host_is_to_be_retried(protocol: Protocol) -> None:
    """Names come and go with what they name."""
    answer = send_to(target_of("http://nowhere.invalid:4317", protocol))
    assert answer.kind == "retry"
    assert answer.message


@each_protocol
def test_server_that_never_answers_is_to_be_retried(protocol: Protocol) -> None:
    """It accepts the connection, and that is all."""
    done = threading.Event()
    with raw_server(lambda connection: done.wait(LONG_S)) as address:
        assert send_to(target_of(f"http://{address}", protocol), timeout_s=SHORT_S).kind == "retry"
        done.set()


@each_protocol
def test_server_that_is_too_slow_is_to_be_retried(receiver: OtlpReceiver, protocol: Protocol) -> None:
    """The request may have been taken: what is sent again may be there twice."""
    receiver.respond(delay=LONG_S)
    target = target_of(endpoint_of(receiver, protocol), protocol)
    assert send_to(target, timeout_s=SHORT_S).kind == "retry"


@each_protocol
def test_nothing_is_sent_without_time(receiver: OtlpReceiver, protocol: Protocol) -> None:
    """A caller may be past its deadline."""
    assert send_to(target_of(endpoint_of(receiver, protocol), protocol), timeout_s=0.0).kind == "retry"
    assert receiver.requests == []


@each_protocol
def test_connection_that_is_cut_is_to_be_retried(protocol: Protocol) -> None:
    """Before anything was answered."""
    with raw_server(lambda connection: connection.recv(1)) as address:
        answer = send_to(target_of(f"http://{address}", protocol))
    assert answer.kind == "retry"
    assert answer.message


@pytest.mark.parametrize(("status", "kind"), [(200, "delivered"), (400, "rejected"), (503, "retry")])
def test_answer_that_is_cut_after_its_status(status: int, kind: str) -> None:
    """The status has decided, and what was taken must not be sent again."""
    text = f"HTTP/1.1 {status} X\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\nso far"
    with raw_server(answer_with(text.encode())) as address:
        assert send_to(target_of(f"http://{address}", "http/protobuf")).kind == kind


def test_server_that_speaks_another_language_is_to_be_retried() -> None:
    """Something else listens there for now."""
    with raw_server(answer_with(b"220 mail.example ESMTP\r\n")) as address:
        assert send_to(target_of(f"http://{address}", "http/protobuf")).kind == "retry"


def test_grpc_server_that_comes_back_is_found_at_once() -> None:
    """However long it was away: the next attempt connects, and waits for no channel to do so."""
    port = free_port()
    target = target_of(f"http://127.0.0.1:{port}", "grpc")
    senders = [make_sender("logs", target), make_sender("traces", target)]
    for _ in range(4):
        for sender in senders:
            assert sender.send(b"", LONG_S).kind == "retry"

    class Accepting(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, details: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(lambda message, context: b"")

    server = grpc.server(ThreadPoolExecutor(1), [Accepting()], options=[("grpc.so_reuseport", 0)])
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        assert [sender.send(b"", LONG_S).kind for sender in senders] == ["delivered", "delivered"]
    finally:
        for sender in senders:
            sender.close()
        server.stop(grace=None).wait()


def test_proxy_that_lets_nobody_through_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """It wants a name and a password, and those will not come by themselves."""
    with raw_server(answer_with(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")) as address:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{address}")
        answer = send_to(target_of("https://collector.invalid", "http/protobuf"))
    assert answer.kind == "held"
    assert "407" in answer.message


def test_proxy_that_is_broken_is_to_be_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Like any server."""
    with raw_server(answer_with(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")) as address:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{address}")
        assert send_to(target_of("https://collector.invalid", "http/protobuf")).kind == "retry"


@each_protocol
def test_what_a_signal_handler_raises_passes(protocol: Protocol) -> None:
    """It is the host's, which wants to end."""

    class Stopped(Exception):  # noqa: N818 - a signal, and no error
        pass

    def stop(*_: object) -> None:
        raise Stopped

    done = threading.Event()

    def serve(_: socket.socket) -> None:
        os.kill(os.getpid(), signal_module.SIGUSR1)
        done.wait(LONG_S)

    before = signal_module.signal(signal_module.SIGUSR1, stop)
    try:
        with raw_server(serve) as address:
            with pytest.raises(Stopped):
                send_to(target_of(f"http://{address}", protocol))
            done.set()
    finally:
        signal_module.signal(signal_module.SIGUSR1, before)


# --- TLS ------------------------------------------------------------------------------------------


@each_protocol
@each_signal
def test_server_and_client_show_certificates(
    authority: Authority, protocol: Protocol, signal: Signal
) -> None:
    """Mutual TLS."""
    with authority.server(demand_client=True) as demanding:
        answer = send(
            demanding,
            protocol,
            signal,
            CERTIFICATE=str(authority.ca),
            CLIENT_CERTIFICATE=str(authority.certificate),
            CLIENT_KEY=str(authority.key),
        )
        assert answer == Answer("delivered")
        assert only_request(demanding).client_certificate


@each_protocol
def test_certificate_that_nobody_vouches_for_holds(
    authority: Authority, tmp_path: Path, protocol: Protocol
) -> None:
    """Nothing is sent to that server."""
    stranger = Authority(tmp_path / "stranger")
    with stranger.server() as untrusted:
        answer = send(untrusted, protocol, CERTIFICATE=str(authority.ca))
        assert answer.kind == "held"
        assert "CERTIFICATE_VERIFY_FAILED" in answer.message
        assert untrusted.requests == []


@each_protocol
def test_certificate_for_another_name_holds(tmp_path: Path, protocol: Protocol) -> None:
    """The server is not who it should be."""
    authority = trustme.CA()
    certificate = authority.issue_cert("elsewhere.example")
    files = TlsFiles(tmp_path / "server.pem", tmp_path / "server.key")
    certificate.cert_chain_pems[0].write_to_path(files.certificate)
    certificate.private_key_pem.write_to_path(files.key)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with OtlpReceiver(tls=files) as server:
        assert send(server, protocol, CERTIFICATE=str(tmp_path / "ca.pem")).kind == "held"
        assert server.requests == []


@each_protocol
def test_server_without_tls_holds(receiver: OtlpReceiver, authority: Authority, protocol: Protocol) -> None:
    """Where TLS was asked for, nothing goes without."""
    endpoint = endpoint_of(receiver, protocol).replace("http:", "https:")
    answer = send_to(target_of(endpoint, protocol, CERTIFICATE=str(authority.ca)))
    assert answer.kind == "held"
    assert receiver.requests == []


@each_protocol
def test_handshake_that_is_cut_is_to_be_retried(authority: Authority, protocol: Protocol) -> None:
    """A server on its way down says nothing about certificates."""
    with raw_server(lambda connection: connection.recv(65536)) as address:
        target = target_of(f"https://{address}", protocol, CERTIFICATE=str(authority.ca))
        assert send_to(target).kind == "retry"


def test_ca_bundle_of_requests_is_for_those_who_name_no_certificate(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clusters often set it."""
    stranger = Authority(tmp_path / "stranger")
    with authority.server() as trusted:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(stranger.ca))
        assert send(trusted, "http/protobuf", CERTIFICATE=str(authority.ca)).kind == "delivered"
        assert send(trusted, "http/protobuf").kind == "held"
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.ca))
        assert send(trusted, "http/protobuf").kind == "delivered"


# --- credential providers -------------------------------------------------------------------------


def provided(endpoint: str, protocol: Protocol, name: str, **tls: str) -> OtlpTarget:
    """Return a target whose credentials the provider ``name`` makes."""
    variable = f"OTEL_PYTHON_EXPORTER_OTLP_{'GRPC' if protocol == 'grpc' else 'HTTP'}_CREDENTIAL_PROVIDER"
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, variable: name, **tls}
    target = plan_otlp("logs", protocol, environ, pytest.fail)
    assert target is not None
    return target


@each_protocol
def test_credential_provider_opens_the_way(
    authority: Authority,
    third_party: Callable[[str, str], None],
    monkeypatch: pytest.MonkeyPatch,
    protocol: Protocol,
) -> None:
    """Its channel credentials for gRPC, its session for HTTP."""
    third_party(PROVIDER_POINTS, PROVIDERS)
    monkeypatch.setenv("VENDOR_CA", str(authority.ca))
    with authority.server() as trusted:
        name = "vendor_grpc" if protocol == "grpc" else "vendor_http"
        tls = {} if protocol == "grpc" else {"OTEL_EXPORTER_OTLP_CERTIFICATE": str(authority.ca)}
        assert send_to(provided(endpoint_of(trusted, protocol), protocol, name, **tls)).kind == "delivered"
        assert protocol == "grpc" or only_request(trusted).headers["x-vendor"] == "token"


@each_protocol
@pytest.mark.parametrize("name", ["wrong", "broken"])
def test_credential_provider_that_fails_makes_no_sender(
    third_party: Callable[[str, str], None],
    protocol: Protocol,
    name: str,
) -> None:
    """The error names the variable and the provider."""
    third_party(PROVIDER_POINTS, PROVIDERS)
    with pytest.raises(CredentialError, match=f"CREDENTIAL_PROVIDER='{name}' cannot be used"):
        make_sender("logs", provided("https://collector:4317", protocol, name))


def test_session_of_a_credential_provider_is_respected(
    receiver: OtlpReceiver, third_party: Callable[[str, str], None]
) -> None:
    """It reckons with the time in seconds, and sends none of its headers that the user set wrongly."""
    source = """
        import requests

        class Session(requests.Session):
            def request(self, *args, timeout, **kwargs):
                return super().request(*args, timeout=timeout / 2, **kwargs)

        def session():
            made = Session()
            made.headers.update({"x-vendor": "token", "x-tenant": "red"})
            return made
        """
    third_party(PROVIDER_POINTS, source)
    target = provided(receiver.http_endpoint, "http/protobuf", "vendor_http")
    assert send_to(replace(target, refused_headers=("x-tenant",))).kind == "delivered"
    headers = only_request(receiver).headers
    assert headers["x-vendor"] == "token"
    assert "x-tenant" not in headers


# --- loading --------------------------------------------------------------------------------------


def test_importing_loads_nothing_heavy() -> None:
    """That waits until a sender is made."""
    code = """
        import sys
        import torchelastic_otel._delivery.sender
        heavy = ("requests", "urllib3", "grpc", "google.protobuf", "google.rpc", "opentelemetry.proto")
        print([name for name in heavy if name in sys.modules])
        """
    assert python(code).strip() == "[]"
