"""The last hop of metrics: from what the SDK collected to the outbox."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from .._config.environment import Warn
from .._config.sdk_variables import METRICS_HISTOGRAM_AGGREGATION, METRICS_TEMPORALITY
from .._delivery.encoding import encode_metrics

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricExporter
    from opentelemetry.sdk.metrics.view import View


class Put(Protocol):
    """Takes a serialized request of metrics."""

    def __call__(self, request: bytes, *, last_only: bool) -> None:
        """Take it; ``last_only`` in place of those before."""


def metric_exporter(put: Put, warn: Warn) -> MetricExporter:
    """Return an exporter that hands requests to ``put``, with the stock exporters' temporality.

    Cumulative metrics say all there is in their last state, so only that is kept: backends refuse samples
    that come late. Deltas add up, and are all kept.

    Args:
        put: takes the requests, as ``Outbox.keep_metrics`` does.
        warn: told what is wrong in the two variables that it reads.
    """
    last_only = METRICS_TEMPORALITY.value(os.environ, warn) == "cumulative"
    aggregation = _aggregation(warn)
    from opentelemetry.exporter.otlp.proto.common._internal.metrics_encoder import OTLPMetricExporterMixin
    from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult

    class OutboxExporter(MetricExporter, OTLPMetricExporterMixin):
        def __init__(self) -> None:
            with _without_the_sdks_words():
                self._common_configuration(**aggregation)

        def export(self, metrics_data: Any, timeout_millis: float = 0, **kwargs: Any) -> MetricExportResult:
            put(encode_metrics(metrics_data), last_only=last_only)
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


def _aggregation(warn: Warn) -> dict[str, Any]:
    """Return arguments where versions of the SDK read the variable differently."""
    if METRICS_HISTOGRAM_AGGREGATION.value(os.environ, warn) == "explicit_bucket_histogram":
        return {}
    from opentelemetry.sdk.metrics import Histogram
    from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation

    return {"preferred_aggregation": {Histogram: ExponentialBucketHistogramAggregation()}}


@contextmanager
def _without_the_sdks_words() -> Iterator[None]:
    """Hold back what the SDK says about these variables while this thread reads them: it was told before."""
    thread = threading.get_ident()

    def is_news(record: logging.LogRecord) -> bool:
        return record.thread != thread

    loggers = [
        logging.getLogger(name)
        for name in (
            "opentelemetry.exporter.otlp.common._aggregation",
            "opentelemetry.exporter.otlp.proto.common._internal.metrics_encoder",
        )
    ]
    for logger in loggers:
        logger.addFilter(is_news)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(is_news)
