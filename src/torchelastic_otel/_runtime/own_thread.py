"""Threads of the bridge's own: nothing that they log or send ever becomes telemetry."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from .guard import note_internal_error, say_gone
from .imports import importing

T = TypeVar("T")


class _Thread(threading.local):
    own = False


this_thread = _Thread()
"""``this_thread.own`` is true on the bridge's own threads: what they log never becomes telemetry.

Not a set of thread identities: the system gives that of a thread which has ended to the next one.
"""


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
