"""One job's history on this node: each method is named after what happened, and does what follows from it.

A job alone changes its state. ``fact_reader`` and ``event_reader`` say what happened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import _contract as c
from .._runtime.clock import Moment
from .._values import Attributes, present
from . import facts as f
from . import sentences
from .correction import correct
from .event import Event, Kind
from .exceptions import tells_no_failure
from .generations import Generations
from .identity import TraceIdentity
from .launcher import Launcher
from .measures import FewValues, JobMeasures
from .output import OpenSpan, Output
from .records import Records
from .rendezvous import Rendezvous, round_of
from .torch_words import UNHEALTHY
from .verdict import Failure, Verdict

if TYPE_CHECKING:
    from .._config.settings import Settings
    from .worker_group import Group

_FINAL = {"SUCCEEDED": c.OUTCOME_SUCCEEDED, "FAILED": c.OUTCOME_FAILED, "TERMINATED": c.OUTCOME_TERMINATED}


class Job:
    """A job as one launcher sees it, from its first sign to its end.

    Args:
        output: where spans, records and measurements go.
        identity: the job's trace.
        hostname: this node's name, as torch gives it.
        settings: our own settings.
        error_types: the values of ``error.type`` on metrics.
        run_id: torchrun's ``--rdzv-id``.
        start: when it began.
        hooked: whether facts come from its agent; without them events alone move the state.
        agent_span_id: the id promised for the agent's span, 0 for any.
    """

    def __init__(
        self,
        output: Output,
        identity: TraceIdentity,
        hostname: str,
        settings: Settings,
        error_types: FewValues,
        run_id: str,
        *,
        start: Moment,
        hooked: bool,
        agent_span_id: int = 0,
    ) -> None:
        self._output = output
        self._trace_url = settings.trace_url
        self._random_trace = identity.random
        self.run_id = run_id
        self.hooked = hooked
        self.ended = False
        self._last_heard = 0
        self._records = Records(output, run_id, hostname, span_events=settings.span_events)
        self.agent: OpenSpan = output.start_span(
            c.SPAN_AGENT,
            start,
            {**self._records.shared, c.HOSTNAME: hostname},
            parent=identity.parent,
            trace_id=identity.trace_id,
            span_id=agent_span_id,
        )
        if identity.random:
            self.agent.set({c.RANDOM_TRACE: True})
        self._measures = JobMeasures(output, run_id, self.agent.context, error_types)
        self._measures.begin()
        self._rendezvous = Rendezvous(output, self._measures, self.agent)
        self._generations = Generations(output, self._records, self._measures, self.agent)
        self._last = start
        self._launcher = Launcher()

    # What is known

    def heard_as(self, order: int) -> None:
        """Take note that something was heard of it; ``order`` grows with each time, over all jobs."""
        self._last_heard = order

    @property
    def last_heard(self) -> int:
        """When it was last heard of, as ``heard_as`` was told."""
        return self._last_heard

    @property
    def judged(self) -> bool:
        """Whether it is known how the job ends."""
        return self._launcher.verdict is not None

    @property
    def no_span_waits(self) -> bool:
        """Whether no ended worker's span waits for torch's last event."""
        return self._group is None or self._group.no_span_waits

    @property
    def _group(self) -> Group | None:
        return self._generations.group

    @property
    def _watchdog_victims(self) -> list[Failure]:
        return self._group.watchdog_victims if self._group is not None else []

    def worker_contexts(self) -> dict[int, dict[str, str]]:
        """Return, by local rank, the environment variables that carry each worker's span context."""
        workers = self._group.workers if self._group is not None else {}
        return {rank: self._output.worker_environment(worker.span) for rank, worker in workers.items()}

    # Time

    def heard(self, moment: Moment) -> None:
        """Something was heard of the job."""
        self._last = max(self._last, moment)

    def count_workers(self, moment: Moment) -> None:
        """Count the workers that run by now."""
        self._measures.follow(self._group, moment)

    def tick(self, now: Moment) -> None:
        """Count the time until now, and end the spans of workers that ended a while ago."""
        self._measures.tick(now)
        self._generations.tick(now)

    # The launcher

    def launcher_started(self, fact: f.JobStarted) -> None:
        """A launcher asks for its rendezvous handler."""
        self._launcher.allowed(fact.max_restarts)
        self._records.role_known(fact.role)
        self._measures.known(role=fact.role, backend=fact.backend)
        attributes = present(
            {
                c.RDZV_BACKEND: fact.backend,
                c.MIN_NODES: fact.min_nodes,
                c.MAX_NODES: fact.max_nodes,
                c.MAX_RESTARTS: fact.max_restarts,
                c.ROLE: fact.role,
                c.ENTRY_POINT: fact.entry_point,
            }
        )
        self.agent.set(attributes)
        body = sentences.launcher_starts(fact.min_nodes, fact.max_nodes)
        self._records.tell(c.EVENT_AGENT_START, fact.moment, body, attributes, self.agent)
        self._output.say(f"trace {self._trace_link}")
        if self._random_trace and fact.max_nodes != 1:  # a job of one node has nobody to share its trace with
            self._output.say(sentences.no_common_trace(self.run_id))

    def agent_created(self, fact: f.AgentCreated) -> None:
        """An agent took over."""
        self._launcher.allowed(fact.max_restarts)
        self._records.role_known(fact.role)
        self._measures.known(role=fact.role)
        known = {c.ROLE: fact.role, c.MAX_RESTARTS: fact.max_restarts, c.ENTRY_POINT: fact.entry_point}
        self.agent.set(present(known))

    def hooks_missing(self) -> None:
        """Torch's agent is not what the hooks expect: from here on events alone tell of this job."""
        self.hooked = False

    def store_failed(self, error: f.Raised, moment: Moment) -> None:
        """No rendezvous handler could be made."""
        self._launcher.no_store(error)
        self.finish(moment)

    def stop_requested(self, signal: str) -> None:
        """A signal reached the agent."""
        self._launcher.signalled(signal)
        if self._group is not None:
            self._group.terminated()

    def left_exit_barrier(self, fact: f.ExitBarrier) -> None:
        """The agent has waited for the other nodes."""
        self.heard(fact.left)
        waited_s = round(fact.left.since(fact.moment), 3)
        self._launcher.reached(c.STEP_BARRIER)
        self.agent.set({c.EXIT_BARRIER_DURATION: waited_s})
        self._measures.barrier(waited_s)

    def operation_measured(self, fact: f.Operation) -> None:
        """Torch has measured a step of the agent."""
        self._measures.operation(fact.name, fact.took_s, fact.outcome)

    def run_raising(self) -> None:
        """The agent's run is about to raise: what torch does from here on is cleaning up."""
        self._launcher.raising()

    def run_ended(self, fact: f.RunEnded) -> None:
        """The agent's run returned or raised."""
        self._launcher.run_ended(
            fact,
            rendezvous_failure=self._rendezvous.failure,
            first_deaths=self._group.first_deaths if self._group is not None else [],
            culprits=self._group.culprits if self._group is not None else [],
            watchdog_victims=self._watchdog_victims,
            restarts=self._generations.restarts,
        )
        self._generations.over(fact.moment)
        self._measures.run_ended()

    def torch_said_run_ended(self, event: Event) -> None:
        """Torch's event alone says so."""
        self._launcher.torch_said_run_ended(event, self._watchdog_victims)
        self.finish(event.moment, told=True)

    def rendezvous_closed(self, fact: f.JobEnded) -> None:
        """The launcher has closed its rendezvous, the last thing it does."""
        if fact.error is not None and self._launcher.succeeded:
            self._launcher.closing_raised(fact.error)  # the process's end will tell what came of it
        else:
            self.finish(fact.moment)

    # Rendezvous

    def asked_to_join(self, moment: Moment) -> None:
        """This node asks to join a round."""
        self._launcher.reached(c.STEP_RENDEZVOUS)
        self._generations.over(moment)
        self.count_workers(moment)
        self._rendezvous.asked(moment, self._records.shared)

    def join_returned(self, fact: f.RendezvousEnded) -> None:
        """``next_rendezvous`` returned or raised."""
        if self._rendezvous.returned(fact):
            # Where it had joined and then raised, what failed is what torch does next, not the rendezvous.
            self._launcher.reached(c.STEP_AFTER_RENDEZVOUS)

    def torch_said_joined(self, event: Event) -> None:
        """Torch's event says that this node is in the round."""
        if self.hooked:
            self._rendezvous.torch_said_joined(event)
        else:
            self._launcher.reached(c.STEP_AFTER_RENDEZVOUS)
            self._rendezvous.joined(event.moment, round_of(event))

    def torch_said_join_failed(self, event: Event) -> None:
        """Torch's event alone says that this node could not join."""
        error = {k: v for k, v in event.attributes.items() if k.startswith(("exception.", "error."))}
        outcome = c.OUTCOME_TERMINATED if tells_no_failure(event) else c.OUTCOME_FAILED
        self._rendezvous.over(event.moment, Verdict(outcome, event.body, error))

    # Workers

    def workers_starting(self, fact: f.WorkersStarting) -> None:
        """The agent is about to start the processes of a generation."""
        self._launcher.reached(c.STEP_STARTING)
        self._generations.starting(fact)

    def workers_started(self, fact: f.WorkersStarted) -> None:
        """The processes run, or starting them raised."""
        if fact.error is not None:
            self._generations.not_started(fact.error, fact.moment)
        elif self._group is not None:
            self._launcher.reached(c.STEP_RUNNING)
            self._generations.started(fact.pids, fact.moment)

    def torch_said_worker_started(self, fact: f.WorkersStarting, local_rank: int, known: Attributes) -> None:
        """Torch's event alone says so: ``fact`` of the generation, ``known`` of the worker."""
        self._generations.announced(local_rank, fact, known)
        role = known.get(c.ROLE)
        self._measures.known(role=role if isinstance(role, str) else None)
        self._measures.workers_started(fact.moment)
        self._launcher.reached(c.STEP_RUNNING)

    def torch_said_worker_ended(self, event: Event, known: Attributes) -> None:
        """Torch's event alone says that a worker has ended."""
        if self._group is not None:
            self._group.told(event, _FINAL[event.state], known)

    def workers_exited(self, fact: f.WorkersExited) -> None:
        """Workers have ended by themselves."""
        group = self._group
        if group is None:
            return
        self._generations.exited(fact.exits)
        if self._launcher.stop_signal is not None and not group.watchdog_victims:
            # The signal that reached the agent may well have reached its workers, too.
            self._generations.tell_failures(group.stopped(fact.exits, fact.moment), fact.moment)
        else:
            self._generations.tell_failures(group.exited(fact), fact.moment)

    def workers_stopping(self, moment: Moment) -> None:
        """The agent begins to stop what still runs of the generation."""
        if self._group is not None and self._launcher.stop_signal is None:
            # Of a signal that reached the launcher nobody knows when it reached the workers.
            self._group.stopping(moment)
        self._launcher.stopping_workers()

    def workers_stopped(self, fact: f.WorkersStopped) -> None:
        """None of the generation runs any more."""
        group = self._group
        if group is None:
            return
        self._generations.exited(fact.exits)
        self._generations.tell_failures(group.stopped(fact.exits, fact.moment), fact.moment)
        if not group.running:
            self._generations.stopped(group, fact.moment)

    def workers_monitored(self, fact: f.Monitored) -> None:
        """The agent took a look at its workers, and some cannot be ended."""
        if fact.state == UNHEALTHY:
            self._generations.stuck(fact.stuck_pids, fact.moment)

    def torch_said_watchdog_kills(self, event: Event) -> None:
        """The watchdog is about to kill a worker, and its agent next: the failure is told at once."""
        self._generations.watchdog_kills(event)

    def restart_begun(self, fact: f.RestartStarted) -> None:
        """The agent restarts its workers."""
        self._generations.restart_begun(fact, self._rendezvous.participants)

    # Torch's events

    def record(self, event: Event) -> None:
        """Record torch's event: as a log record, and on the span that it belongs to."""
        self.heard(event.moment)
        span = self._span_of(event)
        correct(event, self._launcher, self._group, joining=self._rendezvous.attempt is not None)
        self._records.record(event, span)

    def _span_of(self, event: Event) -> OpenSpan:
        if event.kind is Kind.RENDEZVOUS and self._rendezvous.attempt is not None:
            return self._rendezvous.attempt
        if event.kind is Kind.WORKER and self._group is not None:
            worker = self._group.worker_of(event)
            if worker is not None:
                return worker.span
        return self.agent

    def torch_said_agent_failed(self, event: Event) -> None:
        """After a signal torch leaves the rendezvous alone: this event is the launcher's last word."""
        if self._launcher.stop_signal is not None:
            self.finish(event.moment)

    # The end

    def finish(
        self, moment: Moment | None = None, *, uncaught: f.Raised | None = None, told: bool = False
    ) -> None:
        """End the job: tell the outcome, end every span.

        Args:
            moment: when it ended; None for when it was heard of last.
            uncaught: the exception that ends the process, where it is known.
            told: whether an event has told the end already.
        """
        if self.ended:
            return
        self.ended = True
        known = (moment, self._last, self._measures.counted)
        moment = max(each for each in known if each is not None)
        verdict = self._launcher.gone(uncaught)
        stopped = self._launcher.stop_signal is not None
        self._rendezvous.over(moment, Verdict(c.OUTCOME_TERMINATED if stopped else None, ""))
        self._generations.over(moment)
        self._measures.end(self._group, moment, verdict.outcome if verdict else None)
        if verdict is None:
            self.agent.end(moment)
            return
        lost = self._generations.lost if verdict.outcome == c.OUTCOME_FAILED else None
        if lost is not None:
            verdict = verdict.with_lost_work(lost)
            self._measures.work_lost(lost.time_s, c.RESTART_WORKER_FAILURE, self.agent.context)
        attributes = {
            **verdict.attributes,
            c.RESTARTS: self._generations.restarts,
            c.VERDICT: verdict.sentence,
        }
        self.agent.set({**self._records.shared, **attributes})
        if not told:
            self._tell_end(moment, verdict, attributes)
        self.agent.end(moment, verdict.outcome, verdict.sentence)

    def _tell_end(self, moment: Moment, verdict: Verdict, attributes: Attributes) -> None:
        outcome = verdict.outcome or ""
        if outcome:
            attributes = {**attributes, c.OUTCOME: outcome}
        body = sentences.launcher_ends(verdict.sentence)
        self._records.tell(c.EVENT_AGENT_STOP, moment, body, attributes, self.agent, outcome=outcome)
        if outcome == c.OUTCOME_FAILED:
            self._output.say(f"{verdict.sentence} (trace {self._trace_link})")
            self._output.leave_verdict(verdict.sentence)

    @property
    def _trace_link(self) -> str:
        return sentences.trace_link(self.agent.context.trace_id, self._trace_url)
