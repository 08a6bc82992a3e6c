"""One job's history on this node: which spans are open, what an event belongs to, how it all ended.

Facts from the agent's hooks move the state. Where a job has none (an event recorded by another launcher, or
a torch that the hooks do not fit) the events move it as far as they can, and nothing is guessed beyond that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from . import _contract as c
from . import _facts as f
from ._identity import TraceIdentity
from ._spans import OpenSpan, start_span
from ._telemetry import Telemetry
from ._translate import ERROR, INFO, WARN, Attributes, Event, Kind
from ._verdict import (
    Failure,
    Verdict,
    first_failure_attributes,
    job_failed_by_launcher,
    job_failed_by_workers,
    job_succeeded,
    job_terminated,
    raised_attributes,
    rendezvous_verdict,
)
from ._workers import SETTLE_NS, Group, Worker, open_group

STEP_STORE = "while reaching the rendezvous store"
STEP_BEFORE = "before the rendezvous"
STEP_RENDEZVOUS = "during the rendezvous"
STEP_AFTER_RENDEZVOUS = "between the joined rendezvous and the start of the workers"
STEP_STARTING = "while starting the workers"
STEP_RUNNING = "while the workers ran"
STEP_STOPPING = "while stopping the workers"
STEP_BARRIER = "at the exit barrier"
STEP_CLOSING = "while closing the rendezvous"


class Job:
    """A job as one launcher sees it, from its first sign to its end.

    Args:
        telemetry: where spans and records go.
        identity: the job's trace.
        hostname: this node's name, as torch gives it.
        span_events: whether events are drawn on spans too.
        run_id: torchrun's ``--rdzv-id``.
        hooked: whether facts will come; without them events alone move the state.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        identity: TraceIdentity,
        hostname: str,
        span_events: bool,
        run_id: str,
        *,
        start_ns: int,
        hooked: bool,
        agent_span_id: int = 0,
        attributes: Attributes | None = None,
    ) -> None:
        self._telemetry = telemetry
        self._identity = identity
        self._hostname = hostname
        self._span_events = span_events
        self.run_id = run_id
        self.hooked = hooked
        self.shared: Attributes = {c.RUN_ID: run_id}
        self.ended = False
        self.agent = start_span(
            telemetry,
            c.SPAN_AGENT,
            start_ns,
            {**self.shared, c.HOSTNAME: hostname, **(attributes or {})},
            parent=identity.parent,
            trace_id=identity.trace_id,
            span_id=agent_span_id,
        )
        if identity.random:
            self.agent.set({c.RANDOM_TRACE: True})
        self.last_ns = start_ns
        self._rendezvous: OpenSpan | None = None
        self._joined_ns = 0
        self._group: Group | None = None
        self._generation = 0
        self._step = STEP_BEFORE
        self._restart: f.RestartStarted | None = None
        self._restart_seen_ns = 0
        self._failed_since_ns = 0
        self._max_restarts: int | None = None
        self._verdict: Verdict | None = None
        self._stop_signal: str | None = None
        self._rendezvous_failure: Verdict | None = None
        self._closing_error: f.Raised | None = None
        self._handlers: dict[type[f.Fact], Callable[[Any], None]] = {
            f.StoreFailed: self._store_failed,
            f.AgentCreated: self._agent_created,
            f.HooksMissing: self._hooks_missing,
            f.RendezvousStarted: self._rendezvous_started,
            f.RendezvousEnded: self._rendezvous_ended,
            f.WorkersStarting: self._workers_starting,
            f.WorkersStarted: self._workers_started,
            f.WorkersExited: self._workers_exited,
            f.WorkersStopping: self._workers_stopping,
            f.WorkersStopped: self._workers_stopped,
            f.Monitored: self._monitored,
            f.RestartStarted: self._restart_started,
            f.ExitBarrier: self._exit_barrier,
            f.StopRequested: self._stop_requested,
            f.RunEnded: self._run_ended,
            f.JobEnded: self._job_ended,
        }

    # Facts

    def on_fact(self, fact: f.Fact) -> None:
        """Let what the agent did move the state."""
        self.last_ns = max(self.last_ns, fact.time_ns)
        handler = self._handlers.get(type(fact))
        if handler is not None:
            handler(fact)

    def started(self, fact: f.JobStarted) -> None:
        """Tell that the launcher begins."""
        attributes = _present(
            {
                c.RDZV_BACKEND: fact.backend,
                c.MIN_NODES: fact.min_nodes,
                c.MAX_NODES: fact.max_nodes,
                c.MAX_RESTARTS: fact.max_restarts,
                c.ROLE: fact.role,
                c.ENTRY_POINT: fact.entry_point,
            }
        )
        self._max_restarts = fact.max_restarts
        if fact.role:
            self.shared[c.ROLE] = fact.role
        self.agent.set(attributes)
        nodes = (
            f"{fact.min_nodes}"
            if fact.min_nodes == fact.max_nodes
            else f"{fact.min_nodes} to {fact.max_nodes}"
        )
        what = f" for {nodes} node{'' if nodes == '1' else 's'}" if fact.min_nodes is not None else ""
        self._tell(c.EVENT_AGENT_START, fact.time_ns, f"The launcher starts{what}", attributes, self.agent)

    def _agent_created(self, fact: f.AgentCreated) -> None:
        if fact.role:
            self.shared[c.ROLE] = fact.role
        self._max_restarts = fact.max_restarts
        self.agent.set(
            _present({c.ROLE: fact.role, c.MAX_RESTARTS: fact.max_restarts, c.ENTRY_POINT: fact.entry_point})
        )

    def _hooks_missing(self, fact: f.HooksMissing) -> None:
        self.hooked = False

    def _store_failed(self, fact: f.StoreFailed) -> None:
        signal = fact.error.signal
        self._verdict = (
            job_terminated(signal, STEP_STORE) if signal else job_failed_by_launcher(fact.error, STEP_STORE)
        )
        self.finish(fact.time_ns)

    def _rendezvous_started(self, fact: f.RendezvousStarted) -> None:
        self._step = STEP_RENDEZVOUS
        self._close_group(fact.time_ns)
        self._open_rendezvous(fact.time_ns)

    def _open_rendezvous(self, time_ns: int) -> None:
        if self._rendezvous is not None:
            self._rendezvous.end(time_ns)
        self._joined_ns = 0
        self._rendezvous = start_span(
            self._telemetry, c.SPAN_RENDEZVOUS, time_ns, dict(self.shared), parent=self.agent.context
        )

    def _rendezvous_ended(self, fact: f.RendezvousEnded) -> None:
        self._step = STEP_AFTER_RENDEZVOUS
        span = self._rendezvous
        joined_ns, self._joined_ns = self._joined_ns, 0
        if span is None:
            return
        if fact.error is None or joined_ns:
            # Where it had joined and then raised, what failed is what torch does next, not the rendezvous.
            self._joined(joined_ns or fact.time_ns, fact.rank, fact.world_size, fact.view)
            return
        waited_s = (fact.time_ns - span.start_ns) / 1e9
        verdict = rendezvous_verdict(fact.error, waited_s, fact.view, node_count_known=fact.view is not None)
        self._rendezvous_failure = verdict
        self._end_rendezvous(fact.time_ns, verdict)

    def _joined_event(self, event: Event) -> None:
        span = self._rendezvous
        if span is None:
            return
        names = (c.GROUP_RANK, c.GROUP_WORLD_SIZE, c.ROUND)
        span.set({name: event.attributes[name] for name in names})
        if self.hooked:
            self._joined_ns = event.time_ns
        else:
            self._joined(event.time_ns, None, None, None)

    def _joined(
        self, time_ns: int, rank: int | None, world_size: int | None, view: f.RendezvousView | None
    ) -> None:
        if self._rendezvous is None:
            return
        attributes: dict[str, object] = {}
        if rank is not None:
            attributes[c.GROUP_RANK] = rank
        if world_size is not None:
            attributes[c.GROUP_WORLD_SIZE] = world_size
        if view is not None and view.round is not None:
            attributes[c.ROUND] = view.round
        if view is not None and view.participants:
            attributes[c.NODES_JOINED_NAMES] = view.participants
        waited_s = (time_ns - self._rendezvous.start_ns) / 1e9
        attributes[c.RENDEZVOUS_WAITED] = round(waited_s, 3)
        self._end_rendezvous(time_ns, Verdict(c.OUTCOME_SUCCEEDED, "joined", attributes))

    def _end_rendezvous(self, time_ns: int, verdict: Verdict) -> None:
        span, self._rendezvous = self._rendezvous, None
        if span is not None:
            span.set(verdict.attributes)
            span.end(time_ns, verdict.outcome, verdict.sentence)

    def _workers_starting(self, fact: f.WorkersStarting) -> None:
        self._step = STEP_STARTING
        previous = self._group
        self._close_group(fact.time_ns)
        self._generation += 1
        shared = dict(self.shared)
        if self._restart is not None:
            shared[c.RESTART_CAUSE] = _restart_cause(self._restart)

        def start(name: str, attributes: Attributes, span_id: int, parent: OpenSpan | None) -> OpenSpan:
            return start_span(
                self._telemetry,
                name,
                fact.time_ns,
                attributes,
                parent=self.agent.context if parent is None else parent.context,
                span_id=span_id,
                link=previous.span.context if parent is None and previous is not None else None,
            )

        self._group = open_group(fact, self._generation, shared, self._hostname, start)

    def _workers_started(self, fact: f.WorkersStarted) -> None:
        group = self._group
        if group is None:
            return
        if fact.error is not None:
            group.stop_outcome = None if fact.error.signal is None else c.OUTCOME_TERMINATED
            group.span.set(raised_attributes(fact.error))
            group.end(fact.time_ns)
            group.settle()
            return
        self._step = STEP_RUNNING
        group.started(fact)
        if self._restart is not None:
            self._restarted(self._restart, fact.time_ns)
        self._restart = None
        self._failed_since_ns = 0

    def _restarted(self, restart: f.RestartStarted, time_ns: int) -> None:
        cause = _restart_cause(restart)
        took_s = max(0, time_ns - self._restart_seen_ns) / 1e9
        attributes: dict[str, object] = {
            c.RESTART_CAUSE: cause,
            c.RESTART_FROM: self._generation - 1,
            c.RESTART_TO: self._generation,
            c.RESTART_DURATION: round(took_s, 3),
        }
        if restart.waiting:
            attributes[c.RESTART_NODES] = restart.waiting
        why = "after a worker's failure" if cause == c.RESTART_WORKER_FAILURE else "for a membership change"
        if cause == c.RESTART_MEMBERSHIP_CHANGE and restart.waiting:
            why += f" ({', '.join(restart.waiting[:4])} asked to join)"
        body = f"Workers restarted {why}: generation {self._generation} runs after {took_s:.1f} s"
        self._tell(c.EVENT_RESTART, time_ns, body, attributes, self.agent, severity=WARN)

    def _workers_exited(self, fact: f.WorkersExited) -> None:
        if self._group is None:
            return
        failures = self._group.exited(fact)
        if failures and not self._failed_since_ns:
            self._failed_since_ns = fact.time_ns
        for worker, failure in failures:
            self._tell_failure(worker, failure, fact.time_ns)

    def _tell_failure(self, worker: Worker, failure: Failure, time_ns: int) -> None:
        attributes: dict[str, object] = {**failure.attributes}
        if self._group is not None:
            attributes.update(first_failure_attributes(self._group.first_deaths))
        severity = WARN if failure.collateral else ERROR
        self._tell(c.EVENT_FAILURE, time_ns, failure.sentence, attributes, worker.span, severity=severity)

    def _workers_stopping(self, fact: f.WorkersStopping) -> None:
        if self._step == STEP_RUNNING:
            self._step = STEP_STOPPING

    def _workers_stopped(self, fact: f.WorkersStopped) -> None:
        group = self._group
        if group is None:
            return
        for worker, failure in group.stopped(fact):
            self._tell_failure(worker, failure, fact.time_ns)
        if not group.running:
            group.end(fact.time_ns)

    def _monitored(self, fact: f.Monitored) -> None:
        group = self._group
        if group is None or fact.state != "UNHEALTHY":
            return
        for pid in fact.stuck_pids:
            worker = group.worker_by_pid(pid)
            if worker is not None and not worker.ended_ns:
                self._tell_failure(worker, group.stuck(worker, fact.time_ns), fact.time_ns)

    def _restart_started(self, fact: f.RestartStarted) -> None:
        self._restart = fact
        self._restart_seen_ns = self._failed_since_ns or fact.time_ns
        if self._group is not None and _restart_cause(fact) == c.RESTART_MEMBERSHIP_CHANGE:
            self._group.stop_outcome = c.OUTCOME_INTERRUPTED

    def _exit_barrier(self, fact: f.ExitBarrier) -> None:
        self._step = STEP_BARRIER
        self.agent.set({c.EXIT_BARRIER_DURATION: round((fact.end_ns - fact.time_ns) / 1e9, 3)})

    def _stop_requested(self, fact: f.StopRequested) -> None:
        self._stop_signal = fact.signal
        if self._group is not None:
            self._group.stop_outcome = c.OUTCOME_TERMINATED

    def _run_ended(self, fact: f.RunEnded) -> None:
        group = self._group
        self._verdict = self._judge(fact)
        if group is not None:
            group.end(fact.time_ns)
            group.settle()

    def _judge(self, fact: f.RunEnded) -> Verdict:
        error, group = fact.error, self._group
        if error is not None and error.signal is not None:
            return job_terminated(error.signal, self._step)
        if self._rendezvous_failure is not None and (error is not None or not fact.state):
            failure = self._rendezvous_failure
            return Verdict(
                failure.outcome,
                f"failed: {failure.sentence}" if failure.outcome == c.OUTCOME_FAILED else failure.sentence,
                {**failure.attributes, c.STEP: STEP_RENDEZVOUS},
            )
        if error is not None:
            return job_failed_by_launcher(error, self._step)
        if fact.state == "SUCCEEDED":
            return job_succeeded(max(0, self._generation - 1))
        first = group.first_deaths if group is not None else []
        return job_failed_by_workers(first, max(0, self._generation - 1), self._max_restarts, fact.state)

    def _job_ended(self, fact: f.JobEnded) -> None:
        if (
            fact.error is not None
            and self._verdict is not None
            and self._verdict.outcome == c.OUTCOME_SUCCEEDED
        ):
            # Whether this ends the launcher or is only logged differs by torch version: see ``finish``.
            self._step = STEP_CLOSING
            self._closing_error = fact.error
            return
        self.finish(fact.time_ns)

    def finish(self, time_ns: int, *, uncaught: str | None = None) -> None:
        """End the job: tell the outcome, end every span.

        Args:
            time_ns: when it ended.
            uncaught: type of the exception that ends the process, where it is known.
        """
        if self.ended:
            return
        self.ended = True
        time_ns = max(time_ns, self.last_ns)
        error = self._closing_error
        if error is not None and uncaught == error.type:
            self._verdict = job_failed_by_launcher(error, STEP_CLOSING)
        verdict = self._verdict
        if verdict is None and self._stop_signal is not None:
            verdict = job_terminated(self._stop_signal, self._step)
        if self._rendezvous is not None:
            outcome = c.OUTCOME_TERMINATED if self._stop_signal is not None else None
            self._end_rendezvous(time_ns, Verdict(outcome, ""))
        self._close_group(time_ns)
        if verdict is None:
            self.agent.end(time_ns)
            return
        restarts = max(0, self._generation - 1)
        attributes: dict[str, object] = {
            **self.shared,
            **verdict.attributes,
            c.RESTARTS: restarts,
            c.VERDICT: verdict.sentence,
        }
        self.agent.set(attributes)
        severity = {c.OUTCOME_FAILED: ERROR, c.OUTCOME_TERMINATED: WARN}.get(verdict.outcome or "", INFO)
        body = f"The launcher ends: {verdict.sentence}"
        stop_attributes = {**attributes, c.OUTCOME: verdict.outcome or ""}
        self._tell(c.EVENT_AGENT_STOP, time_ns, body, stop_attributes, self.agent, severity=severity)
        self.agent.end(time_ns, verdict.outcome, verdict.sentence)

    def _close_group(self, time_ns: int) -> None:
        if self._group is not None:
            self._group.end(time_ns)
            self._group.settle()

    def worker_contexts(self) -> dict[int, dict[str, str]]:
        """Return, by local rank, the environment variables that carry each worker's span context."""
        from opentelemetry import propagate
        from opentelemetry.trace import NonRecordingSpan, set_span_in_context

        contexts = {}
        for rank, worker in (self._group.workers if self._group is not None else {}).items():
            carrier: dict[str, str] = {}
            propagate.inject(carrier, set_span_in_context(NonRecordingSpan(worker.span.context)))
            contexts[rank] = {key.upper().replace("-", "_"): value for key, value in carrier.items()}
        return contexts

    def settle(self, now_ns: int) -> None:
        """End the spans of workers that ended a while ago: torch's last event may come minutes later."""
        if self._group is not None:
            self._group.settle(now_ns - SETTLE_NS)

    @property
    def settled(self) -> bool:
        """Whether no ended worker's span waits for torch's last event."""
        return self._group is None or all(
            w.span.ended or not w.ended_ns for w in self._group.workers.values()
        )

    # Events

    def on_event(self, event: Event) -> None:
        """Record torch's event: as a log record, and on the span that it belongs to."""
        self.last_ns = max(self.last_ns, event.time_ns)
        if not self.hooked:
            self._before_event(event)
        span = self._span_of(event)
        self._weigh(event)
        self._record(event, span)
        if event.joined:
            self._joined_event(event)
        if not self.hooked:
            self._after_event(event)
        elif event.kind is Kind.AGENT and event.state == "FAILED" and self._stop_signal is not None:
            # After a signal torch leaves the rendezvous alone: this is the launcher's last word.
            self.finish(event.time_ns)

    def _span_of(self, event: Event) -> OpenSpan:
        if event.kind is Kind.RENDEZVOUS and self._rendezvous is not None:
            return self._rendezvous
        if event.kind is Kind.WORKER and self._group is not None:
            worker = self._group.worker_of(event)
            if worker is not None:
                return worker.span
        return self.agent

    def _weigh(self, event: Event) -> None:
        if event.kind is Kind.RENDEZVOUS and event.state == "FAILED":
            stopped = self._stop_signal is not None or event.body.startswith(
                ("SignalException", "RendezvousGracefulExitError")
            )
            event.severity = ERROR if self._rendezvous is not None and not stopped else WARN
        elif event.kind is Kind.AGENT and event.state == "FAILED" and self._stop_signal is not None:
            event.severity = WARN
        elif event.kind is Kind.WORKER and event.state == "FAILED" and self._group is not None:
            worker = self._group.worker_of(event)
            if worker is not None and worker.failure is not None and worker.failure.collateral:
                event.severity = WARN
                event.attributes[c.COLLATERAL] = True
        elif event.kind is Kind.WATCHDOG and event.name == "kill worker process" and self._group is not None:
            self._watchdog_kill(event, self._group)

    def _watchdog_kill(self, event: Event, group: Group) -> None:
        pid = str((event.inner or {}).get("worker_pid", ""))
        worker = group.worker_by_pid(int(pid)) if pid.isdecimal() else None
        if worker is not None and worker.failure is None:
            group.watchdog_pids.add(int(pid))
            self._tell_failure(worker, group.killed_by_watchdog(worker, event), event.time_ns)

    # A job without facts: its events tell when spans begin and end.

    def _before_event(self, event: Event) -> None:
        if event.kind is Kind.RENDEZVOUS and event.joins:
            self._close_group(event.time_ns)
            self._open_rendezvous(event.time_ns)
        elif event.kind is Kind.WORKER and event.state == "START" and event.local_rank is not None:
            group = self._group
            if group is None or group.ended_ns or event.local_rank in group.workers:
                rank, size = _int(event.attributes, c.GROUP_RANK), _int(event.attributes, c.GROUP_WORLD_SIZE)
                self._workers_starting(f.WorkersStarting(0, event.time_ns, [], 0, rank, size))
                group = self._group
            if group is not None:
                group.stop_outcome = None
                identity = {**group.shared, **event.attributes}
                for name in (c.EVENT, c.SOURCE, c.STATE, c.TOTAL_RUN_TIME):
                    identity.pop(name, None)
                span = start_span(
                    self._telemetry, c.SPAN_WORKER, event.time_ns, dict(identity), parent=group.span.context
                )
                group.workers[event.local_rank] = Worker(identity, span)

    def _after_event(self, event: Event) -> None:
        if event.kind is Kind.RENDEZVOUS and event.state == "FAILED" and self._rendezvous is not None:
            attributes = {k: v for k, v in event.attributes.items() if k.startswith(("exception.", "error."))}
            self._end_rendezvous(event.time_ns, Verdict(c.OUTCOME_FAILED, event.body, {**attributes}))
        elif event.kind is Kind.WORKER and self._group is not None and event.state in _FINAL:
            worker = self._group.worker_of(event)
            if worker is not None:
                worker.span.set({k: v for k, v in event.attributes.items() if k not in (c.EVENT, c.STATE)})
                worker.close(event.time_ns, _FINAL[event.state], event.body)
                worker.settle()
            if not self._group.running:
                self._group.end(event.time_ns)
        elif event.kind is Kind.AGENT and event.state in ("SUCCEEDED", "FAILED"):
            self._close_group(event.time_ns)
            self.ended = True
            # SUCCEEDED says that the agent's run returned, not that its workers did well.
            failed = event.state == "FAILED"
            self.agent.end(event.time_ns, c.OUTCOME_FAILED if failed else None, event.body if failed else "")

    # Out

    def _tell(
        self,
        name: str,
        time_ns: int,
        body: str,
        attributes: Mapping[str, object],
        span: OpenSpan,
        *,
        severity: int = INFO,
    ) -> None:
        """Record an event of the bridge's own."""
        full: Attributes = {c.EVENT: name, **self.shared, c.HOSTNAME: self._hostname, **attributes}  # type: ignore[dict-item]
        event = Event(Kind.BRIDGE, name, time_ns, body, full, severity, observed_ns=time_ns)
        self._record(event, span)

    def _record(self, event: Event, span: OpenSpan) -> None:
        event.span = span.context
        if self._span_events and not span.ended:
            span.add_event(event.name, event.time_ns, event.attributes)
        self._telemetry.emit(event)


_FINAL = {"SUCCEEDED": c.OUTCOME_SUCCEEDED, "FAILED": c.OUTCOME_FAILED, "TERMINATED": c.OUTCOME_TERMINATED}


def _restart_cause(fact: f.RestartStarted) -> str:
    return c.RESTART_MEMBERSHIP_CHANGE if fact.state == "HEALTHY" else c.RESTART_WORKER_FAILURE


def _int(attributes: Mapping[str, object], name: str) -> int | None:
    value = attributes.get(name)
    return value if type(value) is int else None


def _present(attributes: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in attributes.items() if value not in (None, "")}
