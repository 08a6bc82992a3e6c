"""From the SDK's records and spans to single OTLP messages, which a spool can keep and a request can hold.

The stock encoders do the work. What they make for a batch is taken apart, so that a message can be sent with
any others of its resource, or alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from .._runtime.guard import note_internal_error
from .._runtime.imports import import_module

_SERVICES = {"logs": ("logs", "Logs"), "traces": ("trace", "Trace"), "metrics": ("metrics", "Metrics")}
FIELDS = {
    "logs": ("resource_logs", "scope_logs", "log_records"),
    "traces": ("resource_spans", "scope_spans", "spans"),
}
"""Where a request has its resources, a resource its scopes, and a scope its items."""

Encoded = tuple[bytes, list[bytes]]
"""A header (``ResourceLogs`` or ``ResourceSpans`` with one empty scope), and what goes into it."""


def service_names(signal: str) -> tuple[str, str]:
    """Return the package and the name of the signal's OTLP service."""
    package, name = _SERVICES[signal]
    return f"opentelemetry.proto.collector.{package}.v1", name


def service_message(signal: str, kind: Literal["Request", "Response"]) -> Any:
    """Return the class of the messages that the signal's OTLP service takes, or answers with."""
    package, name = service_names(signal)
    module = import_module(f"{package}.{_SERVICES[signal][0]}_service_pb2")
    return getattr(module, f"Export{name}Service{kind}")


def encode_logs(records: Sequence[Any]) -> list[Encoded]:
    """Encode ``ReadableLogRecord`` objects; one that cannot be encoded is left out, and said."""
    from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs as encode

    return _apart("logs", records, encode)


def encode_spans(spans: Sequence[Any]) -> list[Encoded]:
    """Encode ``ReadableSpan`` objects, ended or not; one that cannot be encoded is left out, and said."""
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans as encode

    return _apart("traces", spans, encode)


def encode_metrics(data: Any) -> bytes:
    """Encode ``MetricsData`` as a whole request."""
    from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics as encode

    return bytes(encode(data).SerializeToString())


def _apart(signal: str, items: Sequence[Any], encode: Callable[[Sequence[Any]], Any]) -> list[Encoded]:
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
            parts.append((header.SerializeToString(deterministic=True), payloads))
    return parts
