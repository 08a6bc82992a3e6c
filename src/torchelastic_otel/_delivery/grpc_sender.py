"""OTLP over gRPC."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Protocol, cast
from urllib.parse import urlsplit

from .._config.environment import Signal
from .._config.otlp import OtlpTarget
from .._runtime.imports import import_module
from .._runtime.own_thread import threads_are_real
from .answer import Answer, Responses, one_line, refused_by_grpc
from .attempt import OneAttempt, redactor_of, user_agent
from .credentials import channel_credentials
from .encoding import service_names

# Texts of gRPC's, of which the code alone says less. Without them nothing is taken for granted: it is tried
# again, each signal by itself.
_UNREACHABLE = re.compile(r"failed to connect|resol", re.IGNORECASE)
_TLS_ERROR = re.compile(r"SSL_ERROR_SSL|Hostname Verification Check failed|is not in peer certificate")


class _Channel(Protocol):
    """What is used of ``grpc.Channel``; the package has no types."""

    def unary_unary(self, method: str) -> Callable[..., bytes]: ...

    def close(self) -> None: ...


class _StatusCode(Protocol):
    """What is used of ``grpc.StatusCode``."""

    @property
    def name(self) -> str: ...


class _Refusal(Protocol):
    """What is used of the ``grpc.RpcError`` that a call raises."""

    def code(self) -> _StatusCode: ...

    def details(self) -> str | None: ...

    def trailing_metadata(self) -> Iterable[tuple[str, str | bytes]] | None: ...


class GrpcSender(OneAttempt):
    """Calls the service's method on a channel."""

    def __init__(self, signal: Signal, target: OtlpTarget) -> None:
        super().__init__(redactor_of(target))
        grpc = import_module("grpc")
        if "gevent" in sys.modules and not threads_are_real():
            # Else gRPC's waiting threads, which take turns with the program's, stop it.
            import_module("grpc.experimental.gevent").init_gevent()
        package, name = service_names(signal)
        self._method = f"/{package}.{name}Service/Export"
        self._responses = Responses(signal, self._redact)
        self._rpc_error: type[Exception] = grpc.RpcError
        self._metadata = target.headers
        endpoint = urlsplit(target.endpoint).netloc or target.endpoint
        credentials = channel_credentials(target)
        compression = {
            "none": grpc.Compression.NoCompression,
            "gzip": grpc.Compression.Gzip,
            "deflate": grpc.Compression.Deflate,
        }[target.compression]
        options = [("grpc.primary_user_agent", user_agent())]

        def open_channel() -> _Channel:
            channel: _Channel = (
                grpc.insecure_channel(endpoint, compression=compression, options=options)
                if target.insecure
                else grpc.secure_channel(endpoint, credentials, compression=compression, options=options)
            )
            return channel

        self._open_channel = open_channel
        self._channel: _Channel | None = None

    def _attempt(self, payload: bytes, timeout_s: float) -> Answer:
        self._channel = channel = self._channel or self._open_channel()
        export = channel.unary_unary(self._method)
        return self._responses.taken(export(payload, timeout=timeout_s, metadata=self._metadata))

    def _failure(self, error: Exception) -> Answer:
        if not isinstance(error, self._rpc_error):
            return Answer("retry", one_line(self._redact(f"{type(error).__name__}: {error}")))
        refusal = cast("_Refusal", error)
        code = refusal.code().name
        words = self._redact(refusal.details() or code)
        answer = refused_by_grpc(
            code, words, self._responses.retry_after_s(refusal.trailing_metadata() or ())
        )
        if code == "UNAVAILABLE":
            # A channel waits for up to two minutes until it connects again, and answers for the server then.
            # A new one connects at once.
            self.close()
            if _TLS_ERROR.search(words):
                return replace(answer, kind="shut")
            if _UNREACHABLE.search(words):
                return replace(answer, kind="unreachable")
        return answer

    def close(self) -> None:
        """Close the channel; the next attempt opens another one."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()
