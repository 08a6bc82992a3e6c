"""Threads of the bridge's own: nothing that they log or send ever becomes telemetry."""

from __future__ import annotations

import _thread
import queue
import sys
import threading
from collections.abc import Callable
from contextvars import ContextVar
from types import BuiltinFunctionType
from typing import TypeVar

from .guard import note_internal_error, say_gone
from .imports import importing

T = TypeVar("T")

# Python 3.12 alone starts no thread once the interpreter is ending, not even from its exit hooks: a process
# whose first event is its last act has threads that were started in time.
_NO_LATE_THREADS = sys.version_info[:2] == (3, 12)
_SPARES = 6


_own: ContextVar[bool] = ContextVar("torchelastic_otel_own_thread", default=False)


class _Thread:
    @property
    def own(self) -> bool:
        return _own.get()

    @own.setter
    def own(self, own: bool) -> None:
        _own.set(own)


this_thread = _Thread()
"""``this_thread.own`` is true on the bridge's own threads: what they log never becomes telemetry.

A context variable: gevent's threads share each ``threading.local`` that was made before gevent came.
Not a set of thread identities: the system gives that of a thread which has ended to the next one.
"""


def threads_are_real() -> bool:
    """Tell whether threads run beside each other: gevent and eventlet make them take turns.

    Where they do, a thread that waits for anything but what they have replaced stops the whole program.
    """
    return isinstance(_thread.start_new_thread, BuiltinFunctionType)


def loaded(load: Callable[[], T], what: str) -> T | None:
    """Return what ``load`` makes, beside a running agent; None, after a word about it, if that fails."""
    try:
        return load()
    except Exception as error:
        note_internal_error(what, error)
        return None


def as_own_thread() -> None:
    """Make the current thread one of the bridge's own: what it logs and sends never comes round again.

    Instrumented HTTP and gRPC clients leave requests alone that are made in a context with these marks.
    """
    this_thread.own = True
    with importing:
        from opentelemetry import context
    marks = ["suppress_http_instrumentation", "suppress_instrumentation"]
    # The API has no public mark. The second one is what instrumentations used before it.
    key = getattr(context, "_SUPPRESS_INSTRUMENTATION_KEY", None)
    if key is None:
        say_gone(
            "opentelemetry.context._SUPPRESS_INSTRUMENTATION_KEY",
            "an instrumented HTTP or gRPC client may trace the requests with which telemetry is sent",
        )
    else:
        marks.append(key)
    for mark in marks:
        context.attach(context.set_value(mark, True))


_Work = tuple[str, Callable[[], object]]


class _Spares:
    """Threads that wait for something to do."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._left = 0

    def keep(self) -> None:
        """Start them."""
        self._left = _SPARES
        for _ in range(_SPARES):
            _thread.start_new_thread(self._wait, (self._work,))

    def take(self, name: str, run: Callable[[], object]) -> bool:
        """Let one of them call ``run``; False if none is left."""
        if not self._left:
            return False
        self._left -= 1
        self._work.put((name, run))
        return True

    def let_go(self) -> None:
        """End those that are left."""
        while self._left:
            self._left -= 1
            self._work.put(None)

    @staticmethod
    def _wait(work: queue.SimpleQueue[_Work | None]) -> None:
        wanted = work.get()
        if wanted is not None:
            name, run = wanted
            threading.current_thread().name = name
            run()


_spares = _Spares()


def keep_spare_threads() -> None:
    """From now on threads can be started also while the interpreter ends."""
    global _spares
    if _NO_LATE_THREADS:
        _spares = _Spares()  # those of a forked process' parent are not here
        _spares.keep()


def let_spare_threads_go() -> None:
    """All threads that are needed have been started."""
    _spares.let_go()


def start_own_thread(name: str, run: Callable[[], object]) -> None:
    """Call ``run`` on a daemon thread of the bridge's own.

    Raises:
        RuntimeError: no thread can be started any more: the interpreter is ending.
    """
    try:
        threading.Thread(target=run, name=name, daemon=True).start()
    except RuntimeError:
        if not _spares.take(name, run):
            raise
