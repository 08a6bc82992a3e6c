"""A small OTLP receiver on the loopback interface, for tests and demonstrations.

It takes OTLP/HTTP (protobuf) and OTLP/gRPC, keeps what it is sent as plain objects, and can be told to
misbehave::

    with OtlpReceiver() as receiver:
        run_something(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.http_endpoint)
        assert receiver.wait(lambda r: len(r.logs) >= 3, timeout=10)

All times are nanoseconds since the epoch unless the name says otherwise; ids are lower-case hex.
"""

from __future__ import annotations

import gzip
import socket
import ssl
import threading
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import grpc  # type: ignore[import-untyped]
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1 import trace_pb2

Attributes = dict[str, Any]

_SIGNALS = {"/v1/logs": "logs", "/v1/traces": "traces", "/v1/metrics": "metrics"}
_REQUESTS: dict[str, Callable[[], Any]] = {
    "logs": logs_service_pb2.ExportLogsServiceRequest,
    "traces": trace_service_pb2.ExportTraceServiceRequest,
    "metrics": metrics_service_pb2.ExportMetricsServiceRequest,
}
_RESPONSES: dict[str, Callable[[], Any]] = {
    "logs": logs_service_pb2.ExportLogsServiceResponse,
    "traces": trace_service_pb2.ExportTraceServiceResponse,
    "metrics": metrics_service_pb2.ExportMetricsServiceResponse,
}
_REJECTED = {"logs": "rejected_log_records", "traces": "rejected_spans", "metrics": "rejected_data_points"}
_GRPC_ENCODINGS = {"identity": 1, "deflate": 2, "gzip": 4}
_LAST_ANSWERS_S = 1.0
"""How long a receiver that stops waits for clients that do not read their answers."""
_TEMPORALITIES = ("UNSPECIFIED", "DELTA", "CUMULATIVE")


@dataclass(frozen=True, slots=True)
class LogRecord:
    """A log record as it came over the wire; ``trace_id`` and ``span_id`` are "" if there are none."""

    event_name: str
    time_ns: int
    observed_ns: int
    severity_number: int
    severity_text: str
    body: Any
    attributes: Attributes
    trace_id: str
    span_id: str
    flags: int
    dropped_attributes_count: int
    resource: Attributes
    scope_name: str
    scope_version: str


class SpanEvent(NamedTuple):
    """An event of a span."""

    name: str
    time_ns: int
    attributes: Attributes


class SpanLink(NamedTuple):
    """A link of a span to another."""

    trace_id: str
    span_id: str
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class Span:
    """A span as it came over the wire; ``parent_span_id`` is "" for a root."""

    name: str
    trace_id: str
    span_id: str
    parent_span_id: str
    start_ns: int
    end_ns: int
    attributes: Attributes
    events: list[SpanEvent]
    dropped_events_count: int
    links: list[SpanLink]
    dropped_links_count: int
    dropped_attributes_count: int
    status_code: str
    """UNSET, OK or ERROR."""
    status_message: str
    kind: str
    """INTERNAL, SERVER, …"""
    trace_state: str
    flags: int
    resource: Attributes
    scope_name: str
    scope_version: str


class Exemplar(NamedTuple):
    """A measurement that a metric point shows as an example."""

    value: float
    time_ns: int
    trace_id: str
    span_id: str
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class MetricPoint:
    """One data point of a metric. What its kind does not have is None or empty."""

    name: str
    kind: str
    """gauge, sum, histogram, exponential_histogram or summary."""
    unit: str
    description: str
    attributes: Attributes
    value: int | float | None
    count: int | None
    sum: float | None
    min: float | None
    max: float | None
    bounds: list[float]
    bucket_counts: list[int]
    scale: int | None
    is_monotonic: bool | None
    temporality: str
    """DELTA, CUMULATIVE, or "" where the kind has none."""
    start_ns: int
    time_ns: int
    exemplars: list[Exemplar]
    resource: Attributes
    scope_name: str
    scope_version: str


@dataclass(frozen=True, slots=True)
class Request:
    """One export request, also one that was refused."""

    protocol: str
    """http/protobuf or grpc."""
    signal: str
    """logs, traces, metrics, or "" for an unknown path."""
    path: str
    """HTTP's path, or gRPC's full method name."""
    headers: dict[str, str]
    """Names in lower case; gRPC's metadata."""
    content_encoding: str
    """HTTP's; "" if there is none. gRPC keeps its own to itself."""
    client_certificate: bool
    """Whether the client showed a certificate."""
    timeout_s: float | None
    """How long the client is willing to wait, which only gRPC tells."""
    items: int
    """Log records, spans or metric points in it."""
    accepted: bool
    """Whether its content was kept."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files of the server; with ``client_ca`` a client must show a certificate."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True)
class _Behaviour:
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    grpc_status: str = "OK"
    grpc_metadata: tuple[tuple[str, str | bytes], ...] = ()
    message: str = ""
    rejected: int = 0
    delay_s: float = 0.0

    def response(self, signal: str) -> Any:
        """Return the signal's export response: a partial success if something is said or rejected."""
        response = _RESPONSES[signal]()
        if self.message or self.rejected:
            response.partial_success.error_message = self.message
            setattr(response.partial_success, _REJECTED[signal], self.rejected)
        return response


class OtlpReceiver:
    """A context manager that listens for as long as it is entered.

    Args:
        tls: serve TLS, on both protocols.
        grpc_encodings: compressions that gRPC accepts besides none; others are refused as UNIMPLEMENTED.
        http_port: where to listen for HTTP; 0 for a free port.
    """

    def __init__(
        self,
        *,
        tls: TlsFiles | None = None,
        grpc_encodings: Iterable[str] = ("gzip", "deflate"),
        http_port: int = 0,
    ) -> None:
        self._tls = tls
        self._http_port = http_port
        self._grpc_encodings = sum(_GRPC_ENCODINGS[name] for name in {"identity", *grpc_encodings})
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._behaviour = _Behaviour()
        self._logs: list[LogRecord] = []
        self._spans: list[Span] = []
        self._metrics: list[MetricPoint] = []
        self._requests: list[Request] = []
        self._unanswered = 0
        self._grpc_port = 0

    def __enter__(self) -> OtlpReceiver:
        """Listen on free ports; both servers accept connections when this returns."""
        self._http = _HttpServer(self)
        threading.Thread(
            target=self._http.serve_forever, args=(0.005,), name="otlp-http", daemon=True
        ).start()
        self._grpc = self._start_grpc()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Take nothing more, answer what was taken, stop listening and cut all connections.

        What was taken and not answered a sender would rightly send again, to whoever listens next.
        """
        with self._changed:
            self._closing.set()
        self._http.shutdown()
        self._http.server_close()
        with self._changed:
            self._changed.wait_for(lambda: self._unanswered == 0, _LAST_ANSWERS_S)
        self._http.cut_connections()
        self._grpc.stop(_LAST_ANSWERS_S).wait()

    @property
    def http_endpoint(self) -> str:
        """Base URL for ``OTEL_EXPORTER_OTLP_ENDPOINT`` with http/protobuf."""
        return f"{self._scheme}://127.0.0.1:{self._http.server_address[1]}"

    @property
    def grpc_endpoint(self) -> str:
        """URL for ``OTEL_EXPORTER_OTLP_ENDPOINT`` with grpc."""
        return f"{self._scheme}://127.0.0.1:{self._grpc_port}"

    @property
    def logs(self) -> list[LogRecord]:
        """Log records so far, in order of arrival."""
        with self._changed:
            return list(self._logs)

    @property
    def spans(self) -> list[Span]:
        """Spans so far, in order of arrival."""
        with self._changed:
            return list(self._spans)

    @property
    def metrics(self) -> list[MetricPoint]:
        """Metric points so far, in order of arrival: a metric is there once per export."""
        with self._changed:
            return list(self._metrics)

    @property
    def requests(self) -> list[Request]:
        """Export requests so far, refused ones included."""
        with self._changed:
            return list(self._requests)

    def clear(self) -> None:
        """Forget what has arrived."""
        with self._changed:
            for kept in (self._logs, self._spans, self._metrics, self._requests):
                kept.clear()

    def wait(self, predicate: Callable[[OtlpReceiver], bool], timeout: float = 10.0) -> bool:
        """Wait until ``predicate(self)`` holds, looking at each arrival; False after ``timeout`` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: predicate(self), timeout)

    def respond(
        self,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        grpc_status: str = "OK",
        grpc_metadata: Mapping[str, str | bytes] | None = None,
        message: str = "",
        rejected: int = 0,
        delay: float = 0.0,
    ) -> None:
        """Answer so from now on; without arguments: normally.

        What is answered with anything but 2xx or OK is not kept, apart from its ``Request``.

        Args:
            status: HTTP status.
            headers: further HTTP headers.
            body: HTTP body; None for a normal export response, or the message as a status.
            grpc_status: name of a ``grpc.StatusCode``.
            grpc_metadata: gRPC's trailing metadata; names that end in -bin have bytes.
            message: what a refusal, or a partial success, says; on both protocols.
            rejected: items that a partial success counts as refused.
            delay: seconds to wait before the answer, on both protocols.
        """
        self._behaviour = _Behaviour(
            status=status,
            headers=dict(headers or {}),
            body=body,
            grpc_status=grpc_status,
            grpc_metadata=tuple((grpc_metadata or {}).items()),
            message=message,
            rejected=rejected,
            delay_s=delay,
        )

    @property
    def _scheme(self) -> str:
        return "https" if self._tls else "http"

    def _start_grpc(self) -> Any:
        options = [
            ("grpc.so_reuseport", 0),
            ("grpc.compression_enabled_algorithms_bitset", self._grpc_encodings),
        ]
        server = grpc.server(ThreadPoolExecutor(4, thread_name_prefix="otlp-grpc"), options=options)
        adders: dict[str, Callable[[Any, Any], None]] = {
            "logs": logs_service_pb2_grpc.add_LogsServiceServicer_to_server,
            "traces": trace_service_pb2_grpc.add_TraceServiceServicer_to_server,
            "metrics": metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server,
        }
        for signal, add in adders.items():
            add(_GrpcService(self, signal), server)
        if self._tls:
            client_ca = self._tls.client_ca.read_bytes() if self._tls.client_ca else None
            pair = (self._tls.key.read_bytes(), self._tls.certificate.read_bytes())
            credentials = grpc.ssl_server_credentials([pair], client_ca, client_ca is not None)
            self._grpc_port = server.add_secure_port("127.0.0.1:0", credentials)
        else:
            self._grpc_port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        return server

    def _received(self, message: Any, request: Request) -> bool:
        """Keep a request and, if it is accepted, what it holds, in one step; False if it comes too late.

        Whoever gets True says with ``_answered`` that the answer is out.
        """
        with self._changed:
            if self._closing.is_set():
                return False
            if request.accepted and request.signal == "logs":
                self._logs.extend(_decode_logs(message))
            elif request.accepted and request.signal == "traces":
                self._spans.extend(_decode_spans(message))
            elif request.accepted and request.signal == "metrics":
                self._metrics.extend(_decode_metrics(message))
            self._requests.append(request)
            self._unanswered += 1
            self._changed.notify_all()
        return True

    def _answered(self) -> None:
        with self._changed:
            self._unanswered -= 1
            self._changed.notify_all()


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, receiver: OtlpReceiver) -> None:
        super().__init__(("127.0.0.1", receiver._http_port), _HttpHandler)
        self.receiver = receiver
        self._tls: ssl.SSLContext | None = None
        self._connections: set[socket.socket] = set()
        self._connections_lock = threading.Lock()
        if receiver._tls:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(receiver._tls.certificate, receiver._tls.key)
            if receiver._tls.client_ca:
                self._tls.load_verify_locations(receiver._tls.client_ca)
                self._tls.verify_mode = ssl.CERT_REQUIRED

    def finish_request(self, request: Any, client_address: Any) -> None:
        # On the connection's own thread, so that a client that never shakes hands stops nobody else.
        connection = self._tls.wrap_socket(request, server_side=True) if self._tls else request
        with self._connections_lock:
            self._connections.add(connection)
        try:
            super().finish_request(connection, client_address)
        finally:
            with self._connections_lock:
                self._connections.discard(connection)
            if self._tls:
                connection.close()

    def cut_connections(self) -> None:
        with self._connections_lock:
            connections = list(self._connections)
        for connection in connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # the client was faster

    def handle_error(self, request: Any, client_address: Any) -> None:
        # Clients that give up, or whose certificate is refused, are what some tests are about.
        pass


class _HttpHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _HttpServer

    def do_POST(self) -> None:
        receiver = self.server.receiver
        behaviour = receiver._behaviour
        signal = _SIGNALS.get(self.path, "")
        encoding = self.headers.get("content-encoding", "")
        message = _REQUESTS[signal]() if signal else None
        status = behaviour.status
        content = self.rfile.read(int(self.headers.get("content-length", "0")))
        if message is None:
            status = 404
        else:
            try:
                message.ParseFromString(_decompress(content, encoding))
            except (DecodeError, OSError, ValueError, zlib.error):
                status = 400
        peer = self.connection.getpeercert() if isinstance(self.connection, ssl.SSLSocket) else None
        taken = receiver._received(
            message,
            Request(
                protocol="http/protobuf",
                signal=signal,
                path=self.path,
                headers={name.lower(): value for name, value in self.headers.items()},
                content_encoding=encoding,
                client_certificate=bool(peer),
                timeout_s=None,
                items=_count(signal, message),
                accepted=200 <= status < 300,
            ),
        )
        if not taken:
            self.close_connection = True
            return
        try:
            receiver._closing.wait(behaviour.delay_s)
            self._answer(behaviour, signal, status)
        finally:
            receiver._answered()

    def _answer(self, behaviour: _Behaviour, signal: str, status: int) -> None:
        body = behaviour.body
        if body is None:
            answer = behaviour.response(signal) if status == 200 else Status(message=behaviour.message)
            body = answer.SerializeToString()
        self.send_response(status)
        for name, value in {"Content-Type": "application/x-protobuf", **behaviour.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        pass


class _GrpcService:
    def __init__(self, receiver: OtlpReceiver, signal: str) -> None:
        self._receiver = receiver
        self._signal = signal

    def Export(self, message: Any, context: Any) -> Any:  # noqa: N802 - the service's name
        behaviour = self._receiver._behaviour
        service = message.DESCRIPTOR.full_name.removesuffix("Request").replace(".Export", ".")
        taken = self._receiver._received(
            message,
            Request(
                protocol="grpc",
                signal=self._signal,
                path=f"/{service}/Export",
                headers=dict(context.invocation_metadata()),
                content_encoding="",
                client_certificate="x509_pem_cert" in context.auth_context(),
                timeout_s=context.time_remaining(),
                items=_count(self._signal, message),
                accepted=behaviour.grpc_status == "OK",
            ),
        )
        if not taken:
            context.abort(grpc.StatusCode.UNAVAILABLE, "the receiver stops")
        try:
            self._receiver._closing.wait(behaviour.delay_s)
        finally:
            self._receiver._answered()  # as far as it is known here: the server's own end waits for the rest
        context.set_trailing_metadata(behaviour.grpc_metadata)
        if behaviour.grpc_status != "OK":
            message = behaviour.message or "as the receiver was told"
            context.abort(grpc.StatusCode[behaviour.grpc_status], message)
        return behaviour.response(self._signal)


def _decompress(content: bytes, encoding: str) -> bytes:
    if encoding == "gzip":
        return gzip.decompress(content)
    if encoding == "deflate":
        return zlib.decompress(content)
    if encoding not in ("", "identity"):
        raise ValueError(encoding)
    return content


def _count(signal: str, message: Any) -> int:
    if signal == "logs":
        return sum(len(scope.log_records) for group in message.resource_logs for scope in group.scope_logs)
    if signal == "traces":
        return sum(len(scope.spans) for group in message.resource_spans for scope in group.scope_spans)
    if signal == "metrics":
        return len(_decode_metrics(message))
    return 0


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    return getattr(value, kind)


def _attributes(pairs: Sequence[Any]) -> Attributes:
    return {pair.key: _value(pair.value) for pair in pairs}


def _origin(group: Message, scope_group: Message) -> dict[str, Any]:
    return {
        "resource": _attributes(group.resource.attributes),
        "scope_name": scope_group.scope.name,
        "scope_version": scope_group.scope.version,
    }


def _decode_logs(message: Any) -> list[LogRecord]:
    return [
        LogRecord(
            event_name=record.event_name,
            time_ns=record.time_unix_nano,
            observed_ns=record.observed_time_unix_nano,
            severity_number=record.severity_number,
            severity_text=record.severity_text,
            body=_value(record.body),
            attributes=_attributes(record.attributes),
            trace_id=record.trace_id.hex(),
            span_id=record.span_id.hex(),
            flags=record.flags,
            dropped_attributes_count=record.dropped_attributes_count,
            **_origin(group, scope_group),
        )
        for group in message.resource_logs
        for scope_group in group.scope_logs
        for record in scope_group.log_records
    ]


def _decode_spans(message: Any) -> list[Span]:
    return [
        Span(
            name=span.name,
            trace_id=span.trace_id.hex(),
            span_id=span.span_id.hex(),
            parent_span_id=span.parent_span_id.hex(),
            start_ns=span.start_time_unix_nano,
            end_ns=span.end_time_unix_nano,
            attributes=_attributes(span.attributes),
            events=[SpanEvent(e.name, e.time_unix_nano, _attributes(e.attributes)) for e in span.events],
            dropped_events_count=span.dropped_events_count,
            links=[
                SpanLink(k.trace_id.hex(), k.span_id.hex(), _attributes(k.attributes)) for k in span.links
            ],
            dropped_links_count=span.dropped_links_count,
            dropped_attributes_count=span.dropped_attributes_count,
            status_code=trace_pb2.Status.StatusCode.Name(span.status.code).removeprefix("STATUS_CODE_"),
            status_message=span.status.message,
            kind=trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
            trace_state=span.trace_state,
            flags=span.flags,
            **_origin(group, scope_group),
        )
        for group in message.resource_spans
        for scope_group in group.scope_spans
        for span in scope_group.spans
    ]


def _decode_metrics(message: Any) -> list[MetricPoint]:
    return [
        _metric_point(metric, getattr(metric, kind), kind, point, _origin(group, scope_group))
        for group in message.resource_metrics
        for scope_group in group.scope_metrics
        for metric in scope_group.metrics
        if (kind := metric.WhichOneof("data"))
        for point in getattr(metric, kind).data_points
    ]


def _metric_point(metric: Any, data: Any, kind: str, point: Any, origin: dict[str, Any]) -> MetricPoint:
    def optional(name: str) -> Any:
        # Fields that this kind of point does not have, or that are not set.
        if name not in point.DESCRIPTOR.fields_by_name:
            return None
        has_presence = point.DESCRIPTOR.fields_by_name[name].has_presence
        return getattr(point, name) if not has_presence or point.HasField(name) else None

    number = "value" in point.DESCRIPTOR.oneofs_by_name and point.WhichOneof("value")
    return MetricPoint(
        name=metric.name,
        kind=kind,
        unit=metric.unit,
        description=metric.description,
        attributes=_attributes(point.attributes),
        value=getattr(point, number) if number else None,
        count=optional("count"),
        sum=optional("sum"),
        min=optional("min"),
        max=optional("max"),
        bounds=list(optional("explicit_bounds") or []),
        bucket_counts=list(optional("bucket_counts") or []),
        scale=optional("scale"),
        is_monotonic=data.is_monotonic if kind == "sum" else None,
        temporality=_TEMPORALITIES[data.aggregation_temporality]
        if "histogram" in kind or kind == "sum"
        else "",
        start_ns=point.start_time_unix_nano,
        time_ns=point.time_unix_nano,
        exemplars=[
            Exemplar(
                getattr(exemplar, exemplar.WhichOneof("value")),
                exemplar.time_unix_nano,
                exemplar.trace_id.hex(),
                exemplar.span_id.hex(),
                _attributes(exemplar.filtered_attributes),
            )
            for exemplar in optional("exemplars") or []
        ],
        **origin,
    )
