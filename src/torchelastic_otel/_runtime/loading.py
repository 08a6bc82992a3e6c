"""Loading the SDK and the exporters beside a host that is busy."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_idle = threading.Condition(_lock)
_FORK_WAITS_S = 5.0
_SWITCH_S = 0.0002
_pauses = 0
_was_enabled = False
_switch_was = 0.0
_settled = False


@contextmanager
def loading() -> Iterator[None]:
    """Import beside the host's thread so that it hardly notices.

    Two things of the interpreter's would make it wait. Importing the SDK makes just enough objects to set off
    a full garbage collection: in a process with a large library that takes about 100 ms, so that collection
    is put off. And a thread that imports gives the interpreter up only every 5 ms, while a host that talks to
    others does short calls that each give it up and want it back: it is handed over sooner.
    """
    global _pauses, _was_enabled, _switch_was
    with _lock:
        if not _pauses:
            _was_enabled = gc.isenabled()
            gc.disable()
            _switch_was = sys.getswitchinterval()
            sys.setswitchinterval(min(_SWITCH_S, _switch_was))
        _pauses += 1
    try:
        yield
    finally:
        with _lock:
            _pauses -= 1
            if not _pauses:
                if _was_enabled:
                    gc.enable()
                sys.setswitchinterval(_switch_was)
                _idle.notify_all()


def keep_what_is_loaded() -> None:
    """Take what this process has loaded so far out of garbage collection, once.

    For a program whose work has not begun: all there is then is modules, which stay as long as the process.
    Collections from then on, and the three that end the interpreter, no longer walk through a large library
    (0.3 s of a launcher's end), which more than makes up for what the SDK adds to them.
    """
    global _settled
    if not _settled:
        _settled = True
        gc.freeze()


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
