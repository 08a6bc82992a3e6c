"""A worker's own spans under the span that its agent opened for it."""

from __future__ import annotations

import pytest

import torchelastic_otel
from tests.support.trace_ids import SPAN, TRACE

VALID = f"00-{TRACE}-{SPAN}-01"


def test_worker_context_is_attached(monkeypatch: pytest.MonkeyPatch) -> None:
    """``attach_worker_context`` makes the worker's span the current one, until detached."""
    from opentelemetry import context, trace

    monkeypatch.setenv("TRACEPARENT", VALID)
    token = torchelastic_otel.attach_worker_context()
    try:
        current = trace.get_current_span().get_span_context()
        assert (f"{current.trace_id:032x}", f"{current.span_id:016x}") == (TRACE, SPAN)
        assert current.is_remote
    finally:
        context.detach(token)
    assert not trace.get_current_span().get_span_context().is_valid


def test_without_traceparent_the_current_context_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of a job, attaching leaves the caller's own span current."""
    from opentelemetry import context, trace
    from opentelemetry.sdk.trace import TracerProvider

    monkeypatch.delenv("TRACEPARENT", raising=False)
    span = TracerProvider(shutdown_on_exit=False).get_tracer("t").start_span("own")
    with trace.use_span(span):
        token = torchelastic_otel.attach_worker_context()
        assert trace.get_current_span() is span
        context.detach(token)
