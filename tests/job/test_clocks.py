"""Clocks that are set back while a job runs."""

from __future__ import annotations

from tests.support.job_player import AGENT, GROUP, RENDEZVOUS, WORKER, ns
from tests.support.job_world import World, running, times
from torchelastic_otel import _contract as c
from torchelastic_otel._job import facts as f


def test_clock_that_is_set_back() -> None:
    """Each span ends all the same, and nothing lasted a negative time."""
    world = World()
    world.start(1000)
    world.attempt(900)
    world.joined(800)
    world.tell(f.RendezvousEnded, 750, rank=0, world_size=1)
    world.workers(700)
    world.die(600, {0: 1}, stopped={1: -15})
    world.tell(f.RestartStarted, 500, "FAILED", [])
    world.join(400, took=-50)
    world.workers(300)
    world.succeed(-200)
    world.settle()
    assert world.output.counts == {AGENT: 1, RENDEZVOUS: 2, GROUP: 2, WORKER: 4}
    for data in [s.attributes for s in world.ended] + [r.attributes for r in world.records]:
        for key in ("torchelastic.rendezvous.waited", "torchelastic.restart.duration"):
            assert at_least_zero(data.get(key, 0))


def at_least_zero(value: object) -> bool:
    """Tell whether a value is a number that is not negative."""
    return isinstance(value, int | float) and value >= 0


def test_waits_that_end_before_they_began() -> None:
    """A join that failed, and the exit barrier: neither took a negative time."""
    world = World()
    world.start(100)
    world.attempt(100)
    world.tell(f.RendezvousEnded, 90, f.Raised("RendezvousTimeoutError", ""))
    assert world.one(RENDEZVOUS).attributes["torchelastic.rendezvous.waited"] == 0
    assert "after 0.0 s" in world.one(RENDEZVOUS).description
    world.start(100)
    world.tell(f.ExitBarrier, 100, ns(90))
    world.end(101, "SUCCEEDED")
    assert world.points(c.METRIC_EXIT_BARRIER_DURATION) == {None: 0}
    assert world.all(AGENT)[-1].attributes["torchelastic.exit_barrier.duration"] == 0


def test_launcher_has_not_ended_before_it_left_the_exit_barrier() -> None:
    """What is heard last may have lasted."""
    world = running()
    world.die(10, {0: 0, 1: 0})
    world.tell(f.ExitBarrier, 10, ns(310))
    world.engine.close(None)
    assert times(world.one(AGENT)) == (0, 310)
