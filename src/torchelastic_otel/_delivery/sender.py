"""Sends OTLP requests that are bytes already, one attempt each, and reads what the server answers.

The answer's kind says what is to become of the data; to retry, or to keep it meanwhile, is up to the caller.
Nothing heavy is imported before a sender is made.
"""

from __future__ import annotations

import gzip
import math
import re
import ssl
import time
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import timezone
from email.utils import parsedate_to_datetime
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

from .._config.environment import Signal
from .._config.otlp import OtlpTarget
from .._runtime.guard import from_signal_handler
from .._runtime.imports import import_module
from .credentials import channel_credentials, provided_credentials
from .encoding import service_message, service_names

AnswerKind = Literal["delivered", "retry", "rejected", "held", "late", "unsupported"]
"""What became of a request.

- ``delivered``: the server took it, with the exception of ``Answer.rejected`` items.
- ``retry``: it may be taken later; nobody answered, or the server is overloaded or out of order.
- ``rejected``: it will never be taken.
- ``late``: likewise, since its timestamps are too old for the server.
- ``held``: nothing is wrong with it, but the server lets nobody in: credentials, certificates, redirects.
- ``unsupported``: the server does not take this signal.
"""

_PROTOBUF = "application/x-protobuf"
_MOST_SHOWN = 512
_MOST_READ = 64 * 1024
_PIECE = 512
_LONGEST_RETRY_AFTER_S = 3600.0

# The field with the number of refused items.
_REJECTED = {
    "logs": "rejected_log_records",
    "traces": "rejected_spans",
    "metrics": "rejected_data_points",
}
_HTTP_KINDS: dict[int, AnswerKind] = {
    401: "held",
    403: "held",
    404: "unsupported",
    405: "unsupported",
    407: "held",
    408: "retry",
    429: "retry",
}
_GRPC_KINDS: dict[str, AnswerKind] = {
    "CANCELLED": "retry",
    "UNKNOWN": "retry",
    "DEADLINE_EXCEEDED": "retry",
    "RESOURCE_EXHAUSTED": "retry",
    "ABORTED": "retry",
    "OUT_OF_RANGE": "retry",
    "INTERNAL": "retry",
    "UNAVAILABLE": "retry",
    "DATA_LOSS": "retry",
    "PERMISSION_DENIED": "held",
    "UNAUTHENTICATED": "held",
    "UNIMPLEMENTED": "unsupported",
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
_GRPC_TLS_ERROR = re.compile(r"SSL_ERROR_SSL|Hostname Verification Check failed|is not in peer certificate")
_TUNNEL_REFUSED = re.compile(r"Tunnel connection failed: (\d{3})")
# A server that goes away during the handshake, which says nothing about certificates.
_CUT_TLS = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a request."""

    kind: AnswerKind
    message: str = ""
    """The server's own words or the error's, on one line of at most 512 characters."""
    rejected: int = 0
    """Items refused out of a delivered request."""
    too_large: bool = False
    """A smaller request may be taken."""
    retry_after_s: float | None = None
    """How long the server asks to be left alone, from 0 to 3600 seconds; None if it does not say."""


class Sender(Protocol):
    """Sends the requests of one signal to one place, for one thread at a time."""

    def send(self, payload: bytes, timeout_s: float) -> Answer:
        """Make one attempt to deliver ``payload``; raises nothing but what a signal handler does.

        Args:
            payload: a serialized ``Export…ServiceRequest``.
            timeout_s: longest time for it. gRPC keeps to that. For HTTP it bounds the time until the server
                begins to answer; one that answers bit by bit is waited for as long before each bit of the
                header and of 512 bytes of the body. A credential provider's session may take this time to
                connect, and once more to wait.
        """

    def close(self) -> None:
        """Close the connections; another thread may do so."""


def make_sender(signal: Signal, target: OtlpTarget) -> Sender:
    """Return a sender of ``signal`` to ``target``.

    Connections are made when something is sent. TLS files and credentials are read here.

    Raises:
        CredentialError: the credential provider fails; the text is the warning.
        OSError: a TLS file cannot be read any more.
    """
    return _GrpcSender(signal, target) if target.protocol == "grpc" else _HttpSender(signal, target)


def channel_compression(target: OtlpTarget) -> Any:
    """Return gRPC's constant for the target's compression."""
    compression = import_module("grpc").Compression
    return {
        "none": compression.NoCompression,
        "gzip": compression.Gzip,
        "deflate": compression.Deflate,
    }[target.compression]


class _Service:
    """A signal's service: what its method is called, and how to read what it answers."""

    def __init__(self, signal: Signal) -> None:
        package, name = service_names(signal)
        self.method = f"/{package}.{name}Service/Export"
        self._rejected = _REJECTED[signal]
        self._response = service_message(signal, "Response")
        self._status = import_module("google.rpc.status_pb2").Status
        self._retry_info = import_module("google.rpc.error_details_pb2").RetryInfo
        self._json = import_module("google.protobuf.json_format")
        self._decode_error = import_module("google.protobuf.message").DecodeError

    def delivered(self, body: bytes, content_type: str = _PROTOBUF) -> Answer:
        """Read the response to a request that was taken."""
        response = self._response()
        try:
            if content_type == "application/json":
                self._json.Parse(body, response, ignore_unknown_fields=True)
            else:
                response.ParseFromString(body)
        except (self._decode_error, self._json.ParseError, ValueError):
            # It was taken, whatever is said about that.
            return Answer("delivered")
        partial = response.partial_success
        return Answer("delivered", _one_line(partial.error_message), max(0, getattr(partial, self._rejected)))

    def words(self, body: bytes, content_type: str) -> str:
        """Read what an HTTP server says about a request that it did not take."""
        if content_type == _PROTOBUF:
            try:
                message: str = self._status.FromString(body).message
                return message
            except self._decode_error:
                pass  # text under a wrong name
        return body.decode(errors="replace")

    def retry_after_s(self, metadata: Iterable[tuple[str, Any]]) -> float | None:
        """Read gRPC's ``RetryInfo`` among the details of a status."""
        retry = self._retry_info()
        try:
            status = self._status.FromString(dict(metadata).get("grpc-status-details-bin", b""))
            if not any(detail.Unpack(retry) for detail in status.details):
                return None
        except self._decode_error:
            return None
        return _bounded(retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9)


class _OneAttempt(ABC):
    """What senders have in common: an attempt never raises."""

    def send(self, payload: bytes, timeout_s: float) -> Answer:
        if timeout_s <= 0:
            return Answer("retry", "no time was left to send it")
        try:
            return self._attempt(payload, timeout_s)
        except Exception as error:
            if from_signal_handler(error):
                raise
            return self._failure(error)

    @abstractmethod
    def _attempt(self, payload: bytes, timeout_s: float) -> Answer: ...

    @abstractmethod
    def _failure(self, error: Exception) -> Answer: ...


class _HttpSender(_OneAttempt):
    def __init__(self, signal: Signal, target: OtlpTarget) -> None:
        requests = import_module("requests")
        self._service = _Service(signal)
        self._exceptions = requests.exceptions
        provided = provided_credentials(target, requests.Session)
        self._session = provided or requests.Session()
        # One time for connecting and waiting together. A third party's session may only know numbers.
        self._timeout: Callable[[float], Any] = float if provided else import_module("urllib3").Timeout
        self._endpoint = target.endpoint
        self._compression = target.compression
        self._headers: dict[str, str | None] = {
            # None keeps the session from sending one of its own.
            **dict.fromkeys(target.refused_headers),
            "content-type": _PROTOBUF,
            "user-agent": _user_agent(),
            **dict(target.headers),
        }
        if target.compression != "none":
            self._headers["content-encoding"] = target.compression
        # The CA counts before REQUESTS_CA_BUNDLE since it is given with each request. None leaves it to that
        # and to the session.
        self._verify = target.ca_file or None
        self._certificate = (target.certificate_file, target.key_file) if target.certificate_file else None

    def _attempt(self, payload: bytes, timeout_s: float) -> Answer:
        deadline = time.monotonic() + timeout_s
        with self._session.post(
            self._endpoint,
            data=self._compress(payload),
            headers=self._headers,
            timeout=self._timeout(timeout_s),
            verify=self._verify,
            cert=self._certificate,
            allow_redirects=False,
            stream=True,
        ) as response:
            status: int = response.status_code
            content_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            body = _beginning(response, deadline)
        kind = _http_kind(status)
        if kind == "delivered":
            return self._service.delivered(body, content_type)
        if 300 <= status < 400:
            # The query may hold secrets.
            location = response.headers.get("location", "").partition("?")[0]
            words = f"HTTP {status}, redirected to {location}"
        else:
            words = self._service.words(body, content_type)
        if not words.strip():
            words = f"HTTP {status} {response.reason or ''}"
        answer = _not_taken(kind, words, _retry_after_s(response.headers.get("retry-after", "")))
        return replace(answer, too_large=status == 413)

    def _compress(self, payload: bytes) -> bytes:
        if self._compression == "gzip":
            return gzip.compress(payload)
        if self._compression == "deflate":
            return zlib.compress(payload)
        return payload

    def _failure(self, error: Exception) -> Answer:
        cause = _innermost(error)
        words = _one_line(f"{type(cause).__name__}: {cause}")
        if isinstance(error, self._exceptions.SSLError) and not isinstance(cause, _CUT_TLS):
            return Answer("held", words)
        tunnel = _TUNNEL_REFUSED.search(words)
        if tunnel and _http_kind(int(tunnel[1])) == "held":
            return Answer("held", words)
        if isinstance(error, self._exceptions.RequestException) and isinstance(error, ValueError):
            # requests quotes what it does not like, and that may be a credential.
            return Answer("held", f"{type(error).__name__}: no request can be made for this endpoint")
        return Answer("retry", words)

    def close(self) -> None:
        self._session.close()


class _GrpcSender(_OneAttempt):
    def __init__(self, signal: Signal, target: OtlpTarget) -> None:
        self._grpc = import_module("grpc")
        self._service = _Service(signal)
        self._endpoint = urlsplit(target.endpoint).netloc or target.endpoint
        self._insecure = target.insecure
        self._credentials = channel_credentials(target)
        self._options: dict[str, Any] = {
            "compression": channel_compression(target),
            "options": [("grpc.primary_user_agent", _user_agent())],
        }
        self._metadata = target.headers
        self._channel: Any = None

    def _open_channel(self) -> Any:
        if self._insecure:
            return self._grpc.insecure_channel(self._endpoint, **self._options)
        return self._grpc.secure_channel(self._endpoint, self._credentials, **self._options)

    def _attempt(self, payload: bytes, timeout_s: float) -> Answer:
        self._channel = channel = self._channel or self._open_channel()
        export = channel.unary_unary(self._service.method)
        return self._service.delivered(export(payload, timeout=timeout_s, metadata=self._metadata))

    def _failure(self, error: Exception) -> Answer:
        if not isinstance(error, self._grpc.RpcError):
            return Answer("retry", _one_line(f"{type(error).__name__}: {error}"))
        code: str = error.code().name
        words: str = error.details() or code
        kind = _GRPC_KINDS.get(code, "rejected")
        if code == "UNAVAILABLE":
            # A channel waits for up to two minutes until it connects again, and answers for the server then.
            # A new one connects at once.
            self.close()
            if _GRPC_TLS_ERROR.search(words):
                kind = "held"
        elif code == "RESOURCE_EXHAUSTED" and _TOO_LARGE.search(words):
            return Answer("rejected", _one_line(words), too_large=True)
        return _not_taken(kind, words, self._service.retry_after_s(error.trailing_metadata() or ()))

    def close(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()


def _user_agent() -> str:
    # Released together with the stock exporters, which call themselves this.
    return f"OTel-OTLP-Exporter-Python/{import_module('opentelemetry.proto.version').__version__}"


def _beginning(response: Any, deadline: float) -> bytes:
    """Read what matters of a body; the status has decided already, so a body cut short is good enough."""
    body = b""
    try:
        for piece in response.iter_content(_PIECE):
            body += piece
            if len(body) >= _MOST_READ or time.monotonic() > deadline:
                break
    except OSError:  # as all of requests' exceptions are
        return body
    return body


def _innermost(error: BaseException) -> BaseException:
    """Return what went wrong: requests wraps that several times, in texts that quote the URL."""
    for inner in (getattr(error, "reason", None), *reversed(error.args)):
        if isinstance(inner, BaseException):
            return _innermost(inner)
    return error


def _http_kind(status: int) -> AnswerKind:
    if status < 300:
        return "delivered"
    if status < 400:
        return "held"
    return "retry" if status >= 500 else _HTTP_KINDS.get(status, "rejected")


def _not_taken(kind: AnswerKind, words: str, retry_after_s: float | None) -> Answer:
    """Return the answer for a request that was refused as a whole."""
    late = {"rejected": _LATE, "retry": _LATE_THOUGH_500}.get(kind)
    if late and late.search(words):
        kind = "late"
    return Answer(kind, _one_line(words), retry_after_s=retry_after_s if kind == "retry" else None)


def _one_line(text: str) -> str:
    start = text[: 4 * _MOST_SHOWN]
    line = " ".join("".join(each if each.isprintable() else " " for each in start).split())
    return line if len(line) <= _MOST_SHOWN else line[: _MOST_SHOWN - 1] + "…"


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
