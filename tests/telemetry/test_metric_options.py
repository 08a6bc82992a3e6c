"""How metrics are sent, as the variables say."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider

from otlp_receiver import OtlpReceiver
from tests.support.harness import TIMEOUT_S, otlp
from tests.support.recording import RECORD, environment_of, record_job
from torchelastic_otel._telemetry.metric_export import metric_exporter
from torchelastic_otel._telemetry.sdk_objects import exemplar_filter_from_env

TEMPORALITY = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"
AGGREGATION = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION"


def exported(warn: Callable[[str], None]) -> tuple[dict[str, str], bool]:
    """Return kind and temporality of each metric as it is sent, and whether only the last state counts."""
    requests: list[tuple[bytes, bool]] = []
    exporter = metric_exporter(lambda request, *, last_only: requests.append((request, last_only)), warn)
    provider = MeterProvider([PeriodicExportingMetricReader(exporter, math.inf)], shutdown_on_exit=False)
    provider.get_meter("test").create_counter("counter").add(1)
    provider.get_meter("test").create_histogram("histogram").record(1)
    provider.force_flush()
    provider.shutdown()
    sent = ExportMetricsServiceRequest.FromString(requests[0][0])
    found = {}
    for metric in sent.resource_metrics[0].scope_metrics[0].metrics:
        kind = str(metric.WhichOneof("data"))
        temporality = AggregationTemporality.Name(getattr(metric, kind).aggregation_temporality)
        found[metric.name] = f"{kind} {temporality.rpartition('_')[2]}"
    return found, requests[0][1]


@pytest.mark.parametrize(
    ("preference", "aggregation", "counter", "histogram", "last_only"),
    [
        ("", "", "sum CUMULATIVE", "histogram CUMULATIVE", True),
        ("cumulative", "explicit_bucket_histogram", "sum CUMULATIVE", "histogram CUMULATIVE", True),
        ("delta", "base2_exponential_bucket_histogram", "sum DELTA", "exponential_histogram DELTA", False),
        (
            "LowMemory",
            "BASE2_EXPONENTIAL_BUCKET_HISTOGRAM",
            "sum DELTA",
            "exponential_histogram DELTA",
            False,
        ),
    ],
)
def test_counters_and_histograms_are_as_preferred(
    monkeypatch: pytest.MonkeyPatch,
    preference: str,
    aggregation: str,
    counter: str,
    histogram: str,
    last_only: bool,
) -> None:
    """In any case; of what counts from the start, only the last state is worth keeping."""
    monkeypatch.setenv(TEMPORALITY, preference)
    monkeypatch.setenv(AGGREGATION, aggregation)
    assert exported(pytest.fail) == ({"counter": counter, "histogram": histogram}, last_only)


def test_wrong_preferences_are_one_warning_each(receiver: OtlpReceiver) -> None:
    """The default is used, and the SDK does not say it again."""
    said = record_job({**otlp(receiver), TEMPORALITY: "best", AGGREGATION: "best"}).splitlines()
    assert sorted(line.partition("=")[0] for line in said) == [AGGREGATION, TEMPORALITY]
    assert {point.temporality for point in receiver.metrics if point.is_monotonic} == {"CUMULATIVE"}


@pytest.mark.parametrize(
    ("value", "in_span", "outside"),
    [("", 1, 0), ("trace_based", 1, 0), ("always_on", 1, 1), ("Always_Off", 0, 0)],
)
def test_the_exemplar_filter(value: str, in_span: int, outside: int) -> None:
    """OTEL_METRICS_EXEMPLAR_FILTER decides which measurements lead to their trace."""
    chosen = exemplar_filter_from_env({"OTEL_METRICS_EXEMPLAR_FILTER": value}, pytest.fail)
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], exemplar_filter=chosen, shutdown_on_exit=False)
    counter = provider.get_meter("test").create_counter("hello")
    counter.add(1, {"where": "alone"})
    with TracerProvider(shutdown_on_exit=False).get_tracer("test").start_as_current_span("span") as span:
        counter.add(1, {"where": "inside"})
    found = reader.get_metrics_data()
    provider.shutdown()
    assert found is not None
    points = found.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
    exemplars = {str((point.attributes or {})["where"]): point.exemplars for point in points}
    assert (len(exemplars["inside"]), len(exemplars["alone"])) == (in_span, outside)
    trace_id = span.get_span_context().trace_id
    assert all(exemplar.trace_id == trace_id for exemplar in exemplars["inside"])


def test_metrics_come_by_themselves_at_their_interval(receiver: OtlpReceiver) -> None:
    """OTEL_METRIC_EXPORT_INTERVAL is in milliseconds."""
    started = subprocess.Popen(
        [sys.executable, "-c", f"{RECORD}\nrecord(1)\ninput()"],
        env=environment_of({**otlp(receiver), "OTEL_METRIC_EXPORT_INTERVAL": "20"}),
        stdin=subprocess.PIPE,
        text=True,
    )
    try:
        # A minute by default.
        assert receiver.wait(lambda r: len([each for each in r.requests if each.signal == "metrics"]) >= 3)
        started.communicate("\n", timeout=TIMEOUT_S)
    finally:
        started.kill()
