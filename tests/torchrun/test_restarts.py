"""Generations that follow others: why, and what the nodes of a job say of it alike."""

from __future__ import annotations

import pytest

from tests.support.names import FIRST, GROUP, RENDEZVOUS, RESTART, WARN
from tests.support.scenarios.deaths import CRASH_AND_RESTART
from tests.support.scenarios.running import Run, only, single, where

pytestmark = pytest.mark.e2e

crashes = where(lambda found: found.nodes == CRASH_AND_RESTART)


@single
def test_each_restart_is_told_with_its_cause(run: Run) -> None:
    """A restart is a record, and stands on the generation that follows."""
    for node in run.nodes:
        causes = [generation.restart for generation in node.expected.generations]
        if node.expected.outcome:
            spans = [group.attributes.get("torchelastic.restart.cause") for group in node.named(GROUP)]
            assert spans == causes
        records = node.records(RESTART)
        assert [r.attributes["torchelastic.restart.cause"] for r in records] == list(filter(None, causes))
        for number, record in enumerate(records, 1):
            attributes = record.attributes
            assert attributes["torchelastic.restart.from_generation"] == number
            assert attributes["torchelastic.restart.to_generation"] == number + 1
            assert record.severity_number == WARN
            before, after = node.named(GROUP)[number - 1 : number + 1]
            longest = (record.time_ns - before.start_ns) / 1e9
            shortest = max(0, (after.start_ns - before.end_ns) / 1e9)
            assert shortest - 0.001 <= attributes["torchelastic.restart.duration"] <= longest + 0.001


@crashes
def test_a_restart_is_told_with_its_cause_on_each_node(run: Run) -> None:
    """The node of the crash restarts for a worker's failure, its peer for a membership change."""
    failed = [span for span in run.named(GROUP) if span.attributes["torchelastic.outcome"] == "failed"]
    (group,) = failed
    culprit = group.resource["process.pid"]
    restarts = run.records(RESTART)
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


@crashes
def test_the_rounds_of_two_nodes_agree(run: Run) -> None:
    """Groups and rendezvous of one round have the same number on both nodes, and both group ranks."""
    for name in (RENDEZVOUS, GROUP):
        rounds: dict[int, list[int]] = {}
        for span in run.named(name):
            rank = span.attributes["torchelastic.group_rank"]
            rounds.setdefault(span.attributes["torchelastic.round"], []).append(rank)
            assert span.attributes["torchelastic.group_world_size"] == 2
        assert [sorted(ranks) for _, ranks in sorted(rounds.items())] == [[0, 1], [0, 1]]


@crashes
def test_two_nodes_share_a_trace_and_agree_on_the_rounds(run: Run) -> None:
    """One trace; groups of one round have the same number; the culprit stands on its own node alone."""
    assert len({span.trace_id for node in run.nodes for span in node.spans}) == 1
    rounds = [[group.attributes["torchelastic.round"] for group in node.named(GROUP)] for node in run.nodes]
    assert rounds[0] == rounds[1]
    peer, _ = run.nodes
    assert not any(key.startswith(FIRST) for span in peer.spans for key in span.attributes)


@only("late node")
def test_who_asked_to_join_is_named(run: Run) -> None:
    """The restart for a membership change names the node that waited."""
    first, late = run.nodes
    (restart,) = first.records(RESTART)
    (waiting,) = restart.attributes["torchelastic.restart.nodes_waiting"]
    assert f"_{late.pid}_" in waiting
    assert waiting in restart.body
