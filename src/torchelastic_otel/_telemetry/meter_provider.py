"""The meter provider of what the bridge measures, as the variables describe it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from . import sdk_objects
from .metric_export import metric_exporter, view_without_random
from .other_exporters import load_exporter

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricReader
    from opentelemetry.sdk.resources import Resource

    from .._config.exporters import ExporterPlan
    from .._delivery.outbox import Outbox
    from .run_providers import OneProvider, RunProviders

_EXPORT_TIMEOUT_MS = 30_000


def own_meter_provider(
    plans: Sequence[ExporterPlan],
    outbox: Outbox | None,
    environ: Mapping[str, str],
    warn: Callable[[str], None],
    resource: Resource,
) -> OneProvider | RunProviders:
    """Make what provides meters; this imports the metrics SDK, the dearest part of it.

    Each run id has a provider, except where something reads metrics by itself: it knows of one alone.

    Args:
        plans: exporters of metrics.
        outbox: takes what goes by OTLP.
        environ: the process's environment.
        warn: takes one clear sentence for each thing that is wrong in it.
        resource: of all that is sent.
    """
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader

    from .run_providers import OneProvider, RunProviders

    # Left to read these itself, the SDK raises for wrong ones.
    exemplars = sdk_objects.exemplar_filter_from_env(environ, warn)

    def make(readers: Sequence[MetricReader]) -> MeterProvider:
        return MeterProvider(
            metric_readers=readers,
            resource=resource,
            exemplar_filter=exemplars,
            shutdown_on_exit=False,
            views=[view_without_random()],
        )

    made = [
        metric_exporter(outbox.keep_metrics, warn)
        if plan.otlp is not None and outbox is not None
        else load_exporter(plan, warn)
        for plan in plans
    ]
    ways: list[Any] = [way for way in made if way is not None]
    if not any(isinstance(way, MetricReader) for way in ways):
        return RunProviders(ways, make, outbox)
    # The interval is the flusher's: the reader's own timer would go on in forked workers.
    readers = [
        way
        if isinstance(way, MetricReader)
        else PeriodicExportingMetricReader(way, math.inf, _EXPORT_TIMEOUT_MS)
        for way in ways
    ]
    return OneProvider(make(readers))
