"""The process's one bridge: made at first use, given up at a fork, emptied at the end of the process."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .._runtime import collection
from .._runtime.ending import LOAD_S, call_at_end
from .._runtime.guard import logger
from .._runtime.imports import importing
from .bridge import Bridge

if TYPE_CHECKING:
    from .._telemetry.providers import Providers

_bridge: Bridge | None = None
# Reentrant: a signal handler may record an event while the first one is being recorded.
_making = threading.RLock()
_providers: Providers | None = None
_hooked_exit = False
_gave_up = False
_last_line = ""
_imports_are_safe = True
_disowned: list[Bridge] = []
"""Of the processes that this one was forked from: kept for ever."""


def bridge() -> Bridge:
    """Return this process's bridge; made at first use, the same for all threads."""
    global _bridge
    found = _bridge
    if found is None:
        with _making:
            if _bridge is None:
                _bridge = Bridge(_providers, off=not _imports_are_safe)
                _hook_exit(_bridge)
            found = _bridge
    return found


def use_providers(providers: Providers | None) -> None:
    """Use these providers in bridges made from now on."""
    global _providers, _bridge
    _providers = providers
    if _bridge is not None:
        _bridge.finish(_bridge.exit_timeout_s)
        _bridge.retire(_bridge.exit_timeout_s)
        _bridge = None


# The end of the process


def _hook_exit(made: Bridge) -> None:
    global _hooked_exit
    if not threading.main_thread().is_alive():
        made.after_each = _at_exit  # the interpreter is ending, and calls nobody who registers now
        return
    if _hooked_exit:
        return
    try:
        # Whoever imports it later than the exit below begins finds that it can no longer be imported.
        import concurrent.futures.thread  # noqa: F401
    except RuntimeError:  # that exit has begun
        made.after_each = _at_exit
        return
    atexit.register(_at_atexit)
    call_at_end(_at_exit)
    _hooked_exit = True


def _at_atexit() -> None:
    _at_exit()
    if _bridge is not None:
        _bridge.after_each = _at_exit  # for handlers that were registered before ours, and so come after it


def _at_exit() -> None:
    global _gave_up, _last_line
    collection.go_on()
    current = _bridge
    if current is None or _gave_up:
        return
    with _signals_ignored():
        # A process of one event may end before anything is loaded; that is not the backend's time.
        current.wait_loaded(LOAD_S)
        deadline = time.monotonic() + current.exit_timeout_s
        _gave_up = not current.finish(current.exit_timeout_s)
        if not _gave_up:
            current.clear_spool(max(0.0, deadline - time.monotonic()))
    left = current.left()
    if _gave_up or (left and left != _last_line):
        _last_line = left
        logger.warning(
            "%s",
            left
            or f"telemetry was not all sent within {current.exit_timeout_s:g} s "
            "(TORCHELASTIC_OTEL_EXIT_TIMEOUT).",
        )


@contextlib.contextmanager
def _signals_ignored() -> Iterator[None]:
    """Keep a second SIGTERM or SIGINT from ending the flush; it is bounded, and the exit code stands."""
    previous = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(ValueError, OSError):
                previous[number] = signal.signal(number, lambda _number, _frame: None)
    try:
        yield
    finally:
        for restored, handler in previous.items():
            if handler is not None:
                with contextlib.suppress(ValueError, OSError):
                    signal.signal(restored, handler)


# Forks


def _after_fork_in_child() -> None:
    """A forked child starts afresh: its parent's queue is its parent's to send."""
    global _bridge, _making, _imports_are_safe
    _imports_are_safe = importing.after_fork_in_child() and _imports_are_safe
    collection.go_on()
    if _bridge is not None:
        _bridge.disown()
        # Nothing of gRPC's may be freed here: a channel ends threads that are not there in the child, and
        # that kills it.
        _disowned.append(_bridge)
    _bridge = None
    _making = threading.RLock()


os.register_at_fork(
    before=importing.before_fork,
    after_in_parent=importing.after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
