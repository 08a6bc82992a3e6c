"""What redaction.yaml takes away: from a real job's telemetry, and from sentences that few jobs ever say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from otlp_receiver import OtlpReceiver
from tests.support.backends import CONFIGS, collector
from tests.support.harness import OTEL, Harness, Script, c10d, free_port
from tests.support.otlp_requests import post, put
from torchelastic_otel._job.evidence import at
from torchelastic_otel._job.facts import Raised, Recorded, WorkerError, WorkerExit
from torchelastic_otel._job.sentences import no_more_restarts, not_started
from torchelastic_otel._job.verdict import (
    group_sentence,
    job_failed_by_launcher,
    job_failed_by_workers,
    own_death,
    raised_attributes,
    rendezvous_verdict,
)
from torchelastic_otel._runtime.clock import now

pytestmark = pytest.mark.e2e

SECRET = "hunter2"


RAISES = f"""
import os, sys
from torch.distributed.elastic.multiprocessing.errors import record

@record
def main():
    if os.environ["RANK"] == "1":
        raise ValueError("password={SECRET}; in\\nseveral lines: {SECRET}")
    import signal; signal.pause()

main()
"""


@pytest.fixture(scope="module")
def redacted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, OtlpReceiver]]:
    """Run jobs whose exceptions have a secret, through redaction to files; beside it, what came in."""
    directory = tmp_path_factory.mktemp("redaction")
    files = directory / "files"
    files.mkdir()
    with ExitStack() as stack:
        came_in = stack.enter_context(OtlpReceiver())
        stages = ["agent.yaml", "to-file.yaml", "redaction.yaml"]
        agent = stack.enter_context(
            collector([CONFIGS / name for name in stages], directory / "agent", {"FILE_DIR": str(files)})
        )
        harness = stack.enter_context(Harness(directory / "job"))
        raises = Script(harness.program("raises.py", RAISES))
        launchers = []
        for endpoint in (agent.grpc_endpoint, came_in.grpc_endpoint):
            env = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
            options = [*OTEL, *c10d(free_port(), "redaction", nodes=1, restarts=1)]
            launchers.append(harness.torchrun(options, raises, env=env))
        assert [launcher.wait() for launcher in launchers] == [1, 1], launchers[0].output
        yield files, came_in


def test_no_secret_of_a_job_leaves_the_collector(redacted: tuple[Path, OtlpReceiver]) -> None:
    """The exception's text comes in at a dozen places of logs and spans, and goes out at none."""
    files, came_in = redacted
    assert sum(SECRET in repr(item) for item in [*came_in.logs, *came_in.spans]) >= 9
    for signal in ("logs", "traces"):
        text = (files / f"{signal}.jsonl").read_text()
        assert "torchelastic.worker.status.FAILED" in text
        assert SECRET not in text
        assert "several lines" not in text


def test_what_happened_is_still_told(redacted: tuple[Path, OtlpReceiver]) -> None:
    """Type, exit code, rank and sentence stay."""
    files, _ = redacted
    [failure] = [
        record
        for record in otlp_lines(files / "logs.jsonl", "logRecords")
        if record.get("eventName") == "torchelastic.failure"
        and "torchelastic.collateral" not in record["attributes"]
        and record["attributes"]["torchelastic.round"] == "1"
    ]
    known = failure["attributes"]
    assert known["exception.type"] == known["error.type"] == "ValueError"
    assert (known["process.exit.code"], known["torchelastic.global_rank"]) == ("1", "1")
    assert failure["body"]["stringValue"].endswith(" died of ValueError: [redacted]")
    [stop] = [
        record
        for record in otlp_lines(files / "logs.jsonl", "logRecords")
        if record.get("eventName") == "torchelastic.agent.stop"
    ]
    assert stop["attributes"]["torchelastic.verdict"].endswith(" died of ValueError: [redacted]")
    [agent] = [
        span for span in otlp_lines(files / "traces.jsonl", "spans") if span["name"] == "torchelastic.agent"
    ]
    assert agent["status"] == {"code": 2, "message": stop["attributes"]["torchelastic.verdict"]}


def otlp_lines(path: Path, kind: str) -> list[dict[str, Any]]:
    """Return the records or spans of a file of OTLP JSON Lines, attributes as a mapping to text."""
    found = []
    for line in path.read_text().splitlines():
        [(_, resources)] = json.loads(line).items()
        for resource in resources:
            for scope in next(value for key, value in resource.items() if key.startswith("scope")):
                for item in scope[kind]:
                    pairs = item.get("attributes", [])
                    values = {pair["key"]: next(iter(pair["value"].values())) for pair in pairs}
                    found.append({**item, "attributes": values})
    return found


def sentences() -> Iterator[str]:
    """Every sentence of the bridge that quotes a message, made by the bridge itself."""
    raised = Raised("ConnectionError", f"refused: {SECRET};\n{SECRET}", f"Traceback …\n{SECRET}")
    wordy = WorkerError("error.json", json.dumps({"message": {"message": f"it is {SECRET}"}}))
    typed = WorkerError("error.json", json.dumps({"message": {"message": f"a.b.Error: {SECRET}"}}))
    who: dict[str, str | int] = {"torchelastic.global_rank": 3, "torchelastic.hostname": "fe80::1"}
    deaths = [own_death(who, WorkerExit(0, 1, error=error), at(now())) for error in (wordy, typed)]
    yield from (death.sentence for death in deaths)
    yield group_sentence(deaths, deaths)
    yield group_sentence([], deaths)
    words = Recorded(stderr_tail=f"no such user: {SECRET}\n")
    last = own_death(who, WorkerExit(0, 1, recorded=words), at(now()))
    yield last.sentence
    yield group_sentence([last], [last, last])
    yield group_sentence(deaths[1:], [deaths[1], deaths[1]])
    yield job_failed_by_workers(deaths, deaths, no_more_restarts(3, 1)).sentence
    yield job_failed_by_launcher(raised, "while starting the workers").sentence
    yield rendezvous_verdict(raised, 1.5, None).sentence
    yield not_started(raised_attributes(raised))


def test_every_sentence_that_quotes_a_message_is_cut(tmp_path: Path) -> None:
    """As body, as verdict, as a span's status; and torch's own words: also what few jobs ever say."""
    quoting = list(sentences())
    assert all(SECRET in sentence for sentence in quoting)
    logs, traces = ExportLogsServiceRequest(), ExportTraceServiceRequest()
    scope_logs = logs.resource_logs.add().scope_logs.add()
    scope_spans = traces.resource_spans.add().scope_spans.add()
    scope_logs.scope.name = scope_spans.scope.name = "torchelastic_otel"
    for sentence in quoting:
        record = scope_logs.log_records.add()
        record.body.string_value = f"The launcher ends: {sentence}"
        put(record.attributes, {"torchelastic.verdict": sentence})
        span = scope_spans.spans.add(trace_id=b"1" * 16, span_id=b"2" * 8, name="torchelastic.agent")
        span.status.message = sentence
        put(span.attributes, {"torchelastic.verdict": sentence})
        put(span.events.add(name="torchelastic.agent.stop").attributes, {"torchelastic.verdict": sentence})
    told = [
        ("torchelastic.worker.status.FAILED", f"Worker 3 on fe80::1 failed: a.b.Error: {SECRET}"),
        ("torchelastic.worker.status.FAILED", f"Worker 3 failed: it is {SECRET}: exit code 1"),
        ("torchelastic.worker.status.TERMINATED", f"Worker 3 was stopped by its agent: E: {SECRET}"),
        ("torchelastic.unparsed", f"{{ {SECRET}"),
    ]
    for event, body in told:
        record = scope_logs.log_records.add()
        record.body.string_value = body
        put(record.attributes, {"torchelastic.event": event})
        put(record.attributes, {"torchelastic.metadata": SECRET})
    refused = scope_logs.log_records.add()
    refused.body.string_value = f"EtcdConnectionFailed: no route to user:{SECRET}@etcd\n{SECRET}"
    put(refused.attributes, {"torchelastic.node_state": "FAILED"})
    for _, body in told[:3]:
        span = scope_spans.spans.add(trace_id=b"1" * 16, span_id=b"4" * 8, name="torchelastic.worker")
        span.status.message = body
    span = scope_spans.spans.add(trace_id=b"1" * 16, span_id=b"4" * 8, name="torchelastic.rendezvous")
    span.status.message = refused.body.string_value
    harmless = [
        "Worker 3 (local rank 1, pid 17) on node-1 failed: killed by SIGKILL",
        "Worker 3 (pid 17) on fe80::1 died: killed by SIGKILL; its cgroup counted an out-of-memory kill "
        "meanwhile",
        "Worker 3 on node-1 was stopped by its agent after another worker's death: exit code -6",
        "Worker 3 (pid 17) is killed by the watchdog: its scope train expired",
        "Worker 3 (pid 17) on node-1 died: killed by SIGSEGV in step (train.py:88)",
        "failed: Worker 3 died: exit code 3; all 3 restarts used up",
    ]
    for sentence in harmless:
        record = scope_logs.log_records.add()
        record.body.string_value = sentence
        event = "torchelastic.worker.status.FAILED" if " failed: " in sentence else "torchelastic.failure"
        put(record.attributes, {"torchelastic.event": event})
        span = scope_spans.spans.add(trace_id=b"1" * 16, span_id=b"5" * 8, name="torchelastic.worker")
        span.status.message = sentence
    scripts = traces.resource_spans.add().scope_spans.add()
    scripts.scope.name = "training"
    step = scripts.spans.add(trace_id=b"1" * 16, span_id=b"3" * 8, name="step")
    step.status.code, step.status.message = Status.STATUS_CODE_ERROR, f"ValueError: {SECRET}"
    for name in ("exception.message", "exception.stacktrace"):
        put(step.events.add(name="exception").attributes, {name: SECRET})

    stages = ["agent.yaml", "to-file.yaml", "redaction.yaml"]
    environ = {"FILE_DIR": str(tmp_path)}
    with collector([CONFIGS / name for name in stages], tmp_path / "agent", environ) as agent:
        assert post(agent.http_endpoint, logs) == 200
        assert post(agent.http_endpoint, traces) == 200
    out = (tmp_path / "logs.jsonl").read_text() + (tmp_path / "traces.jsonl").read_text()
    assert SECRET not in out
    bodies = [record["body"]["stringValue"] for record in otlp_lines(tmp_path / "logs.jsonl", "logRecords")]
    assert "Worker 3 on fe80::1 failed: a.b.Error: [redacted]" in bodies
    assert bodies[-len(harmless) :] == harmless
    assert len(bodies) == len(quoting) + len(told) + 1 + len(harmless)
    said = [span["status"]["message"] for span in otlp_lines(tmp_path / "traces.jsonl", "spans")]
    assert said[-1 - len(harmless) :] == [*harmless, "ValueError: [redacted]"]
