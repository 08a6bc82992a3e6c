"""Who died first on a node: by the evidence's time, whatever the agent saw first."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.job_player import AGENT, GROUP, error_file, moment, ns
from tests.support.job_world import World, first_failure, running
from torchelastic_otel._job import facts as f
from torchelastic_otel._job.evidence import Interval, Source, first_of
from torchelastic_otel._runtime.clock import Moment

FAILURE = "torchelastic.failure"
GLOO = "RuntimeError: [gloo/transport/tcp/pair.cc:538] Connection closed by peer [127.0.0.1]:4711"


def firsts(world: World) -> list[Any]:
    """Return the rank that each failure record, then the group and the agent, name as the first."""
    holders = [record.attributes for record in world.told(FAILURE)]
    holders += [world.one(name).attributes for name in (GROUP, AGENT)]
    return [first_failure(holder).get("global_rank") for holder in holders]


def fail(
    world: World,
    dead: dict[int, tuple[int, f.WorkerError | None]],
    stopped: dict[int, tuple[int, f.WorkerError | None]],
    raised: dict[int, f.WorkerError] | None = None,
) -> None:
    """At second 10 the agent sees ``dead``; it begins to stop the others, and they have ended at 11."""
    exits = [world.exit(rank, code, error=error) for rank, (code, error) in dead.items()]
    world.tell(f.WorkersExited, 10, exits, None, moment(9.9), raised or {})
    world.tell(f.WorkersStopping, 10.001)
    rest = [world.exit(rank, code, error=error) for rank, (code, error) in stopped.items()]
    world.tell(f.WorkersStopped, 11, rest)
    world.tell(f.Monitored, 11, "FAILED")
    world.end(12, "FAILED")


def test_the_one_that_raised_first_is_first_though_its_process_ended_last() -> None:
    """The victim of a lost connection is dead sooner than the culprit, whom the agent then stops."""
    world = running()
    value_error = error_file("ValueError: loss is NaN", 9.2)
    fail(world, {0: (1, error_file(GLOO, 9.6))}, {1: (-15, value_error)}, {1: value_error})
    victim, culprit = world.told(FAILURE)
    assert firsts(world) == [1, 1, 1, 1]
    assert (culprit.time_ns, victim.time_ns) == (
        ns(9.2),
        ns(9.6),
    )  # as all nodes are read
    assert victim.attributes["torchelastic.failure.peer_lost"] is True
    assert "torchelastic.collateral" not in culprit.attributes
    assert culprit.attributes["torchelastic.failure.cause"] == "exception"
    assert culprit.attributes["error.type"] == "ValueError"
    assert culprit.severity == 17
    assert world.verdict()[1].startswith("The launcher ends: failed: Worker 1")
    assert "died of ValueError: loss is NaN" in world.verdict()[1]
    assert world.points("torchelastic.worker.failures", "error.type")["ValueError"] == 1


def test_a_worker_that_had_raised_before_the_stop_died_of_that() -> None:
    """Also if the agent saw the file only after it had stopped the worker."""
    world = running()
    fail(world, {0: (1, error_file(GLOO, 9.6))}, {1: (-15, error_file("ValueError: x", 9.2))})
    assert firsts(world)[1:] == [1, 1, 1]
    assert firsts(world)[0] is None  # nobody was named before that was known


def test_what_a_worker_raises_once_it_is_stopped_is_collateral() -> None:
    """A handler that raises on SIGTERM writes an error file, too."""
    world = running()
    fail(world, {0: (1, error_file("ValueError: x", 9.2))}, {1: (1, error_file("SystemExit: 143", 10.4))})
    _, stopped = world.told(FAILURE)
    assert stopped.attributes["torchelastic.collateral"] is True
    assert firsts(world) == [0, 0, 0, 0]


def test_where_all_have_lost_a_peer_nobody_is_named() -> None:
    """The cause is on another node, or a worker that hangs."""
    world = running()
    fail(world, {0: (1, error_file(GLOO, 9.6)), 1: (1, error_file(GLOO, 9.7))}, {})
    assert firsts(world) == [None, None, None, None]
    assert [first_failure(record.attributes) for record in world.told(FAILURE)] == [{}, {}]
    assert (
        "2 workers lost a peer, so the cause is on another node or a worker that hangs" in world.verdict()[1]
    )


def test_a_lost_peer_is_first_to_nobody_even_if_it_was_written_first() -> None:
    """An exit whose exception is not known explains it."""
    world = running()
    fail(world, {0: (1, error_file(GLOO, 9.1)), 1: (-11, None)}, {})
    assert firsts(world) == [1, 1, 1, 1]


def test_a_bare_exit_lies_between_two_looks() -> None:
    """A file written before the last look that saw the other alive was first, and one within it is a tie."""
    world = running()
    fail(world, {0: (1, error_file("ValueError: x", 9.5)), 1: (3, None)}, {})
    assert firsts(world) == [0, 0, 0, 0]
    world = running()
    fail(world, {0: (1, error_file("ValueError: x", 9.95)), 1: (3, None)}, {})
    assert list(first_failure(world.one(GROUP).attributes)["ties"]) == [0, 1]


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        (GLOO, True),
        ("RuntimeError: [gloo/pair.cc:1] Connection reset by peer", True),
        ("DistBackendError: NCCL error: remote process exited or there was a network error", True),
        (
            "torch.distributed.DistBackendError: watchdog caught collective operation timeout: WorkNCCL(…)",
            True,
        ),
        ("RuntimeError: Rank 0 failed, please check rank 0 logs for faulty rank", True),
        ("DistNetworkError: Broken pipe", True),
        ("ConnectionResetError: [Errno 104] Connection reset by peer", False),
        ("BrokenPipeError: [Errno 32] Broken pipe", False),
        ("requests.exceptions.ConnectionError: Connection reset by peer", False),
        ("RuntimeError: CUDA error: out of memory", False),
        ("RuntimeError: DataLoader timed out after 5 seconds", False),
        ("RuntimeError: upload failed: broken pipe", False),
    ],
)
def test_only_collectives_lose_peers(text: str, lost: bool) -> None:
    """A data set's server that closes its connection is a cause of its own."""
    world = running()
    fail(world, {0: (1, error_file(text, 9.5))}, {1: (-15, None)})
    record = world.told(FAILURE)[0]
    assert record.attributes.get("torchelastic.failure.peer_lost", False) is lost


def test_a_signal_to_the_launcher_makes_no_culprits() -> None:
    """It may have reached the workers at the same moment: nobody knows which raised because of it."""
    world = running()
    world.tell(f.StopRequested, 10, "SIGTERM")
    world.tell(f.WorkersStopping, 10.1)
    world.tell(f.WorkersStopped, 11, [world.exit(0, 1, error=error_file("RuntimeError: stop", 10.05))])
    assert world.told(FAILURE) == []


def test_after_a_signal_no_death_of_its_own_is_dropped() -> None:
    """One that had raised when another was seen dead is told and counted, though a signal comes next."""
    world = running(count=3)
    error = error_file("ValueError: x", 9.2)
    world.tell(f.WorkersExited, 10, [world.exit(0, 3)], None, moment(9.9), {1: error})
    world.tell(f.StopRequested, 10.5, "SIGTERM")
    world.tell(f.WorkersExited, 11, [world.exit(1, 1, error=error)])
    world.tell(f.WorkersStopped, 12, [world.exit(2, -9)])
    ranks = {record.attributes["torchelastic.global_rank"] for record in world.told(FAILURE)}
    assert ranks == {0, 1, 2}
    assert world.points("torchelastic.worker.failures", "error.type")["ValueError"] == 1
    assert {first_failure(record.attributes)["global_rank"] for record in world.told(FAILURE)} == {1}


def test_a_death_whose_end_nobody_saw_is_told_at_the_end() -> None:
    """The launcher ends before it could stop the worker that had raised."""
    world = running()
    error = error_file("ValueError: x", 9.2)
    world.tell(f.WorkersExited, 10, [world.exit(0, 1)], None, moment(9.9), {1: error})
    world.end(12, "FAILED")
    _, late = world.told(FAILURE)
    assert late.attributes["torchelastic.global_rank"] == 1
    assert world.by_rank()[1].outcome == "failed"
    assert firsts(world) == [1, 1, 1, 1]


def test_a_worker_that_had_raised_died_of_that_whatever_its_exit_code() -> None:
    """A handler may end it with 0 while it is stopped."""
    world = running()
    fail(world, {0: (1, None)}, {1: (0, None)}, {1: error_file("ValueError: x", 9.2)})
    _, raised = world.told(FAILURE)
    assert (raised.attributes["error.type"], raised.attributes["process.exit.code"]) == ("ValueError", 0)
    assert raised.body.endswith("died of ValueError: x")
    assert firsts(world) == [1, 1, 1, 1]


def test_a_clock_that_knows_whole_seconds_makes_no_culprit() -> None:
    """A file that a handler wrote after the stop may bear the second before it."""
    world = running()
    handler = error_file("SystemExit: 143", 10.4)
    rounded = f.WorkerError(handler.file, handler.json, ns(10))
    fail(world, {0: (1, error_file("ValueError: x", 9.5))}, {1: (1, rounded)})
    assert firsts(world) == [0, 0, 0, 0]
    assert world.told(FAILURE)[1].attributes["torchelastic.collateral"] is True


def test_a_clock_that_is_ahead_puts_nothing_off() -> None:
    """A file server's time does not fit the worker's own: its whole second counts."""
    world = running()
    error = error_file("ValueError: x", 9.5)
    fail(world, {0: (1, f.WorkerError(error.file, error.json, ns(3600.5))), 1: (3, None)}, {})
    assert list(first_failure(world.one(GROUP).attributes)["ties"]) == [0, 1]
    assert world.told(FAILURE)[0].time_ns == ns(9)


def test_who_was_told_first_is_not_doubted_by_a_tie() -> None:
    """A record that names one, and a later one that names two, would contradict each other."""
    world = running()
    world.tell(f.WorkersExited, 10, [world.exit(1, 1)], None, moment(9))
    world.tell(f.WorkersExited, 10.1, [world.exit(0, 1)], None, moment(9))
    world.end(12, "FAILED")
    assert firsts(world) == [1, 1, 1, 1]


def test_workers_stopped_for_a_membership_change_are_no_collateral() -> None:
    """One of them had lost a peer: the others are interrupted, as without it."""
    world = running()
    world.tell(f.RestartStarted, 10, "HEALTHY", ["m_7_0"])
    world.tell(f.WorkersStopping, 10.1)
    world.tell(f.WorkersStopped, 11, [world.exit(0, -15, error=error_file(GLOO, 9.6)), world.exit(1, -15)])
    (only,) = world.told(FAILURE)
    assert only.attributes["torchelastic.global_rank"] == 0
    world.join(12)
    world.workers(14)
    assert world.by_rank()[1].outcome == "interrupted"


class Death:
    """A death for the order alone."""

    def __init__(self, when: tuple[int, int], peer_lost: bool) -> None:
        early, late = Moment(min(when), 0), Moment(max(when), 0)
        self.when = Interval(early, late, late, Source.LOOKS)
        self.peer_lost = peer_lost


TIMES = st.tuples(st.integers(0, 99), st.integers(0, 99))


@given(st.lists(st.builds(Death, TIMES, st.booleans()), max_size=8))
def test_the_first_are_those_that_no_other_can_precede(deaths: list[Death]) -> None:
    """Each that is left out was certainly preceded by another; each named may have been the first."""
    first = first_of(deaths)
    own = [death for death in deaths if not death.peer_lost]
    assert all(death in own for death in first)
    assert bool(first) == bool(own)
    for death in own:
        preceded = any(other.when.latest <= death.when.earliest for other in own if other is not death)
        if death not in first:
            assert preceded
        elif death.when.earliest != death.when.latest:
            assert not any(other.when.latest < death.when.earliest for other in own)
