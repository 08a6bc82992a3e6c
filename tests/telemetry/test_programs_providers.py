"""Which providers are a program's own, whose processors and resource are then used."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from opentelemetry import _logs, metrics, trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider

from tests.support.harness import TIMEOUT_S
from tests.support.recording import RECORD, environment_of
from torchelastic_otel._runtime.otel_api import is_real
from torchelastic_otel._telemetry.providers import Providers, global_providers

LOGFIRE = "logfire==5.4.0"
"""It allows for a range of OpenTelemetry's versions, and so has an environment of its own."""

PROGRAM = f"""
import atexit, logfire, torchelastic_otel
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
atexit.register(lambda: print([span.name for span in spans.get_finished_spans()]))
logfire.configure(
    send_to_logfire=False,
    console=False,
    additional_span_processors=[SimpleSpanProcessor(spans)],
    metrics=logfire.MetricsOptions(additional_readers=[reader]),
)
{RECORD}
record(1)
assert torchelastic_otel.flush(60)
scopes = [s.scope for r in reader.get_metrics_data().resource_metrics for s in r.scope_metrics]
print("torchelastic_otel" in [s.name for s in scopes])
"""


class ProxyTracerProvider(trace.NoOpTracerProvider):
    """Somebody's own, named as the API's is."""


class NoOpTracerProvider(TracerProvider):
    """Likewise."""


@pytest.mark.parametrize(
    "provider",
    [
        ProxyTracerProvider(),
        NoOpTracerProvider(shutdown_on_exit=False),
        TracerProvider(shutdown_on_exit=False),
        LoggerProvider(shutdown_on_exit=False),
        MeterProvider(shutdown_on_exit=False),
    ],
    ids=lambda provider: type(provider).__qualname__,
)
def test_whoever_sets_a_provider_up_means_it(provider: object) -> None:
    """Whatever the name of its class is."""
    assert is_real(provider)


@pytest.mark.parametrize(
    "provider",
    [
        trace.ProxyTracerProvider(),
        trace.NoOpTracerProvider(),
        _logs.NoOpLoggerProvider(),
        metrics.NoOpMeterProvider(),
        trace.get_tracer_provider(),
        _logs.get_logger_provider(),
        metrics.get_meter_provider(),
    ],
    ids=lambda provider: type(provider).__qualname__,
)
def test_the_apis_own_are_nobodys(provider: object) -> None:
    """Its no-ops, and the proxies that are there before anything is set up."""
    assert not is_real(provider)
    assert global_providers() == Providers()


@pytest.mark.e2e
def test_a_program_that_uses_logfire_is_seen(tmp_path: Path) -> None:
    """Spans and metrics go where it sends its own, and not past it."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(tmp_path), LOGFIRE]
    subprocess.run(pip, check=True, capture_output=True, timeout=TIMEOUT_S)
    environ = environment_of({})
    environ["PYTHONPATH"] = os.pathsep.join([str(tmp_path), environ["PYTHONPATH"]])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environ,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "True\n['torchelastic.agent']\n"), done.stderr
