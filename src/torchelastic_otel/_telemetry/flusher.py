"""What the SDK flushes, flushed on a thread of its own with a deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from .._runtime.guard import note_internal_error
from .._runtime.own_thread import as_own_thread, loaded, start_own_thread

_FLUSH_S = 30.0


class Flusher:
    """Flushes something of the SDK's on a thread of its own: it may block far beyond its time-out.

    Args:
        name: for the thread.
        load: returns what has ``force_flush``, or None; called once, on the thread.
        every_s: flush every so many seconds, also if nobody asks; None for never.
    """

    def __init__(self, name: str, load: Callable[[], object], every_s: float | None = None) -> None:
        self._load = load
        self._every_s = every_s
        self._changed = threading.Condition()
        self._wanted = 0
        self._done = 0
        self._deadline = 0.0
        self._ended = False
        self.flushed: object = None
        self._loaded = threading.Event()
        start_own_thread(f"torchelastic-otel-{name}", self._run)

    def wait_loaded(self, deadline: float) -> None:
        """Wait until it is set up, at most until ``deadline`` (``time.monotonic`` seconds)."""
        self._loaded.wait(max(0.0, deadline - time.monotonic()))

    @property
    def done(self) -> int:
        """Number of the last flush that is over."""
        return self._done

    def end(self) -> None:
        """Flush no more."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def request(self, deadline: float) -> int:
        """Ask for a flush; return its number for ``wait``."""
        with self._changed:
            self._wanted += 1
            self._deadline = deadline
            self._changed.notify_all()
            return self._wanted

    def wait(self, number: int, deadline: float) -> bool:
        """Wait for the flush ``number`` until ``deadline`` (``time.monotonic`` seconds)."""
        with self._changed:
            return self._changed.wait_for(lambda: self._done >= number, max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        as_own_thread()
        self.flushed = loaded(self._load, "setting up an exporter")
        self._loaded.set()
        while True:
            with self._changed:
                asked = self._changed.wait_for(
                    lambda: self._ended or self._wanted > self._done, self._every_s
                )
                if self._ended:
                    return
                number = self._wanted
                left_s = self._deadline - time.monotonic() if asked else _FLUSH_S
            try:
                flush = getattr(self.flushed, "force_flush", None)
                if flush is not None:
                    flush(max(1, int(left_s * 1000)))
            except Exception as error:
                note_internal_error("flushing", error)
            with self._changed:
                self._done = number
                self._changed.notify_all()
