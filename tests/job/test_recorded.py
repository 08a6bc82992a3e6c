"""Deaths by what a worker's recorder left: exceptions that nobody decorated, crashes, last words."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.job_player import STATUS, error_file, moment, ns
from tests.support.job_world import World, first_failure, running
from torchelastic_otel._job import facts as f

FAILURE = "torchelastic.failure"
GLOO = "[gloo/transport/tcp/pair.cc:538] Connection closed by peer [127.0.0.1]:4711"
CRASH = """Fatal Python error: Segmentation fault

Thread 0x00007f63ffa0cb81 (most recent call first):
  File "/app/data.py", line 41 in load_batch

Current thread 0x00007f63ffa0cb80 (most recent call first):
  File "/app/train.py", line 88 in step
  File "/app/train.py", line 90 in <module>
"""


def raised(at: float, kind: str = "ValueError", message: str = "loss is NaN", **more: Any) -> f.Recorded:
    """Return what a recorder leaves of an exception."""
    stack = f"Traceback (most recent call last):\n{kind}: {message}\n"
    return f.Recorded(kind, message, stack, moment(at), **more)


def fail(
    world: World,
    dead: dict[int, tuple[int, f.Recorded | None]],
    stopped: dict[int, tuple[int, f.Recorded | None]] | None = None,
    running: dict[int, f.Recorded] | None = None,
) -> None:
    """At second 10 the agent sees ``dead``; it begins to stop the others, and they have ended at 11."""
    exits = [world.exit(rank, code, recorded=left) for rank, (code, left) in dead.items()]
    world.tell(f.WorkersExited, 10, exits, None, moment(9.9), {}, running or {})
    world.tell(f.WorkersStopping, 10.001)
    rest = [world.exit(rank, code, recorded=left) for rank, (code, left) in (stopped or {}).items()]
    world.tell(f.WorkersStopped, 11, rest)
    world.tell(f.Monitored, 11, "FAILED")
    for rank, (code, _) in {**dead, **(stopped or {})}.items():
        world.worker_event(11, "FAILED", rank, code)
    world.end(12, "FAILED")


def test_an_exception_without_record_is_the_cause() -> None:
    """On the record, in the sentence, and on torch's own event, which knows an exit code alone."""
    world = running()
    fail(world, {1: (1, raised(9.2))}, {0: (-15, None)})
    culprit, _ = world.told(FAILURE)
    known = culprit.attributes
    assert known["torchelastic.failure.cause"] == "exception"
    assert (known["exception.type"], known["error.type"]) == ("ValueError", "ValueError")
    assert known["exception.message"] == "loss is NaN"
    assert str(known["exception.stacktrace"]).startswith("Traceback")
    assert culprit.time_ns == ns(9.2)
    assert "died of ValueError: loss is NaN" in world.verdict()[1]
    torchs = {
        record.attributes["torchelastic.local_rank"]: record for record in world.told(STATUS + "FAILED")
    }
    assert torchs[1].body == culprit.body
    assert torchs[1].attributes["error.type"] == "ValueError"
    assert torchs[1].attributes["exception.message"] == "loss is NaN"
    assert world.points("torchelastic.worker.failures", "error.type")["ValueError"] == 1


def test_nanoseconds_tell_who_was_first() -> None:
    """Two deaths in one look, half a millisecond apart."""
    world = running()
    fail(world, {0: (1, raised(9.5005, "KeyError", "a")), 1: (1, raised(9.5, "KeyError", "b"))})
    assert first_failure(world.told(FAILURE)[0].attributes)["global_rank"] == 1


def test_the_culprit_that_still_runs_is_first() -> None:
    """It tears down what its exception has left behind, while its victim is dead already."""
    world = running()
    victim = raised(9.6, "RuntimeError", GLOO)
    fail(world, {0: (1, victim)}, {1: (-15, raised(9.2))}, {1: raised(9.2)})
    lost, culprit = world.told(FAILURE)
    assert lost.attributes["torchelastic.failure.peer_lost"] is True
    assert culprit.attributes["exception.type"] == "ValueError"
    assert "torchelastic.collateral" not in culprit.attributes
    assert first_failure(lost.attributes)["global_rank"] == 1
    assert world.verdict()[1].startswith("The launcher ends: failed: Worker 1")


def test_what_is_raised_once_the_agent_stops_workers_is_collateral() -> None:
    """A handler that raises on SIGTERM."""
    world = running()
    fail(world, {0: (1, raised(9.2))}, {1: (1, raised(10.5, "Interrupted", "SIGTERM"))})
    _, stopped = world.told(FAILURE)
    assert stopped.attributes["torchelastic.collateral"] is True
    assert first_failure(stopped.attributes)["global_rank"] == 0


def test_each_record_has_one_exception_where_torchs_error_file_exists_too() -> None:
    """The recorder saw what ended the program; the file may be of one that was caught."""
    world = running()
    exit_ = world.exit(1, 1, error=error_file("KeyError: caught", 9.1), recorded=raised(9.4))
    world.tell(f.WorkersExited, 10, [exit_], None, moment(9.9))
    (record,) = world.told(FAILURE)
    assert record.attributes["exception.type"] == "ValueError"
    assert record.attributes["exception.message"] == "loss is NaN"
    assert record.attributes["torchelastic.failure.error_file"]


@pytest.mark.parametrize(
    ("written", "seen", "first"),
    [(9.2, 9.2001, 0), (9.4, 9.4001, 1)],
)
def test_a_file_and_a_recorder_are_compared_by_the_earlier_of_both(
    written: float, seen: float, first: int
) -> None:
    """``@record`` writes before the recorder sees the exception: that is the bound from below."""
    world = running()
    decorated = world.exit(
        0, 1, error=error_file("ValueError: x", written), recorded=raised(seen, message="x")
    )
    other = world.exit(1, 1, recorded=raised(9.3, "KeyError", "y"))
    world.tell(f.WorkersExited, 10, [decorated, other], None, moment(9.9))
    assert first_failure(world.told(FAILURE)[0].attributes)["global_rank"] == first


def test_a_crash_has_the_stacks_and_its_place() -> None:
    """Of all threads; the verdict names the one that crashed."""
    world = running()
    fail(world, {1: (-11, f.Recorded(crash=CRASH))})
    (record,) = world.told(FAILURE)
    assert record.attributes["torchelastic.failure.cause"] == "signal"
    assert record.attributes["torchelastic.failure.stacks"] == CRASH
    assert record.attributes["torchelastic.failure.crashed_in"] == "step (train.py:88)"
    assert "died: killed by SIGSEGV in step (train.py:88)" in world.verdict()[1]


def test_stacks_of_a_crash_that_was_survived_are_not_told() -> None:
    """A handler of the program's own may have saved it."""
    world = running()
    fail(world, {1: (3, f.Recorded(crash=CRASH))})
    (record,) = world.told(FAILURE)
    assert "torchelastic.failure.stacks" not in record.attributes
    assert record.body.endswith("died: exit code 3")


def test_an_exception_of_a_thread_is_an_attribute_and_no_cause() -> None:
    """The process went on, and ended of something else."""
    world = running()
    fail(world, {1: (3, f.Recorded(thread_exception="Exception in thread reader:\nKeyError: 1\n"))})
    (record,) = world.told(FAILURE)
    text = str(record.attributes["torchelastic.failure.thread_exception"])
    assert text.startswith("Exception in thread reader")
    assert record.attributes["torchelastic.failure.cause"] == "exit"
    assert "exception.type" not in record.attributes


def test_the_last_words_are_told_of_an_exit_that_nothing_else_explains() -> None:
    """What ``sys.exit("…")`` says stands on standard error alone."""
    world = running()
    fail(world, {1: (1, f.Recorded(stderr_tail="reading\nno config file\n"))})
    (record,) = world.told(FAILURE)
    assert record.attributes["torchelastic.failure.stderr_tail"] == "reading\nno config file\n"
    assert record.body.endswith("died: exit code 1 (last line of standard error: no config file)")


@pytest.mark.parametrize(
    ("when", "then"),
    [((9.2, 9.3), "first: worker 0"), ((9.2, 9.2), "none of them is known as the first")],
)
def test_workers_that_died_of_one_error_are_counted(when: tuple[float, float], then: str) -> None:
    """And not listed."""
    world = running()
    fail(world, {rank: (1, raised(at)) for rank, at in enumerate(when)})
    assert f"failed: 2 workers died of ValueError: loss is NaN; {then}" in world.verdict()[1]


def test_others_than_the_first_are_not_counted_with_it() -> None:
    """The first of them is told, as ever."""
    world = running()
    fail(world, {0: (1, raised(9.3)), 1: (1, raised(9.2, message="other"))})
    assert "failed: Worker 1" in world.verdict()[1]


def test_a_verdict_is_left_where_the_platform_shows_it() -> None:
    """Once, and only of a job that failed."""
    world = running()
    fail(world, {1: (1, raised(9.2))})
    (left,) = world.output.left
    assert left.startswith("failed: Worker 1")
    world = running()
    world.succeed(10)
    assert world.output.left == []
