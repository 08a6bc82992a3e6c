"""What of OpenTelemetry is private and used all the same may be gone: nothing breaks."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from opentelemetry import context

from tests.support.job_player import moment, ns
from tests.support.sdk_world import InMemory
from torchelastic_otel._runtime.own_thread import as_own_thread
from torchelastic_otel._telemetry.redaction import Redaction
from torchelastic_otel._telemetry.spans import RecordedSpan


def test_threads_run_without_the_private_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """They mark their requests by the key that instrumentations look for."""
    monkeypatch.delattr(context, "_SUPPRESS_INSTRUMENTATION_KEY")
    found: list[object] = []

    def run() -> None:
        as_own_thread()
        found.append(context.get_value("suppress_instrumentation"))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [True]


@pytest.mark.parametrize("events", [(), None])
def test_a_span_that_hides_its_events_ends(events: Any) -> None:
    """Only the count of those that were left out is missing."""
    out = InMemory()
    made = out.telemetry.tracer.start_span("s")
    made._events = events  # type: ignore[attr-defined]  # the SDK's, not the API's
    ended: list[int | None] = []
    made.add_event = lambda *_: None  # type: ignore[method-assign]
    made.end = ended.append  # type: ignore[method-assign, assignment]
    span = RecordedSpan(made, made.get_span_context(), moment(1), 1, Redaction())
    span.add_event("a", moment(1), {})
    span.add_event("b", moment(1), {})
    span.end(moment(2))
    assert ended == [ns(2)]
