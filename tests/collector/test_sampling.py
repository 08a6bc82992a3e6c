"""What sampling.yaml thins and keeps: real jobs of all kinds, and what none of them does in seconds."""

from __future__ import annotations

import os
import secrets
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otlp_receiver import OtlpReceiver
from tests.support.backends import CONFIGS, Collector, Jaeger, collector, jaeger, poll
from tests.support.harness import OTEL, Agent, Harness, Script, c10d, free_port
from tests.support.otlp_requests import post, put
from torchelastic_otel._job.identity import hash_trace_id

pytestmark = pytest.mark.e2e


CLEAN = "pass"
FAILS_AFTER_ANOTHER_HAS_ENDED = """
import os, sys
if os.environ["RANK"] == "0":
    os.open("alive", os.O_WRONLY)
else:
    open("alive").read()  # until the end of the process that has it open
    sys.exit(3)
"""
RESTARTS = """
import os, sys
sys.exit(os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and os.environ["RANK"] == "1")
"""


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jaeger]:
    """Run jobs of all kinds through sampling that keeps none of those that went well."""
    directory = tmp_path_factory.mktemp("sampling")
    with ExitStack() as stack:
        traces = stack.enter_context(jaeger(directory / "jaeger"))
        stages = ["agent.yaml", "to-jaeger.yaml", "sampling.yaml"]
        settings = {
            "JAEGER_ENDPOINT": traces.grpc_endpoint.rpartition("/")[2],
            "SAMPLING_PERCENTAGE": "0",
            "SAMPLING_WAIT": "8s",
        }
        agent = stack.enter_context(
            collector([CONFIGS / name for name in stages], directory / "agent", settings)
        )
        harness = stack.enter_context(Harness(directory / "job"))
        os.mkfifo(harness.directory / "alive")
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": agent.grpc_endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}

        def start(run_id: str, script: Script, **options: int) -> list[Agent]:
            command = [*OTEL, *c10d(free_port(), run_id, **options)]
            return [harness.torchrun(command, script, env=env) for _ in range(options["nodes"])]

        def script(source: str) -> Script:
            return Script(harness.program(f"{hash(source)}.py", source))

        one_node_fails = harness.worker(together=2, fail=[0], rank=1)
        codes = []
        for launchers in (
            start("clean", script(CLEAN), nodes=1),
            start("failed", script(FAILS_AFTER_ANOTHER_HAS_ENDED), nodes=1),
            start("restarted", script(RESTARTS), nodes=1, restarts=1),
            start("restarted-for-another", one_node_fails, nodes=2, per_node=1, restarts=1),
        ):
            codes.append([launcher.wait() for launcher in launchers])
        assert codes == [[0], [1], [0], [0, 0]]
        yield traces


def names_of(trace: dict[str, Any]) -> Counter[str]:
    """Count the spans of a trace by the last part of their name, and hold it against warnings."""
    assert [span["warnings"] for span in trace["spans"] if span.get("warnings")] == []
    return Counter(span["operationName"].rpartition(".")[2] for span in trace["spans"])


@pytest.mark.parametrize(
    ("run_id", "whole"),
    [
        ("failed", {"agent": 1, "rendezvous": 1, "worker_group": 1, "worker": 2}),
        ("restarted", {"agent": 1, "rendezvous": 2, "worker_group": 2, "worker": 4}),
        ("restarted-for-another", {"agent": 2, "rendezvous": 4, "worker_group": 4, "worker": 4}),
    ],
)
def test_jobs_that_did_not_go_well_are_kept_whole(
    sampled: Jaeger, run_id: str, whole: dict[str, int]
) -> None:
    """Also workers that ended well before another failed, and nodes that restart for another's sake."""
    trace = sampled.trace(f"{hash_trace_id(run_id):032x}", sum(whole.values()))
    assert names_of(trace) == whole


def test_a_job_that_went_well_is_thinned(sampled: Jaeger) -> None:
    """Its workers' spans are gone, the rest is there and fits together."""
    later = f"{hash_trace_id('restarted-for-another'):032x}"
    sampled.trace(later, 14)
    trace = sampled.trace(f"{hash_trace_id('clean'):032x}", 3)
    assert names_of(trace) == {"agent": 1, "rendezvous": 1, "worker_group": 1}


# What no job of a few seconds does, told as the bridge would tell it. The wait is short: what is looked at
# last was sent when the earlier had been decided on.

Told = tuple[str, dict[str, str | int]]
WORKED: Told = ("worker", {"torchelastic.outcome": "succeeded", "torchelastic.generation": 1})
LAUNCHED: Told = ("agent", {"torchelastic.outcome": "succeeded", "torchelastic.verdict": "succeeded"})


def spans_of(trace: bytes, *told: Told, scope: str = "torchelastic_otel") -> ExportTraceServiceRequest:
    """Return a request with spans, given as name and attributes."""
    request = ExportTraceServiceRequest()
    scope_spans = request.resource_spans.add().scope_spans.add()
    scope_spans.scope.name = scope
    for name, attributes in told:
        span = scope_spans.spans.add(
            trace_id=trace, span_id=secrets.token_bytes(8), name=f"torchelastic.{name}"
        )
        put(span.attributes, attributes)
    return request


@dataclass(frozen=True, slots=True)
class Sampler:
    """A collector that samples, and what it lets through."""

    agent: Collector
    out: OtlpReceiver

    def send(self, request: ExportTraceServiceRequest) -> None:
        """Send spans."""
        assert post(self.agent.http_endpoint, request) == 200

    def passed(self, trace: bytes) -> list[str]:
        """Return the names of a trace's spans that came through so far."""
        names = [span.name.rpartition(".")[2] for span in self.out.spans if span.trace_id == trace.hex()]
        return sorted(names)

    def wait_for(self, trace: bytes, *names: str) -> None:
        """Wait until these came through."""
        assert self.out.wait(lambda _: Counter(self.passed(trace)) >= Counter(names), 30), self.passed(trace)

    def decide(self) -> None:
        """Wait until all that was sent is decided on: a trace that is sent now is decided on later."""
        last = secrets.token_bytes(16)
        self.send(spans_of(last, WORKED))
        self.wait_for(last, "worker")


@contextmanager
def sampler(directory: Path, percentage: int = 0, wait: str = "1s") -> Iterator[Sampler]:
    """Run a collector that samples."""
    stages = ["agent.yaml", "to-vendor.yaml", "sampling.yaml"]
    with OtlpReceiver() as out:
        environ = {
            "VENDOR_ENDPOINT": out.http_endpoint,
            "SAMPLING_WAIT": wait,
            "SAMPLING_PERCENTAGE": str(percentage),
        }
        with collector([CONFIGS / name for name in stages], directory / "agent", environ) as agent:
            yield Sampler(agent, out)


def test_a_worker_that_ends_long_before_its_job_is_kept(tmp_path: Path) -> None:
    """Nobody knows yet how the job will end; and when it ends well, its other workers are kept with it."""
    trace = secrets.token_bytes(16)
    with sampler(tmp_path) as sampling:
        sampling.send(spans_of(trace, WORKED))
        sampling.wait_for(trace, "worker")
        sampling.send(spans_of(trace, WORKED, LAUNCHED))
        sampling.wait_for(trace, "agent", "worker", "worker")


def test_what_comes_early_does_not_start_the_clock(tmp_path: Path) -> None:
    """Rendezvous spans and a script's own, sent days before the end, decide nothing."""
    trace = secrets.token_bytes(16)
    with sampler(tmp_path) as sampling:
        sampling.send(spans_of(trace, ("rendezvous", {"torchelastic.outcome": "succeeded"})))
        sampling.send(spans_of(trace, ("epoch", {}), scope="training"))
        sampling.decide()
        sampling.send(spans_of(trace, WORKED, LAUNCHED))
        sampling.decide()
        assert sampling.passed(trace) == ["agent", "epoch", "rendezvous"]


@pytest.mark.parametrize(
    "sign",
    [
        ("worker_group", {"torchelastic.outcome": "interrupted", "torchelastic.generation": 1}),
        ("worker_group", {"torchelastic.outcome": "succeeded", "torchelastic.generation": 2}),
        ("worker", {"torchelastic.outcome": "terminated", "torchelastic.generation": 1}),
        ("agent", {"torchelastic.outcome": "failed"}),
    ],
    ids=lambda sign: f"{sign[0]} {'-'.join(map(str, sign[1].values()))}",
)
def test_any_sign_that_a_job_did_not_go_well_keeps_it(sign: Told, tmp_path: Path) -> None:
    """Although a launcher of it said that all was well."""
    trace = secrets.token_bytes(16)
    with sampler(tmp_path) as sampling:
        sampling.send(spans_of(trace, WORKED, LAUNCHED))
        sampling.send(spans_of(trace, sign))
        sampling.wait_for(trace, "agent", "worker", sign[0])


def test_a_share_of_the_jobs_that_went_well_is_kept(tmp_path: Path) -> None:
    """All spans of some, the skeleton of the rest: nearly as many as was asked for."""
    traces = [secrets.token_bytes(16) for _ in range(300)]
    with sampler(tmp_path, percentage=50) as sampling:
        request = ExportTraceServiceRequest()
        for trace in traces:
            request.MergeFrom(spans_of(trace, WORKED, WORKED, LAUNCHED))
        sampling.send(request)
        decided = "otelcol_processor_tail_sampling_global_count_traces_sampled"
        poll(lambda: sampling.agent.figure(decided), lambda count: count == len(traces), decided)
        share = sampling.agent.figure(decided, 'decision="sampled"')
        assert 90 < share < 210  # 7 standard deviations
        spans = len(traces) + 2 * share
        assert sampling.out.wait(lambda found: len(found.spans) >= spans, 30)
        passed: dict[str, list[str]] = {}
        for span in sampling.out.spans:
            passed.setdefault(span.trace_id, []).append(span.name.rpartition(".")[2])
        kept = Counter(tuple(sorted(passed[trace.hex()])) for trace in traces)
    assert kept == {("agent",): len(traces) - share, ("agent", "worker", "worker"): share}


def test_what_waits_for_the_decision_is_not_lost_when_the_collector_ends(tmp_path: Path) -> None:
    """SIGTERM decides at once; and what a decision needs least, a failed worker's span, never waited."""
    trace = secrets.token_bytes(16)
    with sampler(tmp_path, wait="330s") as sampling:
        failed: Told = ("worker", {"torchelastic.outcome": "failed", "torchelastic.generation": 1})
        sampling.send(spans_of(trace, WORKED, failed))
        sampling.wait_for(trace, "worker")
        sampling.agent.program.stop()
        sampling.agent.program.start()  # sends what is in its queue
        sampling.wait_for(trace, "worker", "worker")
