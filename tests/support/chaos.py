"""Makes the table of docs/chaos.md: what becomes of a job and its telemetry under each fault.

``python -m tests.support.chaos`` runs all cases and prints it; ``--write`` renews the document.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

from tests.support.faults import CASES, Case, UnavailableError, run

DOCUMENT = Path(__file__).parents[2] / "docs" / "chaos.md"


def without_otel(rounds: int) -> float:
    """Return how long the job takes if nobody asks for telemetry, in seconds."""
    times = []
    for _ in range(rounds + 1):
        with tempfile.TemporaryDirectory() as directory, Case(Path(directory) / "job") as job:
            began = time.monotonic()
            job.start(handler=())
            job.end()
            times.append(time.monotonic() - began)
    return statistics.median(times[1:])  # the first one fills caches


def main() -> int:
    """Run every case and print the table."""
    rounds = int(os.environ.get("CHAOS_ROUNDS", "3"))
    kills = int(os.environ.get("CHAOS_KILLS", "20"))
    plain = without_otel(rounds)
    rows = [
        "| backend, disk or agent | runs | exit code | took, s | recorded | delivered by the end "
        "| in the spool | lost after replay |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    bad = False
    for name in CASES:
        try:
            results = [run(name) for _ in range(kills if "SIGKILL" in name else rounds)]
        except UnavailableError as error:
            rows.append(f"| {name} | 0 | not tried: {error} | | | | | |")
            continue
        bad |= any(result.lost or result.exit_codes != result.expected_codes for result in results)
        codes = sorted({str(code) for result in results for code in result.exit_codes})
        comparable = results[0].expected_codes == [0]
        took = f"{statistics.median(result.seconds for result in results):.2f}" if comparable else ""
        sums = [
            sum(getattr(result, part) for result in results) for part in ("recorded", "at_once", "spooled")
        ]
        lost = sum(len(result.lost) for result in results)
        cells = [name, len(results), ", ".join(codes), took, *sums, lost]
        rows.append(f"| {' | '.join(map(str, cells))} |")
        sys.stderr.write(rows[-1] + "\n")
    table = "\n".join(rows)
    text = f"The same job without `otel` took {plain:.2f} s (median of {rounds}).\n\n{table}\n"
    sys.stdout.write(text)
    if "--write" in sys.argv[1:]:
        document = DOCUMENT.read_text()
        before, _, rest = document.partition("<!-- table -->\n")
        _, _, after = rest.partition("<!-- end -->\n")
        DOCUMENT.write_text(f"{before}<!-- table -->\n{text}<!-- end -->\n{after}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
