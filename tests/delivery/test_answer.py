"""What servers answer is what a sender says of the data: each answer comes from a real server."""

from __future__ import annotations

import re
import socket
import time
from contextlib import suppress
from email.utils import formatdate

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage  # type: ignore[import-untyped]
from google.protobuf.duration_pb2 import Duration  # type: ignore[import-untyped]
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from otlp_receiver import OtlpReceiver
from tests.support.sending import (
    LONG_S,
    PROTOCOLS,
    SIGNALS,
    raw_server,
    read_request,
    send,
    send_to,
    target_of,
)
from torchelastic_otel._config.environment import Signal
from torchelastic_otel._config.otlp_variables import Protocol
from torchelastic_otel._delivery.answer import PROTOBUF, Answer
from torchelastic_otel._delivery.sender import make_sender

each_signal = pytest.mark.parametrize("signal", SIGNALS)
each_protocol = pytest.mark.parametrize("protocol", PROTOCOLS)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, "delivered"),
        (202, "delivered"),
        (204, "delivered"),
        (301, "shut"),
        (302, "shut"),
        (307, "shut"),
        (400, "rejected"),
        (401, "shut"),
        (402, "shut"),
        (403, "shut"),
        (404, "unsupported"),
        (405, "unsupported"),
        (406, "shut"),
        (407, "shut"),
        (408, "retry"),
        (409, "rejected"),
        (410, "unsupported"),
        (413, "rejected"),
        (415, "shut"),
        (421, "shut"),
        (422, "rejected"),
        (425, "retry"),
        (429, "busy"),
        (431, "shut"),
        (451, "shut"),
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
        ("PERMISSION_DENIED", "shut"),
        ("RESOURCE_EXHAUSTED", "busy"),
        ("FAILED_PRECONDITION", "rejected"),
        ("ABORTED", "retry"),
        ("OUT_OF_RANGE", "retry"),
        ("UNIMPLEMENTED", "unsupported"),
        ("INTERNAL", "retry"),
        ("UNAVAILABLE", "retry"),
        ("DATA_LOSS", "retry"),
        ("UNAUTHENTICATED", "shut"),
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


@pytest.mark.parametrize("status", [200, 202])
@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/html; charset=utf-8", b"<!DOCTYPE html><title>Sign in</title>"),
        ("text/plain", b"It works!"),
        ("application/x-protobuf", b"<html>\xff"),
        ("application/json", b"<html>"),
        ("application/json", b'"ok"'),
        ("application/json", b"[]"),
        ("application/json", b'{"partialSuccess": 1}'),
        ("", b"\n <p>"),
        ("application/octet-stream", b"ok"),
    ],
)
def test_page_of_something_else_is_no_delivery(
    receiver: OtlpReceiver, status: int, content_type: str, body: bytes
) -> None:
    """A portal, a start page, a wrong port: whatever the status, it took nothing."""
    receiver.respond(status=status, headers={"Content-Type": content_type}, body=body)
    answer = send(receiver, "http/protobuf")
    assert answer.kind == "foreign"
    assert f"HTTP {status}" in answer.message
    assert content_type.partition(";")[0] in answer.message


@pytest.mark.parametrize("status", [200, 202, 204])
@pytest.mark.parametrize("content_type", ["text/html", "text/plain", "application/json", PROTOBUF, ""])
def test_response_may_be_empty(receiver: OtlpReceiver, status: int, content_type: str) -> None:
    """That is an OTLP response which says nothing, whatever a server's default type is."""
    receiver.respond(status=status, headers={"Content-Type": content_type}, body=b"")
    assert send(receiver, "http/protobuf") == Answer("delivered")


def test_page_that_is_long_is_not_told_whole(receiver: OtlpReceiver) -> None:
    """Its beginning says what it is."""
    receiver.respond(headers={"Content-Type": "text/html"}, body=b"<p>no</p>" * 10_000)
    assert len(send(receiver, "http/protobuf").message) < 200


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
    assert send(receiver, protocol).kind == "shut"


def test_grpc_message_that_is_too_large_is_rejected(receiver: OtlpReceiver) -> None:
    """Though the status is that of a server that is exhausted."""
    request = ExportLogsServiceRequest()
    request.resource_logs.add().scope_logs.add().log_records.add(event_name="x" * 5_000_000)
    sender = make_sender("logs", target_of(receiver.grpc_endpoint, "grpc"))
    answer = sender.send(request.SerializeToString(), LONG_S)
    sender.close()
    assert answer.kind == "rejected"
    assert "larger than max" in answer.message


@each_protocol
@pytest.mark.parametrize(
    ("status", "code"), [(401, "UNAUTHENTICATED"), (400, "INVALID_ARGUMENT"), (200, "OK")]
)
def test_server_that_echoes_what_it_was_sent_is_not_quoted(
    receiver: OtlpReceiver, protocol: Protocol, status: int, code: str
) -> None:
    """Neither a token that it refuses, nor what it would rather be sent; also where its words are cut."""
    words = "x" * 500 + " Bearer t0ken-of-ours, t0ken-of-ours, see https://anna:hunter2@host/?key=hunter2"
    for start in (0, 450, 495, 499):
        receiver.respond(status=status, grpc_status=code, message=words[start:])
        answer = send(receiver, protocol, HEADERS="authorization=Bearer%20t0ken-of-ours")
        assert not re.search("t0k|hunter", answer.message), answer.message
        assert "***" in answer.message or start == 0


def test_page_that_echoes_a_header_is_not_quoted(receiver: OtlpReceiver) -> None:
    """In HTML's own spelling."""
    receiver.respond(headers={"Content-Type": "text/html"}, body=b"<p>t0ken&amp;key</p>")
    answer = send(receiver, "http/protobuf", HEADERS="api-key=t0ken%26key")
    assert answer.kind == "foreign"
    assert "t0ken" not in answer.message


@pytest.mark.parametrize(
    "location", ["https://anna:hunter2@host/v1/logs?key=hunter2#hunter2", "//anna:hunter2@host/v1/logs"]
)
def test_redirect_is_told_without_credentials(receiver: OtlpReceiver, location: str) -> None:
    """It leads somewhere, and that is all that is said."""
    receiver.respond(status=302, headers={"Location": location})
    message = send(receiver, "http/protobuf").message
    assert "host/v1/logs" in message
    assert not re.search("hunter2|anna", message)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_not_followed(receiver: OtlpReceiver, status: int) -> None:
    """It is told where it leads, without what may be a secret."""
    with OtlpReceiver() as elsewhere:
        location = f"{elsewhere.http_endpoint}/v1/logs"
        receiver.respond(status=status, headers={"Location": f"{location}?token=secret"})
        answer = send(receiver, "http/protobuf", HEADERS="authorization=secret")
        assert answer == Answer("shut", f"HTTP {status}, redirected to {location}")
        assert elsewhere.requests == []


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
    assert answer.retry_after_s == seconds
    assert answer.kind == ("busy" if status == 429 or seconds is not None else "retry")


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


@pytest.mark.parametrize("status", [302, 401, 403, 404])
def test_retry_after_is_read_whatever_is_refused(receiver: OtlpReceiver, status: int) -> None:
    """A server may ask to be left alone for any reason that may pass."""
    receiver.respond(status=status, headers={"Retry-After": "7"})
    assert send(receiver, "http/protobuf").retry_after_s == 7.0


@each_protocol
def test_what_is_wrong_with_the_data_has_no_time(receiver: OtlpReceiver, protocol: Protocol) -> None:
    """To come again would change nothing about it."""
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
    assert answer.retry_after_s == seconds
    assert answer.kind == ("busy" if code == "RESOURCE_EXHAUSTED" or seconds is not None else "retry")
