"""Real jobs with a fault in their way: the job ends as it would, and nothing that was recorded is lost."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import pytest

from tests.support.faults import CASES, SAFE_NS, Case, Result, UnavailableError, run
from tests.support.harness import Agent

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("name", CASES)
def test_a_fault_neither_changes_the_job_nor_loses_anything(name: str) -> None:
    """The exit codes are those of the job; after a replay everything recorded is delivered."""
    try:
        result: Result = run(name)
    except UnavailableError as error:
        pytest.skip(str(error))
    assert result.exit_codes == result.expected_codes
    assert result.lost == [], result
    assert result.recorded > 0 or "SIGKILL" in name
    if name in ("a backend that is well", "dies midway and comes back", "a full disk"):
        assert (result.spooled, result.twice) == (0, 0)
        assert result.at_once == result.recorded


def said_later(agent: Agent, by_ns: int) -> bool:
    """Tell whether torch has said something in a launcher that much after its last event of a worker."""
    said = agent.recorded
    last_ns = max(event.end_ns for event in said if event.kind == "event")
    return any(event.start_ns > last_ns + by_ns for event in said)


def test_open_spans_of_a_killed_agent_are_closed_and_the_trace_is_whole(tmp_path: Path) -> None:
    """They end with what was recorded last, marked as truncated, without an outcome; none is an orphan."""
    with Case(tmp_path / "job") as job:
        job.start("--rdzv-conf=keep_alive_interval=1", stay=True)
        (agent,) = job.agents
        # The promise is about what was recorded a tenth of a second ago: torch speaks again after that.
        assert job.harness.wait(lambda: job.has_recovered() and said_later(agent, SAFE_NS))
        agent.send_signal(signal.SIGKILL)
        job.end()
        said = job.replay()
    (receiver,) = job.receivers
    spans = receiver.spans
    truncated = Counter(span.name for span in spans if span.attributes.get("torchelastic.truncated") is True)
    assert truncated == {"torchelastic.agent": 1, "torchelastic.worker_group": 1, "torchelastic.worker": 2}, (
        said
    )
    assert Counter(span.name for span in spans)["torchelastic.worker"] == 4
    ids = {span.span_id for span in spans}
    assert {span.parent_span_id for span in spans} <= ids | {""}
    last_ns = max(record.time_ns for record in receiver.logs)
    for span in spans:
        if span.attributes.get("torchelastic.truncated"):
            assert "torchelastic.outcome" not in span.attributes
            assert span.status_code == "UNSET"
            assert span.start_ns <= span.end_ns
            assert span.end_ns - last_ns < 5_000_000_000
