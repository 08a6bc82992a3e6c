"""A generation of local workers: its span and theirs, who died, and who was stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .. import _contract as c
from .._values import Attributes
from .facts import (
    WorkerExit,
    WorkersExited,
    WorkersStarted,
    WorkersStarting,
    WorkersStopped,
)
from .translate import Event
from .verdict import (
    Failure,
    failure_of,
    first_failure_attributes,
    first_of,
    group_sentence,
)

if TYPE_CHECKING:
    from .._telemetry.spans import OpenSpan

SETTLE_NS = 2_000_000_000
"""How long an ended worker's span waits for torch's own last event of that worker."""


@dataclass(slots=True)
class Worker:
    """A local worker of a generation. ``ended_ns`` is when it was seen ended, 0 while it runs."""

    identity: Attributes
    span: OpenSpan
    ended_ns: int = 0
    outcome: str | None = None
    description: str = ""
    failure: Failure | None = None
    started: bool = False

    def close(self, time_ns: int, outcome: str | None, description: str = "") -> None:
        """Note that the worker ended; its span stays open for torch's own last event."""
        if not self.ended_ns:
            self.ended_ns, self.outcome, self.description = time_ns, outcome, description

    def settle(self) -> None:
        """End the span at the time the worker was seen ended."""
        if self.ended_ns:
            self.span.end(self.ended_ns, self.outcome, self.description)


@dataclass(slots=True)
class Group:
    """One generation of local workers.

    ``stop_outcome`` says why the agent stops those that still run: interrupted (membership change) or
    terminated (a signal, or a worker that failed).
    """

    generation: int
    span: OpenSpan
    shared: Attributes
    workers: dict[int, Worker] = field(default_factory=dict)
    culprits: list[Failure] = field(default_factory=list)
    first_deaths: list[Failure] = field(default_factory=list)
    ended_ns: int = 0
    stop_outcome: str | None = c.OUTCOME_TERMINATED
    stop_sentence: str = ""

    def started(self, fact: WorkersStarted) -> None:
        """Note the workers' process ids."""
        for local_rank, pid in fact.pids.items():
            worker = self.workers.get(local_rank)
            if worker is not None:
                worker.started = True
                worker.identity[c.WORKER_ID] = str(pid)
                worker.span.set({c.WORKER_ID: str(pid)})

    def worker_of(self, event: Event) -> Worker | None:
        """Return the worker that torch's event speaks of."""
        return None if event.local_rank is None else self.workers.get(event.local_rank)

    def worker_by_pid(self, pid: int) -> Worker | None:
        """Return the worker with that process id."""
        return next((w for w in self.workers.values() if w.identity.get(c.WORKER_ID) == str(pid)), None)

    def exited(self, fact: WorkersExited) -> list[tuple[Worker, Failure]]:
        """Note workers that ended by themselves; return the failures among them that are news."""
        died, news = [], []
        for exit_ in fact.exits:
            worker = self.workers.get(exit_.local_rank)
            if worker is None or worker.ended_ns:
                continue
            if exit_.exit_code == 0:
                worker.close(fact.time_ns, c.OUTCOME_SUCCEEDED)
                continue
            # The watchdog's victims were told when it killed them.
            if worker.failure is None:
                news.append((worker, self._died(worker, exit_, fact.oom_kills)))
            died.append(worker)
        self._blame([failure for _, failure in news])
        for worker in died:
            sentence = worker.failure.sentence if worker.failure is not None else ""
            worker.close(fact.time_ns, c.OUTCOME_FAILED, sentence)
            self._mark(worker)
        return news

    def _blame(self, failures: list[Failure]) -> None:
        """Add one look's worth of culprits; the first look's first are the first failure."""
        if failures and not self.culprits:
            self.first_deaths = first_of(failures)
        self.culprits += failures

    def _mark(self, worker: Worker) -> None:
        """Put a failure, and who was first, on the worker's span."""
        failure = worker.failure.attributes if worker.failure is not None else {}
        worker.span.set({**failure, **first_failure_attributes(self.first_deaths)})

    def _died(self, worker: Worker, exit_: WorkerExit, oom_kills: int | None) -> Failure:
        worker.failure = failure_of(
            worker.identity,
            exit_.exit_code,
            exit_.error,
            oom_kills=oom_kills,
            stdout=exit_.stdout,
            stderr=exit_.stderr,
        )
        return worker.failure

    def stuck(self, worker: Worker, time_ns: int) -> Failure:
        """Note a worker in uninterruptible sleep: it has not ended, and the group fails of it."""
        worker.failure = failure_of(
            worker.identity,
            None,
            None,
            cause=c.CAUSE_UNINTERRUPTIBLE,
            detail="is stuck in uninterruptible sleep",
        )
        self._blame([worker.failure])
        worker.close(time_ns, c.OUTCOME_FAILED, worker.failure.sentence)
        self._mark(worker)
        return worker.failure

    def killed_by_watchdog(self, worker: Worker, event: Event) -> Failure:
        """Note that the watchdog kills a worker whose scope expired."""
        scope = event.attributes.get(c.WATCHDOG_PREFIX + "scope_id")
        number = str(event.attributes.get(c.WATCHDOG_PREFIX + "signal", ""))
        worker.failure = failure_of(
            worker.identity,
            None,
            None,
            cause=c.CAUSE_WATCHDOG,
            signal=int(number) if number.isdecimal() else None,
            detail=f"is killed by the watchdog: its scope {scope} expired",
        )
        watchdog = {k: v for k, v in event.attributes.items() if k.startswith(c.WATCHDOG_PREFIX)}
        worker.failure.attributes.update(watchdog)
        self._blame([worker.failure])
        self._mark(worker)
        return worker.failure

    def stopped(self, fact: WorkersStopped) -> list[tuple[Worker, Failure]]:
        """Note that none runs any more; return the collateral deaths."""
        failures = []
        for exit_ in fact.exits:
            worker = self.workers.get(exit_.local_rank)
            if worker is None or worker.ended_ns:
                continue
            if not self.culprits:
                worker.close(fact.time_ns, self.stop_outcome)
                continue
            failure = failure_of(
                worker.identity,
                exit_.exit_code,
                exit_.error,
                collateral=True,
                stdout=exit_.stdout,
                stderr=exit_.stderr,
            )
            worker.failure = failure
            worker.close(fact.time_ns, c.OUTCOME_TERMINATED)
            self._mark(worker)
            failures.append((worker, failure))
        return failures

    def end(self, time_ns: int) -> None:
        """End the group: all its workers have ended, or are as good as gone."""
        if self.ended_ns:
            return
        self.ended_ns = max(
            [time_ns if not w.ended_ns else w.ended_ns for w in self.workers.values()], default=time_ns
        )
        for worker in self.workers.values():
            worker.close(time_ns, self.stop_outcome, self.stop_sentence)
        outcomes = {worker.outcome for worker in self.workers.values()}
        outcome, description = self.stop_outcome, self.stop_sentence
        if self.culprits:
            outcome, description = c.OUTCOME_FAILED, group_sentence(self.first_deaths)
            self.span.set({**first_failure_attributes(self.first_deaths), c.VERDICT: description})
        elif c.OUTCOME_FAILED in outcomes:
            failed = [
                worker.description for worker in self.workers.values() if worker.outcome == c.OUTCOME_FAILED
            ]
            outcome, description = c.OUTCOME_FAILED, failed[0]
        elif outcomes == {c.OUTCOME_SUCCEEDED}:
            outcome, description = c.OUTCOME_SUCCEEDED, ""
        self.span.end(self.ended_ns, outcome, description)

    @property
    def watchdog_victims(self) -> list[Failure]:
        """The failures of workers that the watchdog killed."""
        return [
            failure for failure in self.culprits if failure.attributes[c.FAILURE_CAUSE] == c.CAUSE_WATCHDOG
        ]

    @property
    def active(self) -> int:
        """How many of its workers were started and have not been seen ended."""
        return sum(worker.started and not worker.ended_ns for worker in self.workers.values())

    @property
    def running(self) -> bool:
        """Whether any of its workers has not been seen ended."""
        return any(not worker.ended_ns for worker in self.workers.values())

    def settle(self, before_ns: int | None = None) -> None:
        """End the spans of ended workers, those alone that ended before ``before_ns`` if it is given."""
        for worker in self.workers.values():
            if worker.ended_ns and (before_ns is None or worker.ended_ns < before_ns):
                worker.settle()


def group_attributes(fact: WorkersStarting, shared: Attributes) -> Attributes:
    """Attributes of a generation's span."""
    attributes = dict(shared)
    for name, value in (
        (c.GROUP_RANK, fact.group_rank),
        (c.GROUP_WORLD_SIZE, fact.group_world_size),
        (c.ROUND, fact.round),
    ):
        if value is not None:
            attributes[name] = value
    return attributes


def open_group(
    fact: WorkersStarting,
    generation: int,
    shared: Attributes,
    hostname: str,
    start: Callable[[str, Attributes, int, OpenSpan | None], OpenSpan],
) -> Group:
    """Open the spans of a generation. ``start(name, attributes, span id, parent)`` opens one."""
    attributes = group_attributes(fact, shared)
    attributes[c.GENERATION] = generation
    group = Group(generation, start(c.SPAN_WORKER_GROUP, attributes, fact.group_span_id, None), attributes)
    for slot in fact.workers:
        identity: Attributes = {**attributes, c.HOSTNAME: hostname, c.LOCAL_RANK: slot.local_rank}
        identity.pop(c.RESTART_CAUSE, None)
        for name, value in (
            (c.GLOBAL_RANK, slot.global_rank),
            (c.ROLE_RANK, slot.role_rank),
            (c.ROLE_WORLD_SIZE, slot.role_world_size),
            (c.WORLD_SIZE, slot.world_size),
        ):
            if value is not None:
                identity[name] = value
        group.workers[slot.local_rank] = Worker(
            identity, start(c.SPAN_WORKER, dict(identity), slot.span_id, group.span)
        )
    return group
