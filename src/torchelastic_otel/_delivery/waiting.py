"""What waits in an outbox: where the items are, in order, and who waits for them to be gone."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence

from .backoff import Backoff
from .disk_or_memory import Kept

_LEAST_S = 0.05


class Waiting:
    """The line between those who record and the one thread that sends.

    Args:
        max_in_memory: items that wait where there is no disk; beyond it the oldest are handed back.
    """

    def __init__(self, max_in_memory: int) -> None:
        self._max_in_memory = max_in_memory
        self._line: deque[Kept] = deque()
        self._changed = threading.Condition()
        self._came = self._gone = 0  # items so far
        self._counted = 0  # of those that came, how many ``newly_kept`` has counted
        self._hurried = 0  # how many of those that came are not to wait for others
        self._attempts_failed = 0
        self._deadline: float | None = None  # of the flush under way
        self._off = False

    # Those who record

    def add(self, kept: Sequence[Kept]) -> list[Kept]:
        """Append items; return those that are too many for memory, which are gone from the line."""
        with self._changed:
            self._line.extend(kept)
            self._came += len(kept)
            excess = self._over_the_bound() if kept and kept[0].in_memory else []
            self._changed.notify()
        return excess

    def replace(self, kept: Kept) -> list[Kept]:
        """Append an item in place of all that wait; return those."""
        with self._changed:
            replaced = list(self._line)
            self._gone += len(replaced)
            self._line.clear()
            self.add([kept])
        return replaced

    def _over_the_bound(self) -> list[Kept]:
        """Take out of the line what memory is not to hold; what is on a disk stays."""
        if len(self._line) <= self._max_in_memory:
            return []
        in_memory = [kept for kept in self._line if kept.in_memory]
        excess = in_memory[: max(0, len(in_memory) - self._max_in_memory)]
        gone = set(excess)
        left = [kept for kept in self._line if kept not in gone]
        self._line.clear()
        self._line.extend(left)
        self._gone += len(excess)
        return excess

    def hurry(self) -> None:
        """Let what waits now wait for others no longer."""
        with self._changed:
            self._hurried = self._came
            self._changed.notify()

    def flush(self, deadline: float) -> bool:
        """Wait until all that waits now is gone; False if it is not by ``deadline`` (``time.monotonic``).

        Returns as soon as an attempt fails.
        """
        with self._changed:
            wanted = self._hurried = self._came
            failed = self._attempts_failed
            self._deadline = deadline
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: self._gone >= wanted or self._attempts_failed > failed or self._off,
                max(0.0, deadline - time.monotonic()),
            )
            self._deadline = None
            return self._gone >= wanted or self._off

    def left(self, *, in_memory: bool | None = None) -> int:
        """Return how many wait; of those in memory, or on disk, if that is said."""
        with self._changed:
            return sum(in_memory in (None, kept.in_memory) for kept in self._line)

    # The thread that sends

    def next(self, most: int, delay_s: float) -> list[Kept]:
        """Wait for items; return the first ones of one spool, at most ``most``. They stay in the line.

        Args:
            most: so many are sent at once.
            delay_s: longest time to wait for that many, in seconds.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._line)
            self._changed.wait_for(lambda: len(self._line) >= most or self._hurried > self._gone, delay_s)
            found: list[Kept] = []
            for kept in self._line:
                if kept.store is not self._line[0].store or len(found) >= most:
                    break
                found.append(kept)
            return found

    def remove(self, kept: Sequence[Kept]) -> None:
        """Take items out of the line that are its first ones."""
        gone = set(kept)
        with self._changed:
            while self._line and self._line[0] in gone:
                self._line.popleft()
                self._gone += 1
            self._changed.notify_all()

    def turn_off(self) -> list[Kept]:
        """Let nobody wait any more for anything to be sent; return what is in the line."""
        with self._changed:
            self._off = True
            return list(self._line)

    def newly_kept(self) -> int:
        """Return how many wait that waited at no call before: each is counted once."""
        with self._changed:
            new = self._came - max(self._counted, self._gone)
            self._counted = self._came
            return new

    def attempt_failed(self) -> None:
        """Let nobody wait for this attempt any longer."""
        with self._changed:
            self._attempts_failed += 1
            self._changed.notify_all()

    def wait_for_turn(self, backoff: Backoff) -> None:
        """Wait as the back-off says; a flush cuts it short, but for what the server asked for."""
        with self._changed:
            while True:
                urgent = self._deadline is not None
                wait_s = backoff.wait_s(urgent=urgent)
                if wait_s <= 0:
                    return
                if urgent:
                    self._attempts_failed += 1
                    self._changed.notify_all()
                self._changed.wait(wait_s)

    def pause(self, seconds: float) -> None:
        """Wait that long, or until something changes."""
        with self._changed:
            self._changed.wait(seconds)

    def time_left_s(self, most_s: float) -> float:
        """Return the time for an attempt in seconds: ``most_s``, or what a flush leaves of it."""
        deadline = self._deadline
        if deadline is None:
            return most_s
        return max(_LEAST_S, min(most_s, deadline - time.monotonic()))
