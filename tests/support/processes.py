"""Whether a process lives, asked of the system."""

from __future__ import annotations

import os
import select
from contextlib import suppress

import pytest

from tests.support.harness import TIMEOUT_S


def is_alive(pid: int) -> bool:
    """Whether a process runs: neither gone nor a zombie."""
    try:
        found = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        return not select.select([found], [], [], 0)[0]
    finally:
        os.close(found)


def wait_for_death(pid: int) -> None:
    """Wait until a process has ended, whether or not its parent has noticed."""
    with suppress(ProcessLookupError):
        found = os.pidfd_open(pid)
        try:
            if not select.select([found], [], [], TIMEOUT_S)[0]:
                pytest.fail(f"the process {pid} has not ended in {TIMEOUT_S:g} s")
        finally:
            os.close(found)
