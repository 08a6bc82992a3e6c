"""A job's log records: torch's events and the bridge's own, each with its span."""

from __future__ import annotations

from collections.abc import Mapping

from .. import _contract as c
from .._runtime.clock import Moment
from .._values import Attributes, AttributeValue, clean_all, clean_text
from .event import Event, Kind
from .output import OpenSpan, Output
from .severity import Known, severity_of
from .verdict import Failure


class Records:
    """Writes records, and draws them on their spans.

    Args:
        output: where they go.
        run_id: torchrun's ``--rdzv-id``.
        hostname: this node's name, as torch gives it.
        span_events: whether records are drawn on their spans, too.
    """

    def __init__(self, output: Output, run_id: str, hostname: str, *, span_events: bool) -> None:
        self._output = output
        self._span_events = span_events
        self.hostname = hostname
        self.shared: Attributes = {c.RUN_ID: run_id}
        """Attributes of all spans and records of the job."""

    def role_known(self, role: str | None) -> None:
        """The workers' role is known from here on."""
        if role:
            self.shared[c.ROLE] = role

    def record(self, event: Event, span: OpenSpan) -> None:
        """Record an event of torch's."""
        event.span = span.context
        self._output.emit(event)
        if self._span_events and not span.ended:  # as it was sent, with nothing in it that is to be hidden
            span.add_event(event.name, event.moment, event.attributes)

    def tell(
        self,
        name: str,
        moment: Moment,
        body: str,
        attributes: Mapping[str, AttributeValue],
        span: OpenSpan,
        *,
        outcome: str = "",
        known: Known = Known.ANYWAY,
    ) -> None:
        """Record an event of the bridge's own.

        Args:
            name: its name by the contract.
            moment: when it happened.
            body: a sentence.
            attributes: what it has beside those that all have.
            span: the span that it belongs to.
            outcome: the outcome that it tells, if any; counts for its severity.
            known: counts likewise.
        """
        full = clean_all({c.EVENT: name, **self.shared, c.HOSTNAME: self.hostname, **attributes})
        severity = severity_of(name, outcome, known)
        event = Event(Kind.BRIDGE, name, moment, clean_text(body), full, severity, observed_ns=moment.wall_ns)
        self.record(event, span)

    def failure(self, failure: Failure, first: Attributes, span: OpenSpan) -> None:
        """Record a worker's death at the time that its evidence tells; ``first`` names the node's first."""
        known = Known.COLLATERAL if failure.collateral else Known.ANYWAY
        attributes = {**failure.attributes, **first}
        self.tell(c.EVENT_FAILURE, failure.when.told, failure.sentence, attributes, span, known=known)
