"""What a job's history on this node comes to in numbers: section "Metrics" of the telemetry reference.

The job's state machine says what happened; here that becomes measurements.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from .. import _contract as c
from .._runtime.clock import Moment
from .._values import Attributes, AttributeValue
from .output import OpenSpan, Output

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

    from .worker_group import Group

_LAG_NS = 1_000_000_000
"""How far behind the clock running times are counted: what ends them may still be in the queue."""

_STATES = {"AGENT": ("RENDEZVOUS", "ASSIGN_WORKER_RANKS", "SUCCEEDED", "FAILED")}
_STATES["WORKER"] = ("START", "SUCCEEDED", "FAILED", "TERMINATED")


class FewValues:
    """The first values of an attribute; beyond ``most`` they are told as ``other``: each makes a series."""

    def __init__(self, most: int, other: str) -> None:
        self._known: set[str] = set()
        self._most = most
        self._other = other

    def of(self, value: str) -> str:
        """Return a value, or what stands for all others."""
        if value not in self._known:
            if len(self._known) >= self._most:
                return self._other
            self._known.add(value)
        return value


class JobMeasures:
    """The metrics of one job on this node.

    From the first rendezvous to the end all time is either uptime (workers run) or downtime (why they don't):
    the two add up.

    What happens seldom, and what takes its time, is measured in the context of its span, so that exemplars
    lead from it to the trace.

    Args:
        output: takes the measurements.
        run_id: torchrun's ``--rdzv-id``; on every measurement unless it is empty.
        span: context of the agent's span.
        error_types: the values of ``error.type`` in this process.
    """

    def __init__(self, output: Output, run_id: str, span: SpanContext, error_types: FewValues) -> None:
        self._output = output
        self._shared: Attributes = {c.RUN_ID: run_id} if run_id else {}
        self._span = span
        self._error_types = error_types
        self._role: Attributes = {}
        self._backend: Attributes = {}
        self._nodes: int | None = None
        self._active = 0
        self._waiting_since: Moment | None = None
        self._since: Moment | None = None
        self._up = False
        self._cause: str | None = None
        self._running = True

    def _take(
        self,
        name: str,
        amount: float,
        attributes: Mapping[str, AttributeValue | None],
        span: SpanContext | None = None,
    ) -> None:
        known = {key: value for key, value in attributes.items() if value is not None}
        self._output.measure(name, amount, {**self._shared, **known}, span)

    def _error_type(self, known: Mapping[str, AttributeValue]) -> str | None:
        value = known.get(c.ERROR_TYPE)
        return None if value is None else self._error_types.of(str(value))

    # What is known of the job

    def begin(self) -> None:
        """Take every counter at zero, so that the first failure is an increase."""
        for cause in (c.RESTART_WORKER_FAILURE, c.RESTART_MEMBERSHIP_CHANGE):
            self._take(c.METRIC_RESTARTS, 0, {c.RESTART_CAUSE: cause})
            self._take(c.METRIC_DOWNTIME, 0, {c.RESTART_CAUSE: cause})
            self._take(c.METRIC_LOST_TIME, 0, {c.RESTART_CAUSE: cause})
        for cause in (c.DOWN_STARTUP, c.DOWN_SHUTDOWN):
            self._take(c.METRIC_DOWNTIME, 0, {c.RESTART_CAUSE: cause})
        for cause in c.FAILURE_CAUSES:
            self._take(c.METRIC_WORKER_FAILURES, 0, {c.FAILURE_CAUSE: cause})
        for outcome in (c.OUTCOME_SUCCEEDED, c.OUTCOME_FAILED):
            self._take(c.METRIC_HEARTBEATS, 0, {c.OUTCOME: outcome})
        for source, states in _STATES.items():
            for state in states:
                self._take(c.METRIC_EVENTS, 0, {c.EVENT: c.TORCH_EVENT_PREFIX + state, c.SOURCE: source})
        for outcome in (c.OUTCOME_SUCCEEDED, c.OUTCOME_FAILED, c.OUTCOME_TERMINATED):
            self._take(c.METRIC_LAUNCHERS_ENDED, 0, {c.OUTCOME: outcome})
        self._take(c.METRIC_UPTIME, 0, {})
        self._take(c.METRIC_RENDEZVOUS_WAITING, 0, {})

    def known(self, *, role: str | None = None, backend: str | None = None) -> None:
        """Note what tells this job's measurements from others'."""
        if role and not self._role:
            self._role = {c.ROLE: role}
            self._take(c.METRIC_WORKER_ACTIVE, 0, self._role)
            self._take_world_size()
        if backend:
            self._backend = {c.RDZV_BACKEND: backend}

    # Rendezvous

    def rendezvous_started(self, moment: Moment) -> None:
        """This node asks to join a round."""
        self._waiting_since = moment
        if not self._since:
            self._since, self._cause = moment, c.DOWN_STARTUP
        elif not self._up and self._cause == c.DOWN_SHUTDOWN:
            self._down(moment, None)  # that was no end, and nobody said why

    def rendezvous_ended(
        self, span: OpenSpan, moment: Moment, outcome: str | None, known: Mapping[str, AttributeValue]
    ) -> None:
        """The attempt ended; ``known`` has its error and the size of the round."""
        self._waiting_since = None
        how = {**self._backend, c.OUTCOME: outcome, c.ERROR_TYPE: self._error_type(known)}
        took_s = moment.since(span.start)
        self._take(c.METRIC_RENDEZVOUS_DURATION, took_s, how, span.context)
        nodes = known.get(c.GROUP_WORLD_SIZE)
        if outcome == c.OUTCOME_SUCCEEDED and isinstance(nodes, int):
            self._nodes = nodes
        self._take_gauges(moment)

    # Workers

    def workers_started(self, moment: Moment) -> None:
        """The workers of a generation run."""
        self._account(moment)
        self._since, self._up = max(self._since or moment, moment), True

    def follow(self, group: Group | None, moment: Moment) -> None:
        """Count the workers that run; where none does any more, no time is uptime."""
        active = 0 if group is None else group.active
        if active != self._active:
            self._take(c.METRIC_WORKER_ACTIVE, active - self._active, self._role)
            self._active = active
        if not active and self._up:
            self._down((group and group.ended_at) or moment, c.DOWN_SHUTDOWN)

    def worker_failed(self, known: Mapping[str, AttributeValue], moment: Moment, span: SpanContext) -> None:
        """A worker died by itself; ``known`` are the attributes of its failure."""
        how = {c.FAILURE_CAUSE: known.get(c.FAILURE_CAUSE), c.ERROR_TYPE: self._error_type(known)}
        self._take(c.METRIC_WORKER_FAILURES, 1, how, span)
        self.workers_lost(moment, c.RESTART_WORKER_FAILURE)

    def workers_lost(self, moment: Moment, cause: str) -> None:
        """The generation is over, or as good as over: its workers are stopped next."""
        if self._up:
            self._down(moment, cause)

    def restarted(self, cause: str | None, took_s: float | None, span: SpanContext) -> None:
        """The workers run again."""
        self._take(c.METRIC_RESTARTS, 1, {c.RESTART_CAUSE: cause}, span)
        if took_s is not None:
            self._take(c.METRIC_RESTART_DURATION, took_s, {c.RESTART_CAUSE: cause}, span)

    def work_lost(self, time_s: float, cause: str, span: SpanContext) -> None:
        """Work since the last checkpoint is done again."""
        self._take(c.METRIC_LOST_TIME, time_s, {c.RESTART_CAUSE: cause}, span)

    # The agent

    def barrier(self, waited_s: float) -> None:
        """The agent has waited for the other nodes."""
        self._take(c.METRIC_EXIT_BARRIER_DURATION, waited_s, {}, self._span)

    def operation(self, name: str, took_s: float, outcome: str | None) -> None:
        """Torch has measured a step of the agent."""
        how = {c.OPERATION: name, c.OUTCOME: outcome}
        self._take(c.METRIC_OPERATION_DURATION, took_s, how, self._span)

    # Time

    def tick(self, now: Moment) -> None:
        """Count the time until now: what lasts for days is to be seen while it lasts."""
        if self._running:
            self._account(now.later(-_LAG_NS))
            self._take_gauges(now)

    def _take_gauges(self, now: Moment) -> None:
        # Again and again: some versions of the SDK forget a gauge once it was exported.
        waited_s = now.since(self._waiting_since) if self._waiting_since is not None else 0
        self._take(c.METRIC_RENDEZVOUS_WAITING, waited_s, {})
        self._take_world_size()

    def _take_world_size(self) -> None:
        if self._nodes is not None and self._role:
            self._take(c.METRIC_WORLD_SIZE, self._nodes, self._role)

    @property
    def counted(self) -> Moment | None:
        """Until when time has been counted, None before the first rendezvous."""
        return self._since

    def run_ended(self) -> None:
        """The agent's run is over: what is left of the job's time is told by its end, which may come late."""
        self._running = False

    def end(self, group: Group | None, moment: Moment, outcome: str | None) -> None:
        """The job is over on this node, with this outcome if it is known."""
        self.follow(group, moment)
        self._account(moment)
        self._take_gauges(moment)
        self._take(c.METRIC_LAUNCHERS_ENDED, 1, {c.OUTCOME: outcome}, self._span)
        self._running = False

    def _down(self, moment: Moment, cause: str | None) -> None:
        self._account(moment)
        self._up, self._cause = False, cause

    def _account(self, until: Moment) -> None:
        if self._since is None or until <= self._since:
            return
        spent_s = until.since(self._since)
        self._since = until
        if self._up:
            self._take(c.METRIC_UPTIME, spent_s, {})
        else:
            self._take(c.METRIC_DOWNTIME, spent_s, {c.RESTART_CAUSE: self._cause})
