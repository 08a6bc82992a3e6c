"""The command ``torchelastic-otel``."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from ._job.identity import hash_trace_id, identifies


class _Commands(Protocol):
    """What is used of what ``add_subparsers`` returns, whose class is private."""

    def add_parser(self, name: str, **options: Any) -> argparse.ArgumentParser: ...


_STATUS = (
    "Exit status: 0 if {}; 1 if {}, or a running process has some of it; 2 if some of it could not be looked "
    "at (damaged, of a newer version, or on a disk that cannot be written), or for wrong arguments."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(prog="torchelastic-otel", description="Tools for torchelastic-otel.")
    commands = parser.add_subparsers(dest="command", required=True)
    _add_trace_id(commands)
    _add_replay(commands)
    _add_export(commands)
    _add_doctor(commands)
    given = parser.parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = given.run
    return run(given)


# Each command: its arguments, and the function that runs it


def _add_trace_id(commands: _Commands) -> None:
    trace_id = commands.add_parser(
        "trace-id",
        help="print the trace id of a job",
        description="Print the trace id that all nodes of a job share, as they compute it.",
    )
    trace_id.add_argument("run_id", metavar="RUN_ID", help="torchrun's --rdzv-id")
    trace_id.add_argument("--job", default="", help="the scheduler's job id (SLURM_JOB_ID, …)")
    trace_id.add_argument("--attempt", default="", help="its restart count (SLURM_RESTART_COUNT, …)")
    trace_id.add_argument("--seed", default="", help="TORCHELASTIC_OTEL_TRACE_SEED")
    trace_id.set_defaults(run=_trace_id, parser=trace_id)


def _add_replay(commands: _Commands) -> None:
    replay = commands.add_parser(
        "replay",
        help="send what jobs on this node could not deliver",
        description="Send what is in a spool and belongs to no running job, also from a copied directory.",
        epilog=_STATUS.format("nothing is left in the spool", "something is left in it"),
    )
    replay.add_argument("--spool", default="", metavar="DIR", help="default: the one that jobs here use")
    replay.add_argument(
        "--endpoint",
        default="",
        metavar="URL",
        help="send everything there (default: to the OTEL_* endpoint, what was recorded for it)",
    )
    replay.set_defaults(run=_replay)


def _add_export(commands: _Commands) -> None:
    export = commands.add_parser(
        "export",
        help="write a spool as OTLP JSON Lines",
        description="Write a spool into a file per signal, for the Collector's otlpjsonfile receiver. "
        "Everything stays in the spool.",
        epilog=_STATUS.format("all of the spool was written", "there is more in it"),
    )
    export.add_argument("--format", choices=["otlp-json"], default="otlp-json", help="the only one")
    export.add_argument("--spool", default="", metavar="DIR", help="default: the one that jobs here use")
    export.add_argument("--output", default=".", metavar="DIR", help="where the files go (default: here)")
    export.add_argument("--force", action="store_true", help="write over files that are there")
    export.set_defaults(run=_export)


def _add_doctor(commands: _Commands) -> None:
    doctor = commands.add_parser(
        "doctor",
        help="tell whether telemetry would arrive, and if not, why",
        description="Show the settings that count, send a probe of each signal, and say what is wrong. "
        "Exit status: 0 if telemetry would arrive, 1 if not.",
    )
    doctor.add_argument("--json", action="store_true", help="print one JSON object")
    doctor.set_defaults(run=_doctor)


def _trace_id(given: argparse.Namespace) -> int:
    if not identifies(given.run_id) and not given.job and not given.seed:
        given.parser.error(
            f"the run id {given.run_id!r} identifies no job: give --job or --seed (else the trace is random)"
        )
    run_id = given.run_id if identifies(given.run_id) else ""
    sys.stdout.write(f"{hash_trace_id(run_id, given.job, given.attempt, given.seed):032x}\n")
    return 0


def _replay(given: argparse.Namespace) -> int:
    from ._commands.replay import replay

    return _with_spool(given, lambda directory: replay(directory, given.endpoint, os.environ, sys.stderr))


def _export(given: argparse.Namespace) -> int:
    from ._commands.export import export

    return _with_spool(
        given, lambda directory: export(directory, Path(given.output), sys.stderr, force=given.force)
    )


def _with_spool(given: argparse.Namespace, command: Callable[[Path], int]) -> int:
    """Run a command on the spool that is meant, and tell in a line why it could not."""
    from ._commands.spools import NOT_SEEN, NOTHING_LEFT, is_there, spool_directory
    from ._delivery.spool import SpoolError

    directory = spool_directory(given.spool, os.environ)
    try:
        if not is_there(directory):
            sys.stderr.write(f"There is no spool at {directory}.\n")
            return NOT_SEEN if given.spool else NOTHING_LEFT
        return command(directory)
    except SpoolError as error:
        sys.stderr.write(f"{error}\n")
        return NOT_SEEN
    except KeyboardInterrupt:
        sys.stderr.write(f"interrupted: what is not done is still in {directory}\n")
        return 128 + signal.SIGINT


def _doctor(given: argparse.Namespace) -> int:
    from ._doctor.examination import examine

    report = examine(os.environ)
    sys.stdout.write((report.as_json() if given.json else report.as_text()) + "\n")
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
