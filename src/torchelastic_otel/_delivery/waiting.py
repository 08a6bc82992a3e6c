"""What waits in an outbox: where the items are, in order, and who waits for them to be gone."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from .backoff import Backoff
from .disk_or_memory import Kept
from .spool import Spool

_LEAST_S = 0.05


def _never(_kept: Kept) -> bool:
    return False


class Waiting:
    """The line between those who record and the one thread that sends.

    Args:
        max_in_memory: items that wait where there is no disk; beyond it the oldest are handed back.
        clock: what ``Backoff`` is asked by; flushes go by ``time.monotonic``.
    """

    def __init__(self, max_in_memory: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_in_memory = max_in_memory
        self._clock = clock
        self._line: dict[Kept, int] = {}  # in order, with the number of each
        self._changed = threading.Condition()
        self._came = 0  # the number of the last one
        self._counted = 0  # the number of the last one that ``newly_kept`` has counted
        self._hurried = 0  # the number of the last one that is not to wait for others
        self._attempts_failed = 0
        self._deadline: float | None = None  # of the flush under way

    # Those who record

    def add(self, kept: Sequence[Kept]) -> list[Kept]:
        """Append items; return those that are too many for memory, which are gone from the line."""
        with self._changed:
            for each in kept:
                self._came += 1
                self._line[each] = self._came
            excess = self._over_the_bound() if kept and kept[0].in_memory else []
            self._changed.notify_all()
        return excess

    def replace(self, kept: Kept) -> list[Kept]:
        """Append an item in place of all that wait; return those."""
        with self._changed:
            replaced = list(self._line)
            self.remove(replaced)
            self.add([kept])
        return replaced

    def _over_the_bound(self) -> list[Kept]:
        """Take out of the line what memory is not to hold; what is on a disk stays."""
        in_memory = [each for each in self._line if each.in_memory]
        excess = in_memory[: max(0, len(in_memory) - self._max_in_memory)]
        self.remove(excess)
        return excess

    def hurry(self) -> None:
        """Let what waits now wait for others no longer."""
        with self._changed:
            self._hurried = self._came
            self._changed.notify_all()

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
                lambda: self._first > wanted or self._attempts_failed > failed,
                max(0.0, deadline - time.monotonic()),
            )
            self._deadline = None
            return self._first > wanted

    @property
    def _first(self) -> int:
        """The number of the first one, or of the next to come."""
        return next(iter(self._line.values()), self._came + 1)

    def left(self) -> Counter[Spool]:
        """Return how many wait, by where they are kept."""
        with self._changed:
            return Counter(kept.store for kept in self._line)

    # The thread that sends

    def wait_for_items(self, most: int, delay_s: float) -> None:
        """Wait for items: for ``most`` of them, at most ``delay_s`` seconds from when one is there."""
        with self._changed:
            self._changed.wait_for(lambda: self._line)
            self._changed.wait_for(lambda: len(self._line) >= most or self._hurried >= self._first, delay_s)

    def first(
        self, most: int, passed_over: Callable[[Kept], bool] = _never, alone: Callable[[Kept], bool] = _never
    ) -> list[Kept]:
        """Return the first ones of one store, at most ``most``. They stay in the line.

        Args:
            most: so many are sent at once.
            passed_over: tells those that are not to be sent now.
            alone: tells those that are to be sent without others.
        """
        found: list[Kept] = []
        with self._changed:
            for kept in self._line:
                if passed_over(kept):
                    continue
                if found and (kept.store is not found[0].store or alone(kept)):
                    break
                found.append(kept)
                if len(found) >= most or alone(kept):
                    break
        return found

    def remove(self, kept: Iterable[Kept]) -> list[Kept]:
        """Take items out of the line; return those that were in it."""
        gone = []
        with self._changed:
            for each in kept:
                if self._line.pop(each, None) is not None:
                    gone.append(each)
            self._changed.notify_all()
        return gone

    def newly_kept(self) -> int:
        """Return how many wait that waited at no call before: each is counted once."""
        with self._changed:
            new = 0
            for kept, number in reversed(self._line.items()):
                if number <= self._counted:
                    break
                new += kept.there
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
                wait_s = backoff.wait_s(self._clock(), urgent=urgent)
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
