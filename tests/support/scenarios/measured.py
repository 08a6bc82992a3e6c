"""``python -m tests.support.scenarios.measured``: scenarios of all kinds whose launchers coverage measures.

Nothing is asserted of them: that is for the tests, whose launchers end as they do without coverage.
"""

from __future__ import annotations

import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "examples")]

from tests.support.scenarios.running import run_scenario  # noqa: E402  # the path comes first

CHOSEN = [
    # of deaths
    "crash and restart, gRPC",
    "exception with @record",
    "SIGKILL",
    "worker deaf to SIGTERM",
    "worker that cannot be started",
    "watchdog",
    "function, exception",
    # of ends
    "SIGTERM",
    "SIGTERM in the first rendezvous",
    "an agent killed, the other has the store",
    # of launches
    "clean, HTTP",
    "LaunchConfig, fork",
    "several jobs in one process",
    "own event by ours",
    # of rendezvous
    "late node",
    "spare node",
    "rendezvous timeout",
    "closed rendezvous",
    "static, the peer never comes",
    "store out of reach",
]


def main() -> None:
    """Run them, two at a time."""
    with tempfile.TemporaryDirectory() as directory, ThreadPoolExecutor(2) as pool:

        def run(number: int) -> None:
            found = run_scenario(Path(directory, str(number)), CHOSEN[number], measured=True)
            codes = ", ".join(str(node.exit_code) for node in found.nodes)
            sys.stdout.write(f"{CHOSEN[number]}: exit codes {codes}, {len(found.logs)} records\n")

        for _ in pool.map(run, range(len(CHOSEN))):
            pass


if __name__ == "__main__":
    main()
