"""Programs whose threads gevent has replaced: they end, and their telemetry arrives."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from otlp_receiver import OtlpReceiver
from tests.support.harness import TIMEOUT_S, Protocol, otlp
from tests.support.launching import LAUNCH, OF_A_JOB, ONE_JOB
from tests.support.recording import RECORD, environment_of
from torchelastic_otel import _contract as c

pytest.importorskip("gevent")
pytestmark = pytest.mark.e2e

PATCH = "from gevent import monkey; monkey.patch_all()"
IMPORT = "import torchelastic_otel"
ORDERS = {"before ours": f"{PATCH}\n{IMPORT}\n", "after ours": f"{IMPORT}\n{PATCH}\n"}

SPAWNING = LAUNCH.replace('"fork"', '"spawn"')
LAUNCHES = """
if __name__ == "__main__":
    torchelastic_otel.instrument()
    print(launch("otel"))
"""


def run(path: Path, source: str, receiver: OtlpReceiver, protocol: Protocol) -> str:
    """Run a program to its end; return what it printed."""
    path.write_text(source)
    done: subprocess.CompletedProcess[str] = subprocess.run(
        [sys.executable, str(path)],
        env=environment_of(otlp(receiver, protocol)),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "internal error" not in done.stderr
    return done.stdout


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize("order", ORDERS)
def test_a_program_with_events_ends(
    tmp_path: Path, receiver: OtlpReceiver, order: str, protocol: Protocol
) -> None:
    """All three signals arrive, whichever is imported first."""
    run(tmp_path / "main.py", f"{ORDERS[order]}{RECORD}\nrecord(1)\n", receiver, protocol)
    assert (len(receiver.spans), len(receiver.logs)) == (1, 1)
    assert receiver.metrics


@pytest.mark.parametrize("order", ORDERS)
def test_a_launcher_ends(tmp_path: Path, receiver: OtlpReceiver, order: str) -> None:
    """A program that launches by itself tells as much of its job as any other.

    Torch is imported after the patch: it does not survive one that comes later.
    """
    source = f"{ORDERS[order]}{SPAWNING}{LAUNCHES}"
    printed = run(tmp_path / "main.py", source, receiver, "http/protobuf")
    names = [span.name for span in receiver.spans]
    assert {name: names.count(name) for name in names} == ONE_JOB
    assert {record.event_name for record in receiver.logs} >= OF_A_JOB
    (worker,) = [span for span in receiver.spans if span.name == c.SPAN_WORKER]
    assert worker.span_id in printed
