"""A job of which only events are heard: they tell, as far as they can, when its spans begin and end.

So it is for events that another launcher or a controller records, and for a torch that the hooks do not fit.
Torch's events are silent about a death that leads to a restart; nothing is guessed in their place.
"""

from __future__ import annotations

from .. import _contract as c
from .._values import Attributes
from .facts import WorkersStarting
from .job import Job
from .translate import Event, Kind
from .verdict import Verdict

_FINAL = {"SUCCEEDED": c.OUTCOME_SUCCEEDED, "FAILED": c.OUTCOME_FAILED, "TERMINATED": c.OUTCOME_TERMINATED}
_OF_THE_EVENT = (c.EVENT, c.SOURCE, c.STATE, c.TOTAL_RUN_TIME, c.DURATION_MS)


def before(job: Job, event: Event) -> None:
    """Open what the event says has begun, so that it finds its span."""
    if event.kind is Kind.RENDEZVOUS and event.joins:
        job.close_group(event.time_ns)
        job.measures.follow(job.group, event.time_ns)
        job.open_rendezvous(event.time_ns)
    elif event.kind is Kind.WORKER and event.state == "START" and event.local_rank is not None:
        group = job.group
        if group is None or group.ended_ns or event.local_rank in group.workers:
            rank, size = _int(event, c.GROUP_RANK), _int(event, c.GROUP_WORLD_SIZE)
            group = job.open_group(WorkersStarting(0, event.time_ns, [], 0, rank, size))
            group.stop_outcome = None
            if job.restarts:  # of a cause that events do not tell
                job.measures.restarted(None, None, group.span.context)
        job.open_worker(group, event.local_rank, event.time_ns, {**group.shared, **_identity(event)})
        role = event.attributes.get(c.ROLE)
        job.measures.known(role=role if isinstance(role, str) else None)
        job.measures.workers_started(event.time_ns)


def after(job: Job, event: Event) -> None:
    """Close what the event says has ended."""
    if event.kind is Kind.RENDEZVOUS:
        if event.joined:
            job.join(
                event.time_ns, {n: event.attributes[n] for n in (c.GROUP_RANK, c.GROUP_WORLD_SIZE, c.ROUND)}
            )
        elif event.state == "FAILED" and job.rendezvous is not None:
            error = {k: v for k, v in event.attributes.items() if k.startswith(("exception.", "error."))}
            job.end_rendezvous(event.time_ns, Verdict(c.OUTCOME_FAILED, event.body, dict(error)))
    elif event.kind is Kind.WORKER and event.state in _FINAL and job.group is not None:
        worker = job.group.worker_of(event)
        if worker is not None:
            worker.span.set(_identity(event))
            worker.close(event.time_ns, _FINAL[event.state], event.body)
            worker.settle()
        if not job.group.running:
            job.group.end(event.time_ns)
    elif event.kind is Kind.AGENT and event.state in ("SUCCEEDED", "FAILED"):
        # SUCCEEDED says that the agent's run returned, not that its workers did well.
        failed = event.state == "FAILED"
        job.verdict = Verdict(c.OUTCOME_FAILED, event.body, {}) if failed else None
        job.finish(event.time_ns, told=True)
    job.measures.follow(job.group, event.time_ns)


def _identity(event: Event) -> Attributes:
    return {name: value for name, value in event.attributes.items() if name not in _OF_THE_EVENT}


def _int(event: Event, name: str) -> int | None:
    value = event.attributes.get(name)
    return value if type(value) is int else None
