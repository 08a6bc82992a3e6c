"""Generations of workers: restarts after a failure, and for a membership change."""

from __future__ import annotations

from tests.support.job_player import AGENT, GROUP, RENDEZVOUS, WORKER, ns
from tests.support.job_world import running, times
from torchelastic_otel._job import facts as f
from torchelastic_otel._job.event import WARN


def test_failure_restart_success() -> None:
    """The generation that failed has failed itself; the job has not: its outcome is the final one."""
    world = running()
    world.die(10, {1: 3}, stopped={0: -15})
    world.tell(f.RestartStarted, 11, "FAILED", [])
    world.join(11)
    world.workers(13)
    world.succeed(20)
    first, second = world.all(GROUP)
    assert first.outcome == "failed"
    assert second.outcome == "succeeded"
    assert world.verdict() == ("succeeded", "The launcher ends: succeeded after 1 restart")
    assert world.one(AGENT).attributes["torchelastic.restarts"] == 1
    assert [group.attributes["torchelastic.generation"] for group in (first, second)] == [1, 2]
    assert (first.link, second.link) == (None, first.context)
    assert len(world.all(RENDEZVOUS)) == 2


def test_restart_record() -> None:
    """Why, from which generation to which, and how long it took: from seeing the failure to running again."""
    world = running()
    world.die(10, {1: 3}, stopped={0: -15})
    world.tell(f.RestartStarted, 11, "FAILED", [])
    world.join(11)
    world.workers(14)
    (record,) = world.told("torchelastic.restart")
    assert (
        record.attributes.items()
        >= {
            "torchelastic.restart.cause": "worker_failure",
            "torchelastic.restart.from_generation": 1,
            "torchelastic.restart.to_generation": 2,
            "torchelastic.restart.duration": 4.0,
            "torchelastic.run_id": "r",
        }.items()
    )
    assert (record.severity, record.time_ns) == (WARN, ns(14))
    world.succeed(20)
    first, second = world.all(GROUP)
    assert second.attributes["torchelastic.restart.cause"] == "worker_failure"
    others = [first.attributes, *(span.attributes for span in world.all(WORKER))]
    assert all("torchelastic.restart.cause" not in other for other in others)
    assert record.span_id == world.one(AGENT).context.span_id


def test_membership_change() -> None:
    """A restart without a failure: interrupted, and the restart says who asked to join."""
    world = running()
    world.tell(f.RestartStarted, 10, "HEALTHY", ["m_7_0"])
    world.tell(f.WorkersStopping, 10)
    world.tell(f.WorkersStopped, 11, [world.exit(0, -15), world.exit(1, -15)])
    world.join(11, size=2)
    world.workers(15)
    world.succeed(20)
    first, second = world.all(GROUP)
    assert first.outcome == "interrupted"
    assert {s.outcome for s in world.all(WORKER) if times(s)[0] == 2} == {"interrupted"}
    assert not world.told("torchelastic.failure")
    assert second.attributes["torchelastic.restart.cause"] == "membership_change"
    (record,) = world.told("torchelastic.restart")
    assert (
        record.attributes.items()
        >= {
            "torchelastic.restart.cause": "membership_change",
            "torchelastic.restart.duration": 5.0,
        }.items()
    )
    assert record.attributes["torchelastic.restart.nodes_waiting"] == ["m_7_0"]
    assert world.verdict()[0] == "succeeded"
    assert world.one(AGENT).attributes["torchelastic.restarts"] == 1


def test_death_just_before_a_membership_change() -> None:
    """A worker that ended by itself is a culprit; the others are stopped for the change, and not for it."""
    world = running()
    world.tell(f.RestartStarted, 10, "HEALTHY", ["m_7_0"])
    world.die(10, {0: 1}, stopped={1: -15})
    (culprit,) = world.told("torchelastic.failure")
    assert culprit.attributes["torchelastic.global_rank"] == 0
    world.join(12)
    world.workers(14)
    world.succeed(20)
    assert world.all(GROUP)[0].outcome == "failed"


def test_causes_of_restarts_do_not_mix() -> None:
    """A failure, then a membership change: each restart has its own cause and its own duration."""
    world = running()
    world.die(10, {0: 1}, stopped={1: -15})
    world.tell(f.RestartStarted, 11, "FAILED", [])
    world.join(11)
    world.workers(14)
    world.tell(f.RestartStarted, 20, "HEALTHY", [])
    world.tell(f.WorkersStopped, 21, [world.exit(0, -15), world.exit(1, -15)])
    world.join(21)
    world.workers(27)
    told = world.told("torchelastic.restart")
    assert [r.attributes["torchelastic.restart.cause"] for r in told] == [
        "worker_failure",
        "membership_change",
    ]
    assert [r.attributes["torchelastic.restart.duration"] for r in told] == [4.0, 7.0]
    world.succeed(30)
    assert world.verdict()[1] == "The launcher ends: succeeded after 2 restarts"
