"""From the SDK's records and spans to single OTLP messages, which a spool can keep and a request can hold.

The stock encoders do the work. What they make for a batch is taken apart, so that a message can be sent with
any others of its resource, or alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, cast

from .. import _contract as c
from .._runtime.guard import note_internal_error
from .._runtime.imports import import_module, importing

_SERVICES = {"logs": ("logs", "Logs"), "traces": ("trace", "Trace"), "metrics": ("metrics", "Metrics")}
FIELDS = {
    "logs": ("resource_logs", "scope_logs", "log_records"),
    "traces": ("resource_spans", "scope_spans", "spans"),
}
"""Where a request has its resources, a resource its scopes, and a scope its items."""


class Encoded(NamedTuple):
    """Items of one resource and scope."""

    header: bytes
    """Serialized ResourceLogs or ResourceSpans with one empty scope; empty for metrics."""
    payloads: list[bytes]
    """What goes into it: a serialized LogRecord or Span each; for metrics a whole request."""


class Readable(Protocol):
    """A record or span in the SDK's form, as far as it matters here: the SDK is for others to know."""

    @property
    def resource(self) -> object:
        """Who recorded it."""

    @property
    def instrumentation_scope(self) -> object:
        """By what."""


if TYPE_CHECKING:
    # Which request it makes depends on the signal, and its fields are looked up by name: Any.
    Encode = Callable[[Sequence[Readable]], Any]


def service_names(signal: str) -> tuple[str, str]:
    """Return the package and the name of the signal's OTLP service."""
    package, name = _SERVICES[signal]
    return f"opentelemetry.proto.collector.{package}.v1", name


def service_message(signal: str, kind: Literal["Request", "Response"]) -> Any:
    """Return the class of the messages that the signal's OTLP service takes, or answers with.

    Any, as all of protobuf: its own classes have no types, and these differ by signal.
    """
    package, name = service_names(signal)
    module = import_module(f"{package}.{_SERVICES[signal][0]}_service_pb2")
    return getattr(module, f"Export{name}Service{kind}")


def encode_logs(records: Sequence[Readable]) -> list[Encoded]:
    """Encode ``ReadableLogRecord`` objects; one that cannot be encoded is left out, and said."""
    from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs as encode

    return _apart("logs", records, cast("Encode", encode))


def encode_spans(spans: Sequence[Readable]) -> list[Encoded]:
    """Encode ``ReadableSpan`` objects, ended or not; one that cannot be encoded is left out, and said."""
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans as encode

    return _apart("traces", spans, cast("Encode", encode))


def encode_metrics(data: object) -> bytes:
    """Encode the SDK's ``MetricsData`` as a whole request."""
    from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics as encode

    request = cast("Callable[[object], Any]", encode)(data)
    return bytes(request.SerializeToString())


def _apart(signal: str, items: Sequence[Readable], encode: Encode) -> list[Encoded]:
    try:
        request = encode(items)
    except Exception as error:
        if len(items) == 1:
            note_internal_error("encoding", error)
            return []
        # One bad value must not cost its neighbours.
        return [encoded for item in items for encoded in _apart(signal, [item], encode)]
    resources, scopes, leaves = FIELDS[signal]
    parts = []
    for resource in getattr(request, resources):
        for scope in getattr(resource, scopes):
            payloads = [leaf.SerializeToString() for leaf in getattr(scope, leaves)]
            scope.ClearField(leaves)
            header = type(resource)()
            header.CopyFrom(resource)
            header.ClearField(scopes)
            getattr(header, scopes).append(scope)
            parts.append(Encoded(header.SerializeToString(deterministic=True), payloads))
    return parts


def truncated(span: bytes, last_ns: int) -> bytes | None:
    """Return a serialized span that never ended, ended and marked as truncated; None if it cannot be read.

    Args:
        span: serialized, without an end.
        last_ns: when it ends, though not before its start (nanoseconds since the epoch).
    """
    with importing:
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # it has no types
        from opentelemetry.proto.trace.v1.trace_pb2 import Span
    try:
        message = Span.FromString(span)
    except DecodeError:
        return None
    message.end_time_unix_nano = max(last_ns, message.start_time_unix_nano)
    message.attributes.add(key=c.TRUNCATED).value.bool_value = True
    return bytes(message.SerializeToString())
