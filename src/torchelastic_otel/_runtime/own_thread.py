"""Threads of the bridge's own: nothing that they log or send ever becomes telemetry."""

from __future__ import annotations

import _thread
from collections.abc import Callable
from contextvars import ContextVar
from types import BuiltinFunctionType
from typing import TypeVar

from .guard import note_internal_error
from .imports import importing

T = TypeVar("T")


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
    # The API keeps this key private. "suppress_instrumentation" is what instrumentations used before it.
    key = getattr(context, "_SUPPRESS_INSTRUMENTATION_KEY", "suppress_instrumentation")
    for mark in ("suppress_http_instrumentation", "suppress_instrumentation", key):
        context.attach(context.set_value(mark, True))
