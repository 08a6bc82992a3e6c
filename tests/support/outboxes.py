"""Outboxes without the rest of the package: what they are given goes to a real server, in a hurry."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs
from opentelemetry.proto.metrics.v1.metrics_pb2 import MetricsData
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span

from tests.support.sending import target_of
from torchelastic_otel._config.environment import Signal
from torchelastic_otel._config.otlp_variables import Protocol
from torchelastic_otel._delivery.backoff import Backoff
from torchelastic_otel._delivery.disk_or_memory import DiskOrMemory
from torchelastic_otel._delivery.encoding import Encoded
from torchelastic_otel._delivery.outbox import Outbox
from torchelastic_otel._delivery.sender import make_sender
from torchelastic_otel._delivery.spool import Destination, Spool, destination_of

MEMORY_BYTES = 1 << 20


class Clock:
    """Stands still until it is set forward."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now


def flying_clock() -> Callable[[], float]:
    """Return a clock by which a million seconds pass between two looks: no back-off is ever waited for."""
    return itertools.count(0.0, 1e6).__next__


def encoded(signal: Signal, names: Sequence[str]) -> list[Encoded]:
    """Return items of these names, as the bridge hands them to an outbox."""
    if signal == "metrics":
        return [Encoded(b"", [metrics_request(name)]) for name in names]
    header: Any
    if signal == "logs":
        header = ResourceLogs()
        header.scope_logs.add()
        return [Encoded(header.SerializeToString(), [log_record(name) for name in names])]
    header = ResourceSpans()
    header.scope_spans.add()
    return [Encoded(header.SerializeToString(), [Span(name=name).SerializeToString() for name in names])]


def log_record(name: str) -> bytes:
    """Return a serialized log record."""
    return bytes(LogRecord(event_name=name).SerializeToString())


def metrics_request(name: str) -> bytes:
    """Return a serialized request with one metric."""
    data = MetricsData()
    metric = data.resource_metrics.add().scope_metrics.add().metrics.add(name=name)
    metric.gauge.data_points.add(as_int=1)
    return bytes(data.SerializeToString())


def outbox_to(
    endpoint: str,
    spool: Path | None = None,
    *,
    signal: Signal = "logs",
    protocol: Protocol = "http/protobuf",
    backoff: Backoff | None = None,
    clock: Callable[[], float] | None = None,
    keeper: DiskOrMemory | None = None,
    max_batch: int = 512,
    max_queue: int = 2048,
) -> Outbox:
    """Return an outbox that sends at once to ``endpoint``, from a spool in ``spool`` or from memory."""
    target = target_of(endpoint, protocol, signal)
    places: dict[str, Destination] = {signal: destination_of(target)}
    made = keeper or DiskOrMemory(
        None if spool is None else lambda: Spool.create(spool, MEMORY_BYTES, places), MEMORY_BYTES
    )
    return Outbox(
        signal,
        made,
        lambda: make_sender(signal, target),
        endpoint=endpoint,
        timeout_s=20.0,
        backoff=backoff or Backoff(),
        delay_s=0.0,
        max_batch=max_batch,
        max_queue=max_queue,
        clock=clock or flying_clock(),
    )


def keep(outbox: Outbox, *names: str) -> None:
    """Give items to an outbox."""
    outbox.keep(encoded(outbox.signal, names), 1)
