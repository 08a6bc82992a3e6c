"""OTLP over HTTP, with a session of ``requests``."""

from __future__ import annotations

import gzip
import re
import ssl
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from .._config.environment import Signal
from .._config.otlp import OtlpTarget
from .._config.secrets import without_credentials
from .._runtime.imports import importing
from .answer import PROTOBUF, Answer, Responses, http_kind, one_line, refused_by_http
from .attempt import OneAttempt, redactor_of, user_agent
from .bounded_session import Deadline, bounded_session
from .credentials import provided_credentials

if TYPE_CHECKING:
    from requests import Response, Session
    from urllib3 import Timeout

_MOST_READ = 64 * 1024
_PIECE = 512
_TUNNEL_REFUSED = re.compile(r"Tunnel connection failed: (\d{3})")
# A server that goes away during the handshake, which says nothing about certificates.
_CUT_TLS = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)


class HttpSender(OneAttempt):
    """Posts requests to a URL."""

    def __init__(self, signal: Signal, target: OtlpTarget) -> None:
        with importing:
            import requests
            import urllib3
        provided = provided_credentials(target, requests.Session)
        super().__init__(redactor_of(target).knowing(headers=_headers_of(provided, requests.Session())))
        self._responses = Responses(signal, self._redact)
        self._request_error = requests.exceptions.RequestException
        self._tls_error = requests.exceptions.SSLError
        self._connection_errors = (
            urllib3.exceptions.NewConnectionError,
            urllib3.exceptions.ConnectTimeoutError,
        )
        self._deadline = Deadline()
        self._session = provided or bounded_session(self._deadline)
        # One time for connecting and waiting together. A third party's session may only know numbers.
        self._timeout: Callable[[float], float | Timeout] = float if provided else urllib3.Timeout
        self._endpoint = target.endpoint
        self._compression = target.compression
        self._headers: dict[str, str | None] = {
            # None keeps the session from sending one of its own.
            **dict.fromkeys(target.refused_headers),
            "content-type": PROTOBUF,
            "user-agent": user_agent(),
            **dict(target.headers),
        }
        if target.compression != "none":
            self._headers["content-encoding"] = target.compression
        # The CA counts before REQUESTS_CA_BUNDLE since it is given with each request. None leaves it to that
        # and to the session.
        self._verify = target.ca_file or None
        self._certificate = (target.certificate_file, target.key_file) if target.certificate_file else None

    def _attempt(self, payload: bytes, timeout_s: float) -> Answer:
        self._deadline.set(timeout_s)
        with self._session.post(
            self._endpoint,
            data=self._compressed(payload),
            headers=self._headers,  # type: ignore[arg-type]  # its types do not know that None is accepted
            timeout=self._timeout(timeout_s),  # type: ignore[arg-type]  # nor urllib3's Timeout
            verify=self._verify,
            cert=self._certificate,
            allow_redirects=False,
            stream=True,
        ) as response:
            status = response.status_code
            content_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            body, whole = self._beginning(response)
        if http_kind(status) == "delivered":
            return self._responses.taken_by_http(status, body, content_type, whole=whole)
        if 300 <= status < 400:
            location = self._redact(without_credentials(response.headers.get("location", "")))
            words = f"HTTP {status}, redirected to {location}"
        else:
            words = self._responses.words(body, content_type)
        if not words.strip():
            words = self._redact(f"HTTP {status} {response.reason or ''}")
        return refused_by_http(status, words, response.headers.get("retry-after", ""))

    def _beginning(self, response: Response) -> tuple[bytes, bool]:
        """Return what matters of a body, and whether that is all of it."""
        body = b""
        try:
            for piece in response.iter_content(_PIECE):
                body += piece
                if len(body) >= _MOST_READ or self._deadline.left_s() <= 0:
                    return body, False
        except OSError:  # as all of requests' exceptions are
            return body, False
        return body, True

    def _compressed(self, payload: bytes) -> bytes:
        if self._compression == "gzip":
            return gzip.compress(payload)
        if self._compression == "deflate":
            return zlib.compress(payload)
        return payload

    def _failure(self, error: Exception) -> Answer:
        cause = _innermost(error)
        words = one_line(self._redact(f"{type(cause).__name__}: {cause}"))
        if isinstance(error, self._tls_error) and not isinstance(cause, _CUT_TLS):
            return Answer("shut", words)
        tunnel = _TUNNEL_REFUSED.search(words)
        if tunnel and http_kind(int(tunnel[1])) == "shut":
            return Answer("shut", words)
        if isinstance(error, self._request_error) and isinstance(error, ValueError):
            # requests quotes what it does not like, and that may be a credential.
            return Answer("shut", f"{type(error).__name__}: no request can be made for this endpoint")
        return Answer("unreachable" if self._had_no_connection(error) else "retry", words)

    def _had_no_connection(self, error: BaseException) -> bool:
        """Tell whether there was nobody to send anything to, be it a proxy."""
        inner = (getattr(error, "reason", None), getattr(error, "original_error", None), *error.args)
        return isinstance(error, self._connection_errors) or any(
            isinstance(each, BaseException) and self._had_no_connection(each) for each in inner
        )

    def close(self) -> None:
        """Close the session's connections."""
        self._session.close()


def _headers_of(session: Session | None, usual: Session) -> list[str]:
    """Return what a third party's session sends beside what all of them send, as far as can be told."""
    if session is None:
        return []
    headers = {str(value) for value in session.headers.values()} - set(map(str, usual.headers.values()))
    auth = session.auth if isinstance(session.auth, tuple) else ()
    return [*headers, *(each for each in auth if isinstance(each, str))]


def _innermost(error: BaseException) -> BaseException:
    """Return what went wrong: requests wraps that several times, in texts that quote the URL."""
    for inner in (getattr(error, "reason", None), *reversed(error.args)):
        if isinstance(inner, BaseException):
            return _innermost(inner)
    return error
