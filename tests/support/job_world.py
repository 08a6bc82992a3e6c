"""A launcher as its agent tells it, in torch's order, with fixed times: for tests of what is made of that.

What comes out is seen through the SDK's own objects, in memory.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.trace import SpanContext, StatusCode

from torchelastic_otel._config.settings import Settings
from torchelastic_otel._job import facts as f
from torchelastic_otel._job.engine import Engine
from torchelastic_otel._telemetry.providers import Providers
from torchelastic_otel._telemetry.telemetry import Telemetry

S = 1_000_000_000
T0 = 1_700_000_000 * S
STATUS = "torchelastic.worker.status."
AGENT, RENDEZVOUS = "torchelastic.agent", "torchelastic.rendezvous"
GROUP, WORKER = "torchelastic.worker_group", "torchelastic.worker"
INFO, WARN, ERROR = 9, 13, 17
UNSET, OK, FAILED = StatusCode.UNSET, StatusCode.OK, StatusCode.ERROR
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Log(NamedTuple):
    """A log record that was emitted."""

    name: str
    time_ns: int
    severity: int
    body: str
    attributes: dict[str, Any]
    trace_id: int
    span_id: int


class Logs:
    """A log record processor that keeps what it is given."""

    def __init__(self) -> None:
        self.records: list[Log] = []

    def on_emit(self, data: Any) -> None:
        """Keep a record."""
        r = data.log_record
        severity = r.severity_number.value
        attributes = dict(r.attributes)
        self.records.append(
            Log(r.event_name, r.timestamp, severity, r.body, attributes, r.trace_id, r.span_id)
        )

    def shutdown(self) -> None:
        """Do nothing."""

    def force_flush(self, timeout_millis: int = 0) -> bool:
        """Do nothing."""
        return True


class Spans(SpanProcessor):
    """Keeps ended spans, or counts them alone."""

    def __init__(self, *, keep: bool) -> None:
        self.ended: list[ReadableSpan] = []
        self.count: Counter[str] = Counter()
        self._keep = keep

    def on_end(self, span: ReadableSpan) -> None:
        """Keep a span."""
        self.count[span.name] += 1
        if self._keep:
            self.ended.append(span)


class Reader(InMemoryMetricReader):
    """Keeps the last point of each series, as a backend does: some versions of the SDK tell a gauge once."""

    def __init__(self) -> None:
        super().__init__()
        self.points: dict[str, dict[Any, Any]] = {}

    def _receive_metrics(self, metrics_data: Any, timeout_millis: float = 10_000, **kwargs: Any) -> None:
        for resource in metrics_data.resource_metrics if metrics_data else []:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    series = self.points.setdefault(metric.name, {})
                    series.update(
                        {frozenset(point.attributes.items()): point for point in metric.data.data_points}
                    )


class World:
    """One launcher and the engine that watches it. Times are seconds since the start of the test's world."""

    def __init__(
        self,
        *,
        environ: Mapping[str, str] | None = None,
        settings: Settings | None = None,
        max_events: int | None = None,
        keep: bool = True,
    ) -> None:
        self.logs = Logs()
        self.spans = Spans(keep=keep)
        limits = SpanLimits() if max_events is None else SpanLimits(max_events=max_events)
        tracers = TracerProvider(span_limits=limits, shutdown_on_exit=False)
        tracers.add_span_processor(self.spans)
        loggers = LoggerProvider(shutdown_on_exit=False)
        if keep:
            loggers.add_log_record_processor(self.logs)  # type: ignore[arg-type]  # a duck, for all versions
        self._reader = Reader()
        meters = MeterProvider([self._reader], shutdown_on_exit=False)
        self._telemetry = Telemetry({}, pytest.fail, Providers(tracers, loggers, meters))
        self.engine = Engine(self._telemetry, settings or Settings(), environ or {}, "node")
        self._flushed = False
        self.number = 0
        self.run_id = "r"
        self.pids: dict[int, int] = {}
        self.round = -1

    # What the agent does

    def tell(self, kind: type[f.Fact], at: float, /, *args: Any, **fields: Any) -> None:
        """Hand a fact of the current job to the engine."""
        self.engine.fact(kind(self.number, ns(at), *args, **fields))

    def start(self, at: float = 0, run_id: str = "r", **fields: Any) -> None:
        """A launcher starts a job."""
        self.number += 1
        self.run_id = run_id
        self.round = -1
        known = {"backend": "c10d", "min_nodes": 1, "max_nodes": 1, "max_restarts": 3, "role": "default"}
        self.tell(f.JobStarted, at, run_id, **{**known, **fields})
        self.tell(f.AgentCreated, at, "default", fields.get("max_restarts", 3), 2, "train.py")

    def rendezvous(self, at: float, message: str, state: str = "RUNNING", **fields: Any) -> None:
        """Torch records a rendezvous event."""
        name = "dynamic_rendezvous.py:DynamicRendezvousHandler.next_rendezvous"
        full = {
            "name": name,
            "run_id": self.run_id,
            "message": message,
            "hostname": "n",
            "pid": 1,
            "node_state": state,
            "master_endpoint": "",
            "rank": None,
            "local_id": 0,
            "error_trace": "",
            **fields,
        }
        self.engine.text(json.dumps(full), ns(at), "MainThread", None)

    def event(
        self, at: float, state: str, source: str = "AGENT", inner: Any = None, /, **metadata: Any
    ) -> None:
        """Torch records an agent's or a worker's event."""
        full = {
            "run_id": self.run_id,
            "global_rank": None,
            "group_rank": 0,
            "worker_id": None,
            "role": "default",
            "hostname": "n",
            "state": state,
            "total_run_time": 0,
            "rdzv_backend": "c10d",
            "raw_error": None,
            "agent_restarts": 0,
            "duration_ms": None,
            "metadata": json.dumps({"group_world_size": 1, "entry_point": "train.py", **(inner or {})}),
            **metadata,
        }
        fields = {"name": STATUS + state, "source": source, "timestamp": 0, "metadata": full}
        self.engine.text(json.dumps(fields), ns(at), "MainThread", None)

    def worker_event(self, at: float, state: str, rank: int, code: int | None = None, **more: Any) -> None:
        """Torch records a worker's event."""
        inner = {
            "local_rank": [rank],
            "role_rank": [rank],
            "role_world_size": [2],
            "exit_code": [code],
            "worker_pid": [self.pids.get(rank) if code is not None else None],
        }
        pid = str(self.pids.get(rank))
        self.event(at, state, "WORKER", inner, global_rank=rank, worker_id=pid, **more)

    def attempt(self, at: float) -> None:
        """The node asks to join."""
        self.tell(f.RendezvousStarted, at)
        self.rendezvous(
            at, f"The node 'n_1_0' attempts to join the next round of the rendezvous '{self.run_id}'."
        )

    def joined(self, at: float, size: int = 1) -> None:
        """The node has joined the next round."""
        self.round += 1
        self.rendezvous(
            at,
            f"The node 'n_1_0' has joined round {self.round} of the rendezvous '{self.run_id}' "
            f"as rank 0 in a world of size {size}.",
            rank=0,
        )

    def join(self, at: float, took: float = 1, size: int = 1) -> None:
        """The node asks to join, and joins."""
        self.attempt(at)
        self.joined(at + took, size)
        view = f.RendezvousView(self.round, ["n_1_0"], [], [], 1, size, 600.0)
        self.tell(f.RendezvousEnded, at + took + 0.5, rank=0, world_size=size, view=view)
        self.event(at + took + 0.5, "RENDEZVOUS", duration_ms=(took + 0.5) * 1000)
        self.event(at + took + 0.5, "ASSIGN_WORKER_RANKS", duration_ms=0.1)

    def workers(self, at: float, count: int = 2, ids: int = 0) -> None:
        """The agent starts a generation; ``ids`` above 0 are the span ids promised to it."""
        slots = [
            f.WorkerSlot(rank, rank, rank, count, count, ids + 1 + rank if ids else 0)
            for rank in range(count)
        ]
        self.tell(f.WorkersStarting, at, slots, ids, 0, 1, self.round)
        self.pids = {rank: int(at * 10) + 100 + rank for rank in range(count)}
        self.tell(f.WorkersStarted, at, self.pids)
        for rank in range(count):
            self.worker_event(at, "START", rank)

    def exit(self, rank: int, code: int, **more: Any) -> f.WorkerExit:
        """Return how a worker of the current generation ended."""
        return f.WorkerExit(rank, code, self.pids.get(rank), **more)

    def die(
        self,
        at: float,
        codes: Mapping[int, int],
        stopped: Mapping[int, int] | None = None,
        errors: Mapping[int, f.WorkerError] | None = None,
        oom_kills: int | None = None,
    ) -> None:
        """One look of the agent: those that ended by themselves, then those that it stops, a second later."""
        exits = [self.exit(rank, code, error=(errors or {}).get(rank)) for rank, code in codes.items()]
        self.tell(f.WorkersExited, at, exits, oom_kills)
        if stopped:
            self.tell(f.WorkersStopping, at)
        late = 1 if stopped else 0
        self.tell(f.WorkersStopped, at + late, [self.exit(rank, c) for rank, c in (stopped or {}).items()])
        failed = any(codes.values())
        self.tell(f.Monitored, at + late, "FAILED" if failed else "SUCCEEDED")

    def succeed(self, at: float, count: int = 2) -> None:
        """All workers end with 0 and the launcher ends, the exit barrier taking five minutes."""
        self.die(at, dict.fromkeys(range(count), 0))
        self.tell(f.ExitBarrier, at, ns(at + 300))
        for rank in range(count):
            self.worker_event(at + 300, "SUCCEEDED", rank)
        self.end(at + 300, "SUCCEEDED")

    def end(self, at: float, state: str, error: f.Raised | None = None) -> None:
        """``run`` returns or raises, and the launcher closes its rendezvous."""
        self.tell(f.RunEnded, at, state, error)
        self.event(at, "FAILED" if error is not None else "SUCCEEDED")
        self.rendezvous(at, f"The node 'n_1_0' has closed the rendezvous '{self.run_id}'.", "SUCCEEDED")
        self.tell(f.JobEnded, at + 1)

    def signalled(self, at: float, name: str = "SIGTERM", exits: Sequence[f.WorkerExit] = ()) -> None:
        """A signal ends the launcher while its workers run; ``exits`` are those that it killed, too."""
        self.tell(f.StopRequested, at, name)
        if exits:
            self.tell(f.WorkersExited, at, list(exits))
        rest = [rank for rank in self.pids if rank not in {exit_.local_rank for exit_ in exits}]
        self.tell(f.WorkersStopping, at)
        self.tell(f.WorkersStopped, at + 1, [self.exit(rank, -15) for rank in rest])
        error = f.Raised("SignalException", f"Process 1 got signal: {name}", "", name)
        self.tell(f.StopRequested, at + 1, name)
        self.tell(f.RunEnded, at + 1, "", error)
        self.event(at + 1, "FAILED", raw_error="Traceback (most recent call last):\nSignalException: x\n")

    # What came out

    def settle(self) -> None:
        """Let the spans end that wait for torch's last event."""
        assert self.engine.settle(1 << 62)

    def all(self, name: str) -> list[ReadableSpan]:
        """Return the ended spans of a name, in the order of their starts."""
        self.settle()
        return sorted((s for s in self.spans.ended if s.name == name), key=lambda span: span.start_time or 0)

    def one(self, name: str) -> ReadableSpan:
        """Return the only ended span of a name."""
        (span,) = self.all(name)
        return span

    def told(self, name: str) -> list[Log]:
        """Return the log records of a name."""
        return [record for record in self.logs.records if record.name == name]

    def verdict(self) -> tuple[str | None, StatusCode, str]:
        """Return the agent's outcome, status, and its last record's sentence."""
        span = self.one(AGENT)
        stops = self.told("torchelastic.agent.stop")
        return outcome(span), span.status.status_code, stops[-1].body if stops else ""

    def metrics(self) -> dict[str, list[Any]]:
        """Return the points of each metric as the SDK collects them now."""
        if not self._flushed:
            # The first measurements are exported at once, and each export takes the exemplars with it.
            self._flushed = self._telemetry.flush(time.monotonic() + 60)
            assert self._flushed
        self._telemetry.publish(last=True)
        self._reader.collect()
        return {name: list(series.values()) for name, series in self._reader.points.items()}

    def points(self, name: str, attribute: str = "") -> dict[Any, float]:
        """Return the values of a metric by one of its attributes; of a histogram, the sums."""
        found: dict[Any, float] = {}
        for point in self.metrics().get(name, []):
            key = point.attributes.get(attribute)
            found[key] = found.get(key, 0) + (point.sum if hasattr(point, "sum") else point.value)
        return found

    def metric(self, name: str) -> float:
        """Return the sum of a metric's points."""
        return sum(self.points(name).values())


def ns(at: float) -> int:
    """Return a time of the test's world."""
    return T0 + round(at * S)


def outcome(span: ReadableSpan) -> str | None:
    """Return a span's outcome."""
    value = (span.attributes or {}).get("torchelastic.outcome")
    assert value is None or isinstance(value, str)
    return value


def attributes(span: ReadableSpan) -> dict[str, Any]:
    """Return a span's attributes."""
    return dict(span.attributes or {})


def times(span: ReadableSpan) -> tuple[float, float]:
    """Return when a span began and ended, in seconds of the test's world."""
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.start_time - T0) / S, (span.end_time - T0) / S


def status(span: ReadableSpan) -> StatusCode:
    """Return a span's status."""
    return span.status.status_code


def context(span: ReadableSpan) -> SpanContext:
    """Return a span's context."""
    found: SpanContext | None = span.context
    assert found is not None
    return found


def parent(span: ReadableSpan) -> int | None:
    """Return the id of a span's parent."""
    return None if span.parent is None else span.parent.span_id


def error_file(message: str, at: float) -> f.WorkerError:
    """Return a worker's error file."""
    extra = {"py_callstack": "Traceback …", "timestamp": str(int(at))}
    text = json.dumps({"message": {"message": message, "extraInfo": extra}})
    return f.WorkerError("/tmp/errors/0/error.json", text, int(at))


def first_failure(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what attributes say of the first failure."""
    prefix = "torchelastic.first_failure."
    return {key.removeprefix(prefix): value for key, value in data.items() if key.startswith(prefix)}


def running(world: World | None = None, *, count: int = 2, **known: Any) -> World:
    """Return a world with one job whose workers run since second 2."""
    world = world or World()
    world.start(0, **known)
    world.join(0)
    world.workers(2, count)
    return world
