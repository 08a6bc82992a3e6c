"""Two clocks: the wall clock tells when something happened, the monotonic clock how long it took.

The wall clock can be set at any time, by hand or by NTP: a difference of its times is no duration.
"""

from __future__ import annotations

import time
from typing import NamedTuple

_SET_NS = 10_000_000
"""Where one clock went on by so much more than the other, the wall clock was set."""

_AT_ONCE_NS = 100_000


class Moment(NamedTuple):
    """A moment in this process, by both clocks. An earlier one is the smaller one, by the monotonic clock.

    ``monotonic_ns`` counts from an arbitrary point, ``wall_ns`` from the epoch.
    """

    monotonic_ns: int
    wall_ns: int

    def since(self, earlier: Moment) -> float:
        """Return how long after ``earlier`` this was, in seconds; 0 if it was not."""
        return max(0, self.monotonic_ns - earlier.monotonic_ns) / 1e9

    def later(self, by_ns: int) -> Moment:
        """Return the moment ``by_ns`` nanoseconds later; earlier if that is negative."""
        return Moment(self.monotonic_ns + by_ns, self.wall_ns + by_ns)

    def at_wall(self, wall_ns: int) -> Moment:
        """Return the moment of a wall time from outside, by the wall clock as it is set at this moment."""
        return self.later(wall_ns - self.wall_ns)

    def wall_at(self, moment: Moment) -> int:
        """Return the wall time of ``moment``, as if nobody had set the clock in between."""
        if moment.set_since(self):
            return self.wall_ns + moment.monotonic_ns - self.monotonic_ns
        return moment.wall_ns

    def set_since(self, earlier: Moment) -> bool:
        """Tell whether somebody set the wall clock between ``earlier`` and this moment."""
        passed_ns = self.monotonic_ns - earlier.monotonic_ns
        return abs(self.wall_ns - earlier.wall_ns - passed_ns) > _SET_NS


def now() -> Moment:
    """Read both clocks at once: again if something came between."""
    best = (1 << 62, Moment(0, 0))
    for _ in range(10):
        before, wall_ns, after = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
        best = min(best, (after - before, Moment(before, wall_ns)))
        if best[0] < _AT_ONCE_NS:
            break
    return best[1]
