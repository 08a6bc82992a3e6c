"""What the senders have in common: one attempt, which never raises."""

from __future__ import annotations

from abc import ABC, abstractmethod

from .._config.otlp import OtlpTarget
from .._config.secrets import Redactor, of_process
from .._runtime.guard import from_signal_handler
from .._runtime.imports import import_module
from .answer import Answer


class OneAttempt(ABC):
    """Turns whatever goes wrong in an attempt into an answer, but for what a signal handler raises.

    Args:
        redact: takes out of a text what the target holds in confidence.
    """

    def __init__(self, redact: Redactor) -> None:
        self._redact = redact

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


def redactor_of(target: OtlpTarget) -> Redactor:
    """Return what takes out of texts what this process, and this target, know as secret."""
    return of_process().knowing(headers=[value for _, value in target.headers], urls=[target.endpoint])
