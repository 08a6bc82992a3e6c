"""How severe each record is: one table, read from the top."""

from __future__ import annotations

from enum import Enum, auto

from .. import _contract as c
from .event import DEBUG, ERROR, INFO, WARN, Kind


class Known(Enum):
    """What is known of a record beyond torch's own word."""

    ANYWAY = auto()
    """The row holds whatever else is known."""
    KEEP_ALIVE = auto()
    """The rendezvous' keep-alive recorded it."""
    JOINING = auto()
    """This node's attempt to join a round is open."""
    STOPPED = auto()
    """A signal stops the launcher, or the node is let go: no failure of this job."""
    COLLATERAL = auto()
    """The worker was stopped by its agent after another one's death."""


TABLE: tuple[tuple[Kind | str, str, Known, int], ...] = (
    # whose event or which one; its state, outcome or name; what is known; severity
    (Kind.WORKER, "FAILED", Known.COLLATERAL, WARN),
    (Kind.WORKER, "FAILED", Known.ANYWAY, ERROR),
    (Kind.WORKER, "TERMINATED", Known.ANYWAY, WARN),
    (Kind.AGENT, "FAILED", Known.STOPPED, WARN),
    (Kind.AGENT, "FAILED", Known.ANYWAY, ERROR),
    (Kind.WATCHDOG, c.WATCHDOG_KILL, Known.ANYWAY, ERROR),
    (Kind.RENDEZVOUS, "FAILED", Known.STOPPED, WARN),
    (Kind.RENDEZVOUS, "FAILED", Known.JOINING, ERROR),
    (Kind.RENDEZVOUS, "FAILED", Known.ANYWAY, WARN),
    (Kind.RENDEZVOUS, "RUNNING", Known.KEEP_ALIVE, DEBUG),
    (Kind.UNPARSED, "", Known.ANYWAY, WARN),
    (c.EVENT_FAILURE, "", Known.COLLATERAL, WARN),
    (c.EVENT_FAILURE, "", Known.ANYWAY, ERROR),
    (c.EVENT_RESTART, "", Known.ANYWAY, WARN),
    (c.EVENT_AGENT_STOP, c.OUTCOME_FAILED, Known.ANYWAY, ERROR),
    (c.EVENT_AGENT_STOP, c.OUTCOME_TERMINATED, Known.ANYWAY, WARN),
)
"""The first row that fits holds; what fits none is INFO."""


def severity_of(what: Kind | str, state: str = "", *known: Known) -> int:
    """Return the severity number of a record.

    Args:
        what: the kind of torch's event, or the name of the bridge's own.
        state: torch's state of it, a watchdog event's name, or the outcome that an end tells.
        known: what is known beyond that.
    """
    for row_what, row_state, row_known, severity in TABLE:
        if what == row_what and state == row_state and (row_known is Known.ANYWAY or row_known in known):
            return severity
    return INFO
