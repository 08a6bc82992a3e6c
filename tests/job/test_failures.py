"""A worker's death: one record that says who, of what, and where to read on."""

from __future__ import annotations

import pytest

from tests.support.job_player import WORKER, error_file, ns
from tests.support.job_world import first_failure, running, times
from torchelastic_otel._job import facts as f
from torchelastic_otel._job.event import ERROR


def test_failure_record() -> None:
    """One for the culprit, at the time it was seen: who, of what, where to read on."""
    world = running()
    exit_ = world.exit(
        1, 3, stdout="/logs/1/out", stderr="/logs/1/err", error=error_file("ValueError: x\ny", 9)
    )
    world.tell(f.WorkersExited, 10, [exit_])
    (record,) = world.told("torchelastic.failure")
    assert (
        record.attributes.items()
        >= {
            "torchelastic.run_id": "r",
            "torchelastic.round": 0,
            "torchelastic.generation": 1,
            "torchelastic.global_rank": 1,
            "torchelastic.local_rank": 1,
            "torchelastic.worker_id": str(world.pids[1]),
            "torchelastic.role": "default",
            "torchelastic.failure.cause": "exception",
            "torchelastic.failure.stdout": "/logs/1/out",
            "torchelastic.failure.stderr": "/logs/1/err",
            "torchelastic.failure.error_file": "/tmp/errors/0/error.json",
            "process.exit.code": 3,
            "error.type": "ValueError",
            "exception.type": "ValueError",
            "exception.message": "x\ny",
            "exception.stacktrace": "Traceback …",
        }.items()
    )
    assert "torchelastic.collateral" not in record.attributes
    assert "torchelastic.worker.signal" not in record.attributes
    assert "torchelastic.hostname" in record.attributes
    assert (record.severity, record.time_ns) == (ERROR, ns(9))
    assert first_failure(record.attributes)["global_rank"] == 1
    world.die(10, {})
    world.end(12, "FAILED")
    culprit = next(s for s in world.all(WORKER) if s.attributes["torchelastic.local_rank"] == 1)
    assert record.span_id == culprit.context.span_id


def test_death_is_told_once() -> None:
    """What the agent sees again, when it closes what has failed, is no second death."""
    world = running()
    world.tell(f.WorkersExited, 10, [world.exit(1, 3)])
    world.tell(f.WorkersExited, 11, [world.exit(1, 3)])
    world.tell(f.WorkersStopped, 12, [world.exit(1, 3), world.exit(0, -15)])
    told = [record.attributes["torchelastic.global_rank"] for record in world.told("torchelastic.failure")]
    assert told == [1, 0]
    world.end(13, "FAILED")
    spans = world.by_rank()
    assert times(spans[1]) == (2, 10)


@pytest.mark.parametrize(
    ("code", "cause", "signal", "error_type"),
    [(7, "exit", None, "7"), (-11, "signal", "SIGSEGV", "SIGSEGV"), (-9, "signal", "SIGKILL", "SIGKILL")],
)
def test_cause_of_a_death(code: int, cause: str, signal: str | None, error_type: str) -> None:
    """Without an error file, the exit code or the signal is all that is known, and no more is said."""
    world = running()
    world.die(10, {0: code}, stopped={1: -15})
    record = world.told("torchelastic.failure")[0]
    assert record.attributes["torchelastic.failure.cause"] == cause
    assert record.attributes.get("torchelastic.worker.signal") == signal
    assert record.attributes["error.type"] == error_type
    assert not {key for key in record.attributes if key.startswith("exception.")}
    assert not {key for key in record.attributes if key.startswith("torchelastic.failure.std")}


@pytest.mark.parametrize(
    ("code", "oom_kills", "told"),
    [(-9, 2, True), (-9, 0, False), (-9, None, None), (-15, 2, None), (1, 2, None)],
)
def test_out_of_memory_kill(code: int, oom_kills: int | None, told: bool | None) -> None:
    """Told for SIGKILL alone, and only where the cgroup counts."""
    world = running()
    world.die(10, {0: code}, oom_kills=oom_kills)
    (record,) = world.told("torchelastic.failure")
    assert record.attributes.get("torchelastic.failure.oom_kill") is told
    assert ("out-of-memory" in record.body) is (told is True)


def test_devnull_is_no_place_to_read_on() -> None:
    """Output that goes nowhere is not named."""
    world = running()
    world.tell(f.WorkersExited, 10, [world.exit(0, 1, stdout="/dev/null", stderr="/dev/null")])
    (record,) = world.told("torchelastic.failure")
    assert not {key for key in record.attributes if key.startswith("torchelastic.failure.std")}


def test_worker_that_succeeded_beside_a_failure() -> None:
    """Its own outcome stands, and nothing is said to be collateral."""
    world = running()
    world.die(10, {0: 0, 1: 1})
    world.end(12, "FAILED")
    spans = world.by_rank()
    assert spans[0].outcome == "succeeded"
    assert len(world.told("torchelastic.failure")) == 1
