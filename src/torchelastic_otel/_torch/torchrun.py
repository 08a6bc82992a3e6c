"""Who asks for a rendezvous handler, seen from the caller's frame: torchrun, or somebody's own launcher."""

from __future__ import annotations

from pathlib import Path
from types import FrameType

_LAUNCH = "launch_agent"
_TORCHRUN = str(Path("torch", "distributed", "run.py"))


def is_launch(frame: FrameType) -> bool:
    """Tell whether this is torch's ``launch_agent``, which alone knows what was asked for."""
    return frame.f_code.co_name == _LAUNCH


def is_torchrun(frame: FrameType) -> bool:
    """Tell whether torchrun's own ``main`` is behind it, and so nobody else's program."""
    above: FrameType | None = frame
    while above is not None:
        if above.f_code.co_name == "main" and above.f_code.co_filename.endswith(_TORCHRUN):
            return True
        above = above.f_back
    return False


def asked_for(frame: FrameType) -> object:
    """Return the event log handler that a ``launch_agent`` was asked for; None if it takes none."""
    return getattr(frame.f_locals.get("config"), "event_log_handler", None)
