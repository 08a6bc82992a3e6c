"""OpenTelemetry's contexts: which span is the current one is always said, never inherited."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import SpanContext

    from .._job.identity import ParentContext


def context_of(span: SpanContext | None) -> Context:
    """Return a context in which ``span`` is the current one, or none is."""
    from opentelemetry.context import Context
    from opentelemetry.trace import INVALID_SPAN, NonRecordingSpan, set_span_in_context

    # An empty Context would be falsy, and the caller's span would be taken instead.
    return set_span_in_context(INVALID_SPAN if span is None else NonRecordingSpan(span), Context())


def remote_context(parent: ParentContext) -> SpanContext:
    """Return the context of another process's span."""
    from opentelemetry.trace import SpanContext, TraceFlags

    flags = TraceFlags(parent.flags)
    return SpanContext(parent.trace_id, parent.span_id, is_remote=True, trace_flags=flags)
