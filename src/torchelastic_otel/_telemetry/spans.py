"""An open span and what collects on it until it ends."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .. import _contract as c
from .._values import Attributes, clean_all, clean_text
from .context import context_of
from .redaction import Redaction

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

    from .._job.identity import ParentContext
    from .telemetry import Telemetry

_UNBOUNDED_EVENTS = 10_000


class OpenSpan:
    """One of the bridge's spans, from its start to its end.

    Span events are kept as they come and handed to the SDK when the span ends: only the newest up to the
    limit (OTEL_SPAN_EVENT_COUNT_LIMIT, 128) are worth its price, and memory stays bounded.
    """

    __slots__ = ("_dropped", "_events", "_redaction", "_span", "context", "ended", "start_ns")

    def __init__(
        self,
        span: Any,
        context: SpanContext,
        start_ns: int,
        max_events: int | None,
        redaction: Redaction | None = None,
    ) -> None:
        self._redaction = redaction or Redaction()
        self._span = span
        self.context = context
        self.start_ns = start_ns
        self._events: deque[tuple[str, int, Mapping[str, Any]]] = deque(
            maxlen=_UNBOUNDED_EVENTS if max_events is None else max_events
        )
        self._dropped = 0
        self.ended = False

    def add_event(self, name: str, time_ns: int, attributes: Mapping[str, Any]) -> None:
        """Keep a span event; of more than the limit, the newest."""
        events = self._events
        if len(events) == events.maxlen:
            self._dropped += 1
        events.append((name, time_ns, attributes))

    def set(self, attributes: Mapping[str, Any]) -> None:
        """Set attributes."""
        if not self.ended:
            self._span.set_attributes(self._redaction.attributes(clean_all(attributes)))

    def end(self, time_ns: int, outcome: str | None = None, description: str = "") -> None:
        """End the span once, its status drawn from ``outcome``: failed is Error, succeeded Ok, else Unset."""
        if self.ended:
            return
        from opentelemetry.trace import Status, StatusCode

        self.ended = True
        span = self._span
        for name, event_ns, attributes in self._events:
            span.add_event(name, attributes, event_ns)
        kept = getattr(span, "_events", None)
        if self._dropped and kept is not None:
            # The SDK has no public way to say how many events it never saw.
            kept.dropped += self._dropped
        if outcome is not None:
            span.set_attribute(c.OUTCOME, outcome)
        if outcome == c.OUTCOME_FAILED:
            span.set_status(Status(StatusCode.ERROR, self._redaction.text(clean_text(description))))
        elif outcome == c.OUTCOME_SUCCEEDED:
            span.set_status(Status(StatusCode.OK))
        # A clock that was set back must not make a span end before it began.
        span.end(max(time_ns, self.start_ns))
        self._events.clear()


def start_span(
    telemetry: Telemetry,
    name: str,
    start_ns: int,
    attributes: Attributes,
    *,
    parent: SpanContext | ParentContext | None,
    trace_id: int = 0,
    span_id: int = 0,
    link: SpanContext | None = None,
) -> OpenSpan:
    """Start a span under ``parent``, or as a root of the trace ``trace_id`` where there is none.

    ``span_id`` is the id promised to others beforehand (0: any); both are kept only where the ids are ours.
    """
    from opentelemetry.trace import Link, SpanContext, TraceFlags

    if parent is None:
        telemetry.ids.trace_id = trace_id
    elif not isinstance(parent, SpanContext):
        flags = TraceFlags(parent.flags)
        parent = SpanContext(parent.trace_id, parent.span_id, is_remote=True, trace_flags=flags)
    telemetry.ids.span_id = span_id
    links: Sequence[Link] = [Link(link)] if link is not None else ()
    known = telemetry.redaction.attributes(clean_all(attributes))
    span = telemetry.tracer.start_span(
        name, context_of(parent), attributes=known, links=links, start_time=start_ns
    )
    telemetry.ids.span_id = telemetry.ids.trace_id = 0
    return OpenSpan(span, span.get_span_context(), start_ns, telemetry.max_span_events, telemetry.redaction)
