"""A Python process of its own, with the package at hand."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import torchelastic_otel
from tests.support.guard import assert_none_in

SOURCES = str(Path(torchelastic_otel.__file__).parents[1])


def run(script: str, *argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a fresh interpreter, with ``LOGLEVEL`` unset unless given."""
    base = {key: value for key, value in os.environ.items() if key not in ("LOGLEVEL", "PYTHONPATH")}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *argv],
        env=base | {"PYTHONPATH": SOURCES} | env,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert_none_in(done.stderr)
    return done
