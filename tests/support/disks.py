"""Disks of a test's own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def own_mount(place: Path, size: str, then: str = "") -> tuple[str, ...]:
    """Return what to put before a command for it to have a small disk of its own at ``place``."""
    mount = f'mount -t tmpfs -o size={size} tmpfs "{place}"'
    within = ("unshare", "--map-root-user", "--mount", "sh", "-c")
    tried = (
        subprocess.run([*within, mount], capture_output=True, check=False)
        if shutil.which("unshare")
        else None
    )
    if tried is None or tried.returncode:
        pytest.skip("cannot mount here")
    return (*within, f'{mount} && {then or ":"} && exec "$@"', "sh")
