"""How long tests wait for what is bound to come."""

from __future__ import annotations

import time

LONG_S = 60.0
"""Longest time that anything may take on a busy machine; nothing waits for it to pass."""


def soon() -> float:
    """Return a deadline that is far away."""
    return time.monotonic() + LONG_S
