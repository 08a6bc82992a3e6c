"""Writes the tables of ``telemetry.md`` (and that of ``delivery.md``): ``python docs/reference.py``.

With ``--check`` it writes nothing and exits with 1 where a document and the code differ.
"""

from __future__ import annotations

import ast
import itertools
import sys
from pathlib import Path

import delivery_table

from torchelastic_otel import _contract

DOCUMENT = Path(__file__).with_name("telemetry.md")
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


def rendered(text: str) -> str:
    """Return the document with its tables as the code has them."""
    tables = {name: table(selector, title) for name, (selector, title) in TABLES.items()}
    for name, content in {**tables, "metrics": metrics_table()}.items():
        start, end = f"<!-- table: {name} -->\n", "\n<!-- end -->"
        before, _, rest = text.partition(start)
        _, _, after = rest.partition(end)
        text = f"{before}{start}{content}{end}{after}"
    return text


def main() -> int:
    """Write or check the document."""
    text = DOCUMENT.read_text()
    new = rendered(text)
    if "--check" in sys.argv[1:]:
        if new != text:
            sys.stderr.write("docs/telemetry.md is not what the code says: run python docs/reference.py\n")
            return 1
        return 0
    DOCUMENT.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main() | delivery_table.main())
