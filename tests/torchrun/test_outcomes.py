"""How launchers, generations and attempts to join ended: outcome, status and verdict (contract, 4 and 6)."""

from __future__ import annotations

import re

import pytest

from tests.support.names import AGENT, ERROR, FAILURE, GROUP, INFO, RENDEZVOUS, STATUS, WARN, WORKER
from tests.support.scenarios.running import Run, every, only, single, whole

pytestmark = pytest.mark.e2e


@single
def test_the_agents_span_tells_the_outcome(run: Run) -> None:
    """Outcome, status, verdict and what goes with it stand on the agent's span and its stop record."""
    for node in run.nodes:
        expected = node.expected
        if not expected.outcome:
            assert node.named(AGENT) == []
            assert node.records("torchelastic.agent.stop") == []
            continue
        agent = node.agent
        assert agent.attributes["torchelastic.outcome"] == expected.outcome
        (stop,) = node.records("torchelastic.agent.stop")
        assert stop.attributes["torchelastic.outcome"] == expected.outcome
        verdict = agent.attributes["torchelastic.verdict"]
        assert stop.attributes["torchelastic.verdict"] == verdict
        assert verdict in stop.body
        for text in expected.says:
            assert text in verdict
        wanted = dict(expected.attributes)
        assert {key: agent.attributes.get(key) for key in wanted} == wanted
        assert agent.attributes["torchelastic.restarts"] == max(0, len(expected.generations) - 1)
        severity = {"succeeded": INFO, "failed": ERROR, "terminated": WARN}[expected.outcome]
        assert stop.severity_number == severity


@every
def test_the_agent_tells_the_jobs_outcome(run: Run) -> None:
    """The agent's span and its stop record say how the job ended; its start record says that it began."""
    for node in run.alive:
        outcome = node.expected.outcome
        severity = {"succeeded": INFO, "failed": ERROR, "terminated": WARN}[outcome]
        for agent in node.named(AGENT):
            assert agent.attributes["torchelastic.outcome"] == outcome
            starts = [r for r in node.records("torchelastic.agent.start") if r.span_id == agent.span_id]
            stops = [r for r in node.records("torchelastic.agent.stop") if r.span_id == agent.span_id]
            assert [record.severity_number for record in starts] == [INFO]
            assert [record.severity_number for record in stops] == [severity]
            assert stops[0].attributes["torchelastic.outcome"] == outcome
            if outcome == "failed":
                assert agent.status_message == agent.attributes["torchelastic.verdict"]
                assert agent.status_message in stops[0].body


@whole
def test_status_follows_from_the_outcome(run: Run) -> None:
    """Failed is Error with the verdict as its description, succeeded is Ok, everything else is Unset."""
    for span in run.spans:
        outcome = span.attributes["torchelastic.outcome"]
        assert outcome in ("succeeded", "failed", "terminated", "interrupted")
        assert span.status_code == {"succeeded": "OK", "failed": "ERROR"}.get(outcome, "UNSET"), span
        assert bool(span.status_message) == (outcome == "failed"), span
        assert "torchelastic.truncated" not in span.attributes


@every
def test_what_failed_has_a_sentence(run: Run) -> None:
    """Failed is Error with a sentence, succeeded is Ok, anything else is Unset."""
    for node in run.nodes:
        for span in node.spans:
            outcome = span.attributes.get("torchelastic.outcome")
            assert span.status_code == {"succeeded": "OK", "failed": "ERROR"}.get(str(outcome), "UNSET")
            assert bool(span.status_message) == (outcome == "failed")
            if outcome == "failed" and span.name == AGENT:
                assert span.status_message == span.attributes["torchelastic.verdict"]


@single
def test_each_generation_ends_as_it_did(run: Run) -> None:
    """Worker groups and workers have the outcome of their own; each worker is the process that ran."""
    for node in run.nodes:
        ended = node.expected.generations if node.expected.outcome else ()
        groups = node.named(GROUP)
        outcomes = [group.attributes.get("torchelastic.outcome", "") for group in groups]
        assert outcomes == [generation.outcome for generation in ended]
        for number, (group, generation) in enumerate(zip(groups, ended, strict=True), 1):
            assert group.attributes["torchelastic.generation"] == number
            workers = node.workers(group)
            found = tuple(worker.attributes.get("torchelastic.outcome", "") for worker in workers)
            assert found == generation.workers
            for worker in workers:
                note = run.notes_by_pid.get(int(worker.attributes.get("torchelastic.worker_id", "0")))
                if note is not None:
                    assert worker.attributes["torchelastic.global_rank"] == int(note.env["RANK"])
                    assert worker.attributes["torchelastic.local_rank"] == int(note.env["LOCAL_RANK"])
                    assert note.env["TRACEPARENT"] == f"00-{worker.trace_id}-{worker.span_id}-01"


@single
def test_each_rendezvous_ends_as_it_did(run: Run) -> None:
    """Each attempt to join has its outcome."""
    for node in run.alive:
        found = tuple(span.attributes.get("torchelastic.outcome", "") for span in node.named(RENDEZVOUS))
        assert found == node.expected.rendezvous


@single
def test_the_trace_is_said_at_the_start_and_beside_a_failure(run: Run) -> None:
    """The launcher's standard error has the trace id once at the start, and once more if the job failed."""
    for node in run.alive:  # one that is killed at once may have sent nothing
        # The line is whole; but a traceback may be half-way through one of its own.
        said = re.findall(r"torchelastic-otel: .*", node.output)
        trace_ids = {record.trace_id for record in node.logs}
        (trace_id,) = trace_ids
        assert said[0] == f"torchelastic-otel: trace {trace_id}"
        if node.expected.outcome == "failed":
            verdict = node.agent.attributes["torchelastic.verdict"]
            assert said[1:] == [f"torchelastic-otel: {verdict} (trace {trace_id})"]
        else:
            assert said[1:] == []


@only("SIGTERM in the first rendezvous", "SIGTERM in a call of the store")
def test_a_signal_in_the_first_rendezvous_is_told(run: Run) -> None:
    """The rendezvous span is ended, and spans and stop record name the signal and the step."""
    (agent,) = run.named(AGENT)
    (rendezvous,) = run.named(RENDEZVOUS)
    assert rendezvous.attributes["torchelastic.outcome"] == "terminated"
    assert agent.attributes["torchelastic.agent.signal"] == "SIGTERM"
    assert "rendezvous" in agent.attributes["torchelastic.step"]
    (stop,) = run.records("torchelastic.agent.stop")
    assert "SIGTERM" in stop.body


@only("SIGTERM")
def test_a_signal_while_workers_run_is_told(run: Run) -> None:
    """Agent, group and workers are terminated, none of them an error."""
    for name in (AGENT, GROUP, WORKER):
        assert {span.attributes["torchelastic.outcome"] for span in run.named(name)} == {"terminated"}
    assert run.named(AGENT)[0].attributes["torchelastic.agent.signal"] == "SIGTERM"
    assert run.records(FAILURE) == []
    (failed,) = run.records(f"{STATUS}FAILED")
    assert failed.severity_number == WARN
