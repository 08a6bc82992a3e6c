"""From the SDK's spans and metrics to single OTLP messages, which a spool can keep and a request can hold.

The stock encoders do the work. What they make for a batch of spans is taken apart, so that each can be sent
with any others of its resource, or alone. Log records are encoded where they are told.
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
    """A span in the SDK's form, as far as it matters here: the SDK is for others to know."""

    @property
    def resource(self) -> object:
        """Who recorded it."""

    @property
    def instrumentation_scope(self) -> object:
        """By what."""


if TYPE_CHECKING:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    Encode = Callable[[Sequence[Readable]], ExportTraceServiceRequest]


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


def encode_spans(spans: Sequence[Readable]) -> list[Encoded]:
    """Encode ``ReadableSpan`` objects, ended or not; one that cannot be encoded is left out, and said."""
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans as encode

    return _apart(spans, cast("Encode", encode))


def encode_metrics(data: object) -> bytes:
    """Encode the SDK's ``MetricsData`` as a whole request."""
    from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics as encode

    request = cast("Callable[[object], Any]", encode)(data)
    return bytes(request.SerializeToString())


def _apart(spans: Sequence[Readable], encode: Encode) -> list[Encoded]:
    try:
        request = encode(spans)
    except Exception as error:
        if len(spans) == 1:
            note_internal_error("encoding", error)
            return []
        # One bad value must not cost its neighbours.
        return [encoded for span in spans for encoded in _apart([span], encode)]
    parts = []
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            payloads = [span.SerializeToString() for span in scope.spans]
            scope.ClearField("spans")
            header = type(resource)()
            header.CopyFrom(resource)
            header.ClearField("scope_spans")
            header.scope_spans.append(scope)
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
