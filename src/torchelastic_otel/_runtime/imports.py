"""Imports of installed components: one at a time, and never in the middle of a fork."""

from __future__ import annotations

import importlib
import sys
import threading
import time
from importlib.metadata import EntryPoint, entry_points
from types import FrameType, TracebackType
from typing import Any

from .guard import say_once

OWN_THREADS = "torchelastic-otel"
"""The names of the bridge's own threads begin with it."""

_FORKS_WAIT_S = 0.5
_LOOK_S = 0.001
_IMPORT_SYSTEM = "<frozen importlib._bootstrap>"


def find_entry_point(group: str, name: str) -> EntryPoint | None:
    """Return the installed entry point, None if there is none of that name."""
    return next(iter(entry_points(group=group, name=name)), None)


def entry_point_names(group: str) -> str:
    """Return the names that are installed in ``group``, as a text for messages."""
    return ", ".join(sorted({point.name for point in entry_points(group=group)})) or "none"


class Importing:
    """Held while something is imported, and nothing but that: forks wait for it.

    Parts of OpenTelemetry import each other in circles: two threads that begin at different ends find modules
    half-made, and exporters are lost. And a child that is forked meanwhile inherits a module's import lock
    without the thread that would release it: whoever imports that module there waits for ever.

    What a third party imports while it is called is not under this lock; a fork sees that in the frames of
    the bridge's own threads. Forks wait for half a second in all in a process's life, then they go ahead.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._forks_wait_s = _FORKS_WAIT_S
        self._forking: list[tuple[bool, bool]] = []

    def __enter__(self) -> None:
        """Wait until nobody else imports."""
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Let others import."""
        self._lock.release()

    def wait(self) -> None:
        """Wait until nothing is imported, with the bound of a fork; a signal ends the wait.

        For forks that are known to come: the interpreter's own hook would swallow a signal's exception.
        """
        if self._acquire():
            self._lock.release()

    def _acquire(self) -> bool:
        if not self._lock.acquire(blocking=False):
            start = time.monotonic()
            taken = self._lock.acquire(timeout=self._forks_wait_s)
            self._spend(start)
            return taken
        return True

    def _spend(self, start: float) -> None:
        self._forks_wait_s = max(0.0, self._forks_wait_s - (time.monotonic() - start))

    def before_fork(self) -> None:
        """Wait until nothing is imported, and keep it so until the fork is done."""
        held = self._acquire()
        sure = held
        if held and _own_thread_imports():
            start = time.monotonic()
            while time.monotonic() - start < self._forks_wait_s and _own_thread_imports():
                time.sleep(_LOOK_S)
            self._spend(start)
            sure = not _own_thread_imports()
        self._forking.append((held, sure))

    def after_fork_in_parent(self) -> None:
        """Go on, and say what the child lacks."""
        held, sure = self._forking.pop()
        if held:
            self._lock.release()
        if not sure:
            say_once(
                "fork while importing",
                "a process was forked while OpenTelemetry was still being imported: "
                "what is recorded in that child is not sent. The child is not affected otherwise.",
            )

    def after_fork_in_child(self) -> bool:
        """Start afresh; False if the child cannot be sure of being able to import."""
        _, sure = self._forking.pop()
        self._forking = []
        self._lock = threading.RLock()
        return sure


def _own_thread_imports() -> bool:
    # CPython alone has it. Elsewhere forks wait for what is imported under the lock, which is nearly all.
    frames: dict[int, FrameType] = getattr(sys, "_current_frames", dict)()
    for thread in threading.enumerate():
        if not thread.name.startswith(OWN_THREADS):
            continue
        frame: FrameType | None = frames.get(thread.ident or 0)
        while frame is not None:
            if frame.f_code.co_filename == _IMPORT_SYSTEM:
                return True
            frame = frame.f_back
    return False


importing = Importing()


def load_entry_point(group: str, name: str) -> Any | None:
    """Return what an entry point names, imported while nobody else imports; None if it is not installed."""
    point = find_entry_point(group, name)
    if point is None:
        return None
    with importing:
        return point.load()


def import_module(name: str) -> Any:
    """Import the module ``name`` while nobody else imports."""
    with importing:
        return importlib.import_module(name)
