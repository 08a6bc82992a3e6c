"""Who asks for a rendezvous handler, seen from the caller's frame: torchrun, or somebody's own launcher."""

from __future__ import annotations

from types import FrameType

from .names import RUN

_LAUNCH = "launch_agent"


def is_launch(frame: FrameType) -> bool:
    """Tell whether this is torch's ``launch_agent``, which alone knows what was asked for."""
    return frame.f_code.co_name == _LAUNCH


def asked_for(frame: FrameType) -> object:
    """Return the event log handler that a ``launch_agent`` was asked for; None if it takes none."""
    return getattr(frame.f_locals.get("config"), "event_log_handler", None)


def in_torchrun(frame: FrameType | None) -> bool:
    """Tell whether the torchrun program made this call, and not somebody's own launcher."""
    while frame is not None:
        if frame.f_code.co_name == "main":
            spec = frame.f_globals.get("__spec__")
            if RUN in (frame.f_globals.get("__name__"), getattr(spec, "name", None)):
                return True
        frame = frame.f_back
    return False
