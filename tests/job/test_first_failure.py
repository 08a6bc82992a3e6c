"""Which of a node's workers died first, and ties where nobody knows."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.job_player import AGENT, GROUP, WORKER, error_file
from tests.support.job_world import first_failure, running
from torchelastic_otel._job import facts as f


def test_first_failure_stands_on_group_worker_and_record() -> None:
    """The same answer in each place where it is looked for, on the agent as well."""
    world = running()
    world.die(10, {1: -11}, stopped={0: -15})
    world.end(12, "FAILED")
    expected = {
        "global_rank": 1,
        "local_rank": 1,
        "hostname": world.one(AGENT).attributes["torchelastic.hostname"],
        "worker_id": str(world.pids[1]),
        "cause": "signal",
        "error_type": "SIGSEGV",
        "exit_code": -11,
    }
    holders = [world.one(GROUP).attributes, world.one(AGENT).attributes]
    holders += [span.attributes for span in world.all(WORKER)]
    holders += [record.attributes for record in world.told("torchelastic.failure")]
    assert [first_failure(holder) for holder in holders] == [expected] * 6


def test_deaths_in_one_look_are_a_tie() -> None:
    """Nothing tells them apart: both are named, none is guessed."""
    world = running()
    world.die(10, {0: 1, 1: -11})
    world.end(12, "FAILED")
    records = world.told("torchelastic.failure")
    assert [record.attributes["torchelastic.global_rank"] for record in records] == [0, 1]
    holders = [record.attributes for record in records]
    holders += [world.one(name).attributes for name in (GROUP, AGENT)]
    holders += [span.attributes for span in world.all(WORKER)]
    for holder in holders:
        assert first_failure(holder) == {"ties": [0, 1]}
    assert "Worker 0" in world.verdict()[1]
    assert "Worker 1" in world.verdict()[1]
    assert "torchelastic.collateral" not in records[1].attributes
    assert "error.type" not in world.one(AGENT).attributes


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ({0: 9, 1: 8}, {"global_rank": 1}),
        ({0: 8, 1: 9}, {"global_rank": 0}),
        ({0: 8, 1: 8}, {"ties": [0, 1]}),
        ({0: 8}, {"ties": [0, 1]}),
    ],
    ids=["second-first", "first-first", "same-moment", "one-unknown"],
)
def test_error_files_tell_who_was_first(when: dict[int, float], expected: dict[str, Any]) -> None:
    """Their times decide between deaths of one look, if they differ; a bare exit lies anywhere before it."""
    world = running()
    errors = {rank: error_file("RuntimeError: x", at) for rank, at in when.items()}
    world.die(10, {0: 1, 1: 1}, errors=errors)
    world.end(12, "FAILED")
    found = first_failure(world.one(GROUP).attributes)
    assert found.items() >= expected.items()
    assert ("ties" in found) is ("ties" in expected)


def test_error_file_without_a_time_is_a_tie() -> None:
    """A file that says nothing of its time cannot have been first or last."""
    world = running()
    errors = {0: error_file("RuntimeError: x", 8), 1: f.WorkerError("/e", "{}", None)}
    world.die(10, {0: 1, 1: 1}, errors=errors)
    assert "torchelastic.first_failure.ties" in world.told("torchelastic.failure")[0].attributes


def test_second_generation_has_its_own_first_failure() -> None:
    """The first generation's culprit is not carried over."""
    world = running()
    world.die(10, {0: 1}, stopped={1: -15})
    world.tell(f.RestartStarted, 11, "FAILED", [])
    world.join(11)
    world.workers(13)
    world.die(20, {1: 2}, stopped={0: -15})
    world.end(22, "FAILED")
    found = [first_failure(group.attributes)["global_rank"] for group in world.all(GROUP)]
    assert found == [0, 1]
    assert first_failure(world.one(AGENT).attributes)["global_rank"] == 1
