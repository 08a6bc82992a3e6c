"""The meter provider of what the bridge measures, as the variables describe it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from . import sdk_objects
from .exporters import load_exporter
from .metric_export import metric_exporter, view_without_random

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricReader
    from opentelemetry.sdk.resources import Resource

    from .._config.exporters import ExporterPlan
    from .._delivery.outbox import Outbox

_EXPORT_TIMEOUT_MS = 30_000


def own_meter_provider(
    plans: Sequence[ExporterPlan],
    outbox: Outbox | None,
    environ: Mapping[str, str],
    warn: Callable[[str], None],
    resource: Resource,
) -> MeterProvider:
    """Make the provider; this imports the metrics SDK, the dearest part of it.

    Args:
        plans: exporters of metrics.
        outbox: takes what goes by OTLP.
        environ: the process's environment.
        warn: takes one clear sentence for each thing that is wrong in it.
        resource: of all that is sent.
    """
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader

    # Left to read these itself, the SDK raises for wrong ones.
    exemplars = sdk_objects.exemplar_filter_from_env(environ, warn)
    readers: list[MetricReader] = []
    for plan in plans:
        exporter: Any
        if plan.otlp is not None and outbox is not None:
            exporter = metric_exporter(outbox.keep_metrics, warn)
        else:
            exporter = load_exporter(plan, warn)
        if isinstance(exporter, MetricReader):
            readers.append(exporter)
        elif exporter is not None:
            # The interval is the flusher's: the reader's own timer would go on in forked workers.
            readers.append(PeriodicExportingMetricReader(exporter, math.inf, _EXPORT_TIMEOUT_MS))
    return MeterProvider(
        metric_readers=readers,
        resource=resource,
        exemplar_filter=exemplars,
        shutdown_on_exit=False,
        views=[view_without_random()],
    )
