"""What a real Jaeger makes of a job's trace."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import pytest

from tests.support.backends import Jaeger, jaeger
from tests.support.harness import OTEL, Harness, c10d, free_port
from tests.support.names import AGENT, GROUP, RENDEZVOUS, WORKER
from torchelastic_otel._job.identity import hash_trace_id

pytestmark = pytest.mark.e2e


def traces_alone(backend: Jaeger) -> dict[str, str]:
    """Return the variables that send traces to a Jaeger, and nothing else anywhere."""
    return {
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        "OTEL_EXPORTER_OTLP_ENDPOINT": backend.grpc_endpoint,
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_METRICS_EXPORTER": "none",
    }


def test_jaeger_shows_the_whole_trace_without_a_warning(harness: Harness, tmp_path: Path) -> None:
    """A job of two nodes with a restart is one trace in a real Jaeger, and no span of it has a warning."""
    run_id = "jaeger"
    with jaeger(tmp_path / "jaeger") as found:
        env = traces_alone(found)
        script = harness.worker(together=4, fail=[0], rank=3)
        options = [*c10d(free_port(), run_id, restarts=1), *OTEL]
        agents = [harness.torchrun(options, script, env=env) for _ in range(2)]
        assert [agent.wait() for agent in agents] == [0, 0], agents[0].output
        trace = found.trace(f"{hash_trace_id(run_id):032x}", 18)
    spans = trace["spans"]
    assert Counter(span["operationName"] for span in spans) == {AGENT: 2, RENDEZVOUS: 4, GROUP: 4, WORKER: 8}
    assert [span["warnings"] for span in spans if span.get("warnings")] == []
    assert not trace.get("warnings")
    assert {note.env["TRACEPARENT"].split("-")[2] for note in harness.worker_notes()} == {
        span["spanID"] for span in spans if span["operationName"] == WORKER
    }


def test_jaeger_opens_the_trace_of_a_job_whose_agent_was_killed(harness: Harness, tmp_path: Path) -> None:
    """A node whose agent gets SIGKILL is in the trace with all that had ended; the other is there whole."""
    run_id = "killed"
    with jaeger(tmp_path / "jaeger") as found:
        env = {**traces_alone(found), "OTEL_BSP_SCHEDULE_DELAY": "100"}
        script = harness.worker(together=2, stay=[0])
        options = [*c10d(free_port(), run_id, per_node=1), *OTEL]
        host, survivor = (
            harness.torchrun([*options, f"--rdzv-conf=is_host={is_host}"], script, env=env)
            for is_host in ("true", "false")
        )
        for agent in (host, survivor):
            agent.wait_for_event("torchelastic.worker.status.START")
        found.trace(f"{hash_trace_id(run_id):032x}", 2)
        host.send_signal(signal.SIGKILL)
        assert (host.wait(), survivor.wait()) == (-signal.SIGKILL, 1), survivor.output
        trace = found.trace(f"{hash_trace_id(run_id):032x}", 5)
    pids = {
        key: next(tag["value"] for tag in process["tags"] if tag["key"] == "process.pid")
        for key, process in trace["processes"].items()
    }
    shown = Counter((span["operationName"], pids[span["processID"]]) for span in trace["spans"])
    assert shown == {
        (RENDEZVOUS, host.pid): 1,
        **{(name, survivor.pid): 1 for name in (AGENT, RENDEZVOUS, GROUP, WORKER)},
    }
    failed = [span for span in trace["spans"] if span["operationName"] == AGENT]
    assert any("RendezvousConnectionError" in str(tag["value"]) for tag in failed[0]["tags"])
