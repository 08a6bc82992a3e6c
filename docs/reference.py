"""Writes the tables of ``telemetry.md``, ``configuration.md``, ``delivery.md`` and ``compatibility.md``.

``python docs/reference.py`` renews them. With ``--check`` it writes nothing, and exits with 1 where a
document and the code differ.
"""

from __future__ import annotations

import ast
import itertools
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import delivery_table
import private_names
from torchelastic_otel import _contract
from torchelastic_otel._config import schedulers
from torchelastic_otel._config.environment import SIGNALS
from torchelastic_otel._config.row import Section, Variable
from torchelastic_otel._config.sdk_variables import WITHOUT_EFFECT
from torchelastic_otel._config.variables import VARIABLES

TABLES: dict[str, tuple[str | tuple[str, ...], str]] = {
    "spans": ("SPAN_", "Span"),
    "events": ("EVENT_", "Event"),
    "semantic-conventions": (("LOG_RECORD", "ERROR_", "EXCEPTION_", "PROCESS_"), "Attribute"),
    "torch": ("# Attributes: torch's", "Attribute"),
    "own": ("# Attributes: the bridge's own", "Attribute"),
}


def described_names() -> list[tuple[str, str, str, str]]:
    """Return (constant, name, description, section comment) of each described name, in the code's order."""
    source = Path(_contract.__file__).read_text()
    lines = source.splitlines()
    body = ast.parse(source).body
    found = []
    for assignment, text in itertools.pairwise(body):
        if not (isinstance(assignment, ast.AnnAssign) and isinstance(assignment.target, ast.Name)):
            continue
        if not (isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)):
            continue
        above = [line for line in lines[: assignment.lineno] if line.startswith("# ")]
        name = assignment.target.id
        description = str(text.value.value).replace("\n", " ")
        found.append((name, getattr(_contract, name), description, above[-1] if above else ""))
    return found


def table(selector: str | tuple[str, ...], title: str) -> str:
    """Return one table as Markdown."""
    rows = [f"| {title} | Meaning |", "| --- | --- |"]
    for constant, name, description, section in described_names():
        text = section if str(selector).startswith("#") else constant
        if text.startswith(selector):
            rows.append(f"| `{name}{'*' if name.endswith('.') else ''}` | {description} |")
    return "\n".join(rows)


def metrics_table() -> str:
    """Return the table of metrics as Markdown."""
    rows = ["| Metric | Kind | Unit | Attributes | Meaning |", "| --- | --- | --- | --- | --- |"]
    for name, known in _contract.INSTRUMENTS.items():
        attributes = ", ".join(f"`{attribute}`" for attribute in known.attributes)
        rows.append(f"| `{name}` | {known.kind} | `{known.unit}` | {attributes} | {known.description}. |")
    return "\n".join(rows)


def variables_table(rows: list[Variable[Any]]) -> str:
    """Return the table of variables; it says which signals they concern where these differ."""
    differ = len({row.signals for row in rows}) > 1
    titles = ["Variable", "Value", "Default", *(["Signals"] if differ else []), "Meaning"]
    lines = [titles, ["---"] * len(titles)]
    for row in rows:
        names = "<br>".join(f"`{name}`" for name in row.names)
        signals = "all" if row.signals == SIGNALS else ", ".join(row.signals)
        lines.append([names, as_code(row.kind.accepted), row.default_text, signals, row.meaning])
        if not differ:
            del lines[-1][3]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def as_code(text: str) -> str:
    """Return ``text`` with what it quotes as code."""
    return re.sub(r"'([^']*)'", r"`\1`", text)


def reasons_table(reasons: Mapping[str, str]) -> str:
    """Return the table of variables that have no effect, with those of one reason in one row."""
    lines = ["| Variable | Why |", "| --- | --- |"]
    for reason in dict.fromkeys(reasons.values()):
        names = "<br>".join(f"`{name}`" for name, why in reasons.items() if why == reason)
        lines.append(f"| {names} | {reason} |")
    return "\n".join(lines)


def scheduler_table(*columns: tuple[str, Mapping[str, tuple[str, ...]]]) -> str:
    """Return the table of attributes, with a column of variables for each title."""
    lines = [f"| Attribute | {' | '.join(title for title, _ in columns)} |"]
    lines.append("| --- " * (1 + len(columns)) + "|")
    for attribute in dict.fromkeys(name for _, found in columns for name in found):
        cells = [", ".join(f"`{name}`" for name in found.get(attribute, ())) for _, found in columns]
        lines.append(f"| `{attribute}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def documents() -> dict[str, dict[str, str]]:
    """Return the tables of each document by their names."""
    telemetry = {name: table(selector, title) for name, (selector, title) in TABLES.items()}
    configuration = {
        section: variables_table([row for row in VARIABLES if row.section == section])
        for section in get_args(Section)
    }
    pod = ("In a pod also", schedulers.KUBERNETES_IN_A_POD)
    return {
        "telemetry.md": {**telemetry, "metrics": metrics_table()},
        "configuration.md": {
            **configuration,
            "without-effect": reasons_table(WITHOUT_EFFECT),
            "slurm": scheduler_table(("Variables", {**schedulers.SLURM, **schedulers.SLURM_NUMBERS})),
            "kubernetes": scheduler_table(("Variables", schedulers.KUBERNETES), pod),
        },
        "compatibility.md": {"private-names": private_names.table()},
    }


def rendered(text: str, tables: Mapping[str, str]) -> str:
    """Return the document with its tables as the code has them."""
    for name, content in tables.items():
        start, end = f"<!-- table: {name} -->\n", "\n<!-- end -->"
        before, found, rest = text.partition(start)
        if not found:
            raise ValueError(f"no place for the table {name}")
        _, _, after = rest.partition(end)
        text = f"{before}{start}{content}{end}{after}"
    return text


def main() -> int:
    """Write or check the documents."""
    differ = False
    for name, tables in documents().items():
        document = Path(__file__).with_name(name)
        text = document.read_text()
        new = rendered(text, tables)
        if "--check" not in sys.argv[1:]:
            document.write_text(new)
        elif new != text:
            sys.stderr.write(f"docs/{name} is not what the code says: run python docs/reference.py\n")
            differ = True
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main() | delivery_table.main())
