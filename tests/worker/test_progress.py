"""Steps and checkpoints of a worker: real interpreters, with torch's own optimizers and checkpoints."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path

from torchelastic_otel._worker import evidence_file as file
from torchelastic_otel._worker.launching import Memories


@dataclass(frozen=True, slots=True)
class Left:
    """What a worker left of its progress."""

    steps: int
    numbered: int
    checkpoint: tuple[int, int] | None
    checkpoint_steps: int


def run(source: str, directory: Path) -> Left:
    """Run a program as a worker that has a recorder."""
    with Memories([0]) as memories:
        env = {**os.environ, **memories.environment(0, os.environ)}
        command = [sys.executable, "-c", textwrap.dedent(source)]
        subprocess.run(command, env=env, cwd=directory, check=True)
        memory = memories.of(0)
        assert memory is not None
        return Left(
            file.read_number(memory, file.STEPS),
            file.read_number(memory, file.NUMBERED),
            file.read_moment(memory, file.CHECKPOINT),
            file.read_number(memory, file.CHECKPOINT_STEPS),
        )


OPTIMIZERS = """
    import torch
    import torch.distributed.checkpoint as dcp
    weights = [torch.nn.Parameter(torch.zeros(2)) for _ in range(2)]
    first, second = (torch.optim.SGD([weight], lr=0.1) for weight in weights)
    def step(optimizer, times):
        for _ in range(times):
            for weight in weights:
                weight.grad = torch.ones(2)
            optimizer.step()
"""


def test_steps_of_optimizers_are_counted_and_checkpoints_seen(tmp_path: Path) -> None:
    """Two optimizers of one training are one count; a checkpoint knows how far it was."""
    before = (time.monotonic_ns(), time.time_ns())
    left = run(
        OPTIMIZERS
        + """
    step(first, 4)
    step(second, 3)
    dcp.save({"weight": weights[0]}, checkpoint_id="saved", no_dist=True)
    step(first, 2)
    """,
        tmp_path,
    )
    assert (left.steps, left.numbered, left.checkpoint_steps) == (6, 0, 4)
    assert left.checkpoint is not None
    assert before[0] < left.checkpoint[0] < time.monotonic_ns()
    assert before[1] < left.checkpoint[1] < time.time_ns()


def test_a_checkpoint_that_fails_is_none(tmp_path: Path) -> None:
    """It raises what it would raise."""
    (tmp_path / "saved").write_text("in the way")
    left = run(
        OPTIMIZERS
        + """
    step(first, 4)
    try:
        dcp.save({"weight": weights[0]}, checkpoint_id="saved", no_dist=True)
    except BaseException:
        pass
    else:
        raise SystemExit("it was saved")
    """,
        tmp_path,
    )
    assert (left.steps, left.checkpoint) == (4, None)


def test_a_program_gives_its_own_numbers(tmp_path: Path) -> None:
    """They count instead, and without torch."""
    left = run(
        """
        import sys, torchelastic_otel
        for number in range(100, 141):
            torchelastic_otel.step(number)
        torchelastic_otel.checkpoint(130)
        assert "torch" not in sys.modules
        """,
        tmp_path,
    )
    assert (left.steps, left.numbered, left.checkpoint_steps) == (140, 1, 130)
    assert left.checkpoint


def test_a_forked_child_counts_for_nobody(tmp_path: Path) -> None:
    """It is no worker."""
    left = run(
        """
        import os, torchelastic_otel
        torchelastic_otel.step(3)
        if not os.fork():
            torchelastic_otel.step(9)
            os._exit(0)
        os.wait()
        """,
        tmp_path,
    )
    assert left.steps == 3


def test_outside_of_a_job_steps_and_checkpoints_are_nothing() -> None:
    """Both can stand in any program."""
    import torchelastic_otel

    torchelastic_otel.step(1)
    torchelastic_otel.checkpoint()
    torchelastic_otel.checkpoint(1)


def test_an_asynchronous_checkpoint_has_the_steps_of_its_beginning(tmp_path: Path) -> None:
    """It is complete when its future is."""
    left = run(
        OPTIMIZERS
        + """
    import os
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="0", RANK="0", WORLD_SIZE="1")
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    step(first, 4)
    future = dcp.async_save({"weight": weights[0]}, checkpoint_id="saved")
    step(first, 2)
    getattr(future, "upload_completion", future).result()
    torch.distributed.destroy_process_group()
    """,
        tmp_path,
    )
    assert (left.steps, left.checkpoint_steps) == (6, 4)
