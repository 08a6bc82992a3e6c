"""A program's own providers, whose parts may fail: the job is understood to its end all the same."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

from tests.support.job_player import Player
from tests.support.said import Said
from torchelastic_otel._telemetry.providers import Providers
from torchelastic_otel._telemetry.telemetry import Telemetry


class Broken(SpanProcessor):
    """A span processor that fails at the starts or the ends of spans, and notes their names."""

    def __init__(self, *, at_start: bool = False, at_end: bool = False) -> None:
        self.ended: list[str] = []
        self._at_start, self._at_end = at_start, at_end

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        """Fail, or not."""
        if self._at_start:
            raise ValueError("broken at start")

    def on_end(self, span: ReadableSpan) -> None:
        """Note a name; fail, or not."""
        self.ended.append(span.name)
        if self._at_end:
            raise ValueError("broken at end")


class Logs:
    """A log record processor that fails after it noted a name."""

    def __init__(self, *, broken: bool) -> None:
        self.names: list[str] = []
        self._broken = broken

    def on_emit(self, data: Any) -> None:
        """Note a name; fail, or not."""
        self.names.append(data.log_record.event_name)
        if self._broken:
            raise ValueError("broken log")

    def shutdown(self) -> None:
        """Do nothing."""

    def force_flush(self, timeout_millis: int = 0) -> bool:
        """Do nothing."""
        return True


def play(spans: Broken, logs: Logs) -> None:
    """Play a job with a restart to a program's own providers."""
    tracers, loggers = TracerProvider(shutdown_on_exit=False), LoggerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(spans)
    loggers.add_log_record_processor(logs)  # type: ignore[arg-type]  # a duck, for all versions
    providers = Providers(tracers, loggers, MeterProvider(shutdown_on_exit=False))
    job = Player(Telemetry({}, pytest.fail, providers), None, None)
    job.start(0)
    job.join(0)
    job.workers(2)
    job.die(10, {1: 3}, stopped={0: -15})
    job.restart(11)
    job.succeed(20)
    job.settle()


def names(logs: Logs) -> list[str]:
    """Return the names of the bridge's own records."""
    return [name for name in logs.names if name.startswith("torchelastic.") and "status" not in name]


OWN_RECORDS = [
    *("torchelastic.agent.start", "torchelastic.failure", "torchelastic.failure"),
    *("torchelastic.restart", "torchelastic.agent.stop"),
]
SPANS = ["agent"] + ["rendezvous"] * 2 + ["worker"] * 4 + ["worker_group"] * 2


@pytest.mark.internal_errors("ending a span: ValueError: broken at end")
def test_a_processor_that_fails_at_the_end_of_each_span_keeps_none_open(said: Said) -> None:
    """Each is ended, and all is told; the failure is said once."""
    spans, logs = Broken(at_end=True), Logs(broken=False)
    play(spans, logs)
    assert sorted(spans.ended) == [f"torchelastic.{name}" for name in SPANS]
    assert names(logs) == OWN_RECORDS
    assert len(said.having("ending a span: ValueError: broken at end")) == 1


@pytest.mark.internal_errors("starting a span: ValueError: broken at start")
def test_a_processor_that_fails_at_the_start_of_each_span_costs_no_record(said: Said) -> None:
    """There are no spans then."""
    spans, logs = Broken(at_start=True), Logs(broken=False)
    play(spans, logs)
    assert spans.ended == []
    assert names(logs) == OWN_RECORDS
    assert len(said.having("starting a span: ValueError: broken at start")) == 1


@pytest.mark.internal_errors("emitting a log record: ValueError: broken log")
def test_a_processor_of_logs_that_fails_costs_no_span(said: Said) -> None:
    """What happened is understood from each event, whether or not its record arrives."""
    spans, logs = Broken(), Logs(broken=True)
    play(spans, logs)
    assert sorted(spans.ended) == [f"torchelastic.{name}" for name in SPANS]
    assert names(logs) == OWN_RECORDS
    assert len(said.having("emitting a log record: ValueError: broken log")) == 1
