"""Who asks for a rendezvous handler, seen from the caller's frame: torchrun, or somebody's own launcher."""

from __future__ import annotations

from types import FrameType

_LAUNCH = "launch_agent"


def is_launch(frame: FrameType) -> bool:
    """Tell whether this is torch's ``launch_agent``, which alone knows what was asked for."""
    return frame.f_code.co_name == _LAUNCH


def asked_for(frame: FrameType) -> object:
    """Return the event log handler that a ``launch_agent`` was asked for; None if it takes none."""
    return getattr(frame.f_locals.get("config"), "event_log_handler", None)
