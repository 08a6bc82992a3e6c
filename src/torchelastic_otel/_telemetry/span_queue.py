"""Spans on their way from the SDK to the outbox and to other exporters.

Import this after ``sdk_objects.import_trace_sdk``.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace import SpanProcessor

from .._delivery.encoding import encode_spans
from .batcher import Batcher

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan

    from .._delivery.outbox import Outbox


class SpanQueue(SpanProcessor):
    """Span processor that hands ended, sampled spans to the outbox and to delivery threads.

    Spans are kept in the spool from their start on, so that those of a process that is killed are not lost.

    Args:
        outbox: keeps and sends spans by OTLP; None if they don't go there.
        batchers: send them by other exporters.
    """

    def __init__(self, outbox: Outbox | None, batchers: Sequence[Batcher[ReadableSpan]]) -> None:
        self._outbox = outbox
        self._batchers = batchers
        self._ended: list[ReadableSpan] = []
        self._open: dict[int, tuple[Any, int]] = {}

    def on_start(self, span: Any, parent_context: Context | None = None) -> None:
        """Keep a sampled span from its start on."""
        if self._outbox is not None and span.context.trace_flags.sampled:
            self._open[span.context.span_id] = (span, -1)

    def on_end(self, span: ReadableSpan) -> None:
        """Queue the span if it was sampled."""
        if span.context is not None and span.context.trace_flags.sampled:
            if self._outbox is not None:
                self._ended.append(span)
            for batcher in self._batchers:
                batcher.put(span)

    def commit(self) -> None:
        """Put what ended, and what is known of open spans, into the spool."""
        if self._outbox is None:
            return
        ended, self._ended = self._ended, []
        if ended:
            for span in ended:
                if span.context is not None:
                    self._open.pop(span.context.span_id, None)
            closing = [f"{span.context.span_id:016x}" for span in ended if span.context is not None]
            # In one, so that no span is there twice, ended and truncated; then where else it may be open.
            self._outbox.keep(encode_spans(ended), time.time_ns(), closing, recorded=len(ended))
            self._outbox.forget_open_spans(closing)
        for span_id, (span, told) in self._open.items():
            known = len(span.attributes)
            if known != told:
                self._outbox.keep_open_span(f"{span_id:016x}", encode_spans([span]))
                self._open[span_id] = (span, known)

    def shutdown(self) -> None:
        """Do nothing: the bridge flushes with a deadline of its own."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Do nothing: the bridge flushes by itself."""
        return True
