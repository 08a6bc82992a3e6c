"""What the model keeps does not grow with the length of a job, or the number of jobs."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterable

import pytest

from tests.support.job_player import AGENT, GROUP, RENDEZVOUS, WORKER
from tests.support.job_world import World
from torchelastic_otel._job import facts as f


def kept_objects() -> Counter[str]:
    """Count the package's own live objects by their class."""
    gc.collect()
    kinds = (type(thing) for thing in gc.get_objects())
    return Counter(
        kind.__qualname__ for kind in kinds if str(kind.__module__).startswith("torchelastic_otel")
    )


def test_ten_thousand_restarts_leave_nothing_behind() -> None:
    """State does not grow with the number of generations."""
    world = World(keep=False)
    world.start(0, max_restarts=100_000)

    def restart(times_: int) -> None:
        for _ in range(times_):
            world.tell(f.RendezvousStarted, 1)
            world.tell(f.RendezvousEnded, 1, rank=0, world_size=1)
            world.workers(2, 1)
            world.die(3, {0: 1})
            world.tell(f.RestartStarted, 3, "FAILED", [])

    restart(200)
    before = kept_objects()
    restart(9_800)
    assert not kept_objects() - before
    world.end(4, "FAILED")
    assert world.output.counts == {AGENT: 1, RENDEZVOUS: 10_000, GROUP: 10_000, WORKER: 10_000}


@pytest.mark.parametrize("hooked", [True, False])
def test_a_thousand_run_ids_leave_nothing_behind(hooked: bool) -> None:
    """State is bounded however many jobs never end; those that make room end their spans."""
    world = World(keep=False)

    def launch(ids: Iterable[int]) -> None:
        for number in ids:
            if hooked:
                world.start(number, run_id=f"run-{number}")
                world.attempt(number)
            else:
                world.run_id = f"run-{number}"
                world.worker_event(number, "START", 0)

    launch(range(200))
    before = kept_objects()
    launch(range(200, 1000))
    assert not kept_objects() - before
    assert 800 <= world.output.counts[AGENT] < 1000
    world.engine.close(None)
    assert world.output.counts[AGENT] == 1000
