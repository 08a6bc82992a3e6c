"""Imports of installed components: one at a time, by entry point or by name."""

from __future__ import annotations

import importlib
import threading
from importlib.metadata import EntryPoint, entry_points
from typing import Any


def find_entry_point(group: str, name: str) -> EntryPoint | None:
    """Return the installed entry point, None if there is none of that name."""
    return next(iter(entry_points(group=group, name=name)), None)


def entry_point_names(group: str) -> str:
    """Return the names that are installed in ``group``, as a text for messages."""
    return ", ".join(sorted({point.name for point in entry_points(group=group)})) or "none"


importing = threading.RLock()
"""Held while parts of OpenTelemetry are imported. They import each other in circles: two threads that begin
at different ends find modules half-made, and exporters are lost."""


def import_module(name: str) -> Any:
    """Import the module ``name`` while nobody else imports."""
    with importing:
        return importlib.import_module(name)
