"""Stores in a spool, and scripts in processes of their own that make them."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

from torchelastic_otel._delivery.spool import Destination, Spool, open_store

MANY_BYTES = 1 << 20
PLACES = {"logs": Destination("http://collector:4318/v1/logs", "f" * 64)}
PRELUDE = """
import os, sys
from pathlib import Path
from torchelastic_otel._delivery.spool import Spool, SpoolError, open_store, orphans
directory = Path(sys.argv[1])
"""
"""What every script begins with."""


def start_script(script: str, *arguments: object, within: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """Run ``script`` in a process of its own."""
    return subprocess.Popen(
        [*within, sys.executable, "-c", PRELUDE + textwrap.dedent(script), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def run_script(script: str, *arguments: object, within: tuple[str, ...] = ()) -> str:
    """Run ``script`` to its end, which is 0 or its own SIGKILL; return what it printed."""
    process = start_script(script, *arguments, within=within)
    out, _ = process.communicate(timeout=60)
    assert process.returncode in (0, -9)
    return out


def left_behind(directory: Path, *payloads: bytes, max_bytes: int = MANY_BYTES) -> Path:
    """Make a store that has no owner; return its path."""
    spool = Spool.create(directory, max_bytes, PLACES)
    spool.add("logs", 1, payloads, 1)
    spool.close()
    return spool.path


def reopened(path: Path) -> Spool:
    """Take over a store that nobody has."""
    spool = open_store(path)
    assert spool is not None
    return spool


def payloads(spool: Spool, signal: str = "logs") -> list[bytes]:
    """Return what is pending."""
    return [item.payload for item in spool.pending(signal, 0, 1_000_000)]


def names(directory: Path) -> set[str]:
    """Return what is in ``directory``."""
    return {path.name for path in directory.iterdir()}
