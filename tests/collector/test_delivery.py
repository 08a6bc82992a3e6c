"""From a job through agent and gateway to Jaeger, Prometheus and Loki, whatever dies or is away meanwhile."""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality

from otlp_receiver import OtlpReceiver
from tests.support.backends import (
    CONFIGS,
    README_BLOCKS,
    Jaeger,
    Line,
    Loki,
    Prometheus,
    collector,
    jaeger,
    loki,
    prometheus,
)
from tests.support.example_runs import run
from tests.support.harness import OTEL, TORCHRUN, Harness, c10d, free_port
from tests.support.otlp_requests import certificates, log_request, post, put
from tests.support.recorded import Recorded, match
from torchelastic_otel._job.identity import hash_trace_id

pytestmark = pytest.mark.e2e

QUICK_RETRY = {"RETRY_MAX_INTERVAL": "1s"}


def of_grpc(url: str) -> str:
    """Return host and port, as a Collector's gRPC exporter wants them."""
    return url.rpartition("/")[2]


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
        script = harness.worker(together=4, fail=[0, 1], which="local rank", rank=1)
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
    """What the launchers counted is there, for each launcher by itself and with its host, and it is right."""
    of_job = f'{{torchelastic_run_id="{journey.run_id}"}}'
    samples = journey.metrics.wait_for(
        f"torchelastic_restarts_total{of_job}", lambda found: sum(one.value for one in found) == 2
    )
    counted = [one for one in samples if one.value]
    assert len({one.labels["instance"] for one in counted}) == 2
    assert all(one.labels["job"] == "torchelastic" and one.labels["host_name"] for one in counted)
    [failures] = journey.metrics.instant(f"sum(torchelastic_worker_failures_total{of_job})")
    assert failures.value == 4


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


def test_the_provisioned_query_leads_from_a_span_to_its_logs(journey: Journey) -> None:
    """What Grafana asks Loki for a span, with its variables put in: the job's records, and no others."""
    path = CONFIGS / "grafana" / "provisioning" / "datasources" / "torchelastic.yaml"
    provisioned = yaml.safe_load(path.read_text())["datasources"]
    sources = {source["uid"]: source["jsonData"] for source in provisioned}
    to_logs = sources["tempo"]["tracesToLogsV2"]
    [tag] = to_logs["tags"]
    assert tag["key"] == "service.name"
    query = to_logs["query"].replace("$${__tags}", f'{tag["value"]}="torchelastic"')
    query = query.replace("$${__trace.traceId}", journey.trace_id)
    found = {line.labels["log_record_uid"] for line in journey.logs.range(query)}
    assert found == {line.labels["log_record_uid"] for line in journey.lines}
    # And back: the label that the derived field looks for is on every line.
    [derived] = sources["loki"]["derivedFields"]
    assert all(derived["matcherRegex"] in line.labels for line in journey.lines)


# --- straight to the backends -----------------------------------------------------------------------------


def readme_block(kind: str) -> str:
    """Return a command of collector-config/README.md, with the torchrun of the Python that runs the tests."""
    [text] = [text for marks, text in README_BLOCKS if marks == ["torchrun", kind]]
    return text.replace("torchrun ", f"{sys.executable} -m {TORCHRUN} ")


def run_block(text: str, directory: Path) -> str:
    """Run it as a new user would; return the trace's id, which the launcher prints."""
    env = {
        "NO_PROXY": "*",
        "TORCHELASTIC_OTEL_SPOOL_DIR": str(directory / "spool"),
        # The port is not 4317, by which gRPC is known.
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc",
        "TORCHELASTIC_OTEL_EXIT_TIMEOUT": "20",
    }
    result = run(text, env=env, cwd=CONFIGS)
    assert result.returncode == 0, result.stderr
    found: list[str] = re.findall(r"\b[0-9a-f]{32}\b", result.stderr)
    assert len(set(found)) == 1, result.stderr
    return found[0]


def test_the_readmes_lines_for_grafana_work(journey: Journey, tmp_path: Path) -> None:
    """Without a collector: the trace, the log records and the metrics of a job are there."""
    text = readme_block("grafana")
    text = text.replace("http://localhost:4317", journey.traces.grpc_endpoint)
    text = text.replace("http://localhost:3100", journey.logs.url)
    text = text.replace("http://localhost:9090", journey.metrics.url)
    trace_id = run_block(text, tmp_path)
    trace = journey.traces.trace(trace_id, 5)
    assert [span["warnings"] for span in trace["spans"] if span.get("warnings")] == []
    query = f'{{service_name="torchelastic"}} | trace_id="{trace_id}"'
    query += ' | torchelastic_event="torchelastic.agent.stop"'
    [line] = journey.logs.wait_for(query)
    run_id = line.labels["torchelastic_run_id"]
    journey.metrics.wait_for(f'{{__name__=~"torchelastic_.+",torchelastic_run_id="{run_id}"}}')


def test_the_readmes_lines_for_grafanas_collector_work(journey: Journey, tmp_path: Path) -> None:
    """Through an agent that sends to Tempo's place, Loki and Prometheus: all three signals are there."""
    configs = [CONFIGS / "agent.yaml", CONFIGS / "to-grafana.yaml"]
    environ = {
        "TEMPO_ENDPOINT": of_grpc(journey.traces.grpc_endpoint),
        "LOKI_ENDPOINT": journey.logs.otlp_endpoint,
        "PROMETHEUS_ENDPOINT": journey.metrics.otlp_endpoint,
    }
    with collector(configs, tmp_path / "agent", environ) as agent:
        text = readme_block("collector").replace("http://localhost:4317", agent.grpc_endpoint)
        trace_id = run_block("export OTEL_EXPORTER_OTLP_PROTOCOL=grpc\n" + text, tmp_path)
        journey.traces.trace(trace_id, 5)
        [stop] = journey.logs.wait_for(
            f'{{service_name="torchelastic"}} | trace_id="{trace_id}" | torchelastic_outcome="succeeded" '
            '| torchelastic_event="torchelastic.agent.stop"'
        )
        run_id = stop.labels["torchelastic_run_id"]
        journey.metrics.wait_for(f'torchelastic_events_total{{torchelastic_run_id="{run_id}"}}')


def test_the_readmes_lines_for_jaeger_work(journey: Journey, tmp_path: Path) -> None:
    """Everything is sent to a backend that takes traces alone, and the trace is there."""
    text = readme_block("jaeger").replace("http://localhost:4317", journey.traces.grpc_endpoint)
    trace_id = run_block("export OTEL_EXPORTER_OTLP_PROTOCOL=grpc\n" + text, tmp_path)
    assert len(journey.traces.trace(trace_id, 5)["spans"]) == 5


# --- what the backends are told to take -------------------------------------------------------------------


def test_loki_takes_the_longest_record_and_the_latest(journey: Journey) -> None:
    """Three texts of the greatest length that the bridge sends; and what a launcher had for ten days."""
    to = journey.logs.otlp_endpoint
    longest = dict.fromkeys(("message", "stacktrace", "raw_error"), "☃" * 32768)
    assert post(to, log_request("long", texts=longest)) == 204
    assert post(to, log_request("now", instance="a launcher of today")) == 204
    ten_days_ago = time.time_ns() - 10 * 24 * 3600 * 10**9
    assert post(to, log_request("late", at_ns=ten_days_ago, instance="a launcher that was cut off")) == 204
    [line] = journey.logs.range('{service_name="torchelastic"} |= "late"', hours=11 * 24)
    assert line.time_ns == ten_days_ago


def test_prometheus_takes_what_comes_late(journey: Journey) -> None:
    """A sample of three hours ago, after those of now."""
    for age_s in (0, 3 * 3600):
        request = ExportMetricsServiceRequest()
        resource = request.resource_metrics.add()
        put(resource.resource.attributes, {"service.name": "late"})
        metric = resource.scope_metrics.add().metrics.add(name="late")
        metric.sum.is_monotonic = True
        metric.sum.aggregation_temporality = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
        metric.sum.data_points.add(time_unix_nano=time.time_ns() - age_s * 10**9, as_int=7)
        assert post(journey.metrics.otlp_endpoint, request) == 200
    [sample] = journey.metrics.instant('late_total{job="late"}', at=time.time() - 3 * 3600 + 60)
    assert sample.value == 7
