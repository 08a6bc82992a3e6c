"""The way out: spans, records and metrics, to the program's own providers or to ones built from ``OTEL_*``.

Only this module and the exporters it loads know the SDK. All of it is used on the bridge's thread, so that
importing the SDK and gRPC costs the agent nothing.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .. import _contract as c
from .._config.environment import SIGNALS
from .._config.limits import BatchSettings, batch_settings, log_limits, metric_export_interval_s
from .._config.otlp_variables import SDK_DISABLED
from .._config.settings import Settings
from .._delivery.outboxes import Durable
from .._job.identity import new_span_id
from .._job.translate import Event
from .._runtime.guard import say_once
from .._values import AttributeValue
from .._version import __version__
from . import sdk_objects
from .batcher import Batcher, Export
from .flusher import Flusher
from .log_sinks import (
    LogSink,
    OwnLogs,
    ProviderLogs,
    ReadableRecords,
    SpanQueue,
)
from .meter import Meter
from .providers import Providers, global_providers
from .redaction import Redaction

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.id_generator import IdGenerator
    from opentelemetry.trace import SpanContext, Tracer, TracerProvider

    from .._config.environment import Signal
    from .._config.exporters import ExporterPlan
    from .._delivery.outbox import Outbox


_METRIC_EXPORT_TIMEOUT_MS = 30_000
_AT_ONCE = BatchSettings(delay_s=0.0, max_batch=1, max_queue=1024)


class NextIds:
    """Ids for the spans to come: those chosen beforehand, else random from the system."""

    def __init__(self) -> None:
        self.trace_id = 0
        self.span_id = 0

    def generate_span_id(self) -> int:
        """Return the chosen span id once, then random ones."""
        chosen, self.span_id = self.span_id, 0
        return chosen or new_span_id()

    def generate_trace_id(self) -> int:
        """Return the chosen trace id once, then random ones."""
        chosen, self.trace_id = self.trace_id, 0
        return chosen or int.from_bytes(os.urandom(16), "big") or 1

    def is_trace_id_random(self) -> bool:
        """Return False: a hash of the run id is no random number."""
        return False


class Telemetry:
    """Where the bridge's spans, log records and measurements go.

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
        sdk_objects.import_trace_sdk()
        self.ids = NextIds()
        self.max_span_events: int | None = 128
        self.exports_spans = True
        given = providers or Providers()
        found = global_providers()
        self._flushers: list[Flusher] = []
        self._batchers: list[Batcher[Any]] = []
        self.redaction = Redaction(settings.redact if settings is not None else "")
        self.durable = Durable(settings or Settings(), warn)
        self._spans: SpanQueue | None = None
        self._resource: Resource | None = None
        configured = self._declared()
        self.tracer = self._make_tracer(
            given.tracer_provider or found.tracer_provider or configured.tracer_provider
        )
        self._logs = self._make_logs(
            given.logger_provider or found.logger_provider or configured.logger_provider
        )
        self._meter = self._make_meter(
            given.meter_provider or found.meter_provider or configured.meter_provider
        )
        self._run_ids: set[str] = set()
        self._told_counts: dict[tuple[str, str, str], int] = {}

    def _declared(self) -> Providers:
        """Providers that ``OTEL_CONFIG_FILE`` declares, if it is set."""
        path = self._environ.get("OTEL_CONFIG_FILE", "").strip()
        if not path or self.disabled:
            return Providers()
        from .declared import providers_from_file

        return providers_from_file(path, self.resource, self._warn) or Providers()

    def _make_tracer(self, provider: TracerProvider | None) -> Tracer:
        from opentelemetry.trace import NoOpTracer

        if self.disabled:
            return NoOpTracer()
        if provider is None:
            return self._own_tracer()
        self._flush_too("traces", provider)
        tracer = provider.get_tracer(c.SCOPE, __version__)
        from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

        # The tracer is this scope's alone, so the program's other spans keep their generator.
        if type(getattr(tracer, "id_generator", None)) is RandomIdGenerator:
            tracer.id_generator = self.ids  # type: ignore[attr-defined]  # the SDK's tracer has it, the API's not
        elif getattr(tracer, "id_generator", None) is not self.ids:
            say_once(
                "foreign ids",
                "the program's tracer provider makes its own ids: this job's nodes do not share a trace.",
            )
        limits = getattr(tracer, "_span_limits", None)
        self.max_span_events = getattr(limits, "max_events", self.max_span_events)
        return tracer

    def _own_tracer(self) -> Tracer:
        from opentelemetry.sdk.trace import TracerProvider

        generator: IdGenerator | None = sdk_objects.id_generator_from_env(self._environ, self._warn)
        if generator is not None:
            say_once(
                "foreign ids",
                "OTEL_PYTHON_ID_GENERATOR names another id generator: this job's nodes do not share a trace.",
            )
        limits = sdk_objects.span_limits_from_env(self._environ, self._warn)
        self.max_span_events = limits.max_events
        provider = TracerProvider(
            resource=self.resource,
            sampler=sdk_objects.sampler_from_env(self._environ, self._warn),
            id_generator=generator or self.ids,  # type: ignore[arg-type]  # a duck: importing IdGenerator loads the SDK
            span_limits=limits,
            shutdown_on_exit=False,
        )
        outbox, batchers = self._ways_out("traces", _export_spans)
        if outbox is not None or batchers:
            self._spans = SpanQueue(outbox, batchers)
            provider.add_span_processor(self._spans)  # type: ignore[arg-type]  # likewise a duck
        else:
            self.exports_spans = False
        return provider.get_tracer(c.SCOPE, __version__)

    def _make_logs(self, provider: LoggerProvider | None) -> LogSink | None:
        if self.disabled:
            return None
        if provider is not None:
            self._flush_too("logs", provider)
            return ProviderLogs(provider)
        outbox, batchers = self._ways_out("logs", self._export_logs)
        return OwnLogs(outbox, batchers, self._readable) if outbox is not None or batchers else None

    @property
    def resource(self) -> Resource:
        """The resource of what the bridge sends by itself."""
        if self._resource is None:
            from .resource import build_resource

            self._resource = build_resource(self._environ, self._warn)
        return self._resource

    def _ways_out(
        self, signal: Signal, adapt: Callable[[Any], Export[Any]]
    ) -> tuple[Outbox | None, list[Batcher[Any]]]:
        """Return where a signal goes by OTLP, and where by other exporters."""
        from .._config.exporters import plan_exporters
        from .exporters import load_exporter

        outbox: Outbox | None = None
        batchers: list[Batcher[Any]] = []
        for plan in plan_exporters(signal, self._environ, self._warn):
            settings = batch_settings(signal, self._environ, self._warn)
            if plan.otlp is not None and outbox is None:
                outbox = self.durable.outbox(signal, plan.otlp, settings)
                continue

            def load(plan: ExporterPlan = plan) -> Export[Any] | None:
                exporter = load_exporter(plan, self._warn)
                return None if exporter is None else adapt(exporter)

            batchers.append(
                Batcher(
                    signal,
                    load,
                    delay_s=settings.delay_s,
                    max_batch=settings.max_batch,
                    max_queue=settings.max_queue,
                )
            )
        self._batchers += batchers
        return outbox, batchers

    def _readable(self) -> ReadableRecords:
        return ReadableRecords(self.resource, log_limits(self._environ, self._warn))

    def _export_logs(self, exporter: Any) -> Export[Event]:
        readable = self._readable()

        def export(batch: Sequence[Event]) -> bool:
            return _succeeded(exporter.export(readable.batch(batch)))

        return export

    def emit(self, record: Event) -> None:
        """Send a log record on its way."""
        record.body = self.redaction.text(record.body)
        record.attributes = self.redaction.attributes(record.attributes)
        if self._logs is not None:
            self._logs.emit(record)

    def commit(self) -> None:
        """Put everything so far into the spool: from here on it outlives the process."""
        if self._logs is not None:
            self._logs.commit()
        if self._spans is not None:
            self._spans.commit()

    def measure(
        self,
        name: str,
        amount: float,
        attributes: Mapping[str, AttributeValue],
        span: SpanContext | None = None,
    ) -> None:
        """Take a measurement of the metric ``name``, in the context of ``span``."""
        if self._meter is not None:
            self._meter.measure(name, amount, self.redaction.attributes(dict(attributes)), span)

    def belongs_to(self, run_id: str) -> None:
        """Note a job of this process: while there is one alone, the bridge's own metrics are found by it."""
        self._run_ids.add(run_id)

    def begin_counts(self) -> None:
        """Take the bridge's own counters at zero, so that the first loss is an increase."""
        known = {c.RUN_ID: self.run_id} if self.run_id else {}
        for signal, name in itertools.product(SIGNALS, c.DELIVERY_METRICS.values()):
            self.measure(name, 0, {**known, c.OTEL_SIGNAL: signal})

    @property
    def run_id(self) -> str:
        """The run id of this process's job, "" where it has none or several."""
        return next(iter(self._run_ids)) if len(self._run_ids) == 1 else ""

    def _measure_deliveries(self) -> None:
        """Count what became of the bridge's own items since the last time."""
        run_id = self.run_id
        for (signal, what, reason), total in self.durable.counts().items():
            new = total - self._told_counts.get((signal, what, reason), 0)
            if new > 0:
                self._told_counts[signal, what, reason] = total
                attributes = {c.RUN_ID: run_id, c.OTEL_SIGNAL: signal, c.REASON: reason}
                known = {key: value for key, value in attributes.items() if value}
                self.measure(c.DELIVERY_METRICS[what], new, known)

    def publish(self, *, last: bool = False) -> None:
        """Hand what was measured to the SDK once that is loaded; all of it if this is the ``last`` time."""
        self._measure_deliveries()
        if self._meter is not None:
            self._meter.publish(last=last)

    def retire(self) -> None:
        """Export no more metrics by itself: another one takes over."""
        for flusher in self._flushers:
            flusher.end()

    def _make_meter(self, provider: MeterProvider | None) -> Meter | None:
        from .._config.exporters import plan_exporters

        if self.disabled:
            return None
        plans = plan_exporters("metrics", self._environ, self._warn) if provider is None else []
        if provider is None and not plans:
            return None
        # On a thread of its own: the metrics SDK is the dearest part to import.
        if provider is None:
            interval_s = metric_export_interval_s(self._environ, self._warn)
            target = next((plan.otlp for plan in plans if plan.otlp is not None), None)
            outbox = self.durable.outbox("metrics", target, _AT_ONCE) if target is not None else None
            flusher = Flusher("metrics", lambda: self._build_meter_provider(plans, outbox), interval_s)
        else:
            flusher = Flusher("metrics", lambda: provider)
        self._flushers.append(flusher)
        return Meter(flusher)

    def _flush_too(self, name: str, provider: object) -> None:
        self._flushers.append(Flusher(name, lambda: provider))

    def _build_meter_provider(self, plans: Sequence[ExporterPlan], outbox: Outbox | None) -> MeterProvider:
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader

        from .exporters import load_exporter
        from .metric_export import metric_exporter, view_without_random

        # Left to read these itself, the SDK raises for wrong ones.
        exemplars = sdk_objects.exemplar_filter_from_env(self._environ, self._warn)
        # The interval is the flusher's: the reader's own timer would go on in forked workers.
        readers: list[MetricReader] = []
        for plan in plans:
            exporter: Any
            if plan.otlp is not None and outbox is not None:
                exporter = metric_exporter(outbox.put_metrics, self._warn)
            else:
                exporter = load_exporter(plan, self._warn)
            if isinstance(exporter, MetricReader):
                readers.append(exporter)
            elif exporter is not None:
                readers.append(PeriodicExportingMetricReader(exporter, math.inf, _METRIC_EXPORT_TIMEOUT_MS))
        return MeterProvider(
            metric_readers=readers,
            resource=self.resource,
            exemplar_filter=exemplars,
            shutdown_on_exit=False,
            views=[view_without_random()],
        )

    def wait_loaded(self, deadline: float) -> None:
        """Wait until the exporters are loaded, at most until ``deadline`` (``time.monotonic`` seconds)."""
        for part in self._sending():
            part.wait_loaded(deadline)
        for flusher in self._flushers:
            flusher.wait_loaded(deadline)

    def _sending(self) -> list[Batcher[Any] | Outbox]:
        return [*self._batchers, *self.durable.outboxes]

    def hurry(self) -> None:
        """Ask for all that is queued to be sent now, without waiting."""
        self.commit()
        for part in self._sending():
            part.hurry()

    def flush(self, deadline: float) -> bool:
        """Send all that is queued; False if that is not done by ``deadline`` (``time.monotonic`` seconds)."""
        self.publish(last=True)
        self.hurry()
        asked = [(flusher, flusher.request(deadline)) for flusher in self._flushers]
        sending = self._sending()
        metrics = [part for part in sending if part.signal == "metrics"]
        late: list[object] = [part for part in sending if part not in metrics and not part.flush(deadline)]
        late += [flusher for flusher, number in asked if not flusher.wait(number, deadline)]
        # What was collected only now is in the outbox of metrics after that.
        late += [part for part in metrics if not part.flush(deadline)]
        return not late


def _export_spans(exporter: Any) -> Export[ReadableSpan]:
    def export(batch: Sequence[ReadableSpan]) -> bool:
        return _succeeded(exporter.export(batch))

    return export


def _succeeded(result: Any) -> bool:
    return getattr(result, "name", "SUCCESS") == "SUCCESS"
