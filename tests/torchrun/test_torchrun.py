"""Real torchrun, observed from the wire: what the contract (sections 3 to 5) promises, in each scenario."""

from __future__ import annotations

import itertools
import json
import signal
import socket
from collections import Counter
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest

from otlp_receiver import OtlpReceiver, Span
from tests.support.backends import Jaeger, jaeger
from tests.support.harness import TORCHRUN, Harness, c10d, free_port, match, otlp
from tests.support.scenarios import (
    AGENT,
    ERROR,
    GROUP,
    INFO,
    RENDEZVOUS,
    SCENARIOS,
    STATUS,
    WARN,
    WORKER,
    Job,
    Run,
    Runs,
    every,
    run_scenario,
    two_agents,
    where,
)
from torchelastic_otel._job.identity import hash_trace_id

pytestmark = pytest.mark.e2e


# --- every scenario ---------------------------------------------------------------------------------------


@every
def test_the_launcher_ends_with_the_exit_code_that_torch_gives_it(run: Run) -> None:
    """Exit codes are torch's, and nothing goes wrong inside of the bridge."""
    assert [node.exit_code for node in run.nodes] == list(run.scenario.exit_codes), run.nodes[0].output
    for node in run.nodes:
        assert "internal error" not in node.output
        assert "not known to torchelastic-otel" not in node.output


@where(lambda found: found.exit_codes != (0,) * found.nodes)
def test_a_failing_job_has_the_same_exit_code_without_the_bridge(run: Run, name: str, tmp_path: Path) -> None:
    """Where a job fails or is stopped, its exit codes are those of the same job with no bridge installed."""
    without = run_scenario(tmp_path, name, bridge=False)
    assert without.requests == []
    assert [node.exit_code for node in without.nodes] == [node.exit_code for node in run.nodes]


@every
def test_each_event_of_torch_is_exactly_one_log_record(run: Run) -> None:
    """Nothing that torch recorded is lost, doubled or made up, heartbeats apart."""
    left = run.from_launchers
    for node in run.nodes:
        lost, rest = match(node.events, [r for r in left if r.resource["process.pid"] == node.pid])
        assert [(event.name, event.text) for event in lost] == []
        assert [(record.event_name, record.body) for record in rest] == []
    others = [record.event_name for record in run.logs if record not in left]
    assert sorted(others) == sorted(run.scenario.own_events)


@every
def test_no_rendezvous_event_is_missed_from_the_first_on(run: Run) -> None:
    """Torch builds every rendezvous event that it has to tell: somebody listens before the first one."""
    for node in run.nodes:
        asked = [event.text for event in node.recorded if event.kind == "asked"]
        built = [event.data["message"] for event in node.recorded if event.kind == "rdzv"]
        # A signal with no handler may end torch while it builds one.
        killed = node.exit_code < 0 and len(asked) == len(built) + 1
        assert asked[: -1 if killed else None] == built


@every
def test_each_log_record_is_complete(run: Run) -> None:
    """Name, its copy as an attribute, time, severity, body and a unique id are on every record."""
    assert run.logs
    for record in run.logs:
        assert record.event_name
        assert record.attributes["torchelastic.event"] == record.event_name
        assert run.began_ns <= record.time_ns <= run.ended_ns
        assert record.time_ns - 1_000_000 <= record.observed_ns <= run.ended_ns
        assert (record.severity_number, record.severity_text) in {
            (INFO, "INFO"),
            (WARN, "WARN"),
            (ERROR, "ERROR"),
        }
        assert isinstance(record.body, str)
        assert record.body.strip()
        assert record.dropped_attributes_count == 0
    uids = [record.attributes["log.record.uid"] for record in run.logs]
    assert len(set(uids)) == len(uids)


@every
def test_no_attribute_is_a_placeholder(run: Run) -> None:
    """What is not known is left out: no None, "null" or empty text, on no record, span or span event."""
    holders = [
        *((record.event_name, record.attributes) for record in run.logs),
        *((span.name, span.attributes) for span in run.spans),
        *((event.name, event.attributes) for span in run.spans for event in span.events),
    ]
    for name, attributes in holders:
        for key, value in attributes.items():
            assert value not in (None, "", "None", "null", [], ["None"]), (name, key)


@every
def test_each_record_belongs_to_a_span_that_was_received(run: Run) -> None:
    """A record's trace and span id are those of the right span: its worker's, rendezvous' or agent's."""
    for record in run.logs:
        span = run.by_id.get(record.span_id)
        assert span is not None, record
        assert record.trace_id == span.trace_id
        assert record.flags & 1
        if record.event_name in run.scenario.own_events:
            assert span.name == WORKER
        elif (
            record.event_name == "torchelastic.failure"
            or record.attributes.get("torchelastic.source") == "WORKER"
        ):
            assert span.name == WORKER
            for key in ("worker_id", "local_rank", "global_rank"):
                assert span.attributes[f"torchelastic.{key}"] == record.attributes[f"torchelastic.{key}"]
        elif "torchelastic.node_state" in record.attributes:
            assert span.name in (RENDEZVOUS, AGENT)
        else:
            assert span.name == AGENT, record


@every
def test_a_rendezvous_event_is_in_its_rendezvous_span(run: Run) -> None:
    """While a node joins, its rendezvous events are that span's; outside of a join they are the agent's."""
    for record in run.from_launchers:
        if "torchelastic.node_state" not in record.attributes:
            continue
        pid = record.resource["process.pid"]
        joins = [
            span
            for span in run.named(RENDEZVOUS)
            if span.resource["process.pid"] == pid and span.start_ns <= record.time_ns <= span.end_ns
        ]
        span = run.by_id[record.span_id]
        if joins:
            assert span in joins, record.body
        else:
            assert span.name == AGENT, record.body


@every
def test_each_event_is_also_drawn_on_its_span(run: Run) -> None:
    """Every event of the launcher is a span event of its record's span, with the same time and attributes."""
    drawn = Counter(
        (span.span_id, event.name, event.time_ns, json.dumps(event.attributes, sort_keys=True))
        for span in run.spans
        for event in span.events
    )
    expected: Counter[tuple[str, str, int, str]] = Counter()
    for record in run.from_launchers:
        attributes = {key: value for key, value in record.attributes.items() if key != "log.record.uid"}
        text = json.dumps(attributes, sort_keys=True)
        expected[(record.span_id, record.event_name, record.time_ns, text)] += 1
    assert expected - drawn == Counter()
    assert drawn - expected == Counter()
    assert all(span.dropped_events_count == 0 for span in run.spans)


@every
def test_spans_form_the_tree_of_the_contract(run: Run) -> None:
    """Rendezvous and worker groups are under their agent, workers under their group, and all are there."""
    expect = run.scenario
    assert {span.name for span in run.spans} <= {AGENT, RENDEZVOUS, GROUP, WORKER}
    ids = [span.span_id for span in run.spans]
    assert len(set(ids)) == len(ids)
    assert run.launchers == {span.resource["process.pid"] for span in run.spans}
    assert len(run.named(AGENT)) == expect.nodes * expect.jobs
    for agent in run.named(AGENT):
        assert agent.parent_span_id == ""
        assert len(run.children(agent, RENDEZVOUS)) == expect.rendezvous
        groups = run.children(agent, GROUP)
        assert len(groups) == expect.generations
        for group in groups:
            workers = run.children(group, WORKER)
            ranks = sorted(worker.attributes["torchelastic.local_rank"] for worker in workers)
            assert ranks == list(range(expect.per_node))
    known = expect.nodes * expect.jobs * (1 + expect.rendezvous + expect.generations * (1 + expect.per_node))
    assert len(run.spans) == known, Counter(span.name for span in run.spans)


@every
def test_no_span_has_a_parent_that_nobody_sends(run: Run) -> None:
    """Each parent is a span that was received, of the same trace and process."""
    for span in run.spans:
        if span.parent_span_id:
            parent = run.by_id[span.parent_span_id]
            assert (parent.trace_id, parent.resource) == (span.trace_id, span.resource)


@every
def test_all_nodes_are_in_one_trace(run: Run) -> None:
    """All spans of a job have the trace id that is the hash of its run id."""
    traces = {span.trace_id for span in run.spans}
    if run.scenario.jobs > 1:
        expected = {f"{hash_trace_id(run.run_id + name):032x}" for name in ("", "-other")}
        assert traces == expected
    elif run.scenario.shared_trace:
        assert traces == {f"{hash_trace_id(run.run_id):032x}"}
    else:
        assert len(traces) == 1


@every
def test_each_generation_links_to_the_one_before(run: Run) -> None:
    """A worker group's only link is to the group before it on its node; the first has none."""
    for agent in run.named(AGENT):
        previous: Span | None = None
        for number, group in enumerate(run.children(agent, GROUP), 1):
            links = [(link.trace_id, link.span_id) for link in group.links]
            assert links == ([] if previous is None else [(previous.trace_id, previous.span_id)])
            assert group.attributes["torchelastic.generation"] == number
            previous = group
    assert all(span.links == [] for span in run.spans if span.name != GROUP)


@every
def test_times_of_spans_are_sane(run: Run) -> None:
    """A span ends after it starts, starts within its parent, and does not outlast it."""
    for span in run.spans:
        assert run.began_ns <= span.start_ns <= span.end_ns <= run.ended_ns, span.name
        for event in span.events:
            assert run.began_ns <= event.time_ns <= run.ended_ns
        if span.parent_span_id:
            parent = run.by_id[span.parent_span_id]
            assert parent.start_ns <= span.start_ns <= span.end_ns <= parent.end_ns, span.name
    for agent in run.named(AGENT):
        for name in (RENDEZVOUS, GROUP):
            spans = run.children(agent, name)
            for before, after in itertools.pairwise(spans):
                assert before.end_ns <= after.start_ns, name


@every
def test_status_follows_from_the_outcome(run: Run) -> None:
    """Failed is Error with the verdict as its description, succeeded is Ok, everything else is Unset."""
    for span in run.spans:
        outcome = span.attributes["torchelastic.outcome"]
        assert outcome in ("succeeded", "failed", "terminated", "interrupted")
        assert span.status_code == {"succeeded": "OK", "failed": "ERROR"}.get(outcome, "UNSET"), span
        assert bool(span.status_message) == (outcome == "failed"), span
        assert "torchelastic.truncated" not in span.attributes


@every
def test_the_agent_tells_the_jobs_outcome(run: Run) -> None:
    """The agent's span and its stop record say how the job ended; its start record says that it began."""
    severity = {"succeeded": INFO, "failed": ERROR, "terminated": WARN}[run.scenario.outcome]
    for agent in run.named(AGENT):
        assert agent.attributes["torchelastic.outcome"] == run.scenario.outcome
        starts = [r for r in run.records("torchelastic.agent.start") if r.span_id == agent.span_id]
        stops = [r for r in run.records("torchelastic.agent.stop") if r.span_id == agent.span_id]
        assert [record.severity_number for record in starts] == [INFO]
        assert [record.severity_number for record in stops] == [severity]
        assert stops[0].attributes["torchelastic.outcome"] == run.scenario.outcome
        if run.scenario.outcome == "failed":
            assert agent.status_message == agent.attributes["torchelastic.verdict"]
            assert agent.status_message in stops[0].body


@every
def test_everything_comes_from_the_bridges_scope(run: Run) -> None:
    """The instrumentation scope is the package with its version."""
    scopes = {(item.scope_name, item.scope_version) for item in run.sent}
    assert scopes == {("torchelastic_otel", version("torchelastic-otel"))}


@where(lambda found: not found.users_resource)
def test_the_resource_tells_the_launcher_processes_apart(run: Run) -> None:
    """Service, host and process are told, and an instance id of each process."""
    instances: dict[int, set[str]] = {}
    for item in run.sent:
        resource = item.resource
        assert resource["service.name"] == "torchelastic"
        assert resource["host.name"] == socket.gethostname()
        instances.setdefault(resource["process.pid"], set()).add(resource["service.instance.id"])
    assert run.launchers <= set(instances)
    assert all(len(ids) == 1 for ids in instances.values())
    assert len(set.union(*instances.values())) == len(instances)


@where(lambda found: found.own_events == ())
def test_only_launchers_export(run: Run) -> None:
    """Workers that record nothing send nothing, and have no agent span of their own."""
    pids = {item.resource["process.pid"] for item in run.sent}
    assert pids == run.launchers


@every
def test_everything_is_sent_by_the_protocol_that_was_asked_for(run: Run) -> None:
    """All requests are accepted, and use the chosen protocol."""
    assert {request.signal for request in run.requests} >= {"logs", "traces"}
    assert all(request.accepted for request in run.requests)
    expected = "http/protobuf" if run.scenario.collector else run.scenario.protocol
    assert {request.protocol for request in run.requests} == {expected}


@every
def test_severity_is_what_is_known(run: Run) -> None:
    """What goes well is INFO; a worker's failure is ERROR if it died by itself, WARN if it was stopped."""
    for record in run.from_launchers:
        state = record.attributes.get("torchelastic.state")
        if record.attributes.get("torchelastic.source") == "WORKER" and state == "FAILED":
            collateral = record.attributes.get("torchelastic.collateral", False)
            assert record.severity_number == (WARN if collateral else ERROR)
        elif state in ("START", "SUCCEEDED", "RENDEZVOUS", "ASSIGN_WORKER_RANKS") or (
            "torchelastic.node_state" in record.attributes
            and record.attributes["torchelastic.node_state"] != "FAILED"
        ):
            assert record.severity_number == INFO


@where(lambda found: found.generations > 0)
def test_workers_find_their_own_span_in_their_environment(runs: Runs, name: str) -> None:
    """Each worker's TRACEPARENT names the span that is that worker's, in the job's trace."""
    run = runs[name]
    spans = {span.attributes["torchelastic.worker_id"]: span for span in run.named(WORKER)}
    for note in run.notes:
        span = spans[str(note.pid)]
        assert note.env["TRACEPARENT"] == f"00-{span.trace_id}-{span.span_id}-01"
        assert span.attributes["torchelastic.global_rank"] == int(note.env["RANK"])
        assert span.attributes["torchelastic.local_rank"] == int(note.env["LOCAL_RANK"])
    if run.notes:
        assert len(run.notes) == len(spans)


# --- what is particular -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name.startswith("crash and restart")])
def test_a_restart_is_told_with_its_cause_on_each_node(run: Run) -> None:
    """The node of the crash restarts for a worker's failure, its peer for a membership change."""
    failed = [span for span in run.named(GROUP) if span.attributes["torchelastic.outcome"] == "failed"]
    (group,) = failed
    culprit = group.resource["process.pid"]
    restarts = run.records("torchelastic.restart")
    causes = {r.resource["process.pid"]: r.attributes["torchelastic.restart.cause"] for r in restarts}
    assert len(restarts) == 2
    assert causes[culprit] == "worker_failure"
    assert {cause for pid, cause in causes.items() if pid != culprit} == {"membership_change"}
    for later in run.named(GROUP):
        if later.attributes["torchelastic.generation"] == 2:
            assert later.attributes["torchelastic.restart.cause"] == causes[later.resource["process.pid"]]
            assert later.attributes["torchelastic.outcome"] == "succeeded"
        else:
            assert "torchelastic.restart.cause" not in later.attributes
            expected = "failed" if later is group else "interrupted"
            assert later.attributes["torchelastic.outcome"] == expected


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name.startswith("crash and restart")])
def test_the_culprit_and_the_collateral_are_told_apart(run: Run) -> None:
    """Rank 3 died by itself with exit code 3; its neighbour was stopped; torch's events say none of it."""
    failures = run.records("torchelastic.failure")
    culprits = [r for r in failures if not r.attributes.get("torchelastic.collateral")]
    (culprit,) = culprits
    assert culprit.attributes["torchelastic.global_rank"] == 3
    assert culprit.attributes["process.exit.code"] == 3
    assert culprit.attributes["torchelastic.failure.cause"] == "exit"
    assert culprit.attributes["error.type"] == "3"
    assert culprit.severity_number == ERROR
    (collateral,) = [record for record in failures if record is not culprit]
    assert collateral.severity_number == WARN
    assert collateral.attributes["torchelastic.global_rank"] == 2
    assert run.by_id[collateral.span_id].status_code == "UNSET"
    assert run.by_id[culprit.span_id].status_code == "ERROR"
    for record in failures:
        assert record.attributes["torchelastic.first_failure.global_rank"] == 3


def test_a_job_that_fails_for_good_names_the_first_failure_of_each_node(runs: Runs) -> None:
    """Both nodes' spans, in each generation, name their worker that failed; the agents' verdict says why."""
    run = runs["crash until no restart is left"]
    for agent in run.named(AGENT):
        for group in run.children(agent, GROUP):
            assert group.status_code == "ERROR"
            assert group.attributes["torchelastic.first_failure.local_rank"] == 1
        assert agent.attributes["torchelastic.restarts"] == 1
        assert "exit code 3" in agent.status_message
        assert agent.attributes["torchelastic.first_failure.local_rank"] == 1
    culprits = [
        r for r in run.records("torchelastic.failure") if "torchelastic.collateral" not in r.attributes
    ]
    assert len(culprits) == 4


def test_a_killed_worker_is_told_with_its_signal(runs: Runs) -> None:
    """SIGKILL is the cause, the signal's name is the error type, the neighbour is collateral."""
    run = runs["killed worker, no restart"]
    culprit, collateral = sorted(
        run.records("torchelastic.failure"), key=lambda r: bool(r.attributes.get("torchelastic.collateral"))
    )
    assert culprit.attributes["torchelastic.failure.cause"] == "signal"
    assert culprit.attributes["torchelastic.worker.signal"] == "SIGKILL"
    assert culprit.attributes["error.type"] == "SIGKILL"
    assert culprit.attributes["torchelastic.global_rank"] == 1
    assert collateral.attributes["torchelastic.global_rank"] == 0
    assert "SIGKILL" in run.named(AGENT)[0].status_message


@pytest.mark.parametrize("name", ["SIGTERM in the first rendezvous", "SIGTERM in a call of the store"])
def test_a_signal_in_the_first_rendezvous_is_told(run: Run) -> None:
    """The rendezvous span is ended, and spans and stop record name the signal and the step."""
    (agent,) = run.named(AGENT)
    (rendezvous,) = run.named(RENDEZVOUS)
    assert rendezvous.attributes["torchelastic.outcome"] == "terminated"
    assert agent.attributes["torchelastic.agent.signal"] == "SIGTERM"
    assert "rendezvous" in agent.attributes["torchelastic.step"]
    (stop,) = run.records("torchelastic.agent.stop")
    assert "SIGTERM" in stop.body


def test_a_signal_while_workers_run_is_told(runs: Runs) -> None:
    """Agent, group and workers are terminated, none of them an error."""
    run = runs["SIGTERM while workers run"]
    for name in (AGENT, GROUP, WORKER):
        assert {span.attributes["torchelastic.outcome"] for span in run.named(name)} == {"terminated"}
    assert run.named(AGENT)[0].attributes["torchelastic.agent.signal"] == "SIGTERM"
    assert run.records("torchelastic.failure") == []
    (failed,) = run.records(f"{STATUS}FAILED")
    assert failed.severity_number == WARN


def test_a_store_out_of_reach_is_told(runs: Runs) -> None:
    """The agent's span has the exception, and the step in which it was raised."""
    run = runs["store out of reach"]
    (agent,) = run.named(AGENT)
    assert agent.attributes["exception.type"] == "RendezvousConnectionError"
    assert agent.attributes["error.type"] == "RendezvousConnectionError"
    assert "store" in agent.attributes["torchelastic.step"]
    assert agent.attributes["exception.message"]
    assert "exception.stacktrace" in agent.attributes


def test_the_rounds_of_two_nodes_agree(runs: Runs) -> None:
    """Groups and rendezvous of one round have the same number on both nodes, and both group ranks."""
    run = runs["crash and restart, gRPC"]
    for name in (RENDEZVOUS, GROUP):
        rounds: dict[int, list[int]] = {}
        for span in run.named(name):
            rank = span.attributes["torchelastic.group_rank"]
            rounds.setdefault(span.attributes["torchelastic.round"], []).append(rank)
            assert span.attributes["torchelastic.group_world_size"] == 2
        assert [sorted(ranks) for _, ranks in sorted(rounds.items())] == [[0, 1], [0, 1]]


def test_the_console_is_left_as_it_is(runs: Runs, tmp_path: Path) -> None:
    """``--event-log-handler console`` under opentelemetry-instrument prints all that it prints without."""
    run = runs["opentelemetry-instrument, console"]
    (node,) = run.nodes
    recorded = [event.text for event in node.recorded if event.kind == "event"]
    assert recorded
    printed = [line for line in node.output.splitlines() if line.startswith('{"name": ')]
    assert printed == recorded


def test_instrumented_providers_are_the_programs(runs: Runs) -> None:
    """Under opentelemetry-instrument the providers that it has set up are used: the resource is theirs."""
    run = runs["opentelemetry-instrument, no flag"]
    for item in run.sent:
        assert item.resource["service.name"] == "the program's own"
        assert item.resource["telemetry.auto.version"] == version("opentelemetry-instrumentation")


@pytest.mark.parametrize("name", ["own event by torch's events", "own event by ours"])
def test_a_workers_own_event_is_under_its_workers_span(run: Run) -> None:
    """A worker's event keeps its metadata as it is, and belongs to the span of that very worker."""
    records = run.records("checkpoint.saved")
    workers = set()
    for record in records:
        span = run.by_id[record.span_id]
        assert span.attributes["torchelastic.worker_id"] == str(record.attributes["pid"])
        assert span.attributes["torchelastic.worker_id"] == str(record.resource["process.pid"])
        assert record.attributes["step"] == 7
        assert str(record.attributes["who"]).endswith(f" {span.attributes['torchelastic.local_rank']}")
        assert record.attributes["torchelastic.source"] == "WORKER"
        workers.add(record.span_id)
    assert len(workers) == 2


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name.startswith("LaunchConfig")])
def test_function_workers_find_their_own_span_in_their_environment(run: Run) -> None:
    """Functions started by spawn, fork and forkserver are given the context of their own span."""
    (node,) = run.nodes
    spans = {span.attributes["torchelastic.global_rank"]: span for span in run.named(WORKER)}
    assert len(spans) == 2
    for rank, span in spans.items():
        assert f"hello {rank} 00-{span.trace_id}-{span.span_id}-01" in node.output


def test_jobs_of_one_process_do_not_mix(runs: Runs) -> None:
    """Each job in turn has its own agent span, and the records of that job alone are in it."""
    run = runs["several jobs in one process"]
    agents = run.named(AGENT)
    ids = [agent.attributes["torchelastic.run_id"] for agent in agents]
    assert ids == [run.run_id, f"{run.run_id}-other", run.run_id]
    for before, after in itertools.pairwise(agents):
        assert before.end_ns <= after.start_ns
    for record in run.logs:
        span: Span | None = run.by_id[record.span_id]
        while span is not None and span.parent_span_id:
            span = run.by_id[span.parent_span_id]
        assert span is not None
        assert span.attributes["torchelastic.run_id"] == record.attributes["torchelastic.run_id"]
        assert span.start_ns <= record.time_ns <= span.end_ns


# --- outside of the scenarios -----------------------------------------------------------------------------


def test_the_torchrun_script_is_the_module_that_the_tests_run() -> None:
    """``torchrun`` calls the main function of the module that these tests start with ``-m``."""
    (script,) = entry_points(group="console_scripts", name="torchrun")
    assert script.value == f"{TORCHRUN}:main"


@pytest.mark.parametrize("handler", [[], ["--event-log-handler", "console"]], ids=["default", "console"])
def test_a_job_that_does_not_ask_for_otel_exports_nothing(
    harness: Harness, receiver: OtlpReceiver, handler: list[str]
) -> None:
    """Without ``otel`` there is no request, no thread's word, and no rendezvous event is even built."""
    options = [*handler, *c10d(0, "not-asked", nodes=1, per_node=1)]
    agent = harness.torchrun(options, harness.worker(), env=otlp(receiver))
    assert agent.wait() == 0
    assert receiver.requests == []
    kinds = Counter(event.kind for event in agent.recorded)
    assert kinds["asked"] > 0
    assert kinds["event"] > 0
    assert kinds["rdzv"] == 0
    assert "torchelastic-otel" not in agent.output
    (note,) = harness.worker_notes()
    assert "TRACEPARENT" not in note.env


def test_otel_as_a_rendezvous_backend_is_refused_with_what_to_write(
    harness: Harness, receiver: OtlpReceiver
) -> None:
    """``--rdzv-backend otel`` fails, and the message names the option that was meant."""
    agent = harness.torchrun(["--rdzv-backend", "otel"], harness.worker(), env=otlp(receiver))
    assert agent.wait() == 1
    assert "--event-log-handler otel" in agent.output
    assert receiver.requests == []


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
        agents = two_agents(
            Job(harness, env, run_id), harness.worker(together=4, fail=[0], rank=3), restarts=1
        )
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
        job, script = Job(harness, env, run_id), harness.worker(together=2, stay=[0])
        options = c10d(free_port(), run_id, per_node=1)
        host, survivor = (
            job.torchrun([*options, f"--rdzv-conf=is_host={is_host}"], script)
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
