"""Whose agent runs on this thread: torch's functions that are replaced for all agents ask here."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .agent import JobHooks
    from .operations import Operations


class _Current(threading.local):
    job: JobHooks | None = None
    """Whose workers are being started."""
    operations: Operations | None = None
    """Who hears what is measured of the agent's steps."""


current = _Current()
