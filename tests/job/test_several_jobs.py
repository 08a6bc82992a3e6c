"""Several jobs in one process: one after the other, or side by side."""

from __future__ import annotations

from tests.support.job_player import AGENT, GROUP, RENDEZVOUS, STATUS, WORKER, moment, ns
from tests.support.job_world import World, running, times
from torchelastic_otel._job import facts as f
from torchelastic_otel._job.identity import hash_trace_id


def test_jobs_in_sequence_with_one_run_id() -> None:
    """Each has spans and a verdict of its own, in one trace; events go to the job that runs."""
    world = World()
    for at in (0, 1000):
        world.start(at)
        world.join(at)
        world.workers(at + 2)
        if at:
            world.die(at + 10, {0: 1}, stopped={1: -15})
            world.end(at + 12, "FAILED")
        else:
            world.succeed(at + 10)
    agents = world.all(AGENT)
    assert [span.outcome for span in agents] == ["succeeded", "failed"]
    assert {span.context.trace_id for span in world.ended} == {hash_trace_id("r")}
    assert [span.parent_id for span in world.all(GROUP)] == [span.context.span_id for span in agents]
    assert world.all(GROUP)[1].link is None
    for at, agent in zip((0, 1000), agents, strict=True):
        ends = [r for r in world.told(STATUS + "SUCCEEDED") if r.time_ns in (ns(at + 310), ns(at + 12))]
        last = [r for r in ends if r.attributes["torchelastic.source"] == "AGENT"]
        assert [record.span_id for record in last] == [agent.context.span_id]


def test_job_that_never_ended_ends_with_the_next_one() -> None:
    """A program that caught a signal launches again: the first job's spans do not stay open."""
    world = running()
    world.tell(f.StopRequested, 50, "SIGTERM")
    world.tell(f.RunEnded, 51, "", f.Raised("SignalException", "got signal", "", "SIGTERM"))
    world.start(100)
    assert len(world.all(AGENT)) == 1
    assert times(world.one(AGENT))[1] <= 100
    assert world.one(AGENT).outcome == "terminated"


def test_jobs_side_by_side() -> None:
    """Two launchers in threads of one process: each event and fact goes to its own job."""
    world = World()
    world.start(0, run_id="one")
    world.start(1, run_id="two")
    for number, run_id in ((1, "one"), (2, "two")):
        world.number, world.run_id, world.round = number, run_id, -1
        world.join(2 + number)
        world.workers(10 + number)
    world.number, world.run_id = 1, "one"
    world.die(20, {0: 1, 1: 0})
    world.end(21, "FAILED")
    world.number, world.run_id = 2, "two"
    world.succeed(30)
    outcomes = {s.attributes["torchelastic.run_id"]: s.outcome for s in world.all(AGENT)}
    assert outcomes == {"one": "failed", "two": "succeeded"}
    for span in world.ended:
        assert span.context.trace_id == hash_trace_id(str(span.attributes["torchelastic.run_id"]))
    for record in world.records:
        assert record.trace_id == hash_trace_id(str(record.attributes["torchelastic.run_id"]))


def test_job_that_another_one_takes_the_place_of_ends() -> None:
    """One that events alone told of, and a launcher of the same run id; its spans do not stay open."""
    world = World()
    world.asks(0)
    world.joined(1)
    world.worker_event(2, "START", 0)
    world.start(10)
    assert world.output.counts == {AGENT: 1, RENDEZVOUS: 1, GROUP: 1, WORKER: 1}
    assert times(world.ended[-1]) == (0, 2)
    world.engine.close(None)
    assert world.output.counts[AGENT] == len([s for s in world.output.started if s.name == AGENT]) == 2


def test_launcher_that_starts_twice_ends_its_first_job() -> None:
    """Torch makes one rendezvous handler for a launcher; a program may do as it likes."""
    world = running()
    world.number = 0
    world.start(10)
    assert world.output.counts == {AGENT: 1, RENDEZVOUS: 1, GROUP: 1, WORKER: 2}
    world.join(10)
    world.workers(12)
    world.succeed(20)
    assert [span.outcome for span in world.all(AGENT)] == [None, "succeeded"]


def test_launcher_that_starts_again_under_another_run_id_ends_the_first() -> None:
    """Nothing is heard of that any more, and it is told at once."""
    world = running()
    world.number = 0
    world.start(10, run_id="another")
    assert world.output.over == {"r"}


def test_launcher_that_runs_stays_however_many_other_jobs_are_heard_of() -> None:
    """Events of a hundred other jobs do not end it, and its own still find it."""
    world = running()
    for number in range(100):
        world.run_id = f"run-{number}"
        world.worker_event(5, "START", 0)
    world.run_id = "r"
    world.succeed(10)
    agent = next(span for span in world.all(AGENT) if span.attributes["torchelastic.run_id"] == "r")
    assert (agent.outcome, times(agent)) == ("succeeded", (0, 311))


def test_one_job_more_than_are_kept_ends_none_that_is_heard_of() -> None:
    """Of 65 that run, the one that was silent for longest makes room, however early others began."""
    world = World()
    for number in range(64):
        world.start(number, run_id=f"run-{number}")
    world.number = 1
    world.tell(f.RendezvousStarted, 70)
    world.number = 64
    world.start(71, run_id="run-64")
    assert [span.attributes["torchelastic.run_id"] for span in world.ended] == ["run-1"]
    assert world.output.over == {"run-1"}


def test_ended_jobs_make_room_first() -> None:
    """Of those that events alone tell of, whose launchers nobody sees."""
    world = World()
    for number in range(64):
        world.run_id = f"run-{number}"
        world.worker_event(number, "START", 0)
    world.event(70, "SUCCEEDED", run_id="run-40")
    world.engine.tick(moment(1000))
    ended = len(world.all(AGENT))
    world.run_id = "run-64"
    world.worker_event(1001, "START", 0)
    assert (ended, len(world.all(AGENT))) == (1, 1)
