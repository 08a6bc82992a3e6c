"""Who calls: the frame that a function was called from."""

from __future__ import annotations

import inspect
from types import FrameType


def caller_of_this() -> FrameType | None:
    """Return the frame of whoever called the function that asks.

    None where there is none, as at the start of a bare thread, and in an interpreter that shows none.
    """
    frame = inspect.currentframe()
    for _ in range(2):
        frame = frame and frame.f_back
    return frame
