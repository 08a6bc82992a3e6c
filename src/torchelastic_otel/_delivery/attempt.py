"""What the senders have in common: one attempt, which never raises."""

from __future__ import annotations

from abc import ABC, abstractmethod

from .._runtime.guard import from_signal_handler
from .._runtime.imports import import_module
from .answer import Answer


class OneAttempt(ABC):
    """Turns whatever goes wrong in an attempt into an answer, but for what a signal handler raises."""

    def send(self, payload: bytes, timeout_s: float) -> Answer:
        """Make one attempt, as ``Sender.send`` says."""
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


def user_agent() -> str:
    """Return what the senders call themselves: the name of the stock exporters, and their version."""
    # Released together with the stock exporters.
    return f"OTel-OTLP-Exporter-Python/{import_module('opentelemetry.proto.version').__version__}"
