"""Loading the SDK and the exporters beside a running agent."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_idle = threading.Condition(_lock)
_FORK_WAITS_S = 5.0
_pauses = 0
_was_enabled = False


@contextmanager
def collection_paused() -> Iterator[None]:
    """Put off garbage collection for the moment that an import takes.

    Importing the SDK makes just enough objects to set off a full collection. In a process that has loaded
    torch that takes about 100 ms, in which the agent's thread stands still.
    """
    global _pauses, _was_enabled
    with _lock:
        if not _pauses:
            _was_enabled = gc.isenabled()
            gc.disable()
        _pauses += 1
    try:
        yield
    finally:
        with _lock:
            _pauses -= 1
            if not _pauses:
                if _was_enabled:
                    gc.enable()
                _idle.notify_all()


def wait_until_loaded() -> None:
    """Wait until nothing is being imported, with a bound; a signal ends the wait.

    For forks that are known to come: in the interpreter's own hook a signal's exception would be swallowed.
    """
    with _lock:
        _idle.wait_for(lambda: not _pauses, _FORK_WAITS_S)


def before_fork() -> None:
    """Wait until nothing is being imported, and keep it so until the fork is done.

    A child inherits what a thread was doing without the thread: a module's import lock stays locked in it for
    ever, and garbage collection stays off.
    """
    _lock.acquire()
    _idle.wait_for(lambda: not _pauses, _FORK_WAITS_S)


def after_fork() -> None:
    """Go on, in the parent and in the child."""
    _lock.release()
