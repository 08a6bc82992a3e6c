"""Each event of torch is one log record: complete, of the right severity, in the right span."""

from __future__ import annotations

import itertools

import pytest

from otlp_receiver import Span
from tests.support.names import AGENT, ERROR, FAILURE, INFO, RENDEZVOUS, STATUS, WARN, WORKER
from tests.support.recorded import match
from tests.support.scenarios.running import Run, every, only, whole

pytestmark = pytest.mark.e2e


@whole
def test_each_event_of_torch_is_exactly_one_log_record(run: Run) -> None:
    """Nothing that torch recorded is lost, doubled or made up, heartbeats apart."""
    for node in run.nodes:
        lost, rest = match(node.events, node.logs)
        assert [(event.name, event.text) for event in lost] == []
        assert [(record.event_name, record.body) for record in rest] == []
    others = [r.event_name for r in run.logs if r.resource["process.pid"] not in run.launchers]
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


@whole
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


@whole
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


@every
def test_torchs_own_events_are_weighed(run: Run) -> None:
    """Torch's FAILED of a worker that the agent stopped is a warning and says so; a culprit's is an error."""
    for node in run.nodes:
        failures = node.records(FAILURE)
        collateral = {
            record.attributes["torchelastic.worker_id"]
            for record in failures
            if record.attributes.get("torchelastic.collateral")
        }
        for record in node.records(f"{STATUS}FAILED"):
            if record.attributes["torchelastic.source"] == "AGENT":
                stopped_ = node.expected.outcome == "terminated"
                assert record.severity_number == (WARN if stopped_ else ERROR)
                continue
            spared = record.attributes["torchelastic.worker_id"] in collateral
            assert record.severity_number == (WARN if spared else ERROR)
            assert record.attributes.get("torchelastic.collateral", False) is spared


@only("several jobs in one process")
def test_jobs_of_one_process_do_not_mix(run: Run) -> None:
    """Each job in turn has its own agent span, and the records of that job alone are in it."""
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
