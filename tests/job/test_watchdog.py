"""Workers that the watchdog kills, and workers that nothing can end."""

from __future__ import annotations

import pytest

from tests.support.job_player import AGENT, GROUP, WORKER
from tests.support.job_world import first_failure, running
from torchelastic_otel._job import facts as f
from torchelastic_otel._job.event import ERROR


def test_watchdog_kill_is_a_failure_at_once() -> None:
    """Torch kills its own agent a moment later: the record is there when the event has been taken."""
    world = running()
    pid = str(world.pids[1])
    world.watchdog(9, worker_pid=pid, scope_id="step 7", expiration_time="8.5", signal="9")
    (record,) = world.told("torchelastic.failure")
    assert (
        record.attributes.items()
        >= {
            "torchelastic.failure.cause": "watchdog",
            "error.type": "SIGKILL",
            "torchelastic.global_rank": 1,
            "torchelastic.local_rank": 1,
            "torchelastic.worker_id": pid,
            "torchelastic.watchdog.scope_id": "step 7",
            "torchelastic.watchdog.signal": "9",
        }.items()
    )
    assert record.severity == ERROR
    assert "step 7" in record.body
    assert "process.exit.code" not in record.attributes


def test_watchdogs_victim_is_the_first_failure() -> None:
    """It died of the watchdog alone: the record that is all that is left names it as the first."""
    world = running()
    world.watchdog(9, worker_pid=str(world.pids[1]), scope_id="s", signal="9")
    assert first_failure(world.told("torchelastic.failure")[0].attributes)["global_rank"] == 1


def test_watchdogs_victim_is_told_once() -> None:
    """Where the agent lives on, its victim's end is known; it is no second death."""
    world = running()
    world.watchdog(9, worker_pid=str(world.pids[1]), scope_id="s", signal="10")
    world.watchdog(9.1, worker_pid=str(world.pids[1]), scope_id="s", signal="10")
    world.die(10, {1: -10}, stopped={0: -15})
    world.end(12, "FAILED")
    told = [record.attributes["torchelastic.failure.cause"] for record in world.told("torchelastic.failure")]
    assert told == ["watchdog", "signal"]  # the second is collateral
    assert first_failure(world.one(GROUP).attributes)["global_rank"] == 1
    assert first_failure(world.one(GROUP).attributes)["cause"] == "watchdog"
    assert world.one(AGENT).outcome == "failed"


def test_watchdogs_signal_to_its_own_agent_is_no_preemption() -> None:
    """Torch sends itself the signal that it sent the worker: with SIGTERM that must not look like a stop."""
    world = running()
    world.watchdog(9, worker_pid=str(world.pids[1]), scope_id="s", signal="15")
    world.signalled(9.1, exits=[world.exit(1, -15)])
    victim = next(s for s in world.all(WORKER) if s.attributes["torchelastic.local_rank"] == 1)
    assert victim.outcome == "failed"
    assert world.verdict()[0] == "failed"


@pytest.mark.parametrize("pid", ["999999", "", "no number", "-1", "\u0661"])
def test_watchdog_kill_of_an_unknown_process(pid: str) -> None:
    """No worker of this generation: the event is recorded, and no failure is made up."""
    world = running()
    world.watchdog(9, worker_pid=pid, scope_id="s", signal="9")
    assert not world.told("torchelastic.failure")
    assert len(world.told("kill worker process")) == 1


@pytest.mark.parametrize("name", ["watchdog started", "timer expired", "watchdog stopped"])
def test_other_watchdog_events_are_no_failure(name: str) -> None:
    """Only the kill is."""
    world = running()
    world.watchdog(9, name, worker_pid=str(world.pids[0]), scope_id="s", signal="0")
    assert not world.told("torchelastic.failure")


def test_uninterruptible_worker() -> None:
    """Torch calls it UNHEALTHY, restarts nothing and exits with 0: the job has failed all the same."""
    world = running()
    world.tell(f.Monitored, 9, "UNHEALTHY", [world.pids[0]])
    world.tell(f.WorkersStopping, 9)
    world.tell(f.WorkersStopped, 40, [world.exit(1, -15)])
    world.end(41, "UNHEALTHY")
    stuck, stopped = world.told("torchelastic.failure")
    assert (
        stuck.attributes["torchelastic.failure.cause"] == stuck.attributes["error.type"] == "uninterruptible"
    )
    assert stuck.attributes["torchelastic.global_rank"] == 0
    assert "uninterruptible" in stuck.body
    assert "process.exit.code" not in stuck.attributes
    assert stopped.attributes["torchelastic.collateral"] is True
    assert first_failure(world.one(GROUP).attributes)["cause"] == "uninterruptible"
    outcome, sentence = world.verdict()
    assert outcome == "failed"
    assert "torchrun exits with 0" in sentence
