"""A launcher as its agent plays it, and what comes out of the SDK, in memory."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.trace import SpanContext

from tests.support.job_player import Player
from tests.support.plain_output import Record
from torchelastic_otel._config.settings import Settings
from torchelastic_otel._telemetry.providers import Providers
from torchelastic_otel._telemetry.telemetry import Telemetry


class _Logs:
    """A log record processor that keeps what it is given."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def on_emit(self, data: Any) -> None:
        """Keep a record."""
        r = data.log_record
        known = (r.event_name, r.timestamp, r.severity_number.value, r.body, dict(r.attributes))
        self.records.append(Record(*known, r.trace_id, r.span_id, r.observed_timestamp))

    def shutdown(self) -> None:
        """Do nothing."""

    def force_flush(self, timeout_millis: int = 0) -> bool:
        """Do nothing."""
        return True


class _Spans(SpanProcessor):
    """Keeps ended spans, or counts them alone."""

    def __init__(self, *, keep: bool) -> None:
        self.ended: list[ReadableSpan] = []
        self.counts: Counter[str] = Counter()
        self._keep = keep

    def on_end(self, span: ReadableSpan) -> None:
        """Keep a span."""
        self.counts[span.name] += 1
        if self._keep:
            self.ended.append(span)


class _Reader(InMemoryMetricReader):
    """Keeps the last point of each series, as a backend does: some versions of the SDK tell a gauge once."""

    def __init__(self) -> None:
        super().__init__()
        self.points: dict[str, dict[Any, Any]] = {}

    def _receive_metrics(self, metrics_data: Any, timeout_millis: float = 10_000, **kwargs: Any) -> None:
        for resource in metrics_data.resource_metrics if metrics_data else []:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    series = self.points.setdefault(metric.name, {})
                    series.update(
                        {frozenset(point.attributes.items()): point for point in metric.data.data_points}
                    )


class InMemory:
    """A ``Telemetry`` whose providers keep what they are given; ``max_events`` is the tracer's own limit."""

    def __init__(
        self, *, settings: Settings | None = None, max_events: int | None = None, keep: bool = True
    ) -> None:
        self._logs, self._spans, self._reader = _Logs(), _Spans(keep=keep), _Reader()
        limits = SpanLimits() if max_events is None else SpanLimits(max_events=max_events)
        tracers = TracerProvider(span_limits=limits, shutdown_on_exit=False)
        tracers.add_span_processor(self._spans)
        loggers = LoggerProvider(shutdown_on_exit=False)
        if keep:
            loggers.add_log_record_processor(self._logs)  # type: ignore[arg-type]  # a duck, for all versions
        meters = MeterProvider([self._reader], shutdown_on_exit=False)
        self.telemetry = Telemetry({}, pytest.fail, Providers(tracers, loggers, meters), settings)
        self._flushed = False

    @property
    def records(self) -> list[Record]:
        """The log records so far."""
        return self._logs.records

    @property
    def ended(self) -> list[ReadableSpan]:
        """The spans that have ended."""
        return self._spans.ended

    @property
    def counts(self) -> Counter[str]:
        """How many spans of each name have ended."""
        return self._spans.counts

    @property
    def span(self) -> ReadableSpan:
        """The only span that has ended."""
        (span,) = self.ended
        return span

    def metrics(self) -> dict[str, list[Any]]:
        """Return the points of each metric as the SDK collects them now."""
        if not self._flushed:
            # The first measurements are exported at once, and each export takes the exemplars with it.
            self._flushed = self.telemetry.flush(time.monotonic() + 60)
            assert self._flushed
        self.telemetry.publish(last=True)
        self._reader.collect()
        return {name: list(series.values()) for name, series in self._reader.points.items()}


class SdkWorld(Player):
    """One launcher, the engine that watches it, and what came out of the SDK."""

    def __init__(
        self,
        *,
        environ: Mapping[str, str] | None = None,
        settings: Settings | None = None,
        max_events: int | None = None,
        keep: bool = True,
    ) -> None:
        self.out = InMemory(settings=settings, max_events=max_events, keep=keep)
        super().__init__(self.out.telemetry, settings, environ)

    def all(self, name: str) -> list[ReadableSpan]:
        """Return the ended spans of a name, in the order of their starts."""
        self.settle()
        found = (span for span in self.out.ended if span.name == name)
        return sorted(found, key=lambda span: span.start_time or 0)

    def one(self, name: str) -> ReadableSpan:
        """Return the only ended span of a name."""
        (span,) = self.all(name)
        return span


def context(span: ReadableSpan) -> SpanContext:
    """Return a span's context."""
    found: SpanContext | None = span.context
    assert found is not None
    return found


def attributes(span: ReadableSpan) -> dict[str, Any]:
    """Return a span's attributes."""
    return dict(span.attributes or {})
