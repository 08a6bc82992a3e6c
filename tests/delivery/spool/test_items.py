"""Items become requests that OTLP's services take, and know where they were to go."""

from __future__ import annotations

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs
from opentelemetry.proto.metrics.v1.metrics_pb2 import ResourceMetrics
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span

from torchelastic_otel._config.otlp import OtlpTarget
from torchelastic_otel._delivery.spool import Item, assemble, destination_of


def header(name: str, *, of: type[ResourceLogs] | type[ResourceSpans] = ResourceLogs) -> bytes:
    """Return a header with one attribute and one empty scope."""
    message = of()
    message.resource.attributes.add(key="name").value.string_value = name
    scopes = message.scope_logs if isinstance(message, ResourceLogs) else message.scope_spans
    scopes.add().scope.name = f"scope of {name}"
    return bytes(message.SerializeToString())


def test_requests_group_items_by_their_header_in_order() -> None:
    """One resource for each header, and the records of each in the order of the items."""
    headers = {1: header("one"), 2: header("two")}
    items = [
        Item(number, "logs", scope, LogRecord(event_name=f"e{number}").SerializeToString())
        for number, scope in enumerate([2, 1, 2])
    ]
    request = ExportLogsServiceRequest.FromString(assemble("logs", items, headers.__getitem__))
    found = [
        (
            resource.resource.attributes[0].value.string_value,
            [scope.scope.name for scope in resource.scope_logs],
            [record.event_name for record in resource.scope_logs[0].log_records],
        )
        for resource in request.resource_logs
    ]
    assert found == [("two", ["scope of two"], ["e0", "e2"]), ("one", ["scope of one"], ["e1"])]


def test_requests_of_spans_are_theirs() -> None:
    """Spans go under resource and scope likewise."""
    items = [Item(number, "traces", 1, Span(name=f"s{number}").SerializeToString()) for number in range(2)]
    payload = assemble("traces", items, lambda _: header("one", of=ResourceSpans))
    (resource,) = ExportTraceServiceRequest.FromString(payload).resource_spans
    assert [span.name for span in resource.scope_spans[0].spans] == ["s0", "s1"]


def test_requests_of_metrics_are_the_items_themselves() -> None:
    """Several become one request."""
    requests = [
        ExportMetricsServiceRequest(resource_metrics=[ResourceMetrics(schema_url=url)]).SerializeToString()
        for url in ("a", "b")
    ]
    items = [Item(number, "metrics", 0, request) for number, request in enumerate(requests)]
    assert assemble("metrics", items[:1], header_of=lambda _: b"") == requests[0]
    both = ExportMetricsServiceRequest.FromString(assemble("metrics", items, header_of=lambda _: b""))
    assert [resource.schema_url for resource in both.resource_metrics] == ["a", "b"]


@pytest.mark.parametrize(
    ("endpoint", "shown"),
    [
        ("http://user:secret@host:4318/v1/logs", "http://host:4318/v1/logs"),
        ("https://host/otlp/v1/logs?key=secret#secret", "https://host/otlp/v1/logs"),
        ("http://u:secret@[::1]:4318/a@b?to=c://d", "http://[::1]:4318/a@b"),
        ("secret@host:4317", "host:4317"),
        ("dns:///collector:4317", "dns:///collector:4317"),
        ("unix:/run/otel.sock", "unix:/run/otel.sock"),
    ],
)
def test_a_destination_shows_no_credentials(endpoint: str, shown: str) -> None:
    """Nor do its headers appear anywhere."""
    target = OtlpTarget("grpc", endpoint, headers=(("authorization", "secret"),))
    destination = destination_of(target)
    assert destination.endpoint == shown
    assert "secret" not in repr(destination)


def test_a_destination_is_the_same_for_the_same_protocol_endpoint_and_headers() -> None:
    """Whatever the order of headers; a user in the URL counts."""
    headers = (("a", "1"), ("b", "2"))
    base = destination_of(OtlpTarget("grpc", "http://host", headers=headers))
    assert destination_of(OtlpTarget("grpc", "http://host", headers=headers[::-1], timeout_s=1)) == base
    others = [
        OtlpTarget("http/protobuf", "http://host", headers=headers),
        OtlpTarget("grpc", "http://other", headers=headers),
        OtlpTarget("grpc", "http://user@host", headers=headers),
        OtlpTarget("grpc", "http://host", headers=(("a", "12"), ("b", ""))),
    ]
    assert len({base.fingerprint, *(destination_of(other).fingerprint for other in others)}) == 5
