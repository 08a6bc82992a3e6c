"""The command ``torchelastic-otel``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ._identity import hash_trace_id, identifies


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(prog="torchelastic-otel", description="Tools for torchelastic-otel.")
    commands = parser.add_subparsers(dest="command", required=True)
    trace_id = commands.add_parser(
        "trace-id",
        help="print the trace id of a job",
        description="Print the trace id that all nodes of a job share, as they compute it.",
    )
    trace_id.add_argument("run_id", metavar="RUN_ID", help="torchrun's --rdzv-id")
    trace_id.add_argument("--job", default="", help="the scheduler's job id (SLURM_JOB_ID, …)")
    trace_id.add_argument("--attempt", default="", help="its restart count (SLURM_RESTART_COUNT, …)")
    trace_id.add_argument("--seed", default="", help="TORCHELASTIC_OTEL_TRACE_SEED")
    given = parser.parse_args(arguments)
    if not identifies(given.run_id) and not given.job and not given.seed:
        parser.error(
            f"the run id {given.run_id!r} identifies no job: give --job or --seed (else the trace is random)"
        )
    run_id = given.run_id if identifies(given.run_id) else ""
    sys.stdout.write(f"{hash_trace_id(run_id, given.job, given.attempt, given.seed):032x}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
