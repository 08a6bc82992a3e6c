"""How metrics are sent, as the variables say."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

from otlp_receiver import OtlpReceiver
from tests.support.harness import TIMEOUT_S, otlp
from tests.support.recording import RECORD, environment_of, record_job
from torchelastic_otel._telemetry.metric_export import metric_exporter

TEMPORALITY = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"
AGGREGATION = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION"


@pytest.mark.parametrize(("preference", "last_only"), [("cumulative", True), ("delta", False)])
def test_of_what_counts_from_the_start_the_last_state_is_enough(
    monkeypatch: pytest.MonkeyPatch, preference: str, last_only: bool
) -> None:
    """A backend that was away needs all of what counts from export to export."""
    monkeypatch.setenv(TEMPORALITY, preference)
    kept: list[bool] = []
    exporter = metric_exporter(lambda request, *, last_only: kept.append(last_only), pytest.fail)
    provider = MeterProvider([PeriodicExportingMetricReader(exporter, math.inf)], shutdown_on_exit=False)
    provider.get_meter("test").create_counter("counter").add(1)
    provider.force_flush()
    provider.shutdown()
    assert kept[:1] == [last_only]


def test_wrong_preferences_are_one_warning_each(receiver: OtlpReceiver) -> None:
    """The default is used, and the SDK does not say it again."""
    said = record_job({**otlp(receiver), TEMPORALITY: "best", AGGREGATION: "best"}).splitlines()
    assert sorted(line.partition("=")[0] for line in said) == [AGGREGATION, TEMPORALITY]
    assert {point.temporality for point in receiver.metrics if point.is_monotonic} == {"CUMULATIVE"}


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
