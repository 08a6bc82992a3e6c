"""Garbage collection, put off while a launcher starts: in torchrun's own process alone.

A full collection stops all threads and walks over everything that torch has made, for about 75 ms. What the
bridge imports brings one about, just when the launcher starts its workers. A few seconds later the launcher
does nothing but wait. A program that launches by itself has its own say in its collection.
"""

from __future__ import annotations

import gc
import time

PUT_OFF_S = 5.0
"""How long collection is put off at most, in seconds."""

_until: float | None = None


def put_off() -> None:
    """Collect no garbage for now, if collection is on."""
    global _until
    if _until is None and gc.isenabled():
        _until = time.monotonic() + PUT_OFF_S
        gc.disable()


def go_on() -> None:
    """Collect again: the process ends, or is a fork."""
    global _until
    if _until is not None:
        _until = None
        gc.enable()


def go_on_when_due() -> None:
    """Collect again if it has been put off for long enough."""
    if _until is not None and time.monotonic() >= _until:
        go_on()
