"""Log records as OTLP messages. The SDK's encoder is private, and takes four times as long.

A value that OTLP cannot carry costs its record that value, and no other record anything.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .. import _contract as c
from .._delivery.encoding import Encoded
from .._job.event import SEVERITY_TEXT, Event
from .._runtime.guard import note_internal_error
from .._runtime.imports import importing
from .._version import __version__

if TYPE_CHECKING:
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue
    from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
    from opentelemetry.sdk.resources import Resource

    from .._config.limits import LogLimits


class LogEncoder:
    """Encodes the log records of one resource.

    Args:
        resource: who records.
        limits: how many attributes a record has, and how long a text of them is.
    """

    def __init__(self, resource: Resource, limits: LogLimits) -> None:
        with importing:
            from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs
        self._record = LogRecord
        self._limits = limits
        header = ResourceLogs(schema_url=resource.schema_url)
        header.resource.SetInParent()
        encode_attributes(header.resource.attributes, resource.attributes.items())
        scope = header.scope_logs.add().scope
        scope.name, scope.version = c.SCOPE, __version__
        self._header: bytes = header.SerializeToString(deterministic=True)

    def encode(self, events: Iterable[Event], uids: Iterable[str]) -> list[Encoded]:
        """Encode records, each with a unique id; one that cannot be encoded is left out, and said."""
        payloads: list[bytes] = []
        for event, uid in zip(events, uids, strict=False):  # there is always another id
            try:
                payloads.append(self._encoded(event, uid).SerializeToString())
            except (ValueError, TypeError) as error:
                note_internal_error("encoding", error)
        return [Encoded(self._header, payloads)] if payloads else []

    def _encoded(self, event: Event, uid: str) -> LogRecord:
        record = self._record(
            time_unix_nano=event.time_ns,
            observed_time_unix_nano=event.observed_ns or event.time_ns,
            severity_number=event.severity,  # type: ignore[arg-type]  # an enumeration's value is its number
            severity_text=SEVERITY_TEXT[event.severity],
            event_name=event.name,
        )
        span = event.span
        if span is not None:
            record.flags = span.trace_flags
            if span.trace_id:
                record.trace_id = span.trace_id.to_bytes(16, "big")
            if span.span_id:
                record.span_id = span.span_id.to_bytes(8, "big")
        record.body.string_value = event.body
        attributes = {c.LOG_RECORD_UID: uid, **event.attributes}
        most = self._limits.attribute_count
        # The first ones stay, which say most.
        items = attributes.items() if len(attributes) <= most else itertools.islice(attributes.items(), most)
        record.dropped_attributes_count = max(0, len(attributes) - most) + encode_attributes(
            record.attributes, items, self._limits.value_length
        )
        return record


def encode_attributes(into: Any, attributes: Iterable[tuple[str, object]], longest: int | None = None) -> int:
    """Encode attributes; return how many cannot be encoded, and are left out.

    Args:
        into: a message's field of them; protobuf's containers have no types.
        attributes: names and values.
        longest: most characters of a text, None for no limit.
    """
    left_out = 0
    for key, value in attributes:
        try:
            _encode_value(into.add(key=key).value, value, longest)
        except (ValueError, TypeError) as error:
            del into[-1]
            left_out += 1
            note_internal_error("encoding an attribute", error)
    return left_out


def _encode_value(into: AnyValue, value: object, longest: int | None) -> None:
    """Encode a value as the SDK does; TypeError or ValueError if OTLP has no form for it."""
    if isinstance(value, str):
        into.string_value = value if longest is None else value[:longest]
    elif isinstance(value, bool):
        into.bool_value = value
    elif isinstance(value, int):
        into.int_value = value
    elif isinstance(value, float):
        into.double_value = value
    elif value is None:
        into.SetInParent()
    elif isinstance(value, bytes):
        into.bytes_value = value
    elif isinstance(value, Sequence):
        into.array_value.SetInParent()
        for each in value:
            _encode_value(into.array_value.values.add(), each, longest)
    elif isinstance(value, Mapping):
        into.kvlist_value.SetInParent()
        for name, each in value.items():
            _encode_value(into.kvlist_value.values.add(key=str(name)).value, each, longest)
    else:
        raise TypeError(f"OTLP has no form for {type(value).__name__}")
