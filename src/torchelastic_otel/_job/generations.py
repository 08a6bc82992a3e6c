"""The generations of this node's workers: the one that runs, and how it came after the one before."""

from __future__ import annotations

from collections.abc import Sequence

from .. import _contract as c
from .._runtime.clock import Moment
from .._values import Attributes
from . import sentences
from .event import Event
from .facts import Raised, RestartStarted, WorkerExit, WorkersStarting
from .lost_work import Lost, LostWork
from .measures import JobMeasures
from .output import OpenSpan, Output
from .records import Records
from .torch_words import HEALTHY
from .verdict import Failure, first_failure_attributes, raised_attributes
from .worker_group import LAST_EVENT_WITHIN_NS, Group, Worker, open_group


class Generations:
    """Opens and ends generations, and tells failures and restarts.

    Args:
        output: where spans go.
        records: where failures and restarts are told.
        measures: the job's metrics.
        agent: the launcher's span.
    """

    def __init__(self, output: Output, records: Records, measures: JobMeasures, agent: OpenSpan) -> None:
        self._output = output
        self._records = records
        self._measures = measures
        self._agent = agent
        self._restart: RestartStarted | None = None
        self._restart_seen: Moment | None = None
        self._waited = ""
        self._failed_since: Moment | None = None
        self._lost_work = LostWork()
        self.lost: Lost | None = None
        """What the generation that ended last has cost in work."""
        self.group: Group | None = None
        """The generation that runs, or ran last."""
        self.number = 0
        """Its number, from 1."""

    @property
    def restarts(self) -> int:
        """How often this node's workers were started anew, whatever the cause."""
        return max(0, self.number - 1)

    def starting(self, fact: WorkersStarting) -> Group:
        """The agent is about to start the workers of a new generation."""
        previous = self.group
        self.over(fact.moment)
        self.number += 1
        shared = dict(self._records.shared)
        if self._restart is not None:
            shared[c.RESTART_CAUSE] = restart_cause(self._restart)
        hostname = self._records.hostname
        self.group = open_group(fact, self.number, shared, hostname, self._output, self._agent, previous)
        return self.group

    def announced(self, local_rank: int, fact: WorkersStarting, known: Attributes) -> None:
        """Torch's event alone says that a worker has started; ``fact`` is what it says of its generation."""
        group = self.group
        if group is not None and not group.ended_at and group.begun_by_hooks(local_rank, known):
            group.unexplained()
            return
        if group is None or group.ended_at or local_rank in group.workers:
            group = self.starting(fact)
            group.unexplained()
            if self.restarts:  # of a cause that events do not tell
                self._measures.restarted(None, None, group.span.context)
        identity = {**group.shared, **known}
        span = self._output.start_span(c.SPAN_WORKER, fact.moment, dict(identity), parent=group.span)
        group.announced(local_rank, identity, span, started=True)

    def started(self, pids: dict[int, int], moment: Moment) -> None:
        """The workers run; if others ran before, that is a restart."""
        if self.group is None:
            return
        self.group.started(pids)
        self._measures.workers_started(moment)
        self._lost_work.began(moment)
        if self._restart is not None:
            self._tell_restart(self.group, self._restart, moment)
        self._restart = None
        self._failed_since = None

    def not_started(self, error: Raised, moment: Moment) -> None:
        """Starting the processes raised."""
        if self.group is not None and error.signal is None:
            attributes = raised_attributes(error)
            self.group.not_started(attributes, sentences.not_started(attributes))
        self.over(moment)

    def tell_failures(self, failures: Sequence[tuple[Worker, Failure]], moment: Moment) -> None:
        """Record deaths, collateral ones too; a restart counts from the first of the others."""
        first = first_failure_attributes(self.group.first_deaths) if self.group is not None else {}
        for worker, failure in failures:
            self._records.failure(failure, first, worker.span)
            if not failure.collateral:
                self._failed_since = self._failed_since or moment
                self._measures.worker_failed(failure.attributes, moment, worker.span.context)

    def stuck(self, pids: Sequence[int], moment: Moment) -> None:
        """Workers of these process ids are in uninterruptible sleep."""
        if self.group is not None:
            self.tell_failures(self.group.stuck(pids, moment), moment)

    def watchdog_kills(self, event: Event) -> None:
        """The watchdog is about to kill a worker whose scope expired."""
        pid = str((event.inner or {}).get("worker_pid", ""))
        worker = self.group.worker_by_pid(int(pid)) if self.group is not None and pid.isdecimal() else None
        if self.group is None or worker is None:
            return
        if worker.failure is None and not worker.ended_at:
            failure = self.group.killed_by_watchdog(worker, event)
            self.tell_failures([(worker, failure)], event.moment)

    def restart_begun(self, fact: RestartStarted, last_round: Sequence[str]) -> None:
        """The agent stops its workers in order to start others."""
        self._restart = fact
        self._waited = sentences.who_waited(fact.waiting, last_round)
        self._restart_seen = self._failed_since or fact.moment
        cause = restart_cause(fact)
        self._measures.workers_lost(fact.moment, cause)
        if self.group is not None and cause == c.RESTART_MEMBERSHIP_CHANGE:
            self.group.interrupted()

    def exited(self, exits: Sequence[WorkerExit]) -> None:
        """Workers of the generation have ended."""
        self._lost_work.ended(exits)

    def stopped(self, group: Group, moment: Moment) -> None:
        """None of its workers runs any more; torch may close their processes twice."""
        if group.ended_at:
            return
        if any(worker.outcome != c.OUTCOME_SUCCEEDED for worker in group.workers.values()):
            self.lost = self._lost_work.over(self._failed_since or moment)
        if self.lost is not None:
            group.span.set(self.lost.attributes)
        self.tell_failures(group.end(moment), moment)

    def over(self, moment: Moment) -> None:
        """The generation is over, and no more is heard of it."""
        if self.group is not None:
            self.tell_failures(self.group.end(moment), moment)
            self.group.end_worker_spans()

    def tick(self, now: Moment) -> None:
        """End the spans of workers that ended a while ago: torch's last event may come minutes later."""
        if self.group is not None:
            self.group.end_worker_spans(now.later(-LAST_EVENT_WITHIN_NS))

    def _tell_restart(self, group: Group, restart: RestartStarted, moment: Moment) -> None:
        cause = restart_cause(restart)
        took_s = moment.since(self._restart_seen or moment)
        attributes: Attributes = {
            c.RESTART_CAUSE: cause,
            c.RESTART_FROM: self.number - 1,
            c.RESTART_TO: self.number,
            c.RESTART_DURATION: round(took_s, 3),
        }
        if restart.waiting:
            attributes[c.RESTART_NODES] = restart.waiting
        body = sentences.restarted(cause, self._waited, self.number, took_s)
        lost, self.lost = self.lost, None
        if lost is not None:
            attributes |= lost.attributes
            body += sentences.work_lost(lost.time_s, lost.steps)
            self._measures.work_lost(lost.time_s, cause, group.span.context)
        self._records.tell(c.EVENT_RESTART, moment, body, attributes, self._agent)
        self._measures.restarted(cause, took_s, group.span.context)


def restart_cause(fact: RestartStarted) -> str:
    """Return the cause by the state that torch's worker group was in."""
    return c.RESTART_MEMBERSHIP_CHANGE if fact.state == HEALTHY else c.RESTART_WORKER_FAILURE
