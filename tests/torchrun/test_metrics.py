"""Metrics of real torchrun as they arrive: section 7 of the contract, in each scenario and in others."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from otlp_receiver import MetricPoint, OtlpReceiver
from tests.support.backends import jaeger
from tests.support.harness import OTEL, QUICK, Harness, Script, c10d, free_port, otlp
from tests.support.names import AGENT, GROUP, RENDEZVOUS
from tests.support.scenarios.job import SCENARIOS
from tests.support.scenarios.running import Run, only, where, whole
from torchelastic_otel import _contract as c

pytestmark = pytest.mark.e2e

CAUSE = c.RESTART_CAUSE
KINDS = {
    c.COUNTER: ("sum", True),
    c.UP_DOWN_COUNTER: ("sum", False),
    c.GAUGE: ("gauge", None),
    c.HISTOGRAM: ("histogram", None),
}
# The clock is read for the metrics and for the spans at the same moments, but rounded differently.
ROUNDING_S = 0.01


def last(points: list[MetricPoint]) -> list[MetricPoint]:
    """Return the last point of each series: of one resource, name and set of attributes."""
    found: dict[object, MetricPoint] = {}
    for point in sorted(points, key=lambda point: point.time_ns):
        # A program's own resource may lack an instance id, which the SDK gives since 1.43 only.
        resource = json.dumps(point.resource, sort_keys=True)
        found[resource, point.name, tuple(sorted(point.attributes.items()))] = point
    return list(found.values())


def of_launchers(run: Run, name: str) -> list[MetricPoint]:
    """Return the last points of a metric that launchers sent."""
    points = [point for point in last(run.metrics) if point.resource["process.pid"] in run.launchers]
    return [point for point in points if point.name == name]


def total(points: list[MetricPoint]) -> float:
    """Return the sum of points, of histograms their number."""
    return sum(point.value if point.value is not None else point.count or 0 for point in points)


def by(points: list[MetricPoint], attribute: str) -> dict[object, float]:
    """Return sums by an attribute, without those that are zero."""
    found: dict[object, float] = defaultdict(float)
    for point in points:
        found[point.attributes.get(attribute)] += total([point])
    return {key: value for key, value in found.items() if value}


@whole
def test_each_metric_is_what_the_contract_says(run: Run) -> None:
    """Kind, unit, buckets and attributes; the run id is on all."""
    assert run.metrics
    for point in run.metrics:
        known = c.INSTRUMENTS[point.name]
        assert (point.kind, point.is_monotonic) == KINDS[known.kind]
        assert (point.unit, point.description) == (known.unit, known.description)
        assert set(point.attributes) <= {c.RUN_ID, *known.attributes}
        if point.kind == "histogram":
            assert tuple(point.bounds) == c.SECONDS_BUCKETS
        own_of_many = run.scenario.jobs > 1 and point.name.startswith("torchelastic_otel.")
        assert c.RUN_ID in point.attributes or own_of_many, point


@whole
def test_no_worker_is_active_once_its_launcher_has_ended(run: Run) -> None:
    """However it ended."""
    points = of_launchers(run, c.METRIC_WORKER_ACTIVE)
    assert {point.resource["process.pid"] for point in points} == run.launchers
    assert {point.value for point in points} == {0}
    assert {point.value for point in of_launchers(run, c.METRIC_RENDEZVOUS_WAITING)} == {0}


@whole
def test_each_launcher_says_once_that_it_has_ended(run: Run) -> None:
    """With the outcome that its span has."""
    told: dict[object, float] = defaultdict(float)
    for agent in run.named(AGENT):
        told[agent.attributes.get(c.OUTCOME)] += 1
    assert by(of_launchers(run, c.METRIC_LAUNCHERS_ENDED), c.OUTCOME) == told


@whole
def test_uptime_and_downtime_add_up(run: Run) -> None:
    """To the time from the first rendezvous to the launcher's end; uptime is that of the workers' spans."""
    up = total(of_launchers(run, c.METRIC_UPTIME))
    down = total(of_launchers(run, c.METRIC_DOWNTIME))
    whole_s = 0.0
    for agent in run.named(AGENT):
        attempts = run.children(agent, RENDEZVOUS)
        if attempts:
            whole_s += (agent.end_ns - attempts[0].start_ns) / 1e9
    assert up + down == pytest.approx(whole_s, abs=ROUNDING_S)
    groups_s = sum((group.end_ns - group.start_ns) / 1e9 for group in run.named(GROUP))
    assert up <= groups_s + ROUNDING_S


@whole
def test_failures_and_restarts_are_those_of_the_records(run: Run) -> None:
    """Collateral deaths are none; each restart has the cause that its record tells."""
    deaths = [r for r in run.records(c.EVENT_FAILURE) if not r.attributes.get(c.COLLATERAL)]
    failures = of_launchers(run, c.METRIC_WORKER_FAILURES)
    for attribute in (c.FAILURE_CAUSE, c.ERROR_TYPE):
        told: dict[object, float] = defaultdict(float)
        for record in deaths:
            told[record.attributes[attribute]] += 1
        assert by(failures, attribute) == told
    restarts: dict[object, float] = defaultdict(float)
    for record in run.records(c.EVENT_RESTART):
        restarts[record.attributes[CAUSE]] += 1
    assert by(of_launchers(run, c.METRIC_RESTARTS), CAUSE) == restarts
    assert by(of_launchers(run, c.METRIC_RESTART_DURATION), CAUSE) == restarts


@whole
def test_rendezvous_durations_are_those_of_the_spans(run: Run) -> None:
    """One for each attempt, with its outcome, backend and length."""
    spans = run.named(RENDEZVOUS)
    points = of_launchers(run, c.METRIC_RENDEZVOUS_DURATION)
    assert total(points) == len(spans)
    spans_s = sum((span.end_ns - span.start_ns) / 1e9 for span in spans)
    assert sum(point.sum or 0 for point in points) == pytest.approx(spans_s, abs=ROUNDING_S)
    told: dict[object, float] = defaultdict(float)
    for span in spans:
        told[span.attributes.get(c.OUTCOME)] += 1
    assert by(points, c.OUTCOME) == told
    joined = [span for span in spans if span.attributes.get(c.OUTCOME) == c.OUTCOME_SUCCEEDED]
    sizes = {span.resource["process.pid"]: span.attributes[c.GROUP_WORLD_SIZE] for span in joined}
    last_sizes = {p.resource["process.pid"]: p.value for p in of_launchers(run, c.METRIC_WORLD_SIZE)}
    assert last_sizes == sizes


@whole
def test_every_counter_is_there_whether_anything_happened_or_not(run: Run) -> None:
    """So that a panel shows zero where nothing failed; each says when it began."""
    for pid in run.launchers:
        sums = [p for p in run.metrics if p.resource["process.pid"] == pid and p.kind == "sum"]
        found = {point.name for point in sums}
        assert {c.METRIC_RESTARTS, c.METRIC_WORKER_FAILURES, c.METRIC_UPTIME, c.METRIC_DROPPED} <= found
        assert all(run.began_ns <= point.start_ns <= run.ended_ns for point in sums)


@whole
def test_events_are_counted_once_each(run: Run) -> None:
    """As many as torch recorded, heartbeats apart, and as many heartbeats as there were."""
    recorded = [event for node in run.nodes for event in node.recorded if event.kind in ("event", "rdzv")]
    beats = [event for event in recorded if event.heartbeat]
    points = of_launchers(run, c.METRIC_EVENTS)
    assert total(points) == len(recorded) - len(beats)
    assert by(of_launchers(run, c.METRIC_HEARTBEATS), c.OUTCOME).get("succeeded", 0) == len(beats)


@where(lambda found: all(node.outcome == "succeeded" and node.generations for node in found.nodes))
def test_torchs_own_measurements_arrive(run: Run) -> None:
    """What ``@prof`` measures of the agent: each step by its name."""
    points = of_launchers(run, c.METRIC_OPERATION_DURATION)
    steps = {point.attributes[c.OPERATION] for point in points}
    assert {"run", "_rendezvous", "_initialize_workers", "_start_workers", "_monitor_workers"} <= steps
    runs = [point for point in points if point.attributes[c.OPERATION] == "run"]
    assert total(runs) == len(run.named(AGENT))
    assert {point.attributes[c.OUTCOME] for point in runs} == {"succeeded"}


@only(*[name for name in SCENARIOS if name.startswith("crash")])
def test_exemplars_lead_to_spans_of_the_trace(run: Run) -> None:
    """From a failure, a restart or a rendezvous to its span."""
    spans = {(span.trace_id, span.span_id): span.name for span in run.spans}
    led: dict[str, set[str]] = defaultdict(set)
    for point in run.metrics:
        led[point.name] |= {spans[exemplar.trace_id, exemplar.span_id] for exemplar in point.exemplars}
    assert led[c.METRIC_WORKER_FAILURES] == {c.SPAN_WORKER}
    assert led[c.METRIC_RESTARTS] == led[c.METRIC_RESTART_DURATION] == {GROUP}
    assert led[c.METRIC_RENDEZVOUS_DURATION] == {RENDEZVOUS}


# --- special ones -----------------------------------------------------------------------------------------


def test_a_handler_of_torchs_metrics_keeps_getting_them(harness: Harness, receiver: OtlpReceiver) -> None:
    """Whoever configured one sees what it saw before, and the bridge sees it, too."""
    seen = harness.directory / "seen.json"
    program = harness.program(
        "launch.py",
        """
import json
import sys

from torch.distributed.elastic import metrics
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

put = []


class Handler(metrics.MetricHandler):
    def emit(self, metric_data):
        put.append(metric_data.name)


def work():
    return 1


if __name__ == "__main__":
    metrics.configure(Handler())
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=1, run_id="handled", rdzv_backend="c10d",
        rdzv_endpoint="localhost:0", event_log_handler=sys.argv[2], monitor_interval=0.1,
    )
    elastic_launch(config, work)()
    with open(sys.argv[1], "w") as file:
        json.dump(sorted(set(put)), file)
""",
    )

    def names(handler: str, *, bridge: bool) -> list[str]:
        command = [sys.executable, str(program), str(seen), handler]
        assert harness.run(command, env=otlp(receiver), bridge=bridge).wait() == 0
        found: list[str] = json.loads(seen.read_text())
        return found

    without = names("null", bridge=False)
    assert "SimpleElasticAgent.run.duration.ms" in without
    assert names("otel", bridge=True) == without
    operations = {
        p.attributes[c.OPERATION] for p in receiver.metrics if p.name == c.METRIC_OPERATION_DURATION
    }
    assert "run" in operations


def test_zeros_arrive_before_the_first_failure(harness: Harness, receiver: OtlpReceiver) -> None:
    """Long before the first interval of 60 s is over; the series with its error type, too, begins at zero."""
    pipes = [harness.directory / f"go{attempt}" for attempt in (0, 1)]
    for pipe in pipes:
        os.mkfifo(pipe)
    source = """
import os
import sys

attempt = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
open(sys.argv[1 + attempt]).read()
sys.exit(0 if attempt else 3)
"""
    script = Script(harness.program("fail.py", source), [str(pipe) for pipe in pipes])
    options = [*c10d(free_port(), "zeros", nodes=1, per_node=1, restarts=1), *OTEL]
    agent = harness.torchrun(options, script, env=otlp(receiver))

    def values(**attributes: str) -> list[float]:
        points = sorted(receiver.metrics, key=lambda point: point.time_ns)
        named = [point for point in points if point.name == c.METRIC_WORKER_FAILURES]
        known = {key.replace("_", "."): value for key, value in attributes.items()}
        return [point.value or 0 for point in named if known.items() <= point.attributes.items()]

    assert receiver.wait(lambda _: values() != [], timeout=60)
    assert set(values()) == {0}
    pipes[0].write_text("go")
    assert receiver.wait(lambda _: values(error_type="3") != [], timeout=60)
    assert values(error_type="3")[0] == 0
    pipes[1].write_text("go")
    assert agent.wait() == 0
    assert values(error_type="3")[-1] == 1


def test_heartbeats_are_counted_while_the_job_runs(harness: Harness, receiver: OtlpReceiver) -> None:
    """All that the keep-alive's timer records, once a second here, and those of the main thread."""
    env = {**otlp(receiver), "OTEL_METRIC_EXPORT_INTERVAL": "500"}
    script = harness.worker(together=1, stay=[0])
    options = [*QUICK, "--standalone", "--rdzv-conf=keep_alive_interval=1", *OTEL]
    agent = harness.torchrun(options, script, env=env)

    def beats() -> float:
        points = [point for point in last(receiver.metrics) if point.name == c.METRIC_HEARTBEATS]
        return total(points)

    assert receiver.wait(lambda _: beats() >= 9, timeout=60)
    agent.send_signal(signal.SIGTERM)
    assert agent.wait() == 1
    assert beats() == len([event for event in agent.recorded if event.heartbeat])


def test_a_node_that_waits_is_seen_waiting(harness: Harness, receiver: OtlpReceiver) -> None:
    """The gauge grows with each export until the rendezvous is over; then it is zero."""
    env = {**otlp(receiver), "OTEL_METRIC_EXPORT_INTERVAL": "500"}
    script = harness.worker()
    agent = harness.torchrun([*c10d(free_port(), "alone"), *OTEL], script, env=env)

    def waited(found: OtlpReceiver) -> bool:
        points = [p.value or 0 for p in found.metrics if p.name == c.METRIC_RENDEZVOUS_WAITING]
        return any(value >= 2 for value in points)

    assert receiver.wait(waited, timeout=60)
    agent.send_signal(signal.SIGTERM)
    assert agent.wait() == -signal.SIGTERM
    (point,) = last([p for p in receiver.metrics if p.name == c.METRIC_RENDEZVOUS_WAITING])
    assert point.value == 0
    (down,) = [
        p for p in last(receiver.metrics) if p.name == c.METRIC_DOWNTIME and p.attributes[CAUSE] == "startup"
    ]
    assert (down.value or 0) >= 2


def test_a_jobs_uptime_is_seen_while_it_runs(harness: Harness, receiver: OtlpReceiver) -> None:
    """It grows from export to export, and workers are active meanwhile."""
    env = {**otlp(receiver), "OTEL_METRIC_EXPORT_INTERVAL": "500"}
    script = harness.worker(together=1, stay=[0])
    agent = harness.torchrun([*QUICK, "--standalone", *OTEL], script, env=env)

    def grows(found: OtlpReceiver) -> bool:
        up = [p.value or 0 for p in found.metrics if p.name == c.METRIC_UPTIME]
        return len({value for value in up if value > 0}) >= 2

    assert receiver.wait(grows, timeout=60)
    assert 1 in [p.value for p in receiver.metrics if p.name == c.METRIC_WORKER_ACTIVE]
    agent.send_signal(signal.SIGTERM)
    assert agent.wait() == 1
    (point,) = last([p for p in receiver.metrics if p.name == c.METRIC_WORKER_ACTIVE])
    assert point.value == 0


def test_a_backend_of_traces_alone_simply_works(harness: Harness, tmp_path: Path) -> None:
    """The endpoint is all that is set: the trace is there, the rest is said once, and nothing waits."""
    with jaeger(tmp_path / "jaeger") as found:
        # On its usual port, 4317, the protocol need not be said either.
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": found.grpc_endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
        agent = harness.torchrun(
            [*QUICK, "--standalone", "--rdzv-id=alone", *OTEL], harness.worker(), env=env
        )
        assert agent.wait() == 0
        (line,) = [line for line in agent.output.splitlines() if "torchelastic-otel: trace " in line]
        assert found.trace(line.split()[-1], spans=4)["spans"]
    words = [line for line in agent.output.splitlines() if "torchelastic" in line and "trace " not in line]
    assert len(words) <= 2, words


def test_a_program_that_is_no_longer_instrumented_exports_nothing(
    harness: Harness, receiver: OtlpReceiver
) -> None:
    """Nothing goes on counting; instrumented anew, the program has series of its own."""
    program = harness.program(
        "launch.py",
        """
import torchelastic_otel
from torch.distributed.launcher.api import LaunchConfig, elastic_launch


def work():
    return 1


def job(run_id):
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=1, run_id=run_id, rdzv_backend="c10d",
        rdzv_endpoint="localhost:0", monitor_interval=0.1,
    )
    torchelastic_otel.instrument()
    elastic_launch(config, work)()
    torchelastic_otel.uninstrument()


if __name__ == "__main__":
    job("first")
    job("second")
""",
    )
    env = {**otlp(receiver), "OTEL_METRIC_EXPORT_INTERVAL": "200"}
    agent = harness.run([sys.executable, str(program)], env=env)
    assert agent.wait() == 0, agent.output
    starts = {span.attributes[c.RUN_ID]: span.start_ns for span in receiver.spans if span.name == AGENT}
    assert set(starts) == {"first", "second"}
    of_first = [point for point in receiver.metrics if point.attributes.get(c.RUN_ID) == "first"]
    assert of_first
    assert [point for point in of_first if point.time_ns > starts["second"]] == []
