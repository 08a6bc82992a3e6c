"""What becomes of events that come faster than anybody can send them, and what it costs.

Each program records to a receiver that takes all, and ends with the default exit timeout, or is killed. Each
event is then delivered, kept in the spool, or lost.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "examples")]

from tests.support.floods import killed_beside_work, storm  # noqa: E402  # the path comes first

STORMS: dict[str, dict[str, Any]] = {
    "8 threads, 4 s": {"threads": 8, "seconds": 4.0},
    "90,000 events, then the end": {"threads": 1, "each": 90_000},
    "texts of 20 KB, 4 s": {"threads": 1, "size": 20_000, "seconds": 4.0},
}
CALM = 1000


def main() -> None:
    """Run and print the figures."""
    for what, of in STORMS.items():
        with tempfile.TemporaryDirectory() as directory:
            began = time.monotonic()
            found = storm(Path(directory), variables={"TORCHELASTIC_OTEL_EXIT_TIMEOUT": ""}, **of)
            took_s = time.monotonic() - began
        gone = found.recorded - found.delivered - found.kept - found.lost
        print(
            f"{what}: {found.recorded} recorded in {found.took_s:.1f} s; {found.delivered} delivered, "
            f"{found.kept} kept (said: {found.kept_said}), {found.lost} lost and said so, {gone} "
            f"unaccounted for; "
            f"dropped metric {found.dropped}; {found.twice} twice; peak {found.peak_bytes / 1e6:.0f} MB; "
            f"the process took {took_s:.1f} s",
            flush=True,
        )
    with tempfile.TemporaryDirectory() as directory:
        kept = killed_beside_work(Path(directory), busy=8, each=CALM, pause_s=0.01, wait_s=1.0)
    print(f"{CALM} events beside 8 busy threads, SIGKILL a second later: {kept} kept", flush=True)


if __name__ == "__main__":
    main()
