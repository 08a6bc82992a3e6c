"""What the agent did → what happened to the job: spans begin and end here, failures and restarts are told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .. import _contract as c
from .._values import Attributes, AttributeValue
from . import facts as f
from . import job as state
from .exceptions import describe_exception
from .job import Job
from .translate import WARN, Event, Kind
from .verdict import (
    Verdict,
    job_failed_by_launcher,
    job_failed_by_workers,
    job_succeeded,
    job_terminated,
    raised_attributes,
    rendezvous_verdict,
)


class FactReader:
    """Lets what the agent did move a job's state."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._max_restarts: int | None = None
        self._joined: Event | None = None
        self._rendezvous_failure: Verdict | None = None
        self._restart: f.RestartStarted | None = None
        self._restart_seen_ns = 0
        self._failed_since_ns = 0
        self._raising = False
        self._participants: list[str] = []
        self._waited = ""
        self._readers: dict[type[f.Fact], Callable[[Any], None]] = {
            f.JobStarted: self._job_started,
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
            f.Operation: self._operation,
            f.StopRequested: self._stop_requested,
            f.RunRaising: self._run_raising,
            f.RunEnded: self._run_ended,
            f.JobEnded: self._job_ended,
        }

    def read(self, fact: f.Fact) -> None:
        """Take the next fact."""
        job = self._job
        job.last_ns = max(job.last_ns, fact.time_ns)
        reader = self._readers.get(type(fact))
        if reader is not None and not job.ended and job.hooked:
            reader(fact)
            job.measures.follow(job.group, fact.time_ns)

    def after(self, event: Event) -> None:
        """Take an event that the job has recorded: two of them end something that no fact tells better."""
        job = self._job
        if event.joined and job.rendezvous is not None:
            self._joined = event
        elif event.kind is Kind.AGENT and event.state == "FAILED" and job.stop_signal is not None:
            # After a signal torch leaves the rendezvous alone: this is the launcher's last word.
            job.finish(event.time_ns)

    # The launcher

    def _job_started(self, fact: f.JobStarted) -> None:
        job = self._job
        self._max_restarts = fact.max_restarts
        if fact.role:
            job.shared[c.ROLE] = fact.role
        job.measures.known(role=fact.role, backend=fact.backend)
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
        job.agent.set(attributes)
        nodes = (
            f"{fact.min_nodes}"
            if fact.min_nodes == fact.max_nodes
            else f"{fact.min_nodes} to {fact.max_nodes}"
        )
        what = f" for {nodes} node{'' if nodes == '1' else 's'}" if fact.min_nodes is not None else ""
        job.tell(c.EVENT_AGENT_START, fact.time_ns, f"The launcher starts{what}", attributes, job.agent)
        job.say(f"trace {job.trace_link}")
        if job.random_trace:
            job.say(
                f"the run id {job.run_id!r} identifies no job: this launcher gets a trace of its own. On "
                "several nodes, give all the same --rdzv-id, or TORCHELASTIC_OTEL_TRACE_SEED, for one trace."
            )

    def _agent_created(self, fact: f.AgentCreated) -> None:
        self._max_restarts = fact.max_restarts
        if fact.role:
            self._job.shared[c.ROLE] = fact.role
        self._job.measures.known(role=fact.role)
        known = {c.ROLE: fact.role, c.MAX_RESTARTS: fact.max_restarts, c.ENTRY_POINT: fact.entry_point}
        self._job.agent.set(_present(known))

    def _hooks_missing(self, fact: f.HooksMissing) -> None:
        self._job.hooked = False

    def _store_failed(self, fact: f.StoreFailed) -> None:
        signal, step = fact.error.signal, state.STEP_STORE
        self._job.verdict = (
            job_terminated(signal, step) if signal else job_failed_by_launcher(fact.error, step)
        )
        self._job.finish(fact.time_ns)

    def _stop_requested(self, fact: f.StopRequested) -> None:
        job = self._job
        job.stop_signal = fact.signal
        if job.group is not None:
            job.group.stop_outcome = c.OUTCOME_TERMINATED

    def _exit_barrier(self, fact: f.ExitBarrier) -> None:
        waited_s = round((fact.end_ns - fact.time_ns) / 1e9, 3)
        self._job.step = state.STEP_BARRIER
        self._job.agent.set({c.EXIT_BARRIER_DURATION: waited_s})
        self._job.measures.barrier(waited_s)

    def _operation(self, fact: f.Operation) -> None:
        self._job.measures.operation(fact.name, fact.took_s, fact.outcome)

    def _run_raising(self, fact: f.RunRaising) -> None:
        # What torch does from here on is cleaning up, not the step that failed.
        self._raising = True

    def _run_ended(self, fact: f.RunEnded) -> None:
        self._job.verdict = self._judge(fact)
        self._job.close_group(fact.time_ns)
        self._job.measures.run_ended()

    def _judge(self, fact: f.RunEnded) -> Verdict:
        job, error = self._job, fact.error
        victims = job.group.watchdog_victims if job.group is not None else []
        if error is not None and error.signal is not None and not victims:
            return job_terminated(error.signal, job.step)
        if error is not None and error.signal is not None:
            # The watchdog sends its own agent the signal that it sent the worker: no preemption.
            return job_failed_by_workers(victims, job.restarts, self._max_restarts, "WATCHDOG")
        failure = self._rendezvous_failure
        if failure is not None and (error is not None or not fact.state):
            failed = failure.outcome == c.OUTCOME_FAILED
            sentence = f"failed: {failure.sentence}" if failed else failure.sentence
            return Verdict(failure.outcome, sentence, {**failure.attributes, c.STEP: state.STEP_RENDEZVOUS})
        if error is not None:
            return job_failed_by_launcher(error, job.step)
        if fact.state == "SUCCEEDED":
            return job_succeeded(job.restarts)
        first = job.group.first_deaths if job.group is not None else []
        return job_failed_by_workers(first, job.restarts, self._max_restarts, fact.state)

    def _job_ended(self, fact: f.JobEnded) -> None:
        job = self._job
        if fact.error is not None and job.verdict is not None and job.verdict.outcome == c.OUTCOME_SUCCEEDED:
            # Whether this ends the launcher or is only logged differs by torch version: the end will tell.
            job.closing_error = fact.error
        else:
            job.finish(fact.time_ns)

    # Rendezvous

    def _rendezvous_started(self, fact: f.RendezvousStarted) -> None:
        self._job.step = state.STEP_RENDEZVOUS
        self._joined = None
        self._job.close_group(fact.time_ns)
        self._job.open_rendezvous(fact.time_ns)

    def _rendezvous_ended(self, fact: f.RendezvousEnded) -> None:
        job, span, joined = self._job, self._job.rendezvous, self._joined
        self._joined = None
        if span is None:
            return
        if fact.error is not None and joined is None:
            waited_s = (fact.time_ns - span.start_ns) / 1e9
            verdict = self._rendezvous_failure = rendezvous_verdict(fact.error, waited_s, fact.view)
            job.end_rendezvous(fact.time_ns, verdict)
            return
        # Where it had joined and then raised, what failed is what torch does next, not the rendezvous.
        job.step = state.STEP_AFTER_RENDEZVOUS
        known: dict[str, AttributeValue | None] = {
            c.GROUP_RANK: fact.rank,
            c.GROUP_WORLD_SIZE: fact.world_size,
        }
        if fact.view is not None:
            self._participants = fact.view.participants
            known[c.ROUND] = fact.view.round
            known[c.NODES_JOINED_NAMES] = fact.view.participants or None
        if joined is not None:
            known.update(
                {name: joined.attributes[name] for name in (c.GROUP_RANK, c.GROUP_WORLD_SIZE, c.ROUND)}
            )
        job.join(joined.time_ns if joined is not None else fact.time_ns, _present(known))

    # Workers

    def _workers_starting(self, fact: f.WorkersStarting) -> None:
        self._job.step = state.STEP_STARTING
        self._job.open_group(fact, None if self._restart is None else _restart_cause(self._restart))

    def _workers_started(self, fact: f.WorkersStarted) -> None:
        job, group = self._job, self._job.group
        if group is None:
            return
        if fact.error is not None:
            self._not_started(fact.error, fact.time_ns)
            return
        job.step = state.STEP_RUNNING
        group.started(fact)
        job.measures.workers_started(fact.time_ns)
        if self._restart is not None:
            self._restarted(self._restart, fact.time_ns)
        self._restart = None
        self._failed_since_ns = 0

    def _not_started(self, error: f.Raised, time_ns: int) -> None:
        job, group = self._job, self._job.group
        if group is not None and error.signal is None:
            sentence = f"the workers could not be started: {describe_exception(raised_attributes(error))}"
            group.span.set(raised_attributes(error))
            group.stop_outcome, group.stop_sentence = c.OUTCOME_FAILED, sentence
        job.close_group(time_ns)

    def _restarted(self, restart: f.RestartStarted, time_ns: int) -> None:
        job, cause = self._job, _restart_cause(restart)
        took_s = max(0, time_ns - self._restart_seen_ns) / 1e9
        attributes: Attributes = {
            c.RESTART_CAUSE: cause,
            c.RESTART_FROM: job.generation - 1,
            c.RESTART_TO: job.generation,
            c.RESTART_DURATION: round(took_s, 3),
        }
        why = "after a worker's failure" if cause == c.RESTART_WORKER_FAILURE else "for a membership change"
        if restart.waiting:
            attributes[c.RESTART_NODES] = restart.waiting
            if cause == c.RESTART_MEMBERSHIP_CHANGE:
                why += f" ({self._waited})"
        body = f"Workers restarted {why}: generation {job.generation} runs after {took_s:.1f} s"
        job.tell(c.EVENT_RESTART, time_ns, body, attributes, job.agent, severity=WARN)
        if job.group is not None:
            job.measures.restarted(cause, took_s, job.group.span.context)

    def _who_waited(self, waiting: list[str]) -> str:
        """Tell peers of the last round, which restart, from nodes that are new."""
        peers = [node for node in waiting if node in self._participants]
        new = [node for node in waiting if node not in self._participants]
        told = [f"{', '.join(peers[:4])} of the last round asked to join again"] if peers else []
        return "; ".join(told + ([f"{', '.join(new[:4])} asked to join"] if new else []))

    def _workers_exited(self, fact: f.WorkersExited) -> None:
        job = self._job
        if job.group is None:
            return
        if job.stop_signal is not None and not job.group.watchdog_victims:
            # The signal that reached the agent may well have reached its workers, too.
            job.group.stopped(f.WorkersStopped(fact.job, fact.time_ns, fact.exits))
            return
        failures = job.group.exited(fact)
        if failures and not self._failed_since_ns:
            self._failed_since_ns = fact.time_ns
        for worker, failure in failures:
            job.tell_failure(worker, failure, fact.time_ns)

    def _workers_stopping(self, fact: f.WorkersStopping) -> None:
        job = self._job
        if job.step == state.STEP_RUNNING and job.stop_signal is None and not self._raising:
            job.step = state.STEP_STOPPING

    def _workers_stopped(self, fact: f.WorkersStopped) -> None:
        job, group = self._job, self._job.group
        if group is None:
            return
        for worker, failure in group.stopped(fact):
            job.tell_failure(worker, failure, fact.time_ns)
        if not group.running:
            group.end(fact.time_ns)

    def _monitored(self, fact: f.Monitored) -> None:
        job, group = self._job, self._job.group
        if group is None or fact.state != "UNHEALTHY":
            return
        for pid in fact.stuck_pids:
            worker = group.worker_by_pid(pid)
            if worker is not None and not worker.ended_ns:
                job.tell_failure(worker, group.stuck(worker, fact.time_ns), fact.time_ns)

    def _restart_started(self, fact: f.RestartStarted) -> None:
        self._restart = fact
        self._waited = self._who_waited(fact.waiting)
        self._restart_seen_ns = self._failed_since_ns or fact.time_ns
        self._job.measures.workers_lost(fact.time_ns, _restart_cause(fact))
        if self._job.group is not None and _restart_cause(fact) == c.RESTART_MEMBERSHIP_CHANGE:
            self._job.group.stop_outcome = c.OUTCOME_INTERRUPTED


def _restart_cause(fact: f.RestartStarted) -> str:
    return c.RESTART_MEMBERSHIP_CHANGE if fact.state == "HEALTHY" else c.RESTART_WORKER_FAILURE


def _present(attributes: Mapping[str, AttributeValue | None]) -> Attributes:
    return {key: value for key, value in attributes.items() if value is not None and value != ""}
