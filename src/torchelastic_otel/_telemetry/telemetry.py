"""The way out: spans, records and measurements, to the program's own providers or by ways of our own.

All of it is used on the bridge's thread, so that importing the SDK and gRPC costs the agent nothing.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .. import _contract as c
from .._config.environment import SIGNALS
from .._config.limits import log_limits, metric_export_interval_s
from .._config.otlp_variables import SDK_DISABLED
from .._config.secrets import of_process
from .._config.settings import Settings
from .._delivery.outboxes import Outboxes
from .._values import clean_all
from . import sdk_objects, termination_log
from .batcher import Export
from .context import remote_context
from .flusher import Flusher
from .log_sinks import LogSink, OwnLogs, ProviderLogs, ReadableRecords
from .meter import Meter
from .meter_provider import own_meter_provider
from .providers import Providers, global_providers
from .redaction import Redaction
from .ways_out import WaysOut, export_by

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.trace import SpanContext, Tracer, TracerProvider

    from .._job.event import Event
    from .._job.identity import ParentContext
    from .._job.output import OpenSpan
    from .._runtime.clock import Moment
    from .._values import Attributes, AttributeValue
    from .log_encoding import LogEncoder
    from .span_queue import SpanQueue
    from .spans import RecordedSpan, Spans


class Telemetry:
    """Where the bridge's spans, log records and measurements go; the job model's ``Output``.

    Args:
        environ: the process's environment; ``OTEL_*`` is read from it.
        warn: takes one clear sentence for each thing that is wrong in it.
        providers: injected providers; those that are missing are the program's global ones, else built here.
        settings: our own settings.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        warn: Callable[[str], None],
        providers: Providers | None = None,
        settings: Settings | None = None,
    ) -> None:
        self._environ = environ
        self._warn = warn
        self.disabled = SDK_DISABLED.value(environ, warn)
        self.exports_spans = True
        given = providers or Providers()
        found = global_providers()
        self._flushers: list[Flusher] = []
        self._redaction = Redaction(settings.redact if settings is not None else "")
        self.outboxes = Outboxes(settings or Settings(), warn)
        self._ways_out = WaysOut(environ, warn, self.outboxes)
        self._queue: SpanQueue | None = None
        self._known_resource: Resource | None = None
        declared = self._declared()
        self._spans = self._make_spans(
            given.tracer_provider or found.tracer_provider or declared.tracer_provider
        )
        self._logs = self._make_logs(
            given.logger_provider or found.logger_provider or declared.logger_provider
        )
        self._meter = self._make_meter(
            given.meter_provider or found.meter_provider or declared.meter_provider
        )
        self._first_run_id: str | None = None
        self._several = False
        self._running: set[str] = set()
        self._termination_log = (settings or Settings()).termination_log
        self._told_counts: dict[tuple[str, str, str], int] = {}

    # Set-up

    @property
    def tracer(self) -> Tracer:
        """The tracer of the bridge's spans."""
        return self._spans.tracer

    @property
    def resource(self) -> Resource:
        """The resource of what the bridge sends by itself."""
        if self._known_resource is None:
            from .sdk_resource import build_resource

            self._known_resource = build_resource(self._environ, self._warn, self._redaction)
        return self._known_resource

    def _declared(self) -> Providers:
        """Providers that ``OTEL_CONFIG_FILE`` declares, if it is set."""
        path = self._environ.get("OTEL_CONFIG_FILE", "").strip()
        if not path or self.disabled:
            return Providers()
        from .declared import providers_from_file

        return providers_from_file(path, self.resource, self._warn) or Providers()

    def _make_spans(self, provider: TracerProvider | None) -> Spans:
        sdk_objects.import_trace_sdk()
        from .span_queue import SpanQueue
        from .spans import no_spans, own_spans, spans_of

        if self.disabled:
            return no_spans(self._redaction)
        if provider is not None:
            self._flush_too("traces", provider)
            return spans_of(provider, self._redaction)
        outbox, batchers = self._ways_out.of("traces", lambda exporter: export_by(exporter, list))
        self.exports_spans = outbox is not None or bool(batchers)
        if self.exports_spans:
            self._queue = SpanQueue(outbox, batchers)
        return own_spans(self._environ, self._warn, self.resource, self._queue, self._redaction)

    def _make_logs(self, provider: LoggerProvider | None) -> LogSink | None:
        if self.disabled:
            return None
        if provider is not None:
            self._flush_too("logs", provider)
            return ProviderLogs(provider)
        outbox, batchers = self._ways_out.of("logs", self._export_logs)
        return OwnLogs(outbox, batchers, self._encoder) if outbox is not None or batchers else None

    def _encoder(self) -> LogEncoder:
        from .log_encoding import LogEncoder

        return LogEncoder(self.resource, log_limits(self._environ, self._warn))

    def _readable(self) -> ReadableRecords:
        return ReadableRecords(self.resource, log_limits(self._environ, self._warn))

    def _export_logs(self, exporter: Any) -> Export[Event]:
        return export_by(exporter, self._readable().batch)

    def _make_meter(self, provider: MeterProvider | None) -> Meter | None:
        if self.disabled:
            return None
        if provider is not None:
            return Meter(self._flush_too("metrics", provider, _one_provider))
        plans, outbox = self._ways_out.of_metrics()
        if not plans:
            return None
        # On a thread of its own: the metrics SDK is the dearest part to import.
        flusher = Flusher(
            "metrics",
            lambda: own_meter_provider(plans, outbox, self._environ, self._warn, self.resource),
            metric_export_interval_s(self._environ, self._warn),
        )
        self._flushers.append(flusher)
        return Meter(flusher)

    def _flush_too(
        self, name: str, provider: object, adapt: Callable[[object], object] = lambda provider: provider
    ) -> Flusher:
        flusher = Flusher(name, lambda: adapt(provider))
        self._flushers.append(flusher)
        return flusher

    # What the job model tells

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
    ) -> RecordedSpan:
        """Start a span; see ``Output``."""
        return self._spans.start(
            name, start, attributes, parent=parent, trace_id=trace_id, span_id=span_id, link=link
        )

    def emit(self, record: Event) -> None:
        """Send a log record on its way."""
        record.name = self._redaction.text(record.name)
        record.body = self._redaction.text(record.body)
        record.attributes = self._redaction.attributes(record.attributes)
        if self._logs is not None:
            self._logs.emit(record)

    def measure(
        self,
        name: str,
        amount: float,
        attributes: Mapping[str, AttributeValue],
        span: SpanContext | None = None,
    ) -> None:
        """Take a measurement of the metric ``name``, in the context of ``span``."""
        if self._meter is not None:
            self._meter.measure(name, amount, self._redaction.attributes(clean_all(attributes)), span)

    def say(self, text: str) -> None:
        """Tell the person at the terminal, or whoever reads the launcher's standard error later."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            # In one: the main thread may be printing a traceback at this moment.
            sys.stderr.write(f"torchelastic-otel: {of_process().known(text)}\n")
            sys.stderr.flush()

    def leave_verdict(self, text: str) -> None:
        """Leave the verdict of a job that failed where Kubernetes shows it."""
        if self._termination_log:
            with contextlib.suppress(OSError):
                termination_log.write(of_process().known(self._redaction.text(text)))

    def hurry(self) -> None:
        """Ask for all that is queued to be sent now, without waiting."""
        self.commit()
        self._ways_out.hurry()

    def worker_environment(self, span: OpenSpan) -> dict[str, str]:
        """Return the variables that carry a span's context, by the propagators of ``OTEL_PROPAGATORS``."""
        from opentelemetry import propagate
        from opentelemetry.trace import NonRecordingSpan, set_span_in_context

        carrier: dict[str, str] = {}
        propagate.inject(carrier, set_span_in_context(NonRecordingSpan(span.context)))
        return {key.upper().replace("-", "_"): value for key, value in carrier.items()}

    def remote_context(self, parent: ParentContext) -> SpanContext:
        """Return the context of another process's span."""
        return remote_context(parent)

    def belongs_to(self, run_id: str) -> None:
        """Note a job of this process: while there is one alone, the bridge's own metrics are found by it."""
        if self._first_run_id is None:
            self._first_run_id = run_id
        self._several = self._several or run_id != self._first_run_id
        self._running.add(run_id)
        if self._meter is not None:
            self._meter.begin(self._redaction.text(run_id))

    def job_ended(self, run_id: str) -> None:
        """Let the series of its jobs go once they have arrived; redacted, several run ids may be one."""
        self._running.discard(run_id)
        shown = self._redaction.text(run_id)
        if self._meter is not None and shown not in map(self._redaction.text, self._running):
            self._meter.end(shown)

    @property
    def run_id(self) -> str:
        """The run id of this process's job, "" where it has none or several."""
        return "" if self._several else self._first_run_id or ""

    def begin_counts(self) -> None:
        """Take the bridge's own counters at zero, so that the first loss is an increase."""
        known = {c.RUN_ID: self.run_id} if self.run_id else {}
        for signal, name in itertools.product(SIGNALS, c.DELIVERY_METRICS.values()):
            self.measure(name, 0, {**known, c.OTEL_SIGNAL: signal})

    # On its way

    def commit(self) -> None:
        """Put everything so far into the spool: from here on it outlives the process."""
        if self._logs is not None:
            self._logs.commit()
        if self._queue is not None:
            self._queue.commit()

    def publish(self, *, last: bool = False) -> None:
        """Hand what was measured to the SDK once that is loaded; all of it if this is the ``last`` time."""
        self._measure_deliveries()
        if self._meter is not None:
            self._meter.publish(last=last)

    def _measure_deliveries(self) -> None:
        """Count what became of the bridge's own items since the last time."""
        run_id = self.run_id
        for (signal, what, reason), total in self._ways_out.counts().items():
            new = total - self._told_counts.get((signal, what, reason), 0)
            if new > 0:
                self._told_counts[signal, what, reason] = total
                attributes = {c.RUN_ID: run_id, c.OTEL_SIGNAL: signal, c.REASON: reason}
                known = {key: value for key, value in attributes.items() if value}
                self.measure(c.DELIVERY_METRICS[what], new, known)

    def wait_loaded(self, deadline: float) -> None:
        """Wait until the exporters are loaded, at most until ``deadline`` (``time.monotonic`` seconds)."""
        self._ways_out.wait_loaded(deadline)
        for flusher in self._flushers:
            flusher.wait_loaded(deadline)

    def flush(self, deadline: float) -> bool:
        """Send all that is queued; False if that is not done by ``deadline`` (``time.monotonic`` seconds)."""
        self.publish(last=True)
        self.hurry()
        asked = [(flusher, flusher.request(deadline)) for flusher in self._flushers]

        def collected() -> bool:
            return all(flusher.wait(number, deadline) for flusher, number in asked)

        return self._ways_out.flush(deadline, collected)

    def retire(self) -> None:
        """Export no more metrics by itself: another one takes over."""
        for flusher in self._flushers:
            flusher.end()


def _one_provider(provider: object) -> object:
    from .run_providers import OneProvider

    return OneProvider(provider)
