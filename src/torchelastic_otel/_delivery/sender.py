"""Sends OTLP requests that are bytes already, one attempt each.

To retry, or to keep the data meanwhile, is up to the caller.
"""

from __future__ import annotations

from typing import Protocol

from .._config.environment import Signal
from .._config.otlp import OtlpTarget
from .answer import Answer
from .grpc_sender import GrpcSender
from .http_sender import HttpSender


class Sender(Protocol):
    """Sends the requests of one signal to one place, for one thread at a time."""

    def send(self, payload: bytes, timeout_s: float) -> Answer:
        """Make one attempt to deliver ``payload``; raises nothing but what a signal handler does.

        Args:
            payload: a serialized ``Export…ServiceRequest``.
            timeout_s: longest time for it. To connect may take that for each address of a host, and a
                credential provider's session may take it for each part of the answer.
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
    return GrpcSender(signal, target) if target.protocol == "grpc" else HttpSender(signal, target)
