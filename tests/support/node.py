"""A machine on which processes record events, and are ended in all ways there are."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

from otlp_receiver import OtlpReceiver
from tests.support.guard import assert_none_in
from tests.support.harness import MEASURED
from torchelastic_otel._delivery.spool import orphans

SOURCES = str(Path(__file__).parents[2] / "src")
DEAD = "http://127.0.0.1:9"
TIMEOUT_S = 60.0
_KEPT_NAMES = ("HOME", "LANG", "PATH", "TMPDIR", *MEASURED)
KEPT = {name: os.environ[name] for name in _KEPT_NAMES if name in os.environ}
MANY = """
for number in range(300):
    record(f"e{number}")
"""
ALL = {f"e{number}": 1 for number in range(300)}
"""What arrives of ``MANY``."""
HEAD = """
import os, signal, sys
from torchelastic_otel import events, flush
from torchelastic_otel._intake.lifecycle import bridge

def record(name, **metadata):
    events.record(events.Event(name, events.EventSource.WORKER, metadata=metadata), "otel")

def hear():
    # Everything recorded so far has left the process.
    bridge().secure(30)
    print("ready", flush=True)
    sys.stdin.readline()
"""


class Node:
    """A machine with a spool, on which processes record events."""

    def __init__(self, spool: Path) -> None:
        self.spool = spool

    def environment(self, endpoint: str, **env: str) -> dict[str, str]:
        """Return the environment of a process that sends to ``endpoint``."""
        return {
            **KEPT,
            "PYTHONPATH": SOURCES,
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_BLRP_SCHEDULE_DELAY": "50",
            "TORCHELASTIC_OTEL_SPOOL_DIR": str(self.spool),
            **env,
        }

    def start(self, script: str, endpoint: str, **env: str) -> subprocess.Popen[str]:
        """Start a script."""
        return subprocess.Popen(
            [sys.executable, "-c", HEAD + textwrap.dedent(script)],
            env=self.environment(endpoint, **env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, script: str, endpoint: str, **env: str) -> tuple[int, str]:
        """Run a script to its end; return its exit code and standard error."""
        process = self.start(script, endpoint, **env)
        _, err = process.communicate(timeout=TIMEOUT_S)
        assert_none_in(err)
        return process.returncode, err

    def command(self, *arguments: str, endpoint: str = DEAD, **env: str) -> tuple[int, str]:
        """Run ``torchelastic-otel``; return its exit code and what it said."""
        done = subprocess.run(
            [sys.executable, "-m", "torchelastic_otel.cli", *arguments],
            env=self.environment(endpoint, **env),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert_none_in(done.stderr)
        return done.returncode, done.stdout + done.stderr

    def left(self) -> Counter[str]:
        """Count what no living process owns in the spool, by signal."""
        found: Counter[str] = Counter()
        if self.spool.exists():
            for store in orphans(self.spool):
                found.update(store.counts())
                store.close()
        return found

    def files(self) -> list[str]:
        """Return the names of what is in the spool."""
        return sorted(path.name for path in self.spool.iterdir()) if self.spool.exists() else []


def heard(process: subprocess.Popen[str]) -> None:
    """Wait until the script is where it calls ``hear``."""
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


def go_on(process: subprocess.Popen[str]) -> None:
    """Let the script go on from where it called ``hear``."""
    assert process.stdin is not None
    process.stdin.write("go on\n")
    process.stdin.flush()


def names(receiver: OtlpReceiver) -> Counter[str]:
    """Count the records that arrived by their names."""
    return Counter(record.event_name for record in receiver.logs)
