"""When to try again: one clock for all signals that go to the same place."""

from __future__ import annotations

import random
import threading
import time

_FIRST_S = 1.0
_LONGEST_S = 60.0
_random = random.SystemRandom()  # the program may have seeded the global one, on every node alike


class Backoff:
    """Waits that double from 1 s to a minute, each drawn at random between half of that and all of it.

    A thousand nodes that lost the same collector at the same moment come back to it spread out. What the
    server asked for (Retry-After) is kept, and spread out on top.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures = 0
        self._until = 0.0
        self._asked_until = 0.0

    def failed(self, retry_after_s: float | None) -> None:
        """Note a failed attempt, and how long the server asked to be left alone."""
        with self._lock:
            now = time.monotonic()
            if retry_after_s:
                self._asked_until = max(self._asked_until, now + retry_after_s)
            if now < self._until:  # another signal's attempt, at the same time, says no more than the first
                self._until = max(self._until, self._asked_until)
                return
            wait_s = min(_LONGEST_S, _FIRST_S * 2**self._failures)
            self._failures = min(self._failures + 1, 16)
            self._until = now + wait_s * _random.uniform(0.5, 1.0)
            if retry_after_s:
                self._until = max(self._until, self._asked_until + _random.uniform(0.0, wait_s))

    def succeeded(self) -> None:
        """Note an answer: the next failure is the first again."""
        with self._lock:
            self._failures = 0
            self._until = self._asked_until = 0.0

    def wait_s(self, *, urgent: bool = False) -> float:
        """Return how long to wait before the next attempt; an urgent one waits only if the server asked."""
        with self._lock:
            return max(0.0, (self._asked_until if urgent else self._until) - time.monotonic())
