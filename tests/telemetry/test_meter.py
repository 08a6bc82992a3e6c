"""Measurements on their way to the SDK's instruments: zeros first, nothing lost, nothing drawn by lot."""

from __future__ import annotations

import random
import time

import pytest
from opentelemetry.sdk.metrics import AlwaysOnExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from tests.support.job_player import moment, ns
from tests.support.sdk_world import InMemory, SdkWorld, context
from torchelastic_otel import _contract as c
from torchelastic_otel._config.settings import Settings
from torchelastic_otel._job import facts as f
from torchelastic_otel._telemetry.flusher import Flusher
from torchelastic_otel._telemetry.meter import Meter
from torchelastic_otel._telemetry.metric_export import view_without_random
from torchelastic_otel._telemetry.run_providers import OneProvider


class Counts:
    """A meter provider that notes what its counters are given, and when it is flushed."""

    def __init__(self, fail: str = "") -> None:
        self.seen: list[str] = []
        self._fail = fail

    def get_meter(self, *_: object) -> Counts:
        """Return a meter."""
        return self

    def create_counter(self, name: str, *_: object) -> Counter:
        """Return a counter."""
        return Counter(self, name)

    def force_flush(self, _timeout: float) -> bool:
        """Note it."""
        self.seen.append("flushed")
        return True

    def take(self, name: str, amount: float) -> None:
        """Note a measurement, or fail."""
        if name == self._fail:
            raise ValueError("a view that fails")
        self.seen.append(f"{name.rpartition('.')[2]} {amount:g}")


class Counter:
    """A counter of ``Counts``."""

    def __init__(self, counts: Counts, name: str) -> None:
        self._counts, self._name = counts, name

    def add(self, amount: float, _attributes: object, _context: object) -> None:
        """Note a measurement."""
        self._counts.take(self._name, amount)


def meter_of(counts: Counts) -> tuple[Meter, Flusher]:
    """Return a meter and what flushes it, once that is loaded."""
    flusher = Flusher("test", lambda: OneProvider(counts))
    flusher.wait_loaded(time.monotonic() + 60)
    return Meter(flusher), flusher


def test_a_series_of_failures_is_exported_at_zero_before_it_counts() -> None:
    """Also one that nobody could know of beforehand: backends take its first value for where it starts."""
    counts = Counts()
    meter, flusher = meter_of(counts)
    meter.measure(c.METRIC_WORKER_FAILURES, 1, {c.ERROR_TYPE: "KeyError"})
    meter.publish()
    assert flusher.wait(1, time.monotonic() + 60)
    meter.publish()
    meter.measure(c.METRIC_WORKER_FAILURES, 2, {c.ERROR_TYPE: "KeyError"})
    meter.publish()
    assert counts.seen == ["failures 0", "flushed", "failures 1", "failures 2"]
    flusher.end()


def test_the_last_export_keeps_nothing_back() -> None:
    """There is no time for a zero of its own."""
    counts = Counts()
    meter, flusher = meter_of(counts)
    meter.measure(c.METRIC_WORKER_FAILURES, 1, {c.ERROR_TYPE: "KeyError"})
    meter.publish(last=True)
    assert counts.seen == ["failures 1"]
    flusher.end()


@pytest.mark.internal_errors("measuring torchelastic.events: ValueError: a view that fails")
def test_an_instrument_that_fails_costs_no_other() -> None:
    """And nothing is counted twice for it."""
    counts = Counts(fail=c.METRIC_EVENTS)
    meter, flusher = meter_of(counts)
    meter.measure(c.METRIC_EVENTS, 1, {})
    meter.measure(c.METRIC_HEARTBEATS, 1, {})
    meter.publish()
    meter.publish()
    assert counts.seen == ["heartbeats 1"]
    flusher.end()


# --- with the SDK -----------------------------------------------------------------------------------------


def running() -> SdkWorld:
    """Return a world with one job whose workers run since second 2."""
    world = SdkWorld()
    world.start(0)
    world.join(0)
    world.workers(2)
    return world


def test_every_counter_begins_at_zero() -> None:
    """Before anything has happened all are there, so that the first loss is an increase."""
    world = SdkWorld()
    world.start(0)
    found = world.out.metrics()
    counters = {name for name, known in c.INSTRUMENTS.items() if known.kind == c.COUNTER}
    assert counters <= set(found)
    assert {point.value for name in counters for point in found[name]} == {0}
    for name in c.DELIVERY_METRICS.values():
        assert {point.attributes["otel.signal"] for point in found[name]} == {"logs", "traces", "metrics"}
        assert {point.attributes["torchelastic.run_id"] for point in found[name]} == {"r"}


def test_each_kind_of_metric_has_its_instrument() -> None:
    """Counters add, up and down if they may; a gauge has its last value; a histogram has all."""
    world = running()
    world.succeed(10)
    found = world.out.metrics()
    assert [point.value for point in found[c.METRIC_UPTIME]] == [8]
    assert [point.value for point in found[c.METRIC_WORKER_ACTIVE]] == [0]
    assert [point.value for point in found[c.METRIC_WORLD_SIZE]] == [1]
    assert [(point.sum, point.count) for point in found[c.METRIC_EXIT_BARRIER_DURATION]] == [(300, 1)]
    for name, points in found.items():
        for point in points:
            assert set(point.attributes) <= {"torchelastic.run_id", *c.INSTRUMENTS[name].attributes}


def test_a_gauge_is_told_in_each_export() -> None:
    """Some versions of the SDK forget a gauge once it was exported."""
    world = running()
    for at in range(3, 6):
        world.engine.tick(moment(at))
        assert [point.value for point in world.out.metrics()[c.METRIC_WORLD_SIZE]] == [1]
        assert [point.value for point in world.out.metrics()[c.METRIC_RENDEZVOUS_WAITING]] == [0]


def test_histograms_have_buckets_from_a_blink_to_half_an_hour() -> None:
    """The SDK's own would end at 10 s."""
    (point,) = running().out.metrics()[c.METRIC_RENDEZVOUS_DURATION]
    assert tuple(point.explicit_bounds) == c.SECONDS_BUCKETS


def test_exemplars_lead_to_the_span() -> None:
    """A rendezvous' duration to its span, a failure to the worker's, a restart to the new generation's."""
    world = running()
    world.out.metrics()
    world.die(10, {0: 3}, stopped={1: -15})
    world.restart(12)
    world.tell(f.ExitBarrier, 20, moment(21))
    found = world.out.metrics()
    world.succeed(30)
    spans = {context(span).span_id: span for span in world.out.ended}

    def led_to(name: str) -> list[str]:
        exemplars = [exemplar for point in found[name] for exemplar in point.exemplars]
        return sorted({f"{spans[e.span_id].name} {spans[e.span_id].start_time}" for e in exemplars})

    assert led_to(c.METRIC_WORKER_FAILURES) == [f"torchelastic.worker {ns(2)}"]
    assert led_to(c.METRIC_RESTARTS) == [f"torchelastic.worker_group {ns(15)}"]
    assert led_to(c.METRIC_RESTART_DURATION) == [f"torchelastic.worker_group {ns(15)}"]
    assert f"torchelastic.rendezvous {ns(13)}" in led_to(c.METRIC_RENDEZVOUS_DURATION)
    assert led_to(c.METRIC_EXIT_BARRIER_DURATION) == [f"torchelastic.agent {ns(0)}"]


def test_what_must_not_leave_is_redacted() -> None:
    """In the attributes of measurements, too."""
    out = InMemory(settings=Settings(redact="hunter2"))
    out.telemetry.measure(c.METRIC_EVENTS, 1, {c.EVENT: "has hunter2"})
    (point,) = out.metrics()[c.METRIC_EVENTS]
    assert point.attributes == {c.EVENT: "has [redacted]"}


def test_measuring_leaves_the_programs_random_numbers_alone() -> None:
    """A training script with a seed gets the same numbers with the bridge and without it."""
    reader = InMemoryMetricReader()
    provider = MeterProvider(
        [reader], exemplar_filter=AlwaysOnExemplarFilter(), views=[view_without_random()]
    )
    meter = provider.get_meter("test")
    counter, histogram = meter.create_counter("c"), meter.create_histogram("h")
    random.seed(1)
    before = random.getstate()
    for number in range(10):
        counter.add(number)
        histogram.record(number)
    assert random.getstate() == before
    data = reader.get_metrics_data()
    assert data is not None
    metrics = data.resource_metrics[0].scope_metrics[0].metrics
    assert [e.value for e in metrics[0].data.data_points[0].exemplars or ()] == [9]
