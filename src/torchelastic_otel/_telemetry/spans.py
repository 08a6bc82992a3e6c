"""Spans: a tracer's, under ids of our own where it lets us, and what collects on each until it ends.

Import this after ``sdk_objects.import_trace_sdk``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .. import _contract as c
from .._job.identity import ParentContext
from .._runtime.clock import Moment
from .._runtime.guard import note_internal_error, say_gone, say_once
from .._values import Attributes, AttributeValue, clean_all, clean_text
from .._version import __version__
from . import sdk_objects
from .context import context_of, remote_context
from .redaction import Redaction
from .span_ids import NextIds

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import SpanContext, Tracer, TracerProvider

    from .._job.output import OpenSpan

_UNBOUNDED_EVENTS = 10_000
_MAX_EVENTS = 128


class RecordedSpan:
    """One of the bridge's spans, in the SDK's form; an ``OpenSpan`` of the job model.

    Span events are kept as they come and handed to the SDK when the span ends: only the newest up to the
    limit (OTEL_SPAN_EVENT_COUNT_LIMIT, 128) are worth its price, and memory stays bounded.
    """

    __slots__ = ("_dropped", "_events", "_redaction", "_span", "context", "ended", "start")

    def __init__(
        self,
        span: Any,
        context: SpanContext,
        start: Moment,
        max_events: int | None,
        redaction: Redaction,
    ) -> None:
        self._redaction = redaction
        self._span = span
        self.context = context
        self.start = start
        self._events: deque[tuple[str, int, Mapping[str, AttributeValue]]] = deque(
            maxlen=_UNBOUNDED_EVENTS if max_events is None else max_events
        )
        self._dropped = 0
        self.ended = False

    def add_event(self, name: str, moment: Moment, attributes: Mapping[str, AttributeValue]) -> None:
        """Keep a span event; of more than the limit, the newest. What its attributes hide is hidden."""
        events = self._events
        if len(events) == events.maxlen:
            self._dropped += 1
        events.append((self._redaction.text(name), self.start.wall_at(moment), attributes))

    def set(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Set attributes."""
        if not self.ended:
            self._span.set_attributes(self._redaction.attributes(clean_all(attributes)))

    def end(self, moment: Moment, outcome: str | None = None, description: str = "") -> None:
        """End the span once, its status drawn from ``outcome``: failed is Error, succeeded Ok, else Unset."""
        if self.ended:
            return
        self.ended = True
        try:
            self._end(moment, outcome, description)
        except Exception as error:  # a processor of the program's
            note_internal_error("ending a span", error)
        self._events.clear()

    def _end(self, moment: Moment, outcome: str | None, description: str) -> None:
        from opentelemetry.trace import Status, StatusCode

        span = self._span
        for name, event_ns, attributes in self._events:
            span.add_event(name, attributes, event_ns)
        if self._dropped:
            # The SDK has no public way to say how many events it never saw.
            try:
                span._events.dropped += self._dropped
            except (AttributeError, TypeError):
                say_gone("Span._events.dropped", "spans do not say how many of their events were left out")
        if outcome is not None:
            span.set_attribute(c.OUTCOME, self._redaction.text(outcome))
        if outcome == c.OUTCOME_FAILED:
            span.set_status(Status(StatusCode.ERROR, self._redaction.text(clean_text(description))))
        elif outcome == c.OUTCOME_SUCCEEDED:
            span.set_status(Status(StatusCode.OK))
        span.end(max(self.start.wall_at(moment), self.start.wall_ns))


class Spans:
    """Starts spans.

    Args:
        tracer: makes them.
        ids: what it takes ids from, if it lets us.
        max_events: how many events a span keeps; None for no limit.
        redaction: what must not leave the process.
    """

    def __init__(self, tracer: Tracer, ids: NextIds, max_events: int | None, redaction: Redaction) -> None:
        self.tracer = tracer
        self._ids = ids
        self._max_events = max_events
        self._redaction = redaction

    def start(
        self,
        name: str,
        start: Moment,
        attributes: Attributes,
        *,
        parent: OpenSpan | ParentContext | None,
        trace_id: int = 0,
        span_id: int = 0,
        link: OpenSpan | None = None,
    ) -> RecordedSpan:
        """Start a span; see ``Output.start_span``."""
        from opentelemetry.trace import INVALID_SPAN, Link

        if parent is None:
            self._ids.trace_id = trace_id
        self._ids.span_id = span_id
        try:
            span = self.tracer.start_span(
                self._redaction.text(name),
                context_of(_context_of_parent(parent)),
                attributes=self._redaction.attributes(clean_all(attributes)),
                links=[Link(link.context)] if link is not None else (),
                start_time=start.wall_ns,
            )
        except Exception as error:  # a sampler or a processor of the program's
            note_internal_error("starting a span", error)
            span = INVALID_SPAN
        self._ids.span_id = self._ids.trace_id = 0
        return RecordedSpan(span, span.get_span_context(), start, self._max_events, self._redaction)


def _context_of_parent(parent: OpenSpan | ParentContext | None) -> SpanContext | None:
    if parent is None:
        return None
    return remote_context(parent) if isinstance(parent, ParentContext) else parent.context


def no_spans(redaction: Redaction) -> Spans:
    """Return what makes spans that go nowhere."""
    from opentelemetry.trace import NoOpTracer

    return Spans(NoOpTracer(), NextIds(), _MAX_EVENTS, redaction)


def spans_of(provider: TracerProvider, redaction: Redaction) -> Spans:
    """Return what makes spans by the program's own provider, with our ids if its generator is the SDK's."""
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    ids = NextIds()
    tracer = provider.get_tracer(c.SCOPE, __version__)
    # The tracer is this scope's alone, so the program's other spans keep their generator.
    if type(getattr(tracer, "id_generator", None)) is RandomIdGenerator:
        tracer.id_generator = ids  # type: ignore[attr-defined]  # the SDK's tracer has it, the API's not
    else:
        say_once(
            "foreign ids",
            "the program's tracer provider makes its own ids: this job's nodes do not share a trace.",
        )
    limits = getattr(tracer, "_span_limits", None)  # the SDK has no public way to ask for them
    return Spans(tracer, ids, getattr(limits, "max_events", _MAX_EVENTS), redaction)


def own_spans(
    environ: Mapping[str, str],
    warn: Callable[[str], None],
    resource: Resource,
    processor: SpanProcessor | None,
    redaction: Redaction,
) -> Spans:
    """Return what makes spans by a provider of our own, as the variables describe it."""
    from opentelemetry.sdk.trace import TracerProvider

    generator = sdk_objects.id_generator_from_env(environ, warn)
    if generator is not None:
        say_once(
            "foreign ids",
            "OTEL_PYTHON_ID_GENERATOR names another id generator: this job's nodes do not share a trace.",
        )
    ids = NextIds()
    limits = sdk_objects.span_limits_from_env(environ, warn)
    provider = TracerProvider(
        resource=resource,
        sampler=sdk_objects.sampler_from_env(environ, warn),
        id_generator=generator or ids,
        span_limits=limits,
        shutdown_on_exit=False,
    )
    if processor is not None:
        provider.add_span_processor(processor)
    return Spans(provider.get_tracer(c.SCOPE, __version__), ids, limits.max_events, redaction)
