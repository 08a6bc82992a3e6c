"""What a restart, or a failed end, costs in work: all since the last checkpoint that is known."""

from __future__ import annotations

from typing import Any

from tests.support.job_player import GROUP, moment
from tests.support.job_world import World, running
from torchelastic_otel._job import facts as f

TIME, STEPS = "torchelastic.lost.time", "torchelastic.lost.steps"
RESTART = "torchelastic.restart"


def at(steps: int, saved: float = 0, saved_steps: int = 0, *, numbered: bool = False) -> f.Recorded:
    """Return what a recorder leaves of so many steps, and of a checkpoint at second ``saved``."""
    progress = f.Progress(steps, numbered, moment(saved) if saved else None, saved_steps)
    return f.Recorded("ValueError", "x", "", progress=progress)


def fail(world: World, when: float, dead: f.Recorded, stopped: f.Recorded) -> None:
    """One of two workers dies, and the other is stopped."""
    world.tell(f.WorkersExited, when, [world.exit(1, 1, recorded=dead)], None, moment(when - 0.1))
    world.tell(f.WorkersStopping, when)
    world.tell(f.WorkersStopped, when + 1, [world.exit(0, -15, recorded=stopped)])
    world.tell(f.WorkersStopped, when + 1, [])  # torch closes the processes once more before it restarts
    world.tell(f.Monitored, when + 1, "FAILED")


def lost(holder: Any) -> tuple[Any, Any]:
    """Return what is told to be lost."""
    return holder.attributes.get(TIME), holder.attributes.get(STEPS)


def test_a_restart_tells_what_is_done_again() -> None:
    """Seconds and steps since the checkpoint, on record, group and metric; the furthest worker counts."""
    world = running()
    fail(world, 10, at(57, 6, 40), at(56, 5.9, 40))
    world.restart(11)
    (record,) = world.told(RESTART)
    assert lost(record) == (4, 17)
    assert record.body.endswith("; 4.0 s and 17 steps of work lost since the last checkpoint")
    world.succeed(20)
    world.settle()
    assert lost(world.all(GROUP)[0]) == (4, 17)
    assert lost(world.all(GROUP)[1]) == (None, None)
    assert world.points(TIME, "torchelastic.restart.cause")["worker_failure"] == 4


def test_a_failed_end_tells_it_too() -> None:
    """In the verdict."""
    world = running()
    fail(world, 10, at(57, 6, 40), at(56, 5.9, 40))
    world.end(12, "FAILED")
    stop, sentence = world.verdict()
    assert sentence.endswith("; 4.0 s and 17 steps of work lost since the last checkpoint")
    (record,) = world.told("torchelastic.agent.stop")
    assert lost(record) == (4, 17)
    assert stop


def test_without_a_known_checkpoint_nothing_is_told() -> None:
    """Nobody knows whether there are any."""
    world = running()
    fail(world, 10, at(57), at(56))
    world.restart(11)
    assert lost(world.told(RESTART)[0]) == (None, None)
    assert world.points(TIME, "torchelastic.restart.cause")["worker_failure"] == 0


def test_a_generation_without_a_checkpoint_of_its_own_has_lost_all_that_it_did() -> None:
    """Since its workers began: what went before had been lost then."""
    world = running()
    fail(world, 10, at(57, 6, 40), at(57, 6, 40))
    world.restart(11)
    fail(world, 20, at(5), at(5))
    world.restart(21)
    assert lost(world.told(RESTART)[1]) == (6, 5)


def test_numbers_that_the_program_gives_go_on() -> None:
    """A count begins anew with each process."""
    world = running()
    fail(world, 10, at(57, 6, 40, numbered=True), at(57, 6, 40, numbered=True))
    world.restart(11)
    fail(world, 20, at(45, numbered=True), at(44, numbered=True))
    world.restart(21)
    assert lost(world.told(RESTART)[1]) == (6, 5)


def test_time_is_told_where_no_step_is_counted() -> None:
    """A program without an optimizer of torch's."""
    world = running()
    fail(world, 10, at(0, 6), at(0, 6))
    world.restart(11)
    assert lost(world.told(RESTART)[0]) == (4, None)
