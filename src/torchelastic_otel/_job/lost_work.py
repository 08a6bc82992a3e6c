"""What a restart, or a failed end, costs in work: all since the last checkpoint. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .. import _contract as c
from .._runtime.clock import Moment
from .._values import Attributes
from .facts import Progress, WorkerExit


@dataclass(frozen=True, slots=True)
class Lost:
    """Work that is done again: ``time_s`` seconds, and so many steps; None where no step was counted."""

    time_s: float
    steps: int | None

    @property
    def attributes(self) -> Attributes:
        """By the contract."""
        time: Attributes = {c.LOST_TIME: round(self.time_s, 3)}
        return time if self.steps is None else {**time, c.LOST_STEPS: self.steps}


class LostWork:
    """Follows a job's checkpoints over its generations. Where none was ever seen, nothing is known."""

    def __init__(self) -> None:
        self._checkpoint: Progress | None = None
        self._began: Moment | None = None
        self._progress: dict[int, Progress] = {}

    def began(self, moment: Moment) -> None:
        """The workers of a generation run."""
        self._began = moment
        self._progress = {}

    def ended(self, exits: Iterable[WorkerExit]) -> None:
        """Workers of it have ended."""
        for exit_ in exits:
            if exit_.recorded is not None:
                self._progress[exit_.local_rank] = exit_.recorded.progress

    def over(self, until: Moment) -> Lost | None:
        """The generation has failed, or is stopped, at ``until``: return what is lost; None if unknown."""
        known, self._progress = list(self._progress.values()), {}
        saved = [(progress.checkpoint, progress) for progress in known if progress.checkpoint is not None]
        own = max(saved, key=lambda each: each[0])[1] if saved else None
        self._checkpoint = own or self._checkpoint
        if self._checkpoint is None or not known:
            return None
        furthest = max(known, key=lambda progress: progress.steps)
        # Counts begin anew with each process; numbers that the program gives go on.
        base = self._checkpoint.checkpoint_steps if own or furthest.numbered else 0
        since = max((each for each in (self._began, self._checkpoint.checkpoint) if each), default=until)
        steps = max(0, furthest.steps - base) if furthest.steps else None
        return Lost(until.since(since), steps)
