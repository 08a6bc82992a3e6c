"""Clocks that are set while a job runs: times follow the wall clock, durations do not."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from tests.support.job_player import AGENT, GROUP, RENDEZVOUS, WORKER, error_file, moment, ns
from tests.support.job_world import World, first_failure, running, times
from torchelastic_otel import _contract as c
from torchelastic_otel._job import facts as f

HOUR_S = 3600.0
FAILURE = "torchelastic.failure"

STEPS: list[Callable[[World], object]] = [
    lambda world: world.start(0),
    lambda world: world.attempt(1),
    lambda world: world.joined(3),
    lambda world: world.tell(f.RendezvousEnded, 4, rank=0, world_size=1),
    lambda world: world.workers(5),
    lambda world: world.engine.tick(world.moment(20)),
    lambda world: world.tell(
        f.WorkersExited, 30, [world.exit(0, 3)], None, moment(29)._replace(wall_ns=ns(29 + world.clock_ahead))
    ),
    lambda world: world.tell(f.WorkersStopping, 30.1),
    lambda world: world.tell(f.WorkersStopped, 31, [world.exit(1, -15)]),
    lambda world: world.tell(f.Monitored, 31, "FAILED"),
    lambda world: world.tell(f.RestartStarted, 32, "FAILED", []),
    lambda world: world.join(40),
    lambda world: world.workers(43),
    lambda world: world.die(60, {0: 0, 1: 0}),
    lambda world: world.tell(f.ExitBarrier, 60, moment(63)._replace(wall_ns=ns(63 + world.clock_ahead))),
    lambda world: world.end(63, "SUCCEEDED"),
]
"""A job with a restart, in its order."""

NUMBERS = (
    c.METRIC_UPTIME,
    c.METRIC_DOWNTIME,
    c.METRIC_RENDEZVOUS_DURATION,
    c.METRIC_RESTART_DURATION,
    c.METRIC_EXIT_BARRIER_DURATION,
)
ATTRIBUTES = (c.RENDEZVOUS_WAITED, c.RESTART_DURATION, c.EXIT_BARRIER_DURATION)


def played(*, before: int = 0, ahead: float = 0, back_before: int | None = None) -> World:
    """Play the job; before one of its steps the clock is set, before a later one it may be set right."""
    world = World()
    for number, step in enumerate(STEPS):
        if number == before:
            world.clock_ahead = ahead
        if number == back_before:
            world.clock_ahead = 0
        step(world)
    world.settle()
    return world


def durations(world: World) -> dict[str, object]:
    """Return every duration that is told of a job."""
    told: dict[str, object] = {name: world.points(name, c.RESTART_CAUSE) for name in NUMBERS}
    for name in (AGENT, RENDEZVOUS, GROUP, WORKER):
        spans = [span for span in world.output.started if span.name == name]
        told[name] = [span.end_ns - span.start_ns for span in spans]
    holders = [span.attributes for span in world.output.started] + [r.attributes for r in world.records]
    told["attributes"] = [holder[name] for holder in holders for name in ATTRIBUTES if name in holder]
    told["bodies"] = [r.body for r in world.records if " s" in r.body]
    return told


TRUE = durations(played())


def test_durations_of_the_job() -> None:
    """What the comparisons below compare with."""
    assert TRUE[AGENT] == [64 * 10**9]
    assert TRUE[c.METRIC_UPTIME] == {None: 25 + 17}
    assert TRUE[c.METRIC_EXIT_BARRIER_DURATION] == {None: 3}
    assert TRUE[c.METRIC_RESTART_DURATION] == {"worker_failure": 13}


@pytest.mark.parametrize("ahead", [HOUR_S, -HOUR_S])
@pytest.mark.parametrize("before", range(1, len(STEPS)))
def test_no_duration_depends_on_the_wall_clock(before: int, ahead: float) -> None:
    """Whenever it is set, forward or back, and whether or not it is set right again."""
    assert durations(played(before=before, ahead=ahead)) == TRUE
    assert durations(played(before=before, ahead=ahead, back_before=before + 2)) == TRUE


@pytest.mark.parametrize("ahead", [HOUR_S, -HOUR_S])
def test_times_follow_the_wall_clock(ahead: float) -> None:
    """Records, and spans that begin afterwards, have the time that the clock shows since it was set."""
    world = played(before=10, ahead=ahead)
    first, second = world.all(GROUP) if ahead > 0 else reversed(world.all(GROUP))
    assert times(first) == (5, 31)
    assert times(second) == (43 + ahead, 60 + ahead)
    (restart,) = world.told("torchelastic.restart")
    (failure,) = world.told(FAILURE)[:1]
    assert (failure.time_ns, restart.time_ns) == (ns(30), ns(43 + ahead))


def test_a_spans_events_are_within_it() -> None:
    """Those of an open span are placed by their distance from its start; records have the clock's time."""
    world = played(before=9, ahead=HOUR_S)
    agent = world.one(AGENT)
    assert times(agent) == (0, 64)
    ordered = [event.time_ns for event in agent.events]
    assert all(agent.start_ns <= time_ns <= agent.end_ns for time_ns in ordered)
    assert all(before <= after for before, after in pairwise(ordered))
    assert world.told("torchelastic.agent.stop")[0].time_ns == ns(64 + HOUR_S)


def test_a_wait_that_times_out() -> None:
    """Its sentence and its attribute tell how long it was."""
    world = World()
    world.start(0)
    world.attempt(0)
    world.clock_ahead = -HOUR_S
    world.tell(f.RendezvousEnded, 10, f.Raised("RendezvousTimeoutError", ""))
    span = world.one(RENDEZVOUS)
    assert (times(span), span.attributes[c.RENDEZVOUS_WAITED]) == ((0, 10), 10)
    assert "timed out after 10.0 s" in span.description


def test_how_long_a_rendezvous_waits_so_far() -> None:
    """The gauge of an attempt that is open."""
    world = World()
    world.start(0)
    world.attempt(0)
    world.clock_ahead = HOUR_S
    world.engine.tick(world.moment(7))
    assert world.metric(c.METRIC_RENDEZVOUS_WAITING) == 7


def test_file_times_count_for_nothing_where_the_clock_was_set_meanwhile() -> None:
    """Nobody knows by which setting they are: the looks of the agent tell what is known."""
    world = running()
    world.clock_ahead = HOUR_S
    exits = [world.exit(0, 1, error=error_file("ValueError: x", 9.5)), world.exit(1, 3)]
    world.tell(f.WorkersExited, 10, exits, None, moment(9))
    world.tell(f.WorkersStopped, 10, [])
    assert list(first_failure(world.one(GROUP).attributes)["ties"]) == [0, 1]
    assert "died between two looks of the agent" in world.one(GROUP).description


def test_file_times_count_by_the_clock_that_was_set_before() -> None:
    """The agent's looks show how it is set now."""
    world = running()
    world.clock_ahead = HOUR_S
    exits = [world.exit(0, 1, error=error_file("ValueError: x", 9.2 + HOUR_S)), world.exit(1, 3)]
    world.tell(f.WorkersExited, 10, exits, None, world.moment(9.5))
    world.tell(f.WorkersStopped, 10, [])
    assert first_failure(world.one(GROUP).attributes)["global_rank"] == 0
    assert world.told(FAILURE)[0].time_ns == ns(9.2 + HOUR_S)


def test_what_a_stopped_worker_wrote_is_collateral_though_the_clock_was_set_back() -> None:
    """Its file seems to be from before the stop; it cannot be known."""
    world = running()
    world.tell(f.WorkersExited, 10, [world.exit(0, 1)], None, moment(9.9))
    world.tell(f.WorkersStopping, 10.1)
    world.clock_ahead = -HOUR_S
    late = error_file("SystemExit: 143", 10.5 - HOUR_S)
    world.tell(f.WorkersStopped, 11, [world.exit(1, 1, error=late)])
    assert world.told(FAILURE)[1].attributes["torchelastic.collateral"] is True
    assert first_failure(world.one(GROUP).attributes)["global_rank"] == 0


def test_event_with_a_time_of_its_own() -> None:
    """It lies as far from now as the wall clock says: nobody else knows when it was."""
    world = World()
    world.clock_ahead = HOUR_S
    for at, state in ((2, "START"), (10, "SUCCEEDED")):
        event = {"name": "torchelastic.worker.status." + state, "source": "WORKER"}
        metadata = {"run_id": "r", "state": state, "metadata": '{"local_rank": [0]}'}
        fields = (event["name"], event["source"], ns(at + HOUR_S) // 1_000_000, metadata)
        world.engine.event(fields, world.moment(20), None)
    assert times(world.one(WORKER)) == (2 + HOUR_S, 10 + HOUR_S)


def test_launcher_has_not_ended_before_it_left_the_exit_barrier() -> None:
    """What is heard last may have lasted."""
    world = running()
    world.die(10, {0: 0, 1: 0})
    world.tell(f.ExitBarrier, 10, moment(310))
    world.engine.close(None)
    assert times(world.one(AGENT)) == (0, 310)
