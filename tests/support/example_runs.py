"""Runs what a document tells its reader to run, as the reader would: in a shell, in the project's folder."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.guard import assert_none_in

PROJECT = Path(__file__).parents[2]
TIMEOUT_S = 180.0


def run(
    command: str, *, env: Mapping[str, str] | None = None, cwd: Path = PROJECT
) -> subprocess.CompletedProcess[str]:
    """Run a shell command; of the environment only ``env`` has a say in telemetry and torchrun."""
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    process = subprocess.Popen(
        ["bash", "-euc", command],
        env={**kept, "PATH": path, "OMP_NUM_THREADS": "1", **(env or {})},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        pytest.fail(f"not ended in {TIMEOUT_S:g} s: {command}\n{out}\n{err}")
    assert_none_in(err)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


_TIMES = r"[\d.]+ s [\d.]+ s ━+"
DEMO_NODE_0 = [
    rf"node 0 on \S+, agent \d+ {_TIMES} succeeded",
    rf"rendezvous, round 0, as node 0 of 2 {_TIMES} succeeded",
    rf"workers, generation 1 {_TIMES} interrupted",
    rf"worker 0, pid \d+ {_TIMES} interrupted",
    rf"worker 1, pid \d+ {_TIMES} interrupted",
    rf"rendezvous, round 1, as node 0 of 2 {_TIMES} succeeded",
    rf"workers, generation 2 {_TIMES} succeeded",
    r"Workers restarted for a membership change "
    r"\(127\.0\.0\.1_\d+_0 of the last round asked to join again\): generation 2 runs after [\d.]+ s",
    rf"worker 0, pid \d+ {_TIMES} succeeded",
    rf"worker 1, pid \d+ {_TIMES} succeeded",
]
"""What the demonstration shows of its first node, line by line."""
DEMO_NODE_1 = [
    rf"node 1 on \S+, agent \d+ {_TIMES} succeeded",
    rf"rendezvous, round 0, as node 1 of 2 {_TIMES} succeeded",
    rf"workers, generation 1 {_TIMES} failed",
    rf"worker 2, pid \d+ {_TIMES} terminated",
    r"Worker 2 \(local rank 0, pid \d+\) on \S+ was stopped by its agent after another worker's death: "
    r"killed by SIGTERM",
    rf"worker 3, pid \d+ {_TIMES} failed",
    r"Worker 3 \(local rank 1, pid \d+\) on \S+ died of RuntimeError: the loss is NaN at step 5",
    rf"rendezvous, round 1, as node 1 of 2 {_TIMES} succeeded",
    rf"workers, generation 2 {_TIMES} succeeded",
    r"Workers restarted after a worker's failure: generation 2 runs after [\d.]+ s",
    rf"worker 2, pid \d+ {_TIMES} succeeded",
    rf"worker 3, pid \d+ {_TIMES} succeeded",
    r"node 0: succeeded after 1 restart node 1: succeeded after 1 restart "
    r"Workers ran \d+% of the time, not in: "
    r"(?:(?:worker failure|startup|membership change|shutdown) [\d.]+ s(?:, )?){3,}",
]


def tree_of(text: str) -> str:
    """Return the tree without its branches, line ends and paddings: where lines wrap depends on names."""
    return " ".join(re.sub("[│├└─]", " ", text[text.index("\nnode 0 ") :]).split())
