"""A job seen in Jaeger, Prometheus and Loki: through node agent and gateway, and with no collector between.

Two launchers, one of whose workers fails once; every query of the dashboards, alerts and rules is taken out
of the files that are shipped, and run against what arrived.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import queries
from tests.support.backends import (
    CONFIGS,
    Jaeger,
    Line,
    Loki,
    Prometheus,
    collector,
    jaeger,
    loki,
    poll,
    prometheus,
)
from tests.support.harness import OTEL, Harness, c10d, free_port
from tests.support.otlp_requests import certificates
from torchelastic_otel import _contract as c
from torchelastic_otel._job.identity import hash_trace_id

pytestmark = pytest.mark.e2e

SPANS = {c.SPAN_AGENT: 2, c.SPAN_RENDEZVOUS: 4, c.SPAN_WORKER_GROUP: 4, c.SPAN_WORKER: 8}
WAYS = ["through the collectors", "straight"]


@dataclass(frozen=True, slots=True)
class Backends:
    """Three real backends."""

    traces: Jaeger
    metrics: Prometheus
    logs: Loki


@dataclass(frozen=True, slots=True)
class Seen:
    """A job that is over, and the backends that have it."""

    run_id: str
    backends: Backends

    @property
    def trace_id(self) -> str:
        """Its trace."""
        return f"{hash_trace_id(self.run_id):032x}"

    @property
    def trace(self) -> dict[str, Any]:
        """Its trace in Jaeger."""
        return self.backends.traces.trace(self.trace_id, sum(SPANS.values()))

    def lines(self, event: str = "") -> list[Line]:
        """Its log records in Loki."""
        chosen = f' | torchelastic_event="{event}"' if event else ""
        query = f'{{service_name="torchelastic"}} | torchelastic_run_id="{self.run_id}"{chosen}'
        return self.backends.logs.range(query)

    @property
    def values(self) -> queries.Values:
        """What is chosen at the head of the dashboards."""
        return queries.Values(run_id=self.run_id, range_s=900, interval_s=60)

    def ask(self, query: queries.Query) -> list[Any]:
        """Run a query of the dashboards or rules."""
        return queries.run(query, self.backends.metrics.url, self.backends.logs.url, self.values)


@pytest.fixture(scope="module")
def backends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backends]:
    """Start the backends, as the project configures them."""
    directory = tmp_path_factory.mktemp("backends")
    with (
        jaeger(directory / "jaeger") as traces,
        prometheus(directory / "prometheus") as metrics,
        loki(directory / "loki") as logs,
    ):
        yield Backends(traces, metrics, logs)


def through_the_collectors(backends: Backends, directory: Path, stack: ExitStack) -> dict[str, str]:
    """Start an agent and a gateway; return a job's settings."""
    secrets = certificates(directory / "tls")
    gateway = stack.enter_context(
        collector(
            [CONFIGS / "gateway.yaml", CONFIGS / "to-grafana.yaml"],
            directory / "gateway",
            {
                **secrets,
                "TEMPO_ENDPOINT": backends.traces.grpc_endpoint.removeprefix("http://"),
                "LOKI_ENDPOINT": backends.logs.otlp_endpoint,
                "PROMETHEUS_ENDPOINT": backends.metrics.otlp_endpoint,
            },
            tls=True,
        )
    )
    agent = stack.enter_context(
        collector(
            [CONFIGS / "agent.yaml", CONFIGS / "to-gateway.yaml"],
            directory / "agent",
            {**secrets, "GATEWAY_ENDPOINT": gateway.grpc_endpoint.removeprefix("https://")},
        )
    )
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": agent.http_endpoint}


def straight(backends: Backends, _directory: Path, _stack: ExitStack) -> dict[str, str]:
    """Return the settings of a job that sends to each backend by itself."""
    return {
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": backends.traces.grpc_endpoint,
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc",
        "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": f"{backends.logs.otlp_endpoint}/v1/logs",
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"{backends.metrics.otlp_endpoint}/v1/metrics",
    }


@pytest.fixture(scope="module", params=[through_the_collectors, straight], ids=WAYS)
def seen(
    request: pytest.FixtureRequest, backends: Backends, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Seen]:
    """Run the job, and wait until the backends have all of it."""
    way: Callable[[Backends, Path, ExitStack], dict[str, str]] = request.param
    directory = tmp_path_factory.mktemp(way.__name__)
    run_id = f"seen-{way.__name__}"
    with ExitStack() as stack:
        env = way(backends, directory, stack)
        harness = stack.enter_context(Harness(directory / "job"))
        options = [*OTEL, *c10d(free_port(), run_id, restarts=1)]
        script = harness.worker(together=4, fail=[0], rank=3)
        agents = [harness.torchrun(options, script, env=env) for _ in range(2)]
        assert [agent.wait() for agent in agents] == [0, 0], agents[0].output
        found = Seen(run_id, backends)
        poll(lambda: found.lines(c.EVENT_AGENT_STOP), lambda lines: len(lines) == 2, "both ends in Loki")
        over = f'torchelastic_exit_barrier_duration_seconds_count{{torchelastic_run_id="{run_id}"}}'
        backends.metrics.wait_for(over, lambda samples: len(samples) == 2)
        recorded = f'run:torchelastic_restarts:increase30m{{torchelastic_run_id="{run_id}"}} == 1'
        backends.metrics.wait_for(recorded)
        assert found.trace
        yield found


# --- queries ----------------------------------------------------------------------------------------------


def test_every_query_of_the_dashboards_and_rules_has_an_answer(seen: Seen) -> None:
    """But for those that rightly have none after a job that recovered and ended well."""
    asked = queries.all_queries(seen.values)
    empty = [query.where for query in asked if not seen.ask(query)]
    assert len(asked) > 60
    assert sorted(set(empty) - set(queries.EXPECTED_EMPTY)) == []
    assert sorted(set(queries.EXPECTED_EMPTY) - set(empty)) == []


def number(result: list[dict[str, Any]]) -> float:
    """Return the only figure of an instant query."""
    (series,) = result
    return float(series["value"][1])


def by(label: str) -> Callable[[list[dict[str, Any]]], dict[str, float]]:
    """Return what reads an instant query's figures by one of its labels."""
    return lambda result: {series["metric"].get(label, ""): float(series["value"][1]) for series in result}


def increase(result: list[dict[str, Any]]) -> dict[str, float]:
    """Return what a range query of increases by cause adds up to at its end."""
    found: dict[str, float] = {}
    for series in result:
        cause = series["metric"].get("torchelastic_restart_cause", "")
        found[cause] = max(float(value) for _, value in series["values"])
    return found


@pytest.mark.parametrize(
    ("where", "read", "expected"),
    [
        ("job/Restarts/A", number, 1),
        ("job/Failures/A", number, 1),
        ("job/Nodes in the round/A", number, 2),
        ("job/Workers now/A", number, 0),
        ("jobs/Jobs that failed/A", number, 0),
        ("jobs/Jobs that run/A", number, 0),
        ("jobs/Jobs that restarted/A", number, 1),
        ("jobs/Telemetry lost/A", number, 0),
        ("jobs/Jobs/Launchers", number, 2),
        ("jobs/Jobs/Restarts", number, 1),
        ("jobs/Jobs/Failures", number, 1),
        ("jobs/Errors that kill most/A", by("error_type"), {"3": 1}),
        ("jobs/Errors that kill most/A", by("torchelastic_failure_cause"), {"exit": 1}),
        ("jobs/Restarts by cause/A", increase, {"worker_failure": 1, "membership_change": 1}),
    ],
)
def test_the_figures_of_the_panels_are_right(
    seen: Seen, where: str, read: Callable[[list[Any]], object], expected: object
) -> None:
    """One worker of four died of exit code 3, and both nodes started theirs anew."""
    (query,) = [query for query in queries.all_queries(seen.values) if query.where == where]
    assert read(seen.ask(query)) == expected


def test_availability_is_the_share_of_time_in_which_the_workers_ran(seen: Seen) -> None:
    """As the spans have it, from the first rendezvous to the end of the work."""
    (query,) = [q for q in queries.all_queries(seen.values) if q.where == "job/Availability/A"]
    spans = seen.trace["spans"]
    groups = [span for span in spans if span["operationName"] == c.SPAN_WORKER_GROUP]
    attempts = [span for span in spans if span["operationName"] == c.SPAN_RENDEZVOUS]
    up = sum(span["duration"] for span in groups)
    whole = 0
    for process in {span["processID"] for span in spans}:
        start = min(span["startTime"] for span in attempts if span["processID"] == process)
        whole += max(s["startTime"] + s["duration"] for s in groups if s["processID"] == process) - start
    # A group's span lasts until its last worker is stopped; its uptime ends with the first failure.
    assert number(seen.ask(query)) == pytest.approx(up / whole, abs=0.05)


def test_the_alerts_are_loaded_and_silent(seen: Seen) -> None:
    """Each rule is evaluated without an error, and nobody is woken for a job that recovered."""
    groups = seen.backends.metrics.get("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) == len(queries.rules())
    assert {rule["health"] for rule in rules} == {"ok"}
    assert [rule["name"] for rule in rules if rule.get("state", "inactive") != "inactive"] == []


# --- the trace --------------------------------------------------------------------------------------------


def test_the_trace_is_one_and_without_warnings(seen: Seen) -> None:
    """All spans of both nodes, each under the parent that the contract gives it."""
    spans = seen.trace["spans"]
    assert Counter(span["operationName"] for span in spans) == SPANS
    assert [span["warnings"] for span in spans if span.get("warnings")] == []
    names = {span["spanID"]: span["operationName"] for span in spans}
    parents = {
        span["operationName"]: names[reference["spanID"]]
        for span in spans
        for reference in span["references"]
        if reference["refType"] == "CHILD_OF"
    }
    assert parents == {
        c.SPAN_RENDEZVOUS: c.SPAN_AGENT,
        c.SPAN_WORKER_GROUP: c.SPAN_AGENT,
        c.SPAN_WORKER: c.SPAN_WORKER_GROUP,
    }


def test_events_are_where_the_contract_puts_them(seen: Seen) -> None:
    """The failure on the worker that died, the restarts on the agents, joining on the rendezvous."""
    where: dict[str, set[str]] = {}
    for span in seen.trace["spans"]:
        for log in span["logs"]:
            (name,) = [field["value"] for field in log["fields"] if field["key"] == "event"]
            where.setdefault(name, set()).add(span["operationName"])
    assert where[c.EVENT_FAILURE] == {c.SPAN_WORKER}
    assert where[c.EVENT_RESTART] == where[c.EVENT_AGENT_STOP] == {c.SPAN_AGENT}
    assert where[c.TORCH_EVENT_PREFIX + "START"] == {c.SPAN_WORKER}
    joining = [spans for name, spans in where.items() if name.endswith("_add_to_participants")]
    assert joining == [{c.SPAN_RENDEZVOUS}]


def test_the_failed_worker_is_in_error_and_the_launchers_are_well(seen: Seen) -> None:
    """Its span, and its group's, tell of exit code 3; the job recovered."""
    errors = []
    for span in seen.trace["spans"]:
        tags = {tag["key"]: tag["value"] for tag in span["tags"]}
        if tags.get("otel.status_code") == "ERROR":
            errors.append(
                (span["operationName"], tags.get("torchelastic.global_rank"), tags.get("error.type"))
            )
        if span["operationName"] == c.SPAN_AGENT:
            assert tags["otel.status_code"] == "OK"
    assert sorted(errors, key=str) == [(c.SPAN_WORKER, 3, "3"), (c.SPAN_WORKER_GROUP, None, None)]


# --- from one to the other --------------------------------------------------------------------------------


def test_from_a_log_line_to_its_span_and_back(seen: Seen) -> None:
    """The ids on a failure's line are those of the worker's span, and lead back to the line."""
    (failure,) = [
        line for line in seen.lines(c.EVENT_FAILURE) if "torchelastic_collateral" not in line.labels
    ]
    assert failure.labels["trace_id"] == seen.trace_id
    (span,) = [span for span in seen.trace["spans"] if span["spanID"] == failure.labels["span_id"]]
    assert span["operationName"] == c.SPAN_WORKER
    back = seen.backends.logs.range(
        f'{{service_name="torchelastic"}} | trace_id="{seen.trace_id}" | span_id="{span["spanID"]}"'
    )
    assert failure.labels["log_record_uid"] in {line.labels["log_record_uid"] for line in back}


def test_from_a_metric_to_the_trace(seen: Seen) -> None:
    """The exemplars of failures, restarts and rendezvous are spans of the trace."""
    spans = {span["spanID"]: span["operationName"] for span in seen.trace["spans"]}
    first = min(span["startTime"] for span in seen.trace["spans"]) / 1e6
    for metric, name in (
        ("torchelastic_worker_failures_total", c.SPAN_WORKER),
        ("torchelastic_restarts_total", c.SPAN_WORKER_GROUP),
        ("torchelastic_rendezvous_duration_seconds_bucket", c.SPAN_RENDEZVOUS),
    ):
        chosen = f'{metric}{{torchelastic_run_id="{seen.run_id}"}}'
        series = seen.backends.metrics.exemplars(chosen, first - 60, first + 3600)
        exemplars = [exemplar["labels"] for one in series for exemplar in one["exemplars"]]
        assert {exemplar["trace_id"] for exemplar in exemplars} == {seen.trace_id}
        assert {spans[exemplar["span_id"]] for exemplar in exemplars} == {name}


def test_each_launcher_has_series_of_its_own_with_its_host(seen: Seen) -> None:
    """Two launchers of one host are two instances; the host is found by either."""
    query = (
        f'torchelastic_worker_active{{torchelastic_run_id="{seen.run_id}"}}'
        " * on (job, instance) group_left (host_name) target_info"
    )
    samples = seen.backends.metrics.instant(query)
    assert len({sample.labels["instance"] for sample in samples}) == 2
    assert all(sample.labels["host_name"] for sample in samples)
