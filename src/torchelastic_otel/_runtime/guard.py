"""The boundary: what the bridge gets wrong stays with the bridge, what is not its own passes through.

A host may turn SIGTERM into an exception that is raised in the main thread between any two instructions, also
inside this package. Swallowing it would let a job run on that was told to stop, so an exception is held back
only if no signal handler raised it.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from types import CodeType, TracebackType
from typing import ParamSpec

logger = logging.getLogger("torchelastic_otel")

_P = ParamSpec("_P")
_redact: Callable[[str], str] = str
_said: set[str] = set()
_MOST_SAID = 256
_hosts: list[Callable[[BaseException], bool]] = []


def redact_with(redact: Callable[[str], str]) -> None:
    """Take secrets out of all that is logged by ``redact``."""
    global _redact
    _redact = redact


def _without_secrets(record: logging.LogRecord) -> bool:
    """Redact a record, its traceback included; one that cannot be redacted is not logged."""
    try:
        record.msg, record.args = _redact(record.getMessage()), ()
        if record.exc_info and not record.exc_text:
            record.exc_text = _redact(logging.Formatter().formatException(record.exc_info))
    except Exception:
        return False
    return True


logger.addFilter(_without_secrets)


def say_once(kind: str, message: str, *, level: int = logging.WARNING, exc_info: bool = False) -> None:
    """Log ``message`` unless something of the same ``kind`` was logged before in this process."""
    if kind in _said or len(_said) >= _MOST_SAID:
        return
    _said.add(kind)
    logger.log(level, message, exc_info=exc_info)


def warn_once(message: str) -> None:
    """Log a warning unless the same one was logged before in this process."""
    say_once(message, message)


def say_gone(name: str, consequence: str) -> None:
    """Say once that a private name which the package uses is gone, and what that costs."""
    say_once(f"gone: {name}", f"{name} is gone: {consequence}. The job is not affected.")


def let_pass(is_hosts: Callable[[BaseException], bool]) -> None:
    """Let exceptions pass that ``is_hosts`` knows: those of a signal handler that may be gone by then."""
    if is_hosts not in _hosts:
        _hosts.append(is_hosts)


def _handler_codes() -> set[CodeType]:
    codes = set()
    for number in signal.valid_signals():
        handler = signal.getsignal(number)
        code = getattr(getattr(handler, "__func__", handler), "__code__", None)
        if code is not None:
            codes.add(code)
    return codes


def from_signal_handler(error: BaseException) -> bool:
    """Tell whether a Python signal handler raised ``error`` (then it is the host's, not ours)."""
    if threading.current_thread() is not threading.main_thread():
        return False
    if any(is_hosts(error) for is_hosts in _hosts):
        return True
    codes = _handler_codes()
    traceback: TracebackType | None = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code in codes:
            return True
        traceback = traceback.tb_next
    return False


def guarded(function: Callable[_P, object], *args: _P.args, **kwargs: _P.kwargs) -> None:
    """Call ``function``; its own errors are logged once per kind, the host's pass through."""
    try:
        function(*args, **kwargs)
    except Exception as error:
        if from_signal_handler(error):
            raise
        note_internal_error(getattr(function, "__qualname__", repr(function)), error)


def note_internal_error(where: str, error: BaseException) -> None:
    """Say once per place and type that the bridge failed, and that the job goes on."""
    say_once(
        f"{where}:{type(error).__name__}",
        f"internal error in {where}: {type(error).__name__}: {error}. "
        "The job is not affected; telemetry may be incomplete.",
        exc_info=logger.isEnabledFor(logging.DEBUG),
    )
