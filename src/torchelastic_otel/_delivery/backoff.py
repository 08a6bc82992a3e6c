"""When to try again: a clock for each signal, and one for all that go to the same place.

All times are ``time.monotonic`` seconds, or whatever clock the caller goes by.
"""

from __future__ import annotations

import random
import threading

_FIRST_S = 1.0
_LONGEST_S = 60.0
_random = random.SystemRandom()  # the program may have seeded the global one, on every node alike


class _Wait:
    """Waits that double from 1 s to a minute, each drawn at random between half of that and all of it."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self._failures = 0
        self._until = self._asked_until = float("-inf")

    def failed(self, now: float, asked_s: float | None) -> None:
        if asked_s:
            self._asked_until = max(self._asked_until, now + asked_s)
        if now < self._until:  # another attempt, at the same time, says no more than the first
            self._until = max(self._until, self._asked_until)
            return
        wait_s = min(_LONGEST_S, _FIRST_S * 2**self._failures)
        self._failures = min(self._failures + 1, 16)
        self._until = now + wait_s * _random.uniform(0.5, 1.0)
        if asked_s:
            self._until = max(self._until, self._asked_until + _random.uniform(0.0, wait_s))

    def left_s(self, now: float, *, urgent: bool) -> float:
        return max(0.0, (self._asked_until if urgent else self._until) - now)


class Place:
    """A server, for all signals that go there: whether anybody is there at all."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.wait = _Wait()


class Backoff:
    """When to send a signal again to its place. Safe for threads.

    A thousand nodes that lost the same collector at the same moment come back to it spread out. What the
    server asked for (Retry-After) is kept, and spread out on top. It is this signal's alone, for what is
    behind a server's paths differs; only that nobody answers is for all that go there.

    Args:
        place: common to all signals that go to the same server.
    """

    def __init__(self, place: Place | None = None) -> None:
        self._place = place or Place()
        self._own = _Wait()

    def failed(self, now: float, asked_s: float | None = None) -> None:
        """Note an attempt that was answered and is to be made again, and how long the server asks for."""
        with self._place.lock:
            self._place.wait.clear()
            self._own.failed(now, asked_s)

    def unreachable(self, now: float) -> None:
        """Note an attempt that reached nobody."""
        with self._place.lock:
            self._place.wait.failed(now, None)

    def succeeded(self) -> None:
        """Note that something was dealt with for good: the next failure is the first again."""
        with self._place.lock:
            self._place.wait.clear()
            self._own.clear()

    def wait_s(self, now: float, *, urgent: bool = False) -> float:
        """Return how long to wait before the next attempt; an urgent one waits only if the server asked."""
        with self._place.lock:
            return max(wait.left_s(now, urgent=urgent) for wait in (self._own, self._place.wait))
