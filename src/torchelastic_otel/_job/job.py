"""One job's history on this node: its open spans, and the end of each.

``_from_facts`` and ``_from_events`` say what happened; here is what that does to spans and records.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from .. import _contract as c
from .._telemetry.spans import OpenSpan, start_span
from .._telemetry.telemetry import Telemetry
from .._values import (
    Attributes,
    AttributeValue,
    clean_all,
    clean_text,
)
from .facts import Raised, WorkersStarting
from .identity import TraceIdentity
from .measures import JobMeasures
from .translate import (
    ERROR,
    INFO,
    WARN,
    Event,
    Kind,
)
from .verdict import (
    Failure,
    Verdict,
    first_failure_attributes,
    job_failed_by_launcher,
    job_terminated,
)
from .worker_group import (
    SETTLE_NS,
    Group,
    Worker,
    open_group,
)

if TYPE_CHECKING:
    from .._config.settings import Settings

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
        settings: our own settings.
        run_id: torchrun's ``--rdzv-id``.
        start_ns: when it began.
        hooked: whether facts come from its agent; without them events alone move the state.
        agent_span_id: the id promised for the agent's span, 0 for any.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        identity: TraceIdentity,
        hostname: str,
        settings: Settings,
        run_id: str,
        *,
        start_ns: int,
        hooked: bool,
        agent_span_id: int = 0,
    ) -> None:
        self._telemetry = telemetry
        self._hostname = hostname
        self._span_events = settings.span_events
        self._trace_url = settings.trace_url
        self.run_id = run_id
        self.hooked = hooked
        self.shared: Attributes = {c.RUN_ID: run_id}
        self.ended = False
        self.agent = start_span(
            telemetry,
            c.SPAN_AGENT,
            start_ns,
            {**self.shared, c.HOSTNAME: hostname},
            parent=identity.parent,
            trace_id=identity.trace_id,
            span_id=agent_span_id,
        )
        self.random_trace = identity.random
        if identity.random:
            self.agent.set({c.RANDOM_TRACE: True})
        self.measures = JobMeasures(telemetry.measure, run_id, self.agent.context)
        self.measures.begin()
        self.last_ns = start_ns
        self.rendezvous: OpenSpan | None = None
        self.group: Group | None = None
        self.generation = 0
        self.step = STEP_BEFORE
        self.verdict: Verdict | None = None
        self.stop_signal: str | None = None
        self.closing_error: Raised | None = None

    @property
    def trace_link(self) -> str:
        """The job's trace id, and the link to it if the user gave a template."""
        trace_id = f"{self.agent.context.trace_id:032x}"
        return (
            f"{trace_id} {self._trace_url.replace('{trace_id}', trace_id)}" if self._trace_url else trace_id
        )

    def say(self, text: str) -> None:
        """Tell the person at the terminal, or whoever reads the launcher's standard error later."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            # In one: the main thread may be printing a traceback at this moment.
            sys.stderr.write(f"torchelastic-otel: {text}\n")
            sys.stderr.flush()

    # Spans

    def open_rendezvous(self, time_ns: int) -> None:
        """This node asks to join a round; an attempt that is still open ends without an outcome."""
        self.end_rendezvous(time_ns, Verdict(None, ""))
        self.rendezvous = start_span(
            self._telemetry, c.SPAN_RENDEZVOUS, time_ns, dict(self.shared), parent=self.agent.context
        )
        self.measures.rendezvous_started(time_ns)

    def join(self, time_ns: int, attributes: Mapping[str, AttributeValue]) -> None:
        """This node has joined the round."""
        if self.rendezvous is None:
            return
        waited_s = (time_ns - self.rendezvous.start_ns) / 1e9
        known = {**attributes, c.RENDEZVOUS_WAITED: round(max(0.0, waited_s), 3)}
        self.end_rendezvous(time_ns, Verdict(c.OUTCOME_SUCCEEDED, "joined", known))

    def end_rendezvous(self, time_ns: int, verdict: Verdict) -> None:
        """The open attempt ends."""
        span, self.rendezvous = self.rendezvous, None
        if span is not None:
            span.set(verdict.attributes)
            span.end(time_ns, verdict.outcome, verdict.sentence)
            self.measures.rendezvous_ended(span, time_ns, verdict.outcome, verdict.attributes)

    def open_group(self, fact: WorkersStarting, restart_cause: str | None = None) -> Group:
        """A generation of workers starts."""
        previous = self.group
        self.close_group(fact.time_ns)
        self.generation += 1
        shared = dict(self.shared)
        if restart_cause is not None:
            shared[c.RESTART_CAUSE] = restart_cause

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

        self.group = open_group(fact, self.generation, shared, self._hostname, start)
        return self.group

    def open_worker(self, group: Group, local_rank: int, time_ns: int, identity: Attributes) -> None:
        """A worker that was not announced starts."""
        span = start_span(self._telemetry, c.SPAN_WORKER, time_ns, dict(identity), parent=group.span.context)
        group.workers[local_rank] = Worker(identity, span, started=True)

    def close_group(self, time_ns: int) -> None:
        """The generation is over, and no more is heard of it."""
        if self.group is not None:
            self.group.end(time_ns)
            self.group.settle()

    @property
    def restarts(self) -> int:
        """How often this node's workers were started anew, whatever the cause."""
        return max(0, self.generation - 1)

    def finish(self, time_ns: int, *, uncaught: Raised | None = None, told: bool = False) -> None:
        """End the job: tell the outcome, end every span.

        Args:
            time_ns: when it ended.
            uncaught: the exception that ends the process, where it is known.
            told: whether an event has told the end already.
        """
        if self.ended:
            return
        self.ended = True
        time_ns = max(time_ns, self.last_ns, self.measures.counted_ns)
        error = self.closing_error
        if error is not None and uncaught is not None and uncaught.type == error.type:
            self.verdict = job_failed_by_launcher(error, STEP_CLOSING)
        verdict = self.verdict
        if verdict is None and self.stop_signal is not None:
            verdict = job_terminated(self.stop_signal, self.step)
        if verdict is None and uncaught is not None:
            verdict = job_failed_by_launcher(uncaught, self.step)
        if self.rendezvous is not None:
            outcome = c.OUTCOME_TERMINATED if self.stop_signal is not None else None
            self.end_rendezvous(time_ns, Verdict(outcome, ""))
        self.close_group(time_ns)
        self.measures.end(self.group, time_ns)
        if verdict is None:
            self.agent.end(time_ns)
            return
        attributes = {**verdict.attributes, c.RESTARTS: self.restarts, c.VERDICT: verdict.sentence}
        self.agent.set({**self.shared, **attributes})
        if not told:
            self._tell_end(time_ns, verdict, attributes)
        self.agent.end(time_ns, verdict.outcome, verdict.sentence)

    def _tell_end(self, time_ns: int, verdict: Verdict, attributes: Attributes) -> None:
        severity = {c.OUTCOME_FAILED: ERROR, c.OUTCOME_TERMINATED: WARN}.get(verdict.outcome or "", INFO)
        body = f"The launcher ends: {verdict.sentence}"
        if verdict.outcome is not None:
            attributes = {**attributes, c.OUTCOME: verdict.outcome}
        self.tell(c.EVENT_AGENT_STOP, time_ns, body, attributes, self.agent, severity=severity)
        if verdict.outcome == c.OUTCOME_FAILED:
            self.say(f"{verdict.sentence} (trace {self.trace_link})")

    def worker_contexts(self) -> dict[int, dict[str, str]]:
        """Return, by local rank, the environment variables that carry each worker's span context."""
        from opentelemetry import propagate
        from opentelemetry.trace import NonRecordingSpan, set_span_in_context

        contexts = {}
        for rank, worker in (self.group.workers if self.group is not None else {}).items():
            carrier: dict[str, str] = {}
            propagate.inject(carrier, set_span_in_context(NonRecordingSpan(worker.span.context)))
            contexts[rank] = {key.upper().replace("-", "_"): value for key, value in carrier.items()}
        return contexts

    def settle(self, now_ns: int) -> None:
        """End the spans of workers that ended a while ago: torch's last event may come minutes later."""
        self.measures.tick(now_ns)
        if self.group is not None:
            self.group.settle(now_ns - SETTLE_NS)

    @property
    def settled(self) -> bool:
        """Whether no ended worker's span waits for torch's last event."""
        return self.group is None or all(w.span.ended or not w.ended_ns for w in self.group.workers.values())

    # Events

    def record(self, event: Event) -> None:
        """Record torch's event: as a log record, and on the span that it belongs to."""
        self.last_ns = max(self.last_ns, event.time_ns)
        span = self._span_of(event)
        self._weigh(event)
        self._record(event, span)

    def _span_of(self, event: Event) -> OpenSpan:
        if event.kind is Kind.RENDEZVOUS and self.rendezvous is not None:
            return self.rendezvous
        if event.kind is Kind.WORKER and self.group is not None:
            worker = self.group.worker_of(event)
            if worker is not None:
                return worker.span
        return self.agent

    def _weigh(self, event: Event) -> None:
        if event.kind is Kind.RENDEZVOUS and event.state == "FAILED":
            stopped = self.stop_signal is not None or event.body.startswith(
                ("SignalException", "RendezvousGracefulExitError")
            )
            event.severity = ERROR if self.rendezvous is not None and not stopped else WARN
        elif event.kind is Kind.AGENT and event.state == "FAILED":
            let_go = self.verdict is not None and self.verdict.outcome == c.OUTCOME_TERMINATED
            if let_go or self.stop_signal is not None:
                event.severity = WARN
        elif event.kind is Kind.WORKER and event.state == "FAILED" and self.group is not None:
            worker = self.group.worker_of(event)
            if worker is not None and worker.failure is not None and worker.failure.collateral:
                # Torch says FAILED of it, too.
                event.severity, event.body = WARN, worker.failure.sentence
                event.attributes[c.COLLATERAL] = True
        elif event.kind is Kind.WATCHDOG and event.name == c.WATCHDOG_KILL and self.group is not None:
            self._watchdog_kill(event, self.group)

    def _watchdog_kill(self, event: Event, group: Group) -> None:
        pid = str((event.inner or {}).get("worker_pid", ""))
        worker = group.worker_by_pid(int(pid)) if pid.isdecimal() else None
        if worker is not None and worker.failure is None:
            self.tell_failure(worker, group.killed_by_watchdog(worker, event), event.time_ns)

    def tell_failure(self, worker: Worker, failure: Failure, time_ns: int) -> None:
        """Record a worker's death."""
        attributes: Attributes = {**failure.attributes}
        if self.group is not None:
            attributes.update(first_failure_attributes(self.group.first_deaths))
        severity = WARN if failure.collateral else ERROR
        self.tell(c.EVENT_FAILURE, time_ns, failure.sentence, attributes, worker.span, severity=severity)
        if not failure.collateral:
            self.measures.worker_failed(failure.attributes, time_ns, worker.span.context)

    # Out

    def tell(
        self,
        name: str,
        time_ns: int,
        body: str,
        attributes: Mapping[str, AttributeValue],
        span: OpenSpan,
        *,
        severity: int = INFO,
    ) -> None:
        """Record an event of the bridge's own."""
        full = clean_all({c.EVENT: name, **self.shared, c.HOSTNAME: self._hostname, **attributes})
        event = Event(Kind.BRIDGE, name, time_ns, clean_text(body), full, severity, observed_ns=time_ns)
        self._record(event, span)

    def _record(self, event: Event, span: OpenSpan) -> None:
        event.span = span.context
        self._telemetry.emit(event)
        if self._span_events and not span.ended:  # as it was sent, with nothing in it that is to be hidden
            span.add_event(event.name, event.time_ns, event.attributes)
