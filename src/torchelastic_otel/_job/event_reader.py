"""What torch's events say → what happened to the job.

Where the hooks fit, facts tell more, and events add little. A job of which only events are heard is one that
another launcher or a controller records, or one of a torch that the hooks do not fit: its events tell, as far
as they can, when its spans begin and end. They are silent about a death that leads to a restart; nothing is
guessed in its place.
"""

from __future__ import annotations

from .. import _contract as c
from .._values import Attributes
from .event import Event, Kind
from .facts import WorkersStarting
from .job import Job

_FINAL = ("SUCCEEDED", "FAILED", "TERMINATED")
_OF_THE_EVENT = (c.EVENT, c.SOURCE, c.STATE, c.TOTAL_RUN_TIME, c.DURATION_MS)


def read_event(job: Job, event: Event) -> None:
    """Record an event, and tell the job what it says."""
    if event.kind is Kind.WATCHDOG and event.name == c.WATCHDOG_KILL:
        job.torch_said_watchdog_kills(event)
    if job.hooked:
        job.record(event)
        _add_to_facts(job, event)
        return
    _begin(job, event)  # first, so that the event finds the span that it begins
    job.record(event)
    _end(job, event)
    job.count_workers(event.moment)


def _add_to_facts(job: Job, event: Event) -> None:
    """Two events tell of something that no fact tells better."""
    if event.joined:
        job.torch_said_joined(event)
    elif event.kind is Kind.AGENT and event.state == "FAILED":
        job.torch_said_agent_failed(event)


def _begin(job: Job, event: Event) -> None:
    if event.kind is Kind.RENDEZVOUS and event.joins:
        job.asked_to_join(event.moment)
    elif event.kind is Kind.WORKER and event.state == "START" and event.local_rank is not None:
        job.torch_said_worker_started(_generation(event), event.local_rank, _known_of_worker(event))


def _end(job: Job, event: Event) -> None:
    if event.kind is Kind.RENDEZVOUS and event.joined:
        job.torch_said_joined(event)
    elif event.kind is Kind.RENDEZVOUS and event.state == "FAILED":
        job.torch_said_join_failed(event)
    elif event.kind is Kind.WORKER and event.state in _FINAL:
        job.torch_said_worker_ended(event, _known_of_worker(event))
    elif event.kind is Kind.AGENT and event.state in ("SUCCEEDED", "FAILED"):
        job.torch_said_run_ended(event)


def _generation(event: Event) -> WorkersStarting:
    rank, size = event.attributes.get(c.GROUP_RANK), event.attributes.get(c.GROUP_WORLD_SIZE)
    return WorkersStarting(
        0,
        event.moment,
        [],
        group_rank=rank if isinstance(rank, int) else None,
        group_world_size=size if isinstance(size, int) else None,
    )


def _known_of_worker(event: Event) -> Attributes:
    return {name: value for name, value in event.attributes.items() if name not in _OF_THE_EVENT}
