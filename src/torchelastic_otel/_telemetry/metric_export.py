"""The last hop of metrics: from what the SDK collected to the outbox."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from .._config.environment import Warn
from .._config.sdk_variables import METRICS_HISTOGRAM_AGGREGATION, METRICS_TEMPORALITY
from .._delivery.encoding import encode_metrics

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import AggregationTemporality, MetricExporter
    from opentelemetry.sdk.metrics.view import Aggregation, View


class Put(Protocol):
    """Takes a serialized request of metrics."""

    def __call__(self, request: bytes, *, last_only: bool) -> None:
        """Take it; ``last_only`` in place of those before."""


def metric_exporter(put: Put, warn: Warn) -> MetricExporter:
    """Return an exporter that hands requests to ``put``, with the temporality and aggregation asked for.

    Cumulative metrics say all there is in their last state, so only that is kept: backends refuse samples
    that come late. Deltas add up, and are all kept.

    Args:
        put: takes the requests, as ``Outbox.keep_metrics`` does.
        warn: told what is wrong in the two variables that it reads.
    """
    preference = METRICS_TEMPORALITY.value(os.environ, warn)
    aggregation = METRICS_HISTOGRAM_AGGREGATION.value(os.environ, warn)
    from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult

    class OutboxExporter(MetricExporter):
        def __init__(self) -> None:
            self.preferred_temporality = _temporality(preference)
            self.preferred_aggregation = _aggregation(aggregation)
            super().__init__(self.preferred_temporality, self.preferred_aggregation)

        def export(self, metrics_data: Any, timeout_millis: float = 0, **kwargs: Any) -> MetricExportResult:
            put(encode_metrics(metrics_data), last_only=preference == "cumulative")
            return MetricExportResult.SUCCESS

        def shutdown(self, timeout_millis: float = 0, **kwargs: Any) -> None:
            """Do nothing: the bridge ends by itself."""

        def force_flush(self, timeout_millis: float = 0) -> bool:
            return True

    return OutboxExporter()


def view_without_random() -> View:
    """Return a view that keeps the last exemplar of each series, of histograms of each bucket.

    The SDK would draw lots by the global ``random``, from which a training script may expect its own numbers.
    """
    from opentelemetry.sdk.metrics import AlignedHistogramBucketExemplarReservoir
    from opentelemetry.sdk.metrics.view import View

    def last(boundaries: Sequence[float] = (), **_known: Any) -> Any:
        return AlignedHistogramBucketExemplarReservoir(boundaries)

    factory: Any = lambda _aggregation: last  # noqa: E731  # the SDK declares another type than it calls
    return View(instrument_name="*", exemplar_reservoir_factory=factory)


def _temporality(preference: str) -> dict[type, AggregationTemporality]:
    """Return what the specification means by a preference; what goes up and down is always cumulative."""
    from opentelemetry.sdk.metrics import Counter, Histogram, ObservableCounter
    from opentelemetry.sdk.metrics.export import AggregationTemporality

    deltas: dict[str, tuple[type, ...]] = {
        "delta": (Counter, ObservableCounter, Histogram),
        "lowmemory": (Counter, Histogram),
    }
    return dict.fromkeys(deltas.get(preference, ()), AggregationTemporality.DELTA)


def _aggregation(name: str) -> dict[type, Aggregation]:
    from opentelemetry.sdk.metrics import Histogram
    from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation

    if name == "base2_exponential_bucket_histogram":
        return {Histogram: ExponentialBucketHistogramAggregation()}
    return {}
