"""Torch's events, corrected by what is known better: who was stopped, and what is no failure of the job."""

from __future__ import annotations

from .. import _contract as c
from .event import Event, Kind
from .exceptions import tells_no_failure
from .launcher import Launcher
from .severity import Known, severity_of
from .worker_group import Group

_LEFT_BY_THE_WORKER = (c.EXCEPTION_TYPE, c.EXCEPTION_MESSAGE, c.EXCEPTION_STACKTRACE, c.ERROR_TYPE)
"""What torch's event of a worker does not have, where only the worker's recorder tells it."""


def correct(event: Event, launcher: Launcher, group: Group | None, *, joining: bool) -> None:
    """Correct an event's severity, and the body of a worker's.

    Args:
        event: what torch has recorded.
        launcher: what it does, and whether a signal has reached it.
        group: the generation that runs, or ran last.
        joining: whether an attempt to join a round is open.
    """
    known: list[Known] = []
    if event.kind is Kind.WORKER and event.state in ("FAILED", "TERMINATED"):
        known = _of_worker(event, group)
    elif event.kind is Kind.AGENT and event.state == "FAILED":
        by_watchdog = group is not None and group.watchdog_victims
        if launcher.let_go or (tells_no_failure(event) and not by_watchdog):
            known = [Known.STOPPED]
    elif event.kind is Kind.RENDEZVOUS and event.state == "FAILED":
        if joining:
            known.append(Known.JOINING)
        if tells_no_failure(event) or launcher.stop_signal is not None:
            known.append(Known.STOPPED)
    if known:
        event.severity = severity_of(event.kind, event.state, *known)


def _of_worker(event: Event, group: Group | None) -> list[Known]:
    """Tell a worker's event of its death, where that says more; return what is known."""
    worker = group.worker_of(event) if group is not None else None
    failure = worker.failure if worker is not None else None
    if failure is not None and failure.collateral:
        event.body = failure.sentence
        event.attributes[c.COLLATERAL] = True
        return [Known.COLLATERAL]
    if failure is None:
        return []
    left = {name: failure.attributes[name] for name in _LEFT_BY_THE_WORKER if name in failure.attributes}
    if c.EXCEPTION_TYPE in left and c.EXCEPTION_TYPE not in event.attributes:
        event.attributes |= left
    elif event.state != "TERMINATED":
        return []
    event.body = failure.sentence
    return [Known.OWN_DEATH]
