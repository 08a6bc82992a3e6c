"""The recorders of a job's workers, as its agent handles them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from torchelastic_otel._job import facts as f
from torchelastic_otel._torch.recorders import Recorders
from torchelastic_otel._worker import evidence_file

ARGUMENTS: dict[int, tuple[Any, ...]] = {0: ("-c", "raise ValueError('x')"), 1: ("-c", "pass")}
ENVS: dict[int, dict[str, str]] = {0: {"RANK": "0"}, 1: {"RANK": "1"}}


def run(recorders: Recorders, rank: int = 0) -> f.WorkerExit:
    """Run a worker of a new generation to its end."""
    added = recorders.environments(sys.executable, ARGUMENTS, ENVS)
    env = {**os.environ, **ENVS[rank], **added.get(rank, {})}
    command = [sys.executable, *ARGUMENTS[rank]]
    done = subprocess.run(command, env=env, stderr=subprocess.DEVNULL, check=False)
    return recorders.with_evidence(f.WorkerExit(rank, done.returncode))


def test_what_a_worker_dies_of_is_read_when_it_has_ended() -> None:
    """A worker that ended well left nothing."""
    recorders = Recorders()
    died = run(recorders).recorded
    assert died is not None
    assert (died.type, died.message) == ("ValueError", "x")
    assert run(recorders, 1).recorded is None
    recorders.close()


def test_nothing_is_left_of_the_generation_before() -> None:
    """Its memory is gone with it."""
    recorders = Recorders()
    assert run(recorders).recorded is not None
    recorders.environments(sys.executable, ARGUMENTS, ENVS)
    assert recorders.with_evidence(f.WorkerExit(0, 1)).recorded is None
    recorders.close()
    assert recorders.with_evidence(f.WorkerExit(0, 1)).recorded is None


def test_only_who_has_raised_and_runs_is_among_those() -> None:
    """By local rank."""
    recorders = Recorders()
    run(recorders)
    assert recorders.of_running({0: None, 1: None}).keys() == {0}
    assert recorders.of_running({0: 1, 1: None}) == {}
    recorders.close()


@pytest.mark.parametrize("variable", [("TORCHELASTIC_OTEL_WORKER", "off"), ("OTEL_SDK_DISABLED", "true")])
def test_without_a_recorder_nothing_is_added_to_a_worker(
    monkeypatch: pytest.MonkeyPatch, variable: tuple[str, str]
) -> None:
    """The worker starts as it would without the bridge."""
    monkeypatch.setenv(*variable)
    recorders = Recorders()
    assert recorders.environments(sys.executable, ARGUMENTS, ENVS) == {}
    assert run(recorders).recorded is None


@pytest.mark.parametrize("command", ["/bin/ls", print], ids=["no Python", "function"])
def test_what_cannot_have_a_recorder_gets_none(command: object) -> None:
    """Neither variables nor memory."""
    assert Recorders().environments(command, {0: ("-l",)}, {0: {}}) == {}


def test_without_room_the_workers_start_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """Said once, by the system's reason."""

    def full() -> int:
        raise OSError(28, "No space left on device")

    said: list[str] = []
    monkeypatch.setattr(evidence_file, "make", full)
    monkeypatch.setattr("torchelastic_otel._torch.recorders.say_once", lambda _, text: said.append(text))
    assert Recorders().environments(sys.executable, ARGUMENTS, ENVS) == {}
    assert "No space left on device" in said[0]


def test_the_end_of_standard_error_is_read_where_it_is_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whole lines, as many as fit; nothing of a device, of a worker that ended well, or if that is off."""
    log = tmp_path / "stderr.log"
    log.write_text("".join(f"line {number}\n" for number in range(100)))
    monkeypatch.setenv("TORCHELASTIC_OTEL_STDERR", "20")
    recorders = Recorders()

    def tail(code: int, path: object) -> str:
        recorded = recorders.with_evidence(f.WorkerExit(0, code, stderr=str(path))).recorded
        return "" if recorded is None else recorded.stderr_tail

    assert tail(1, log) == "line 98\nline 99\n"
    assert tail(0, log) == ""
    assert tail(1, "/dev/null") == ""
    assert tail(1, tmp_path / "missing") == ""
    log.write_text("one line only, and without an end")
    assert tail(1, log) == log.read_text()[-20:]
    monkeypatch.setenv("TORCHELASTIC_OTEL_STDERR", "off")
    recorders = Recorders()
    assert tail(1, log) == ""
