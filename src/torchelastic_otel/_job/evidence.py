"""When did it happen: what each piece of evidence tells of a death's time, and who was first by that. Pure.

An error file tells when its exception reached ``@record``, by the file's time. A bare exit tells that the
process ended between the last look that saw it alive and the first that saw it dead.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple, Protocol, TypeVar

from .._runtime.clock import Moment

_CLOCK_TICK_NS = 10_000_000
"""File times come from a clock that moves with the kernel's tick: 10 ms at the slowest."""

_SECOND_NS = 1_000_000_000


class Source(Enum):
    """What tells when something happened."""

    LOOKS = "looks"
    FILE_TIME = "file time"
    WHOLE_SECOND = "whole second"
    MOMENT = "moment"


class Interval(NamedTuple):
    """It happened between the first two moments; ``told`` is what a record says, ``source`` who tells."""

    earliest: Moment
    latest: Moment
    told: Moment
    source: Source


def written(moment: Moment) -> Interval:
    """Return when a file was written, by its time."""
    return Interval(moment, moment.later(_CLOCK_TICK_NS), moment, Source.FILE_TIME)


def within_second(moment: Moment) -> Interval:
    """Return when something happened of which the whole second is known, which began at ``moment``."""
    return Interval(moment, moment.later(_SECOND_NS), moment, Source.WHOLE_SECOND)


def between_looks(alive: Moment, dead: Moment) -> Interval:
    """Return when a process ended that was seen alive, and then dead."""
    return Interval(min(alive, dead), dead, dead, Source.LOOKS)


def at(moment: Moment) -> Interval:
    """Return a moment that is known."""
    return Interval(moment, moment, moment, Source.MOMENT)


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
    someone_dead_ns = min(death.when.latest.monotonic_ns for death in own)
    return [
        death
        for death in own
        if death.when.earliest.monotonic_ns < someone_dead_ns
        or death.when.latest.monotonic_ns == someone_dead_ns
    ]
