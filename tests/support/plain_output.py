"""What the job's model tells, kept in plain objects: an ``Output`` that knows no SDK."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from opentelemetry.trace import SpanContext, TraceFlags

from torchelastic_otel import _contract as c
from torchelastic_otel._job.event import Event
from torchelastic_otel._job.identity import ParentContext, format_traceparent
from torchelastic_otel._job.output import OpenSpan
from torchelastic_otel._runtime.clock import Moment
from torchelastic_otel._values import Attributes, AttributeValue


class Record(NamedTuple):
    """A log record as it was emitted; without a span both ids are 0."""

    name: str
    time_ns: int
    severity: int
    body: str
    attributes: Attributes
    trace_id: int
    span_id: int
    observed_ns: int


class SpanEvent(NamedTuple):
    """An event on a span."""

    name: str
    time_ns: int
    attributes: Attributes


@dataclass(eq=False)
class PlainSpan:
    """A span; ``ends`` is how often it was ended, of which the first time counts."""

    name: str
    start: Moment
    attributes: Attributes
    context: SpanContext
    parent: SpanContext | None
    link: SpanContext | None
    at_end: Callable[[PlainSpan], None]
    events: list[SpanEvent] = field(default_factory=list)
    end_ns: int = 0
    outcome: str | None = None
    description: str = ""
    ends: int = 0

    @property
    def start_ns(self) -> int:
        """When it began, by the wall clock."""
        return self.start.wall_ns

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self.ends > 0

    @property
    def parent_id(self) -> int | None:
        """The id of its parent."""
        return None if self.parent is None else self.parent.span_id

    def add_event(self, name: str, moment: Moment, attributes: Mapping[str, AttributeValue]) -> None:
        """Keep an event."""
        self.events.append(SpanEvent(name, self.start.wall_at(moment), dict(attributes)))

    def set(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Set attributes of a span that is open."""
        if not self.ended:
            self.attributes.update(attributes)

    def end(self, moment: Moment, outcome: str | None = None, description: str = "") -> None:
        """End it, the first time."""
        self.ends += 1
        if self.ends == 1:
            self.end_ns = max(self.start.wall_at(moment), self.start_ns)
            self.outcome, self.description = outcome, description
            self.at_end(self)


@dataclass
class Series:
    """A series of a metric: the sum of what was measured, of a gauge the last value."""

    name: str
    attributes: Attributes
    value: float = 0
    amounts: list[float] = field(default_factory=list)
    spans: list[SpanContext | None] = field(default_factory=list)


class PlainOutput:
    """Takes what the model tells. Without ``keep`` it counts alone, so that nothing grows."""

    exports_spans = True

    def __init__(self, *, keep: bool = True) -> None:
        self._keep = keep
        self._ids = itertools.count(1 << 32)
        self._run_ids: set[str] = set()
        self.over: set[str] = set()
        self.started: list[PlainSpan] = []
        self.ended: list[PlainSpan] = []
        self.counts: Counter[str] = Counter()
        self.records: list[Record] = []
        self.series: dict[tuple[str, frozenset[tuple[str, object]]], Series] = {}
        self.said: list[str] = []
        self.left: list[str] = []
        self.hurries = 0
        self.counts_begun = False

    @property
    def run_id(self) -> str:
        """The run id of the process's job, "" where it has none or several."""
        return next(iter(self._run_ids)) if len(self._run_ids) == 1 else ""

    def start_span(
        self,
        name: str,
        start: Moment,
        attributes: Attributes,
        *,
        parent: OpenSpan | ParentContext | None,
        trace_id: int = 0,
        span_id: int = 0,
        link: OpenSpan | None = None,
    ) -> PlainSpan:
        """Start a span under the ids that were asked for."""
        if isinstance(parent, ParentContext):
            above: SpanContext | None = self.remote_context(parent)
        else:
            above = None if parent is None else parent.context
        flags = TraceFlags(1) if above is None else above.trace_flags
        own = SpanContext(above.trace_id if above else trace_id, span_id or next(self._ids), False, flags)
        linked = None if link is None else link.context
        span = PlainSpan(name, start, dict(attributes), own, above, linked, self._at_end)
        if self._keep:
            self.started.append(span)
        return span

    def _at_end(self, span: PlainSpan) -> None:
        self.counts[span.name] += 1
        if self._keep:
            self.ended.append(span)

    def emit(self, record: Event) -> None:
        """Keep a record as it is now."""
        trace_id, span_id = (record.span.trace_id, record.span.span_id) if record.span else (0, 0)
        known = (record.name, record.time_ns, record.severity, record.body, dict(record.attributes))
        if self._keep:
            self.records.append(Record(*known, trace_id, span_id, record.observed_ns))

    def measure(
        self,
        name: str,
        amount: float,
        attributes: Mapping[str, AttributeValue],
        span: SpanContext | None = None,
    ) -> None:
        """Add to a series of a metric of the contract; set it if that is a gauge."""
        series = self.series.setdefault((name, frozenset(attributes.items())), Series(name, dict(attributes)))
        series.value = amount if c.INSTRUMENTS[name].kind == c.GAUGE else series.value + amount
        if self._keep:
            series.amounts.append(amount)
            series.spans.append(span)

    def say(self, text: str) -> None:
        """Keep what the person at the terminal reads."""
        self.said.append(text)

    def leave_verdict(self, text: str) -> None:
        """Keep it."""
        self.left.append(text)

    def hurry(self) -> None:
        """Count how often somebody was in a hurry."""
        self.hurries += 1

    def belongs_to(self, run_id: str) -> None:
        """Note a job of this process."""
        self._run_ids.add(run_id)
        self.over.discard(run_id)

    def job_ended(self, run_id: str) -> None:
        """Note that the run id's jobs have ended."""
        self.over.add(run_id)

    def begin_counts(self) -> None:
        """Note that the bridge's own counters begin."""
        self.counts_begun = True

    def worker_environment(self, span: OpenSpan) -> dict[str, str]:
        """Return the W3C variable alone."""
        own = span.context
        return {"TRACEPARENT": format_traceparent(own.trace_id, own.span_id, own.trace_flags)}

    def remote_context(self, parent: ParentContext) -> SpanContext:
        """Return the context of another process's span."""
        return SpanContext(parent.trace_id, parent.span_id, True, TraceFlags(parent.flags))
