"""A generation of local workers: its span and theirs, who died, and who was stopped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .. import _contract as c
from .._runtime.clock import Moment
from .._values import Attributes, present
from .event import Event
from .evidence import between_looks, first_of
from .facts import WorkerExit, WorkersExited, WorkersStarting
from .output import OpenSpan, Output
from .verdict import (
    Failure,
    collateral_death,
    first_failure_attributes,
    group_sentence,
    killed_by_watchdog,
    own_death,
    raised_before,
    raised_death,
    stuck,
    with_exit,
)

LAST_EVENT_WITHIN_NS = 2_000_000_000
"""How long an ended worker's span waits for torch's own last event of that worker."""


@dataclass(slots=True)
class Worker:
    """A local worker of a generation. ``ended_at`` is when it was seen ended, None while it runs."""

    identity: Attributes
    span: OpenSpan
    ended_at: Moment | None = None
    outcome: str | None = None
    description: str = ""
    failure: Failure | None = None
    raised: Failure | None = None
    """What it dies of, seen while it still runs; ``failure`` follows when it has ended."""
    started: bool = False

    def runs_as(self, pid: int) -> None:
        """Its process was made."""
        self.started = True
        self.identity[c.WORKER_ID] = str(pid)
        self.span.set({c.WORKER_ID: str(pid)})

    def is_confirmed(self, known: Attributes) -> None:
        """Torch's event says that it runs, with what is ``known`` of it."""
        self.started = True
        self.identity.update(known)
        self.span.set(known)

    def died(self, failure: Failure) -> Failure:
        """It is known what it died of; return that."""
        self.failure = failure
        return failure

    def has_raised(self, death: Failure) -> None:
        """It is known what it dies of, and it still runs."""
        self.raised = death

    def seen_ended(self, moment: Moment, outcome: str | None, description: str = "") -> None:
        """Its process ended; the span stays open for torch's own last event."""
        if self.ended_at is None:
            self.ended_at, self.outcome, self.description = moment, outcome, description

    def end_span(self) -> None:
        """End the span, once, at the time the worker was seen ended."""
        if self.ended_at and not self.span.ended:
            self.span.end(self.ended_at, self.outcome, self.description)


class Group:
    """One generation of local workers, from the first span to the last.

    Args:
        generation: its number on this node, from 1.
        span: the generation's span.
        shared: attributes that all its workers have, too.
    """

    def __init__(self, generation: int, span: OpenSpan, shared: Attributes) -> None:
        self.generation = generation
        self.span = span
        self.shared = shared
        self.workers: dict[int, Worker] = {}
        self.ended_at: Moment | None = None
        self._looked = span.start
        self._stopping: Moment | None = None
        self._first: list[int] = []
        self._rest: tuple[str | None, str] = (c.OUTCOME_TERMINATED, "")
        """Outcome, and why, of the workers that end without a reason of their own."""

    # What happened

    def announced(self, local_rank: int, identity: Attributes, span: OpenSpan, *, started: bool) -> None:
        """A worker of this generation is known."""
        self.workers[local_rank] = Worker(identity, span, started=started)

    def begun_by_hooks(self, local_rank: int, known: Attributes) -> bool:
        """Tell whether the hooks saw this worker begin, and then did not fit; its span is the one it has."""
        worker = self.workers.get(local_rank)
        if worker is None or worker.started:
            return False
        worker.is_confirmed(known)
        return True

    def started(self, pids: dict[int, int]) -> None:
        """The workers' processes were made; ``pids`` by local rank."""
        for local_rank, pid in pids.items():
            worker = self.workers.get(local_rank)
            if worker is not None:
                worker.runs_as(pid)

    def not_started(self, attributes: Attributes, sentence: str) -> None:
        """Starting the processes raised."""
        self.span.set(attributes)
        self._rest = (c.OUTCOME_FAILED, sentence)

    def interrupted(self) -> None:
        """The agent stops its workers for a membership change."""
        self._rest = (c.OUTCOME_INTERRUPTED, "")

    def terminated(self) -> None:
        """A signal has reached the agent, which stops its workers."""
        self._rest = (c.OUTCOME_TERMINATED, self._rest[1])

    def unexplained(self) -> None:
        """Nobody will say why the workers are stopped."""
        self._rest = (None, "")

    def exited(self, fact: WorkersExited) -> list[tuple[Worker, Failure]]:
        """Workers ended by themselves; return the failures among them that are news."""
        died, news = [], []
        before = fact.alive or self._looked
        for exit_ in fact.exits:
            worker = self.workers.get(exit_.local_rank)
            if worker is None or worker.ended_at:
                continue
            if exit_.exit_code == 0:
                worker.seen_ended(fact.moment, c.OUTCOME_SUCCEEDED)
                continue
            # The watchdog's victims were told when it killed them.
            if worker.failure is None:
                seen = between_looks(before, fact.moment)
                news.append((worker, worker.died(own_death(worker.identity, exit_, seen, fact.oom_kills))))
            if worker.failure is not None:
                died.append((worker, worker.failure.sentence))
        for local_rank in sorted({*fact.raised, *fact.recorded}):
            worker = self.workers.get(local_rank)
            if worker is not None and not worker.ended_at and worker.failure is None:
                error, recorded = fact.raised.get(local_rank), fact.recorded.get(local_rank)
                left = WorkerExit(local_rank, 0, error=error, recorded=recorded)
                worker.has_raised(raised_death(worker.identity, left, fact.moment, before))
        self._looked = fact.moment
        self._judge()
        for worker, sentence in died:
            worker.seen_ended(fact.moment, c.OUTCOME_FAILED, sentence)
            self._mark(worker)
        return news

    def stuck(self, pids: Sequence[int], moment: Moment) -> list[tuple[Worker, Failure]]:
        """These workers are in uninterruptible sleep, and the group fails of them; return what is news."""
        found = [worker for pid in pids if (worker := self.worker_by_pid(pid)) and not worker.ended_at]
        news = []
        for worker in found:
            if worker.failure is None:
                news.append((worker, worker.died(stuck(worker.identity, moment))))
            worker.seen_ended(moment, c.OUTCOME_FAILED, worker.failure.sentence if worker.failure else "")
        self._judge()
        for worker in found:
            self._mark(worker)
        return news

    def killed_by_watchdog(self, worker: Worker, event: Event) -> Failure:
        """The watchdog kills a worker whose scope expired."""
        failure = worker.died(killed_by_watchdog(worker.identity, event.attributes, event.moment))
        self._judge()
        self._mark(worker)
        return failure

    def stopping(self, moment: Moment) -> None:
        """The agent begins to stop those that still run; what they raise from here on follows from that."""
        self._stopping = self._stopping or moment

    def stopped(self, exits: list[WorkerExit], moment: Moment) -> list[tuple[Worker, Failure]]:
        """The agent has stopped these workers; return the deaths among them, of their own and collateral."""
        known = [(self.workers.get(exit_.local_rank), exit_) for exit_ in exits]
        ended = [(worker, exit_) for worker, exit_ in known if worker is not None and not worker.ended_at]
        failures = []
        for worker, exit_ in ended:
            if worker.failure is not None:
                continue
            if worker.raised is not None:
                failures.append((worker, worker.died(with_exit(worker.raised, exit_))))
            elif raised_before(exit_, self._stopping, moment):
                seen = between_looks(self._looked, moment)
                failures.append((worker, worker.died(own_death(worker.identity, exit_, seen))))
        self._judge()
        for_another = bool(self.culprits) and self._rest[0] != c.OUTCOME_INTERRUPTED
        for worker, exit_ in ended:
            if worker.failure is not None:
                worker.seen_ended(moment, c.OUTCOME_FAILED, worker.failure.sentence)
            elif for_another:
                failures.append((worker, worker.died(collateral_death(worker.identity, exit_, moment))))
                worker.seen_ended(moment, c.OUTCOME_TERMINATED)
            else:
                worker.seen_ended(moment, self._rest[0])
        for worker, _ in failures:
            self._mark(worker)
        return failures

    def told(self, event: Event, outcome: str, known: Attributes) -> None:
        """Torch's own event is all that tells a worker's end; ``known`` is what it says of the worker."""
        worker = self.worker_of(event)
        if worker is not None:
            worker.span.set(known)
            worker.seen_ended(event.moment, outcome, event.body)
            worker.end_span()
        if not self.running:
            self.end(event.moment)

    def end(self, moment: Moment) -> list[tuple[Worker, Failure]]:
        """All its workers have ended, or are as good as gone; return deaths that nobody saw the end of."""
        if self.ended_at:
            return []
        news = []
        for worker in self.workers.values():
            if worker.raised is not None and worker.failure is None:
                failure = worker.died(worker.raised)
                worker.seen_ended(moment, c.OUTCOME_FAILED, failure.sentence)
                self._mark(worker)
                news.append((worker, failure))
        self.ended_at = max((w.ended_at or moment for w in self.workers.values()), default=moment)
        for worker in self.workers.values():
            worker.seen_ended(moment, *self._rest)
        outcome, sentence = self._how_it_ended()
        if self.culprits:
            self.span.set({**first_failure_attributes(self.first_deaths), c.VERDICT: sentence})
        self.span.end(self.ended_at, outcome, sentence)
        return news

    def _how_it_ended(self) -> tuple[str | None, str]:
        if self.culprits:
            return c.OUTCOME_FAILED, group_sentence(self.first_deaths, self.culprits)
        workers = self.workers.values()
        failed = [worker.description for worker in workers if worker.outcome == c.OUTCOME_FAILED]
        if failed:
            return c.OUTCOME_FAILED, failed[0]
        if {worker.outcome for worker in workers} == {c.OUTCOME_SUCCEEDED}:
            return c.OUTCOME_SUCCEEDED, ""
        return self._rest

    def end_worker_spans(self, before: Moment | None = None) -> None:
        """End the spans of ended workers, those alone that ended before ``before`` if it is given."""
        for worker in self.workers.values():
            if worker.ended_at and (before is None or worker.ended_at < before):
                worker.end_span()

    def _mark(self, worker: Worker) -> None:
        """Put a failure, and who was first, on the worker's span."""
        failure = worker.failure.attributes if worker.failure is not None else {}
        worker.span.set({**failure, **first_failure_attributes(self.first_deaths)})

    # What is known

    def worker_of(self, event: Event) -> Worker | None:
        """Return the worker that torch's event speaks of."""
        return None if event.local_rank is None else self.workers.get(event.local_rank)

    def worker_by_pid(self, pid: int) -> Worker | None:
        """Return the worker with that process id."""
        return next((w for w in self.workers.values() if w.identity.get(c.WORKER_ID) == str(pid)), None)

    def _deaths(self) -> dict[int, Failure]:
        deaths = {rank: worker.failure or worker.raised for rank, worker in sorted(self.workers.items())}
        return {rank: death for rank, death in deaths.items() if death is not None and not death.collateral}

    def _judge(self) -> None:
        """Say who was first by what is known; who was told stays, unless another was certainly earlier."""
        deaths = self._deaths()
        first = first_of(list(deaths.values()))
        ranks = [rank for rank, death in deaths.items() if any(death is each for each in first)]
        if not set(ranks) & set(self._first):
            self._first = ranks

    @property
    def culprits(self) -> list[Failure]:
        """The deaths of workers that died by themselves, by local rank."""
        return list(self._deaths().values())

    @property
    def first_deaths(self) -> list[Failure]:
        """The node's first failure: one, several that are tied, or none."""
        deaths = self._deaths()
        return [deaths[rank] for rank in self._first if rank in deaths]

    @property
    def watchdog_victims(self) -> list[Failure]:
        """The failures of workers that the watchdog killed."""
        return [
            failure for failure in self.culprits if failure.attributes[c.FAILURE_CAUSE] == c.CAUSE_WATCHDOG
        ]

    @property
    def active(self) -> int:
        """How many of its workers were started and have not been seen ended."""
        return sum(worker.started and not worker.ended_at for worker in self.workers.values())

    @property
    def running(self) -> bool:
        """Whether any of its workers has not been seen ended."""
        return any(not worker.ended_at for worker in self.workers.values())

    @property
    def no_span_waits(self) -> bool:
        """Whether no ended worker's span waits for torch's last event."""
        return all(worker.span.ended or not worker.ended_at for worker in self.workers.values())


def open_group(
    fact: WorkersStarting,
    generation: int,
    shared: Attributes,
    hostname: str,
    output: Output,
    agent: OpenSpan,
    previous: Group | None,
) -> Group:
    """Open the spans of a generation, linked to the one before.

    Args:
        fact: the workers to come, and the ids promised for their spans.
        generation: its number on this node, from 1.
        shared: attributes of all its spans.
        hostname: this node's name, as torch gives it.
        output: where spans go.
        agent: the parent of the generation's span.
        previous: the generation before, if there was one.
    """
    known = {c.GROUP_RANK: fact.group_rank, c.GROUP_WORLD_SIZE: fact.group_world_size, c.ROUND: fact.round}
    attributes: Attributes = {**shared, **present(known), c.GENERATION: generation}
    span = output.start_span(
        c.SPAN_WORKER_GROUP,
        fact.moment,
        attributes,
        parent=agent,
        span_id=fact.group_span_id,
        link=None if previous is None else previous.span,
    )
    group = Group(generation, span, attributes)
    for slot in fact.workers:
        ranks = {
            c.GLOBAL_RANK: slot.global_rank,
            c.ROLE_RANK: slot.role_rank,
            c.ROLE_WORLD_SIZE: slot.role_world_size,
            c.WORLD_SIZE: slot.world_size,
        }
        identity = {**attributes, c.HOSTNAME: hostname, c.LOCAL_RANK: slot.local_rank, **present(ranks)}
        identity.pop(c.RESTART_CAUSE, None)
        worker_span = output.start_span(
            c.SPAN_WORKER, fact.moment, dict(identity), parent=span, span_id=slot.span_id
        )
        group.announced(slot.local_rank, identity, worker_span, started=False)
    return group
