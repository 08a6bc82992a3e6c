"""The end of the interpreter: what is called then, and how long that may wait for what is being loaded."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

LOAD_S = 2.0
"""Longest time that somebody waits for what sends to be loaded, in seconds."""


def call_at_end(function: Callable[[], object]) -> None:
    """Call ``function`` before ``atexit``'s, where threads can no longer be started and nothing be connected.

    Also in forked workers, which never reach ``atexit``. It is not called where the end has begun.
    """
    register = getattr(threading, "_register_atexit", None)
    if register is not None:
        with contextlib.suppress(RuntimeError):
            register(function)
