"""What a server says to a request, and what that means for the data in it.

The kind of an answer is a statement about the data. What becomes of them is ``policy``'s to say.
Nothing heavy is imported before a sender is made.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timezone
from email.utils import parsedate_to_datetime
from typing import Any, Literal

from .._config.environment import Signal
from .._runtime.imports import import_module
from .encoding import service_message

AnswerKind = Literal[
    "delivered", "rejected", "late", "busy", "retry", "unreachable", "shut", "foreign", "unsupported"
]
"""What a server makes of a request.

- ``delivered``: it took it, with the exception of ``Answer.rejected`` items.
- ``rejected``: it will never take it, for what is in it.
- ``late``: likewise, since the timestamps are too old for it.
- ``busy``: it asks to be left alone for a while.
- ``retry``: it, or what is in front of it, is out of order; or it is silent.
- ``unreachable``: there is no connection to it.
- ``shut``: nothing is wrong with the data, but it lets nobody in: credentials, certificates, redirects.
- ``foreign``: what answered is no OTLP server.
- ``unsupported``: it does not take this signal.
"""

PROTOBUF = "application/x-protobuf"
"""The content type of requests, and of answers that are messages."""

HTTP_KINDS: dict[int, AnswerKind] = {
    400: "rejected",
    409: "rejected",
    413: "rejected",
    422: "rejected",
    404: "unsupported",
    405: "unsupported",
    410: "unsupported",
    408: "retry",
    425: "retry",
    429: "busy",
    401: "shut",
    403: "shut",
    407: "shut",
}
"""What single statuses below 500 mean; ``http_kind`` knows the rest."""

GRPC_KINDS: dict[str, AnswerKind] = {
    "CANCELLED": "retry",
    "UNKNOWN": "retry",
    "DEADLINE_EXCEEDED": "retry",
    "RESOURCE_EXHAUSTED": "busy",
    "ABORTED": "retry",
    "OUT_OF_RANGE": "retry",
    "INTERNAL": "retry",
    "UNAVAILABLE": "retry",
    "DATA_LOSS": "retry",
    "PERMISSION_DENIED": "shut",
    "UNAUTHENTICATED": "shut",
    "UNIMPLEMENTED": "unsupported",
}
"""What gRPC's codes mean; all others but OK are ``rejected``."""

_MOST_SHOWN = 512
_MOST_OF_A_PAGE = 120
_LONGEST_RETRY_AFTER_S = 3600.0

# The field with the number of refused items.
_REJECTED: dict[Signal, str] = {
    "logs": "rejected_log_records",
    "traces": "rejected_spans",
    "metrics": "rejected_data_points",
}
# Words of Prometheus and its relatives, and of Loki.
_LATE = re.compile(
    r"too old sample|timestamp (is )?too (old|far in the past)|too far behind"
    r"|out[ -]of[ -]order|out of bounds",
    re.IGNORECASE,
)
# Prometheus long answered 500 to these, which no retry changes.
_LATE_THOUGH_500 = re.compile(r"too old sample", re.IGNORECASE)
# gRPC has one code for an exhausted server and for a message that will always be too large.
_TOO_LARGE = re.compile(r"message\b.*\blarger than max", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said to a request, or why none did."""

    kind: AnswerKind
    message: str = ""
    """The server's own words or the error's, on one line of at most 512 characters."""
    rejected: int = 0
    """Items refused out of a delivered request."""
    too_large: bool = False
    """A smaller request may be taken."""
    retry_after_s: float | None = None
    """How long the server asks to be left alone, from 0 to 3600 seconds; None if it does not say."""


def http_kind(status: int) -> AnswerKind:
    """Return what an HTTP status means. Those that say nothing of the data are no reason to give it up."""
    if status < 300:
        return "delivered"
    return "retry" if status >= 500 else HTTP_KINDS.get(status, "shut")


def refused_by_http(status: int, words: str, retry_after: str) -> Answer:
    """Return the answer for a request that was refused as a whole.

    Args:
        status: from 300 on.
        words: what the server says about it.
        retry_after: the header of that name, "" if there is none.
    """
    return _refused(http_kind(status), words, _retry_after_s(retry_after), too_large=status == 413)


def refused_by_grpc(code: str, words: str, retry_after_s: float | None) -> Answer:
    """Return the answer for a call that ended with another code than OK.

    Args:
        code: its name.
        words: what the server says about it.
        retry_after_s: from the details of the status, in seconds.
    """
    if code == "RESOURCE_EXHAUSTED" and _TOO_LARGE.search(words):
        return Answer("rejected", one_line(words), too_large=True)
    return _refused(GRPC_KINDS.get(code, "rejected"), words, retry_after_s)


def _refused(kind: AnswerKind, words: str, retry_after_s: float | None, *, too_large: bool = False) -> Answer:
    late = {"rejected": _LATE, "retry": _LATE_THOUGH_500}.get(kind)
    if late and late.search(words):
        kind = "late"
    if kind in ("rejected", "late"):  # to come again would change nothing
        retry_after_s = None
    elif kind == "retry" and retry_after_s is not None:
        kind = "busy"
    return Answer(kind, one_line(words), too_large=too_large, retry_after_s=retry_after_s)


def one_line(text: str) -> str:
    """Return the beginning of ``text`` as ``Answer.message`` shows it."""
    start = text[: 4 * _MOST_SHOWN]
    line = " ".join("".join(each if each.isprintable() else " " for each in start).split())
    return line if len(line) <= _MOST_SHOWN else line[: _MOST_SHOWN - 1] + "…"


class Responses:
    """Reads the messages in which a signal's OTLP service answers.

    Args:
        signal: which one.
        redact: takes secrets out of a server's words, which may quote what it refused.
    """

    def __init__(self, signal: Signal, redact: Callable[[str], str]) -> None:
        self._redact = redact
        self._rejected = _REJECTED[signal]
        # protobuf's own modules and those of google.rpc have no types: Any.
        self._response: Any = service_message(signal, "Response")
        self._status: Any = import_module("google.rpc.status_pb2").Status
        self._retry_info: Any = import_module("google.rpc.error_details_pb2").RetryInfo
        self._json: Any = import_module("google.protobuf.json_format")
        self._decode_error: type[Exception] = import_module("google.protobuf.message").DecodeError

    def taken(self, body: bytes) -> Answer:
        """Read the response to a call that ended with OK."""
        response = self._response()
        try:
            response.ParseFromString(body)
        except self._decode_error:
            return Answer("delivered")  # gRPC's own word for it counts
        return self._delivered(response)

    def taken_by_http(self, status: int, body: bytes, content_type: str, *, whole: bool) -> Answer:
        """Read what was answered with 2xx: an OTLP response, or a page of something else that listens there.

        Args:
            status: which one.
            body: its beginning.
            content_type: without parameters, in lower case.
            whole: whether that is all of it. One that was cut off was an OTLP response if it says so.
        """
        if whole and not body.strip():  # an OTLP response that says nothing
            return Answer("delivered")
        is_json = content_type == "application/json"
        page = content_type.startswith("text/") or body.lstrip().startswith(b"<")
        if not page and (not is_json or not whole or body.lstrip().startswith(b"{")):
            response = self._response()
            try:
                if is_json:
                    self._json.Parse(body, response, ignore_unknown_fields=True)
                else:
                    response.ParseFromString(body)
                return self._delivered(response)
            except (self._decode_error, self._json.ParseError, ValueError):
                if not whole and (is_json or content_type == PROTOBUF):
                    return Answer("delivered")
        shown = one_line(self._redact(body.decode(errors="replace")))[:_MOST_OF_A_PAGE]
        return Answer(
            "foreign", f"HTTP {status} with {content_type or 'no content type'}, no OTLP response: {shown}"
        )

    def _delivered(self, response: Any) -> Answer:
        partial = response.partial_success
        words = one_line(self._redact(partial.error_message))
        return Answer("delivered", words, max(0, getattr(partial, self._rejected)))

    def words(self, body: bytes, content_type: str) -> str:
        """Read what an HTTP server says about a request that it did not take."""
        if content_type == PROTOBUF:
            try:
                return self._redact(self._status.FromString(body).message)
            except self._decode_error:
                pass  # text under a wrong name
        return self._redact(body.decode(errors="replace"))

    def retry_after_s(self, metadata: Iterable[tuple[str, str | bytes]]) -> float | None:
        """Read gRPC's ``RetryInfo`` among the details of a status; in seconds."""
        retry = self._retry_info()
        try:
            status = self._status.FromString(dict(metadata).get("grpc-status-details-bin", b""))
            if not any(detail.Unpack(retry) for detail in status.details):
                return None
        except self._decode_error:
            return None
        return _bounded(retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9)


def _retry_after_s(value: str) -> float | None:
    """Read an HTTP ``Retry-After``: seconds or a date."""
    try:
        return _bounded(float(value))
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    return _bounded((date if date.tzinfo else date.replace(tzinfo=timezone.utc)).timestamp() - time.time())


def _bounded(seconds: float) -> float | None:
    return None if math.isnan(seconds) else min(max(seconds, 0.0), _LONGEST_RETRY_AFTER_S)
