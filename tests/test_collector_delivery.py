"""From a job through agent and gateway to Jaeger, Prometheus and Loki, whatever dies or is away on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from backends import (
    CONFIGS,
    Jaeger,
    Line,
    Loki,
    Prometheus,
    certificates,
    collector,
    jaeger,
    loki,
    of_grpc,
    prometheus,
)
from otlp_receiver import OtlpReceiver
from torchelastic_otel._identity import hash_trace_id
from torchrun_harness import OTEL, Harness, Recorded, c10d, free_port, match

pytestmark = pytest.mark.e2e

QUICK_RETRY = {"RETRY_MAX_INTERVAL": "1s"}


@dataclass(frozen=True, slots=True)
class Journey:
    """A job of two nodes with a restart, and everything that its telemetry passed."""

    run_id: str
    recorded: list[Recorded]
    beside: OtlpReceiver
    """A second destination of the agent."""
    traces: Jaeger
    metrics: Prometheus
    logs: Loki

    @property
    def trace_id(self) -> str:
        """Of the job."""
        return f"{hash_trace_id(self.run_id):032x}"

    @property
    def lines(self) -> list[Line]:
        """The job's log records in Loki, once all are there that the agent has accepted."""
        uids = {str(record.attributes["log.record.uid"]) for record in self.beside.logs}
        query = f'{{service_name="torchelastic"}} | torchelastic_run_id="{self.run_id}"'
        return self.logs.wait_for(
            query, lambda lines: {line.labels["log_record_uid"] for line in lines} >= uids
        )


@pytest.fixture(scope="module")
def journey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journey]:
    """Run the job while no backend is there, and kill both collectors meanwhile; then start the backends."""
    directory = tmp_path_factory.mktemp("journey")
    run_id = "journey"
    secrets = certificates(directory / "tls")
    with ExitStack() as stack:
        traces = stack.enter_context(jaeger(directory / "jaeger", start=False))
        metrics = stack.enter_context(prometheus(directory / "prometheus", start=False))
        logs = stack.enter_context(loki(directory / "loki", start=False))
        beside = stack.enter_context(OtlpReceiver())
        gateway = stack.enter_context(
            collector(
                [CONFIGS / "gateway.yaml", CONFIGS / "to-grafana.yaml"],
                directory / "gateway",
                {
                    **secrets,
                    **QUICK_RETRY,
                    "TEMPO_ENDPOINT": of_grpc(traces.grpc_endpoint),
                    "LOKI_ENDPOINT": logs.otlp_endpoint,
                    "PROMETHEUS_ENDPOINT": metrics.otlp_endpoint,
                },
                tls=True,
            )
        )
        agent = stack.enter_context(
            collector(
                [CONFIGS / "agent.yaml", CONFIGS / "to-gateway.yaml", CONFIGS / "to-vendor.yaml"],
                directory / "agent",
                {
                    **secrets,
                    **QUICK_RETRY,
                    "GATEWAY_ENDPOINT": of_grpc(gateway.grpc_endpoint),
                    "VENDOR_ENDPOINT": beside.http_endpoint,
                },
            )
        )
        harness = stack.enter_context(Harness(directory / "job"))
        env = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": agent.grpc_endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "OTEL_BLRP_SCHEDULE_DELAY": "100",
            "TORCHELASTIC_OTEL_EXIT_TIMEOUT": "20",
        }
        options = [*OTEL, *c10d(free_port(), run_id, restarts=1)]
        script = harness.worker(together=4, fail=[0, 1], which="LOCAL_RANK", rank=1)
        launchers = [harness.torchrun(options, script, env=env) for _ in range(2)]
        harness.wait_for_gate(0)
        gateway.program.kill()
        agent.program.kill()
        agent.program.start()
        harness.wait_for_gate(1)
        gateway.program.start()
        assert [launcher.wait() for launcher in launchers] == [1, 1], launchers[0].output
        recorded = [event for launcher in launchers for event in launcher.recorded]
        agent.program.kill()
        gateway.program.kill()
        for program in (gateway.program, agent.program, traces.program, metrics.program, logs.program):
            program.start()
        yield Journey(run_id, recorded, beside, traces, metrics, logs)


def test_all_that_torch_recorded_is_accepted_by_the_agent(journey: Journey) -> None:
    """Torch's own account of what it recorded, against what the agent handed on: nothing is missing."""
    journey.lines  # noqa: B018 - waits
    once = {record.attributes["log.record.uid"]: record for record in journey.beside.logs}
    assert match(journey.recorded, list(once.values())) == ([], [])


def test_all_log_records_are_in_loki(journey: Journey) -> None:
    """Neither killed collectors nor a Loki that comes late cost a record; those that count can be found."""
    lines = journey.lines
    failed = [
        line
        for line in lines
        if line.labels["torchelastic_event"] == "torchelastic.failure"
        and "torchelastic_collateral" not in line.labels
    ]
    assert Counter(line.labels["process_exit_code"] for line in failed) == {"3": 4}
    assert {line.labels["trace_id"] for line in lines} == {journey.trace_id}


def test_the_whole_trace_is_in_jaeger_without_a_warning(journey: Journey) -> None:
    """All spans of both nodes, each once."""
    trace = journey.traces.trace(journey.trace_id, 18)
    names = Counter(span["operationName"].rpartition(".")[2] for span in trace["spans"])
    assert names == {"agent": 2, "rendezvous": 4, "worker_group": 4, "worker": 8}
    assert [span["warnings"] for span in trace["spans"] if span.get("warnings")] == []


def test_metrics_are_in_prometheus(journey: Journey) -> None:
    """What the launchers counted is there, for each launcher by itself and with its host."""
    query = f'torchelastic_rendezvous_heartbeats_total{{torchelastic_run_id="{journey.run_id}"}}'
    samples = journey.metrics.wait_for(
        query, lambda found: len({one.labels["instance"] for one in found}) == 2
    )
    assert all(one.labels["job"] == "torchelastic" and one.labels["host_name"] for one in samples)


def test_from_a_log_line_to_its_span_and_back(journey: Journey) -> None:
    """The ids on a failure's log line are those of a worker's span that failed, and lead back to the line."""
    line = next(line for line in journey.lines if line.labels["torchelastic_event"] == "torchelastic.failure")
    trace = journey.traces.trace(line.labels["trace_id"], 18)
    [span] = [span for span in trace["spans"] if span["spanID"] == line.labels["span_id"]]
    assert span["operationName"] == "torchelastic.worker"
    back = journey.logs.range(
        f'{{service_name="torchelastic"}} | trace_id="{trace["traceID"]}" | span_id="{span["spanID"]}"'
    )
    assert line.labels["log_record_uid"] in {found.labels["log_record_uid"] for found in back}
