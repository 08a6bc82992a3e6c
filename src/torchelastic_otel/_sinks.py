"""From the bridge's events and spans to the SDK's forms of them, and to whoever takes those."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from . import _contract as c
from ._delivery import Batcher
from ._translate import SEVERITY_TEXT, Event
from ._version import __version__

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider
    from opentelemetry.context import Context
    from opentelemetry.sdk._logs import ReadableLogRecord
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext

    from ._environment import LogLimits

_uids = itertools.count(1)
_process_uid: list[tuple[int, str]] = []


def new_uid() -> str:
    """Return an id that no other log record has: 16 random bytes of the process and a number, as hex."""
    pid = os.getpid()
    if not _process_uid or _process_uid[0][0] != pid:  # a forked child has a random part of its own
        _process_uid[:] = [(pid, os.urandom(16).hex())]
    return f"{_process_uid[0][1]}{next(_uids):08x}"


class LogSink(Protocol):
    """Takes log records."""

    def emit(self, record: Event) -> None:
        """Send a record on its way."""


class SpanQueue:
    """Span processor that hands ended, sampled spans to the delivery thread."""

    def __init__(self, batcher: Batcher[ReadableSpan]) -> None:
        self._batcher = batcher

    def on_start(self, span: Any, parent_context: Context | None = None) -> None:
        """Do nothing: only ended spans travel."""

    def _on_ending(self, span: Any) -> None:
        """Do nothing."""

    def on_end(self, span: ReadableSpan) -> None:
        """Queue the span if it was sampled."""
        if span.context is not None and span.context.trace_flags.sampled:
            self._batcher.put(span)

    def shutdown(self) -> None:
        """Do nothing: the bridge flushes with a deadline of its own."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush the delivery thread."""
        return self._batcher.flush(time.monotonic() + timeout_millis / 1000)


class OwnLogs:
    """Log records straight to the delivery thread.

    The SDK's logger spends more on copying attributes than all the rest of the bridge on an event, so that
    records take the SDK's form only where they are exported, off the critical path.
    """

    def __init__(self, batcher: Batcher[Event]) -> None:
        self._batcher = batcher

    def emit(self, record: Event) -> None:
        """Queue the record."""
        self._batcher.put(record)


class ProviderLogs:
    """Log records through the logger of the program's own provider."""

    def __init__(self, provider: LoggerProvider) -> None:
        self._logger = provider.get_logger(c.SCOPE, __version__)

    def emit(self, record: Event) -> None:
        """Emit the record through the SDK."""
        from opentelemetry._logs import SeverityNumber

        self._logger.emit(
            timestamp=record.time_ns,
            observed_timestamp=record.observed_ns,
            context=_context_of(record.span),
            severity_number=SeverityNumber(record.severity),
            severity_text=SEVERITY_TEXT[record.severity],
            body=record.body,
            attributes={**record.attributes, c.LOG_RECORD_UID: new_uid()},
            event_name=record.name,
        )


def _context_of(span: SpanContext | None) -> Context:
    from opentelemetry.context import Context
    from opentelemetry.trace import INVALID_SPAN, NonRecordingSpan, set_span_in_context

    # An empty Context would be falsy, and the caller's span would be taken instead.
    return set_span_in_context(INVALID_SPAN if span is None else NonRecordingSpan(span), Context())


class ReadableRecords:
    """Gives records the SDK's form, their attributes within the user's limits.

    The SDK copies and checks every attribute; ours are clean already, so that is left to records that a limit
    touches.
    """

    def __init__(self, resource: Resource, limits: LogLimits) -> None:
        from opentelemetry._logs import LogRecord, SeverityNumber
        from opentelemetry.sdk._logs import ReadableLogRecord
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        self._record, self._readable = LogRecord, ReadableLogRecord
        self._severities = {number: SeverityNumber(number) for number in SEVERITY_TEXT}
        self._scope = InstrumentationScope(c.SCOPE, __version__)
        self._resource, self._limits = resource, limits

    def batch(self, events: Sequence[Event]) -> list[ReadableLogRecord]:
        """Return the records of a batch."""
        copies: dict[int, tuple[Any, dict[str, Any]]] = {}
        records = []
        for event in events:
            key = 0 if event.span is None else event.span.span_id
            if key not in copies:
                made = self._record(context=_context_of(event.span))
                copies[key] = (type(made), made.__dict__)
            kind, common = copies[key]
            # A copy of what the SDK made for this span: making one anew looks the span up each time.
            data = kind.__new__(kind)
            data.__dict__.update(
                common,
                timestamp=event.time_ns,
                observed_timestamp=event.observed_ns or event.time_ns,
                severity_number=self._severities[event.severity],
                severity_text=SEVERITY_TEXT[event.severity],
                body=event.body,
                attributes=self._bounded({c.LOG_RECORD_UID: new_uid(), **event.attributes}),
                event_name=event.name,
            )
            records.append(self._readable(data, self._resource, self._scope))
        return records

    def _bounded(self, attributes: dict[str, Any]) -> Any:
        limits = self._limits
        if len(attributes) <= limits.attribute_count and limits.value_length is None:
            return attributes
        from opentelemetry.attributes import BoundedAttributes

        return BoundedAttributes(
            limits.attribute_count, attributes, immutable=False, max_value_len=limits.value_length
        )
