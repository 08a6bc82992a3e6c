"""Events and facts in, one job's state each, on the bridge's thread alone: no locks, no signals."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from .. import _contract as c
from .._runtime.clock import Moment
from .._runtime.guard import note_internal_error
from .._values import Attributes
from . import facts as f
from .event import Event, Kind
from .event_reader import read_event
from .fact_reader import read_fact
from .identity import identify, parse_traceparent
from .job import Job
from .measures import FewValues
from .output import Output
from .translate import OTHER_ERROR, translate_event, translate_rendezvous, translate_text, unparsed

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

    from .._config.settings import Settings

_MOST_JOBS = 64
_MOST_NAMES = 64
_MOST_ERROR_TYPES = 20
_HEARTBEAT_OUTCOMES = {"RUNNING": c.OUTCOME_SUCCEEDED, "FAILED": c.OUTCOME_FAILED}
# What somebody waits for, or what may be the last that this process gets to say.
_HURRIED = (f.WorkersExited, f.StopRequested, f.StoreFailed, f.RunEnded)


class Engine:
    """The state of this process's jobs.

    Args:
        output: where spans, records and measurements go.
        settings: our own settings.
        environ: the process's environment.
        hostname: this node's name, as torch gives it.
    """

    def __init__(self, output: Output, settings: Settings, environ: Mapping[str, str], hostname: str) -> None:
        self._output = output
        self._settings = settings
        self._environ = environ
        self._hostname = hostname
        self._launched: OrderedDict[int, Job] = OrderedDict()
        self._by_run: dict[str, Job] = {}
        self._order = itertools.count(1)
        self._names = FewValues(_MOST_NAMES, c.EVENT_OTHER)
        self._error_types = FewValues(_MOST_ERROR_TYPES, OTHER_ERROR)
        # A worker's own events belong under its own span; it is never a launcher of this job.
        self._in_worker = "TORCHELASTIC_RUN_ID" in environ and "LOCAL_RANK" in environ
        if self._in_worker:
            output.belongs_to(environ["TORCHELASTIC_RUN_ID"])

    # In

    def text(self, text: str, created: Moment, thread: str | None, span: SpanContext | None) -> None:
        """Take what a logging handler received."""
        self._event(translate_text(text, created, thread), span)

    def event(
        self, fields: tuple[object, object, object, object], created: Moment, span: SpanContext | None
    ) -> None:
        """Take an ``Event`` by its fields (name, source, timestamp, metadata)."""
        self._event(translate_event(*fields, created), span)

    def rendezvous_event(self, fields: Mapping[str, object], created: Moment, thread: str | None) -> None:
        """Take a ``RdzvEvent`` by its fields."""
        self._event(translate_rendezvous(fields, created, thread), None)

    def broken(self, text: str, created: Moment, error: Exception) -> None:
        """Take what could not be translated or placed as a raw record, and count it."""
        note_internal_error("translating an event", error)
        event = unparsed(text, created)
        self._output.emit(event)
        self._measure(event)

    def fact(self, fact: f.Fact) -> None:
        """Take what the agent did."""
        if isinstance(fact, f.JobStarted):
            self._start(fact)
        job = self._launched.get(fact.job)
        if job is not None:
            job.heard_as(next(self._order))
            read_fact(job, fact)
            if isinstance(fact, _HURRIED):
                self._output.hurry()
            self._forget_ended(job)

    # Jobs

    def _start(self, fact: f.JobStarted) -> None:
        for job in list(self._launched.values()):
            # Torch says nothing when a job ends by a signal in a program that goes on.
            if job.judged:
                job.finish()
                self._forget_ended(job)
        while len(self._launched) >= _MOST_JOBS:
            job = _least_recently_heard(self._launched.values())
            job.finish()
            self._forget_ended(job)
        replaced = self._launched.pop(fact.job, None)
        if replaced is not None:
            replaced.finish()
            self._tell_ended(replaced)
        identity = fact.identity or identify(fact.run_id, self._environ, self._settings.trace_seed)
        job = Job(
            self._output,
            identity,
            self._hostname,
            self._settings,
            self._error_types,
            fact.run_id,
            start=fact.moment,
            hooked=True,
            agent_span_id=fact.agent_span_id,
        )
        self._launched[fact.job] = job
        self._remember(job)

    def _forget_ended(self, heard: Job) -> None:
        for number in [number for number, job in self._launched.items() if job.ended]:
            del self._launched[number]
        self._tell_ended(heard)

    def _tell_ended(self, job: Job) -> None:
        if job.ended and all(other.ended for other in self._jobs() if other.run_id == job.run_id):
            self._output.job_ended(job.run_id)

    def _job_of(self, event: Event) -> Job | None:
        run_id = event.run_id or ""
        job = self._by_run.get(run_id)
        if job is not None and (not job.ended or job.hooked or not event.begins):
            return job
        if self._in_worker:
            return None
        job = Job(
            self._output,
            identify(run_id, self._environ, self._settings.trace_seed),
            self._hostname,
            self._settings,
            self._error_types,
            run_id,
            start=event.moment,
            hooked=False,
        )
        self._remember(job)
        return job

    def _remember(self, job: Job) -> None:
        self._output.belongs_to(job.run_id)
        if not self._by_run:
            self._output.begin_counts()
        launched = set(self._launched.values())
        replaced = self._by_run.get(job.run_id)
        if replaced is not None and replaced not in launched:
            replaced.finish()
        job.heard_as(next(self._order))
        self._by_run[job.run_id] = job
        if len(self._by_run) > _MOST_JOBS:
            # Launchers that run stay: there are never as many of them.
            gone = _least_recently_heard(known for known in self._by_run.values() if known not in launched)
            del self._by_run[gone.run_id]
            gone.finish()
            self._tell_ended(gone)

    def worker_contexts(self, number: int) -> dict[int, dict[str, str]]:
        """Return, by local rank, the environment variables that carry each worker's span context."""
        job = self._launched.get(number)
        return {} if job is None or not self._output.exports_spans else job.worker_contexts()

    # Events

    def _event(self, event: Event, span: SpanContext | None) -> None:
        if event.heartbeat and self._settings.heartbeats != "log":
            self._measure(event)
            return
        job = None if event.kind in (Kind.USER, Kind.UNPARSED) else self._job_of(event)
        if job is not None:
            read_event(job, event)
            job.heard_as(next(self._order))
        else:
            event.span = self._context(event, span)
            self._output.emit(event)
        self._measure(event)
        if job is not None:
            self._forget_ended(job)

    def _measure(self, event: Event) -> None:
        run_id = event.run_id or ""
        if not run_id or (event.kind is Kind.USER and run_id not in self._by_run):
            run_id = self._output.run_id  # a user's own run id would be one of another kind
        known: Attributes = {c.RUN_ID: run_id} if run_id else {}
        if event.keep_alive and event.state in _HEARTBEAT_OUTCOMES:
            outcome = {c.OUTCOME: _HEARTBEAT_OUTCOMES[event.state]}
            self._output.measure(c.METRIC_HEARTBEATS, 1, {**known, **outcome})
        if event.heartbeat:
            return
        name = c.EVENT_OTHER if event.kind is Kind.USER else self._names.of(event.name)
        source = event.attributes.get(c.SOURCE)
        if source in ("AGENT", "WORKER"):
            known[c.SOURCE] = source
        self._output.measure(c.METRIC_EVENTS, 1, {**known, c.EVENT: name})

    def _context(self, event: Event, span: SpanContext | None) -> SpanContext | None:
        """Where a record without a job belongs: the caller's span, else the agent's, else the one given."""
        if span is not None:
            return span
        job = self._by_run.get(event.run_id or "") or next(reversed(self._launched.values()), None)
        if job is not None:
            return job.agent.context
        given = parse_traceparent(self._environ.get("TRACEPARENT", ""))
        return None if given is None else self._output.remote_context(given)

    # Time

    def tick(self, now: Moment) -> bool:
        """End the spans that waited long enough for torch's last event; True if none waits any more."""
        waits = False
        for job in self._jobs():
            job.tick(now)
            waits = waits or not job.no_span_waits
        return not waits

    def close(self, uncaught: f.Raised | None) -> None:
        """End every job: the process ends. ``uncaught`` is the exception that ends it."""
        for job in self._jobs():
            try:
                job.finish(uncaught=uncaught)
            except Exception as error:
                note_internal_error("ending a job", error)
        self._launched.clear()

    def _jobs(self) -> list[Job]:
        return list(dict.fromkeys((*self._launched.values(), *self._by_run.values())))


def _least_recently_heard(jobs: Iterable[Job]) -> Job:
    """Return the job that may go: one that ended, else the one that was silent for longest."""
    return min(jobs, key=lambda job: (not job.ended, job.last_heard))
