"""Run a command, receive its telemetry on this machine, and show it here: no backend is needed.

python examples/show.py torchrun --standalone --nproc-per-node=2 --event-log-handler=otel \
    examples/one_node/worker.py
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

from otlp_receiver import LogRecord, MetricPoint, OtlpReceiver, Span

AGENT, RENDEZVOUS, GROUP, WORKER = (
    f"torchelastic.{kind}" for kind in ("agent", "rendezvous", "worker_group", "worker")
)
UPTIME, DOWNTIME = "torchelastic.worker_group.uptime", "torchelastic.worker_group.downtime"
CAUSE = "torchelastic.restart.cause"
_RED, _GREEN, _YELLOW, _BOLD, _DIM = "31", "32", "33", "1", "2"
_COLOURS = {"succeeded": _GREEN, "failed": _RED, "terminated": _YELLOW, "interrupted": _YELLOW}
_ASCII = str.maketrans({"├": "|", "└": "`", "│": "|", "─": "-", "━": "=", "•": "*", "…": "~"})


def receiver_environment(receiver: OtlpReceiver) -> dict[str, str]:
    """Return this process's environment, changed so that telemetry goes to ``receiver`` alone."""
    kept = ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES")
    env = {name: value for name, value in os.environ.items() if name in kept or not name.startswith("OTEL_")}
    env["OTEL_EXPORTER_OTLP_ENDPOINT"] = receiver.http_endpoint
    env["OTEL_EXPORTER_OTLP_PROTOCOL"] = "http/protobuf"
    no_proxy = os.environ.get("NO_PROXY") or os.environ.get("no_proxy")
    env["NO_PROXY"] = env["no_proxy"] = f"{no_proxy},127.0.0.1" if no_proxy else "127.0.0.1"
    return env


def is_torchs(record: LogRecord) -> bool:
    """Tell whether torch itself, or torchelastic-otel, recorded this event."""
    return record.event_name.startswith("torchelastic.") or ".py:" in record.event_name


@dataclass
class Note:
    """A sentence under a span's row; with ``time_ns`` it is something that happened then."""

    text: str
    colour: str = _DIM
    time_ns: int = 0


@dataclass
class Row:
    """A span as it is shown."""

    span: Span
    label: str
    outcome: str
    notes: list[Note] = field(default_factory=list)
    children: list[Row] = field(default_factory=list)


class Terminal:
    """Writes lines; colour only on a terminal that has it, and plain letters where it has no others."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._colour = out.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
        self._unicode = "utf" in (out.encoding or "").lower()
        columns = shutil.get_terminal_size().columns if out.isatty() else 100
        self.width = max(80, min(100, columns))
        self.bar = max(10, self.width - 78)

    def paint(self, text: str, colour: str) -> str:
        """Return ``text`` in a colour."""
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colour and colour and text else text

    def line(self, text: str = "") -> None:
        """Write a line."""
        if not self._unicode:
            text = text.translate(_ASCII).encode("ascii", "replace").decode()
        self._out.write(text.rstrip() + "\n")
        self._out.flush()


def show(
    spans: Sequence[Span],
    logs: Sequence[LogRecord],
    out: TextIO | None = None,
    *,
    metrics: Sequence[MetricPoint] = (),
) -> None:
    """Show every trace as a tree, for each node of a job how it ended, and what the time was spent on."""
    terminal = Terminal(out or sys.stdout)
    traces: dict[str, list[Span]] = defaultdict(list)
    for span in sorted(spans, key=lambda span: span.start_ns):
        traces[span.trace_id].append(span)
    if not traces:
        terminal.line("No spans arrived. Was --event-log-handler=otel (or PET_EVENT_LOG_HANDLER=otel) given?")
    for trace_id, members in traces.items():
        roots = _rows(members, [record for record in logs if record.trace_id == trace_id])
        _show_trace(terminal, trace_id, members, roots)
    for line in textwrap.wrap(_cost(metrics), terminal.width):
        terminal.line(line)


def _rows(spans: Sequence[Span], logs: Sequence[LogRecord]) -> list[Row]:
    by_id = {span.span_id: Row(span, _label(span), _outcome(span)) for span in spans}
    roots: list[Row] = []
    for row in by_id.values():
        parent = by_id.get(row.span.parent_span_id)
        (parent.children if parent else roots).append(row)
    for row in by_id.values():
        row.children.sort(key=lambda row: (row.span.start_ns // 10**8, row.label))
        if row.span.name == AGENT:
            row.label = f"{_node(row)} on {_text(row.span, 'hostname')}, agent {_pid(row.span.resource)}"
        row.notes.extend(_notes(row, [record for record in logs if record.span_id == row.span.span_id]))
        if row.span.name == GROUP and row.span.parent_span_id in by_id:
            row.notes.extend(_restart_notes(row.span, logs))
    return sorted(roots, key=lambda row: (row.span.name != AGENT, row.label, row.span.start_ns))


def _label(span: Span) -> str:
    if span.name == RENDEZVOUS:
        number, size = _text(span, "group_rank"), _text(span, "group_world_size")
        joined = f", as node {number} of {size}" if number and size else ""
        return f"rendezvous, round {_text(span, 'round') or '?'}{joined}"
    if span.name == GROUP:
        return f"workers, generation {_text(span, 'generation') or '?'}"
    if span.name == WORKER:
        return f"worker {_text(span, 'global_rank') or '?'}, pid {_text(span, 'worker_id') or '?'}"
    return span.name


def _node(agent: Row) -> str:
    ranks = [
        row.span.attributes["torchelastic.group_rank"]
        for row in agent.children
        if "torchelastic.group_rank" in row.span.attributes
    ]
    return f"node {ranks[-1] if ranks else '?'}"


def _pid(resource: Mapping[str, Any]) -> str:
    return str(resource.get("process.pid", "?"))


def _outcome(span: Span) -> str:
    failed = {"ERROR": "failed", "OK": "succeeded"}.get(span.status_code, "")
    truncated = "truncated" if span.attributes.get("torchelastic.truncated") else ""
    return _text(span, "outcome") or truncated or failed


def _text(span: Span, name: str) -> str:
    return str(span.attributes.get(f"torchelastic.{name}", ""))


def _notes(row: Row, logs: Sequence[LogRecord]) -> Iterator[Note]:
    """Why it ended as it did, and what the program itself recorded."""
    failures = [record.body for record in logs if record.event_name == "torchelastic.failure"]
    if failures:
        yield Note(failures[0], _COLOURS.get(row.outcome, _RED))
    elif row.span.status_message and row.span.name not in (AGENT, GROUP):
        yield Note(row.span.status_message, _RED)
    for record in sorted(logs, key=lambda record: record.time_ns):
        if not is_torchs(record):
            facts = ", ".join(
                f"{key}={value}"
                for key, value in record.attributes.items()
                if not key.startswith(("torchelastic.", "log.record."))
            )
            yield Note(f"• {record.event_name} {facts}", "", record.time_ns)


def _restart_notes(group: Span, logs: Iterable[LogRecord]) -> Iterator[Note]:
    for record in logs:
        if (
            record.event_name == "torchelastic.restart"
            and record.span_id == group.parent_span_id
            and record.attributes.get("torchelastic.restart.to_generation")
            == group.attributes.get("torchelastic.generation")
        ):
            yield Note(record.body, _YELLOW)


def _show_trace(terminal: Terminal, trace_id: str, spans: Sequence[Span], roots: Sequence[Row]) -> None:
    begin, end = min(span.start_ns for span in spans), max(span.end_ns for span in spans)
    run_ids = {_text(span, "run_id") for span in spans} - {""}
    title = f"{terminal.paint('Trace', _BOLD)} {trace_id}"
    terminal.line(title + "".join(f", job {run_id}" for run_id in sorted(run_ids)))
    terminal.line()
    width = terminal.width - terminal.bar - 31
    scale = f"0 s{_seconds(end - begin):>{terminal.bar - 3}}"
    terminal.line(terminal.paint(f"{'':{width}}{'start':>8}{'took':>9}  {scale}", _DIM))
    for root in roots:
        _show_row(terminal, root, "", "", width, begin, max(end - begin, 1))
    agents = [root for root in roots if root.span.name == AGENT]
    if agents:
        terminal.line()
    for agent in agents:
        verdict = _text(agent.span, "verdict") or agent.span.status_message or agent.outcome or "no verdict"
        node = agent.label.partition(" on ")[0]
        colour = _COLOURS.get(agent.outcome, "")
        first, *more = textwrap.wrap(verdict, terminal.width - len(node) - 2)
        terminal.line(f"{terminal.paint(node, _BOLD)}: {terminal.paint(first, colour)}")
        for line in more:
            terminal.line(" " * (len(node) + 2) + terminal.paint(line, colour))


def _cost(metrics: Sequence[MetricPoint]) -> str:
    """What the job's time was spent on, on all nodes; "" if no metrics say so."""
    last = {
        (point.resource.get("service.instance.id"), point.name, point.attributes.get(CAUSE)): point
        for point in sorted(metrics, key=lambda point: point.time_ns)
        if point.name in (UPTIME, DOWNTIME)
    }
    up = sum(point.value or 0 for point in last.values() if point.name == UPTIME)
    down: dict[str, float] = defaultdict(float)
    for point in last.values():
        if point.name == DOWNTIME:
            down[str(point.attributes.get(CAUSE, "other")).replace("_", " ")] += point.value or 0
    whole = up + sum(down.values())
    if not whole:
        return ""
    most = sorted(down.items(), key=lambda item: -item[1])
    spent = ", ".join(f"{cause} {_seconds(round(took * 1e9))}" for cause, took in most if took >= 0.05)
    return f"Workers ran {up / whole:.0%} of the time" + (f", not in: {spent}" if spent else "")


def _show_row(
    terminal: Terminal, row: Row, first: str, rest: str, width: int, begin: int, length: int
) -> None:
    span = row.span
    start, took = span.start_ns - begin, span.end_ns - span.start_ns
    colour = _COLOURS.get(row.outcome, "")
    left = round(start / length * (terminal.bar - 1))
    bar = "━" * max(1, round((start + took) / length * terminal.bar) - left)
    tree = f"{first}{_cut(row.label, width - len(first) - 1)}"
    text = terminal.paint(tree, _BOLD) if not first else tree
    terminal.line(
        f"{text}{'':{width - len(tree)}}{_seconds(start):>8}{_seconds(took):>9}  "
        f"{' ' * left}{terminal.paint(bar, colour)}{'':{terminal.bar - left - len(bar)}} "
        f"{terminal.paint(row.outcome, colour)}"
    )
    below = rest + ("│  " if row.children else "   ")
    for note in row.notes:
        room = (width if note.time_ns else terminal.width) - len(below)
        indent = "  " if note.time_ns else ""
        for number, line in enumerate(textwrap.wrap(note.text, room, subsequent_indent=indent)):
            when = f"{'':{room - len(line)}}{_seconds(note.time_ns - begin):>8}" if note.time_ns else ""
            terminal.line(f"{below}{terminal.paint(line, note.colour)}{when if not number else ''}")
    for number, child in enumerate(row.children):
        last = number == len(row.children) - 1
        _show_row(
            terminal,
            child,
            rest + ("└─ " if last else "├─ "),
            rest + ("   " if last else "│  "),
            width,
            begin,
            length,
        )


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else text[: room - 1] + "…"


def _seconds(time_ns: int) -> str:
    return f"{time_ns / 1e9:.1f} s" if time_ns < 1e12 else f"{time_ns / 60e9:.0f} min"


def main() -> int:
    """Run the command, show its telemetry, and end as the command did."""
    if len(sys.argv) < 2:
        print(__doc__)
        return 2
    with OtlpReceiver() as receiver:
        code = subprocess.run(sys.argv[1:], env=receiver_environment(receiver), check=False).returncode
        print()
        show(receiver.spans, receiver.logs, metrics=receiver.metrics)
    return code


if __name__ == "__main__":
    sys.exit(main())
