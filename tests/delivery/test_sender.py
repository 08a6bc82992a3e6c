"""A request arrives as it is, and who gets no answer says why: nothing is raised, nothing waits for ever."""

from __future__ import annotations

import os
import re
import signal as signal_module
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import grpc  # type: ignore[import-untyped]
import pytest

from otlp_receiver import OtlpReceiver
from tests.support.harness import free_port
from tests.support.programs import python
from tests.support.sending import (
    LONG_S,
    PROTOCOLS,
    SIGNALS,
    answer_with,
    endpoint_of,
    only_request,
    payload_of,
    raw_server,
    read_request,
    send,
    send_to,
    target_of,
)
from torchelastic_otel._config.environment import Signal
from torchelastic_otel._config.otlp_variables import Protocol
from torchelastic_otel._delivery.answer import Answer
from torchelastic_otel._delivery.sender import make_sender

SHORT_S = 0.2
"""Soon over where none comes."""

each_signal = pytest.mark.parametrize("signal", SIGNALS)
each_protocol = pytest.mark.parametrize("protocol", PROTOCOLS)


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
    assert answer.kind == "shut"
    assert "InvalidHeader" in answer.message
    assert "secret" not in answer.message


@each_protocol
def test_refused_connection_reaches_nobody(protocol: Protocol) -> None:
    """The message says what happened, without the path, which may hold secrets."""
    answer = send_to(target_of(f"http://127.0.0.1:{free_port()}/secret", protocol))
    assert answer.kind == "unreachable"
    assert "refused" in answer.message
    assert "secret" not in answer.message


@each_protocol
def test_unknown_host_reaches_nobody(protocol: Protocol) -> None:
    """Names come and go with what they name."""
    answer = send_to(target_of("http://nowhere.invalid:4317", protocol))
    assert answer.kind == "unreachable"
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


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n"])
def test_server_that_drips_is_not_waited_for(begun: bytes) -> None:
    """The time is for all of the answer, be each byte of it in time."""
    gone = threading.Event()

    def drip(connection: socket.socket) -> None:
        read_request(connection)
        try:
            connection.sendall(begun)
            for _ in range(1000):
                connection.sendall(b"H")
                if gone.wait(SHORT_S / 10):
                    break
        except OSError:
            gone.set()

    with raw_server(drip) as address:
        answer = send_to(target_of(f"http://{address}", "http/protobuf"), timeout_s=SHORT_S)
        assert answer.kind == ("foreign" if begun else "retry")
        assert gone.wait(LONG_S)


@each_protocol
def test_nothing_is_sent_without_time(receiver: OtlpReceiver, protocol: Protocol) -> None:
    """A caller may be past its deadline."""
    assert send_to(target_of(endpoint_of(receiver, protocol), protocol), timeout_s=0.0).kind == "retry"
    assert receiver.requests == []


@each_protocol
def test_connection_that_is_cut_is_to_be_retried(protocol: Protocol) -> None:
    """Before anything was answered; gRPC calls it no connection until both sides have said something."""
    with raw_server(lambda connection: connection.recv(1)) as address:
        answer = send_to(target_of(f"http://{address}", protocol))
    assert answer.kind == ("unreachable" if protocol == "grpc" else "retry")
    assert answer.message


@pytest.mark.parametrize(("status", "kind"), [(200, "delivered"), (400, "rejected"), (503, "retry")])
def test_answer_that_is_cut_after_its_status(status: int, kind: str) -> None:
    """The status has decided, and what was taken must not be sent again."""
    text = f"HTTP/1.1 {status} X\r\nContent-Type: application/x-protobuf\r\nContent-Length: 100\r\n\r\nso far"
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
            assert sender.send(b"", LONG_S).kind == "unreachable"

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
    assert answer.kind == "shut"
    assert "407" in answer.message


def test_proxy_that_is_not_there_reaches_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is behind it."""
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free_port()}")
    assert send_to(target_of("https://collector.invalid", "http/protobuf")).kind == "unreachable"


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


def test_importing_loads_nothing_heavy() -> None:
    """That waits until a sender is made."""
    code = """
        import sys
        import torchelastic_otel._delivery.sender
        heavy = ("requests", "urllib3", "grpc", "google.protobuf", "google.rpc", "opentelemetry.proto")
        print([name for name in heavy if name in sys.modules])
        """
    assert python(code).strip() == "[]"
