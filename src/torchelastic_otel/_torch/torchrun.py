"""Which program launches: torchrun itself, or somebody's own."""

from __future__ import annotations

from types import FrameType

_TORCHRUN = "torch.distributed.run"


def in_torchrun(frame: FrameType | None) -> bool:
    """Tell whether the torchrun program made this call, and not somebody's own launcher."""
    while frame is not None:
        if frame.f_code.co_name == "main":
            spec = frame.f_globals.get("__spec__")
            if _TORCHRUN in (frame.f_globals.get("__name__"), getattr(spec, "name", None)):
                return True
        frame = frame.f_back
    return False
