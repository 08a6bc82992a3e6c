"""What one recorded event costs, beside torch's null destination and OpenTelemetry's own logging handler.

Each destination runs in turn, many rounds in one process, and medians are compared. "call" is the time in the
caller's thread between calls, with pauses as an agent makes them; "all work" is the CPU time of the whole
process until everything is parsed, mapped, placed on its span and ready to be encoded. What goes by OTLP is
then "encoded", and "kept" in the spool, in batches of 100.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

os.environ.update(OTEL_TRACES_EXPORTER="none", OTEL_METRICS_EXPORTER="none", OTEL_LOGS_EXPORTER="bench_null")
warnings.simplefilter("ignore")

from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs  # noqa: E402  # after the environment
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler  # noqa: E402
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter, LogRecordExportResult  # noqa: E402
from opentelemetry.sdk.resources import Resource  # noqa: E402
from torch.distributed.elastic import events as torch_events  # noqa: E402
from torch.distributed.elastic.events import handlers  # noqa: E402
from torch.distributed.elastic.events.api import Event, EventSource  # noqa: E402

import torchelastic_otel  # noqa: E402
from torchelastic_otel import events as our_events  # noqa: E402
from torchelastic_otel._config import exporters as plans_of  # noqa: E402
from torchelastic_otel._config.limits import LogLimits  # noqa: E402
from torchelastic_otel._delivery.spool import Spool  # noqa: E402
from torchelastic_otel._intake.recording import submit_fact  # noqa: E402
from torchelastic_otel._job import facts  # noqa: E402
from torchelastic_otel._job.event import Event as JobEvent  # noqa: E402
from torchelastic_otel._job.event import Kind  # noqa: E402
from torchelastic_otel._runtime.clock import now  # noqa: E402
from torchelastic_otel._telemetry import other_exporters  # noqa: E402
from torchelastic_otel._telemetry.log_encoding import LogEncoder  # noqa: E402
from torchelastic_otel._telemetry.log_sinks import ReadableRecords  # noqa: E402

EVENTS = 1000
ROUNDS = 25
BATCH = 100


class Discard(LogRecordExporter):
    """Takes batches and does nothing with them, so that only what comes before is measured."""

    def export(self, batch: object) -> LogRecordExportResult:
        """Accept the batch."""
        return LogRecordExportResult.SUCCESS

    def shutdown(self) -> None:
        """Do nothing."""

    def force_flush(self, timeout_millis: int = 10_000) -> bool:
        """Do nothing."""
        return True


def agent_event(number: int) -> Event:
    """Return an event such as the agent records for a worker that starts; each differs from the others."""
    rank = number % 8
    inner = {
        "group_world_size": 2,
        "entry_point": "train.py",
        "local_rank": (rank,),
        "role_rank": (rank,),
        "role_world_size": (16,),
        "exit_code": (None,),
        "worker_pid": (None,),
    }
    return Event(
        "torchelastic.worker.status.START",
        EventSource.WORKER,
        metadata={
            "run_id": "bench",
            "global_rank": rank,
            "group_rank": 0,
            "worker_id": str(10_000 + number),
            "role": "default",
            "hostname": "node-1.example.com",
            "state": "START",
            "total_run_time": 0,
            "rdzv_backend": "c10d",
            "raw_error": None,
            "metadata": json.dumps(inner),
            "agent_restarts": 0,
            "duration_ms": None,
        },
    )


def measure(record: Callable[[Event], None], drain: Callable[[], object]) -> tuple[float, float]:
    """Return (wall µs per call in the caller's thread, CPU µs per event of the whole process)."""
    events = [agent_event(number) for number in range(EVENTS)]
    drain()
    gc.collect()
    cpu = time.process_time()
    wall = 0.0
    for start in range(0, EVENTS, 100):
        before = time.perf_counter()
        for event in events[start : start + 100]:
            record(event)
        wall += time.perf_counter() - before
    drain()
    return wall / EVENTS * 1e6, (time.process_time() - cpu) / EVENTS * 1e6


def per_record(work: Callable[[], object]) -> float:
    """Return CPU µs per record of work on a batch."""
    figures = []
    for _ in range(ROUNDS * 4):
        cpu = time.process_time()
        work()
        figures.append((time.process_time() - cpu) / BATCH * 1e6)
    return statistics.median(figures)


def print_encoding() -> None:
    """Print what it costs to encode a record, by us and by OpenTelemetry's encoder, and to keep it."""
    attributes = {f"torchelastic.{name}": value for name, value in agent_event(1).metadata.items() if value}
    batch = [
        JobEvent(Kind.WORKER, "torchelastic.worker.status.START", 1, "Worker 1 started", attributes)
        for _ in range(BATCH)
    ]
    resource, limits = Resource({"service.name": "bench"}), LogLimits(128, None)
    ours, theirs = LogEncoder(resource, limits), ReadableRecords(resource, limits)
    uids = [str(number) for number in range(BATCH)]
    (encoded,) = ours.encode(batch, uids)
    with tempfile.TemporaryDirectory() as directory:
        spool = Spool.create(Path(directory, "spool"), 1 << 24, {})
        scope = spool.scope("logs", encoded.header)
        kept = per_record(lambda: spool.remove(spool.add("logs", scope, encoded.payloads, 1)))
        spool.discard()
    print(
        f"encoded: {per_record(lambda: ours.encode(batch, uids)):.2f} µs "
        f"(OpenTelemetry's encoder {per_record(lambda: encode_logs(theirs.batch(batch))):.2f} µs); "
        f"kept in the spool and removed: {kept:.2f} µs"
    )


def main() -> None:
    """Run and print the figures."""
    print_encoding()
    # The bridge's own pipeline with an exporter that costs nothing, as the logging handler has it.
    plans = {"logs": [plans_of.ExporterPlan("logs", "bench_null")]}
    vars(other_exporters)["load_exporter"] = lambda plan, warn: Discard()
    vars(plans_of)["plan_exporters"] = lambda signal, environ, warn: plans.get(signal, [])
    provider = LoggerProvider()
    provider.add_log_record_processor(BatchLogRecordProcessor(Discard()))
    handlers._log_handlers["logging_handler"] = LoggingHandler(logger_provider=provider)

    # A job with its spans open, as the agent's hooks open them.
    submit_fact(facts.JobStarted(1, now(), "bench"))
    submit_fact(facts.WorkersStarting(1, now(), [facts.WorkerSlot(rank, rank) for rank in range(8)]))

    def torch_to(destination: str) -> Callable[[Event], None]:
        return lambda event: torch_events.record(event, destination)

    def nothing() -> None:
        pass

    cases: dict[str, tuple[Callable[[Event], None], Callable[[], object]]] = {
        "torch null": (torch_to("null"), nothing),
        "torch logging_handler": (torch_to("logging_handler"), provider.force_flush),
        "torch otel": (torch_to("otel"), torchelastic_otel.flush),
        "ours otel": (lambda event: our_events.record(event, "otel"), torchelastic_otel.flush),
    }
    walls: dict[str, list[float]] = {name: [] for name in cases}
    cpus: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(ROUNDS + 2):
        for name, (record, drain) in cases.items():
            wall, cpu = measure(record, drain)
            if number >= 2:
                walls[name].append(wall)
                cpus[name].append(cpu)
    for name in cases:
        print(
            f"{name:24} call {statistics.median(walls[name]):7.2f} µs   "
            f"all work {statistics.median(cpus[name]):7.2f} µs"
        )
    for label, figures in (("call", walls), ("all work", cpus)):
        null, handler, otel, ours = (statistics.median(figures[name]) for name in cases)
        print(
            f"{label}: otel adds {otel - null:.2f} µs, the logging handler {handler - null:.2f} µs: ratio "
            f"{(otel - null) / (handler - null):.2f} (budget 0.60)"
        )
        print(f"{label}: our record is {ours / null:.2f} of torch's null (budget 1.00)")


if __name__ == "__main__":
    main()
