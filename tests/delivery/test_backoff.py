"""When to try again: each signal by itself, all of them where nobody answers at all."""

from __future__ import annotations

import pytest

from torchelastic_otel._delivery.backoff import Backoff, Place
from torchelastic_otel._delivery.outboxes import server_of


def test_waits_double_up_to_a_minute() -> None:
    """Each is drawn between half of that and all of it."""
    backoff, now = Backoff(), 0.0
    for longest_s in (1, 2, 4, 8, 16, 32, 60, 60):
        backoff.failed(now)
        wait_s = backoff.wait_s(now)
        assert longest_s / 2 <= wait_s <= longest_s
        now += wait_s
        assert backoff.wait_s(now) == 0


def test_attempts_at_the_same_time_count_once() -> None:
    """The second one says no more than the first."""
    backoff = Backoff()
    for _ in range(10):
        backoff.failed(0.0)
    assert backoff.wait_s(0.0) <= 1


def test_after_a_success_the_next_failure_is_the_first() -> None:
    """Whatever came before."""
    backoff = Backoff()
    for now in range(0, 1000, 100):
        backoff.failed(float(now), 50.0)
    backoff.succeeded()
    assert backoff.wait_s(1000.0) == 0
    backoff.failed(1000.0)
    assert backoff.wait_s(1000.0) <= 1


def test_what_the_server_asked_for_is_kept_also_by_who_is_urgent() -> None:
    """The rest of the wait is not."""
    backoff = Backoff()
    backoff.failed(0.0, 30.0)
    assert 30 <= backoff.wait_s(0.0) <= 31
    assert backoff.wait_s(0.0, urgent=True) == 30
    backoff.failed(1.0)
    assert backoff.wait_s(0.0, urgent=True) == 30
    backoff.failed(40.0)
    assert backoff.wait_s(40.0) > 0
    assert backoff.wait_s(40.0, urgent=True) == 0


def test_a_signals_refusals_are_its_own() -> None:
    """Neither does another one wait for them, nor does its success undo them."""
    place = Place()
    metrics, logs = Backoff(place), Backoff(place)
    metrics.failed(0.0, 3600.0)
    assert logs.wait_s(0.0) == 0
    logs.succeeded()
    assert metrics.wait_s(0.0) >= 3600
    logs.failed(1.0)
    assert metrics.wait_s(1.0, urgent=True) == 3599


def test_that_nobody_answers_is_for_all_signals_there() -> None:
    """Until somebody does, whatever he says."""
    place = Place()
    logs, traces, elsewhere = Backoff(place), Backoff(place), Backoff()
    logs.unreachable(0.0)
    assert traces.wait_s(0.0) == logs.wait_s(0.0) > 0
    assert traces.wait_s(0.0, urgent=True) == 0
    assert elsewhere.wait_s(0.0) == 0
    traces.failed(0.0)
    assert logs.wait_s(0.0) == 0
    assert traces.wait_s(0.0) > 0


@pytest.mark.parametrize(
    ("endpoint", "server"),
    [
        ("http://collector:4318/v1/logs", "http://collector:4318"),
        ("https://collector/otlp/v1/logs?key=1", "https://collector"),
        ("https://collector?key=1", "https://collector"),
        ("http://collector:4317", "http://collector:4317"),
        ("collector:4317", "collector:4317"),
        ("dns:///collector:4317", "dns:///collector:4317"),
    ],
)
def test_the_server_is_what_signals_have_in_common(endpoint: str, server: str) -> None:
    """Its paths are not."""
    assert server_of(endpoint) == server
