"""Log records in the SDK's form, to our outbox, to other exporters, or to the program's own provider."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from .. import _contract as c
from .._job.event import SEVERITY_TEXT, Event
from .._runtime.guard import note_internal_error
from .._version import __version__
from .batcher import Batcher
from .context import context_of

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider
    from opentelemetry.sdk._logs import ReadableLogRecord
    from opentelemetry.sdk.resources import Resource

    from .._config.limits import LogLimits
    from .._delivery.outbox import Outbox
    from .log_encoding import LogEncoder

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

    def commit(self) -> None:
        """Make sure that what was emitted outlives the process, where there is a spool."""


class OwnLogs:
    """Log records to the outbox and to delivery threads, without the SDK's logger.

    That spends more on copying attributes than all the rest of the bridge on an event.
    """

    def __init__(
        self,
        outbox: Outbox | None,
        batchers: Sequence[Batcher[Event]],
        encoder: Callable[[], LogEncoder],
    ) -> None:
        self._outbox = outbox
        self._batchers = batchers
        self._make_encoder = encoder
        self._encoder: LogEncoder | None = None
        self._waiting: list[Event] = []

    def emit(self, record: Event) -> None:
        """Queue the record."""
        if self._outbox is not None:
            self._waiting.append(record)
        for batcher in self._batchers:
            batcher.put(record)

    def commit(self) -> None:
        """Put what was emitted into the spool."""
        if self._outbox is None or not self._waiting:
            return
        if self._encoder is None:
            self._encoder = self._make_encoder()
        waiting, self._waiting = self._waiting, []
        encoded = self._encoder.encode(waiting, iter(new_uid, ""))
        self._outbox.keep(encoded, time.time_ns(), recorded=len(waiting))


class ProviderLogs:
    """Log records through the logger of the program's own provider."""

    def __init__(self, provider: LoggerProvider) -> None:
        self._logger = provider.get_logger(c.SCOPE, __version__)

    def emit(self, record: Event) -> None:
        """Emit the record through the SDK."""
        from opentelemetry._logs import SeverityNumber

        try:
            self._logger.emit(
                timestamp=record.time_ns,
                observed_timestamp=record.observed_ns,
                context=context_of(record.span),
                severity_number=SeverityNumber(record.severity),
                severity_text=SEVERITY_TEXT[record.severity],
                body=record.body,
                attributes={**record.attributes, c.LOG_RECORD_UID: new_uid()},
                event_name=record.name,
            )
        except Exception as error:  # a processor of the program's
            note_internal_error("emitting a log record", error)

    def commit(self) -> None:
        """Do nothing: the program's own processors hold the records."""


class ReadableRecords:
    """Gives records the form that exporters of the SDK's kind take, their attributes within the limits.

    The SDK's ``BoundedAttributes`` would drop the first ones, which say most, with a warning for each; and
    before 1.45 lists of several types.
    """

    def __init__(self, resource: Resource, limits: LogLimits) -> None:
        from opentelemetry._logs import LogRecord, SeverityNumber
        from opentelemetry.sdk._logs import ReadableLogRecord
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        @dataclass(frozen=True)
        class Readable(ReadableLogRecord):
            left_out: int = 0

            @property
            def dropped_attributes(self) -> int:
                return self.left_out

        self._record, self._readable = LogRecord, Readable
        self._severity = SeverityNumber
        self._scope = InstrumentationScope(c.SCOPE, __version__)
        self._resource, self._limits = resource, limits

    def batch(self, events: Sequence[Event]) -> list[ReadableLogRecord]:
        """Return the records of a batch."""
        return [self._of(event) for event in events]

    def _of(self, event: Event) -> ReadableLogRecord:
        attributes = {c.LOG_RECORD_UID: new_uid(), **event.attributes}
        most, longest = self._limits.attribute_count, self._limits.value_length
        left_out = max(0, len(attributes) - most)
        if left_out:
            attributes = dict(itertools.islice(attributes.items(), most))
        if longest is not None:
            attributes = {key: _shortened(value, longest) for key, value in attributes.items()}
        record = self._record(
            timestamp=event.time_ns,
            observed_timestamp=event.observed_ns or event.time_ns,
            context=context_of(event.span),
            severity_number=self._severity(event.severity),
            severity_text=SEVERITY_TEXT[event.severity],
            body=event.body,
            attributes=attributes,
            event_name=event.name,
        )
        return self._readable(record, self._resource, self._scope, left_out=left_out)


def _shortened(value: Any, longest: int) -> Any:
    """Return a value with its texts cut, also those inside of it."""
    if isinstance(value, str):
        return value[:longest]
    if isinstance(value, Mapping):
        return {key: _shortened(each, longest) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [_shortened(each, longest) for each in value]
    return value
