"""The one table of environment variables: name, kind, default, bounds, signals, and what each is for.

Parsers, ``Settings``, docs/configuration.md, the doctor and tests are made from it. To add a variable:

1. Write its row, of a kind from ``kinds.py``. OpenTelemetry's rows are in ``otlp_variables.py`` and
   ``sdk_variables.py``, this package's own are here.
2. Use it: a variable of this package by a field of ``Settings``, any other by ``ROW.value(environ, warn)``.
3. ``make generate`` writes it into the document.
4. Write what is seen of a job by it into ``tests/config/test_effects.py``, which fails until then.

Warnings, the document's row, the doctor's line and its answer to a misspelt name follow from the row. Default
and bounds stand there and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from . import otlp_variables, sdk_variables
from .kinds import Bytes, Choice, Directory, Flag, Integer, Number, Pattern, Text
from .row import Variable

PREFIX = "TORCHELASTIC_OTEL_"
"""How names of this package's variables begin."""

Heartbeats = Literal["metric", "log"]

HEARTBEATS = Variable(
    "TORCHELASTIC_OTEL_HEARTBEATS",
    Choice[Heartbeats]("metric", get_args(Heartbeats)),
    setting="heartbeats",
    section="package",
    signals=("logs",),
    meaning="`metric`: keep-alive events are only counted. `log`: each is a log record as well.",
)
SPAN_EVENTS = Variable(
    "TORCHELASTIC_OTEL_SPAN_EVENTS",
    Flag(True),
    setting="span_events",
    section="package",
    signals=("traces",),
    meaning="`false`: events are log records only, and not drawn on their spans as well.",
)
TRACE_SEED = Variable(
    "TORCHELASTIC_OTEL_TRACE_SEED",
    Text("any text, to the letter", exact=True),
    setting="trace_seed",
    section="package",
    signals=("traces", "logs"),
    meaning="Goes into the trace id. Must be the same on all nodes of a job.",
)
TRACE_URL = Variable(
    "TORCHELASTIC_OTEL_TRACE_URL",
    Text("a link with '{trace_id}' where the trace id goes", placeholder="{trace_id}"),
    setting="trace_url",
    section="package",
    signals=("traces",),
    instead="no link is given",
    meaning="The launcher prints the link to its job's trace.",
)
EXIT_TIMEOUT = Variable(
    "TORCHELASTIC_OTEL_EXIT_TIMEOUT",
    Number(0.5, "seconds", highest=3600.0),
    setting="exit_timeout_s",
    section="package",
    meaning="Longest time that the end of the process waits for delivery. The rest stays in the spool.",
)
REDACT = Variable(
    "TORCHELASTIC_OTEL_REDACT",
    Pattern("a regular expression", exact=True),
    setting="redact",
    section="package",
    instead="all texts are redacted",
    meaning="What it finds is replaced by `[redacted]` in every text that is kept or sent. "
    "Some need RE2: see [security](security.md).",
)
SPOOL_DIR = Variable(
    "TORCHELASTIC_OTEL_SPOOL_DIR",
    Directory("a directory that only this user can write to, or 'off'"),
    setting="spool_dir",
    section="package",
    default_words="see [delivery](delivery.md)",
    meaning="Where undelivered telemetry is kept. `off` keeps it in memory.",
)
SPOOL_MAX_BYTES = Variable(
    "TORCHELASTIC_OTEL_SPOOL_MAX_BYTES",
    Integer(64 * 1024 * 1024, highest=2**40, unit="bytes"),
    setting="spool_max_bytes",
    section="package",
    meaning="Most that is kept there. Beyond it the oldest goes, which is counted and said.",
)
WORKER = Variable(
    "TORCHELASTIC_OTEL_WORKER",
    Flag(True),
    setting="worker",
    section="package",
    meaning="`off`: workers have no recorder; only exit codes and torch's error files tell of deaths.",
)
STDERR = Variable(
    "TORCHELASTIC_OTEL_STDERR",
    Bytes(8 * 1024, highest=32 * 1024),
    setting="stderr_bytes",
    section="package",
    signals=("traces", "logs"),
    meaning="How much of the end of a dead worker's standard error is sent, where torchrun writes it to a "
    "file (`--redirects`, `--tee`). `off` sends none.",
)
TERMINATION_LOG = Variable(
    "TORCHELASTIC_OTEL_TERMINATION_LOG",
    Flag(True),
    setting="termination_log",
    section="package",
    meaning="`off`: the verdict of a job that failed is not written to `/dev/termination-log`, which "
    "Kubernetes shows in the pod's status.",
)


def _rows(names: Mapping[str, object]) -> tuple[Variable[Any], ...]:
    return tuple(value for value in names.values() if isinstance(value, Variable))


VARIABLES: tuple[Variable[Any], ...] = (
    *_rows(vars(otlp_variables)),
    *_rows(vars(sdk_variables)),
    *_rows(globals()),
)
"""All rows, in the order of the documents."""
NAMES = frozenset(name for row in VARIABLES for name in row.names)
"""The name of every variable that is read."""
