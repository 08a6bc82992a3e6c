"""A backend whose answers depend on what it is sent: on the signal, and on single items."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.waiting import LONG_S

_FORMS: dict[str, tuple[Any, str, str, str, str]] = {
    "logs": (ExportLogsServiceRequest, "resource_logs", "scope_logs", "log_records", "event_name"),
    "traces": (ExportTraceServiceRequest, "resource_spans", "scope_spans", "spans", "name"),
    "metrics": (ExportMetricsServiceRequest, "resource_metrics", "scope_metrics", "metrics", "name"),
}
"""By signal: its request, the fields that lead to its items, and the field of their names."""


@dataclass(frozen=True)
class Asked:
    """What a request holds."""

    signal: str
    names: tuple[str, ...]
    """Of its log records' events, its spans, or its metrics."""


@dataclass(frozen=True)
class Reply:
    """What is answered; a 2xx takes what was sent."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut: bool = False
    """Hang up without an answer."""

    @property
    def takes(self) -> bool:
        """Whether what was sent is taken."""
        return self.status < 300 and not self.cut


TAKEN = Reply()


class PickyBackend:
    """Takes OTLP/HTTP as ``rule`` says, which can be set anew at any time."""

    def __init__(self, rule: Callable[[Asked], Reply] = lambda asked: TAKEN) -> None:
        self.rule = rule
        self.asked: list[tuple[Asked, Reply]] = []
        """All requests and what was answered."""
        self._changed = threading.Condition()

    def __enter__(self) -> PickyBackend:
        """Listen on a free port."""
        backend = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                backend._answer(self)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.005,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    @property
    def endpoint(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def taken(self, signal: str = "logs") -> list[str]:
        """Return the names of what was taken, in order."""
        with self._changed:
            return [
                name
                for asked, reply in self.asked
                if reply.takes and asked.signal == signal
                for name in asked.names
            ]

    def requests(self, signal: str = "logs") -> list[tuple[str, ...]]:
        """Return the names in each request of a signal, taken or not."""
        with self._changed:
            return [asked.names for asked, _ in self.asked if asked.signal == signal]

    def wait(self, predicate: Callable[[PickyBackend], bool]) -> bool:
        """Wait until ``predicate`` holds, looking at each request."""
        with self._changed:
            return self._changed.wait_for(lambda: predicate(self), LONG_S)

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        content = handler.rfile.read(int(handler.headers["content-length"]))
        asked = Asked(signal := handler.path.rpartition("/")[2], names_in(signal, content))
        reply = self.rule(asked)
        with self._changed:
            self.asked.append((asked, reply))
            self._changed.notify_all()
        if reply.cut:
            handler.close_connection = True
            return
        handler.send_response(reply.status)
        for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(reply.body)


def names_in(signal: str, content: bytes) -> tuple[str, ...]:
    """Return the names of what a request holds."""
    request, resources, scopes, items, name = _FORMS[signal]
    return tuple(
        getattr(item, name)
        for resource in getattr(request.FromString(content), resources)
        for scope in getattr(resource, scopes)
        for item in getattr(scope, items)
    )


def refusing(*names: str, status: int, body: bytes = b"", **headers: str) -> Callable[[Asked], Reply]:
    """Return a rule that answers ``status`` to each request with one of these names in it."""
    reply = Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)
    return lambda asked: reply if set(names) & set(asked.names) else TAKEN
