"""When did it happen: what each piece of evidence tells of a death's time, and who was first by that. Pure.

An error file tells when its exception reached ``@record``, by the file's time. A bare exit tells that the
process ended between the last look that saw it alive and the first that saw it dead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeVar

_CLOCK_TICK_NS = 10_000_000
"""File times come from a clock that moves with the kernel's tick: 10 ms at the slowest."""


class Interval(NamedTuple):
    """The moment lies between the first two; ``told_ns`` is what a record says (ns since the epoch)."""

    earliest_ns: int
    latest_ns: int
    told_ns: int


def written(mtime_ns: int) -> Interval:
    """Return when a file was written, by its time."""
    return Interval(mtime_ns, mtime_ns + _CLOCK_TICK_NS, mtime_ns)


def between_looks(alive_ns: int, dead_ns: int) -> Interval:
    """Return when a process ended that was seen alive, and then dead."""
    return Interval(min(alive_ns, dead_ns), dead_ns, dead_ns)


def at(time_ns: int) -> Interval:
    """Return a moment that is known."""
    return Interval(time_ns, time_ns, time_ns)


class Death(Protocol):
    """What is known of a death."""

    @property
    def when(self) -> Interval:
        """When it happened."""

    @property
    def peer_lost(self) -> bool:
        """Whether its error says that another rank was lost: then that one was first."""


D = TypeVar("D", bound=Death)


def first_of(deaths: Sequence[D]) -> list[D]:
    """Return the deaths that may have been the first: one, several that are tied, or none.

    A death whose error says that a peer was lost follows from another one, which may be on another node: it
    is never first. Intervals that overlap are tied.
    """
    own = [death for death in deaths if not death.peer_lost]
    if not own:
        return []
    someone_dead_ns = min(death.when.latest_ns for death in own)
    return [
        death
        for death in own
        if death.when.earliest_ns < someone_dead_ns or death.when.latest_ns == someone_dead_ns
    ]
