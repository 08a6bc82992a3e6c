"""Which workers get a recorder, and what is left of those of earlier generations."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from torchelastic_otel._worker.launching import Memories, may_be_python


@pytest.mark.parametrize(
    ("command", "arguments", "expected"),
    [
        (sys.executable, ("-u", "train.py"), True),
        ("python3.12", (), True),
        ("numactl", ("--cpunodebind=0", "/usr/bin/python3", "train.py"), True),
        ("/bin/ls", ("-l",), False),
        ("no-such-program", (), False),
        ("SCRIPT", (), True),
    ],
)
def test_commands_known_not_to_be_python_get_nothing(
    tmp_path: Path, command: str, arguments: tuple[str, ...], expected: bool
) -> None:
    """A script may be one in Python, or one that starts Python."""
    if command == "SCRIPT":
        script = tmp_path / "train.sh"
        script.write_text("#!/bin/sh\nexec python3 train.py\n")
        command = str(script)
    assert may_be_python(command, arguments) is expected


def test_a_generation_gives_back_all_that_it_took() -> None:
    """One descriptor for each worker, until it is over."""
    before = set(os.listdir("/proc/self/fd"))
    with Memories(range(3)) as memories:
        assert len(set(os.listdir("/proc/self/fd")) - before) == 3
        assert memories.of(2) is not None
        assert memories.of(3) is None
    assert set(os.listdir("/proc/self/fd")) == before
