"""The table of docs/failures.md is what was observed; ``--write-failures`` renews it."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

import pytest

from tests.support.example_runs import PROJECT
from tests.support.names import AGENT, FAILURE, RESTART
from tests.support.scenarios.job import SCENARIOS
from tests.support.scenarios.running import TORCH, Node, Run, where

DOCUMENT = PROJECT / "docs" / "failures.md"
TABLE_START, TABLE_END = "<!-- table: failures -->\n", "\n<!-- end -->"
TABLE_TORCH = "2.13"
"""The torch whose words are in the document."""
DOCUMENTED = [found for found in SCENARIOS.values() if found.what]


TABLE_HEAD = (
    "What happened",
    "Launcher",
    "Outcome",
    "Failure records of its workers",
    "Verdict",
    "Cause of the restart",
)
VOLATILE = (
    (r"\b\S+?_\d+_\d+\b", "NODE"),
    (r"\b127\.0\.0\.1\b", "HOST"),
    (r"\bpid \d+", "pid PID"),
    (r"\bport:? \d+", "port PORT"),
    (r"\b(HOST|localhost):\d+", r"\1:PORT"),
    (r"(?<![\w`.])/[\w./-]+", "PATH"),
    # Which one is a matter of who is first.
    (r"Dist(?:Store|Network)Error: .*?(?= between the joined)", "DistStoreError: MESSAGE"),
    (r"\b\d+(\.\d+)? ?(s|seconds|ms)\b", r"N \2"),
)
"""What differs from run to run, and what stands for it in the document; after the host and the run id."""


def steady(text: str, run_id: str) -> str:
    """Return a sentence as the document has it: the same for each run, and in one cell of a table."""
    text = text.replace(run_id, "RUN-ID")
    text = re.sub(rf"\bon {re.escape(socket.getfqdn())}(?!\w)", "on HOST", text)
    for pattern, placeholder in VOLATILE:
        text = re.sub(pattern, placeholder, text)
    text = text.replace(socket.getfqdn(), "HOST").replace(socket.gethostname(), "HOST")
    for character in "\\|<>*":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())


def row(what: str, node: Node, run_id: str) -> str:
    """Return the row of a launcher: what was observed of it."""
    generations = {record.attributes["torchelastic.generation"] for record in node.records(FAILURE)}
    failures = [
        f"generation {record.attributes['torchelastic.generation']}: " * (len(generations) > 1)
        + steady(record.body, run_id)
        for record in node.records(FAILURE)
    ]
    agents = node.named(AGENT)
    outcome = str(agents[0].attributes["torchelastic.outcome"]) if agents else "none: it was killed"
    verdict = steady(str(agents[0].attributes["torchelastic.verdict"]), run_id) if agents else ""
    causes = [str(record.attributes["torchelastic.restart.cause"]) for record in node.records(RESTART)]
    cells = [what, node.expected.node, outcome, "<br>".join(failures), verdict, "<br>".join(causes)]
    return f"| {' | '.join(cell or '-' for cell in cells)} |"


def rows_in_document() -> dict[str, list[str]]:
    """Return the document's rows by what happened, in the order in which they stand there."""
    _, _, rest = DOCUMENT.read_text().partition(TABLE_START)
    table, _, _ = rest.partition(TABLE_END)
    found: dict[str, list[str]] = {}
    for line in table.splitlines()[2:]:
        found.setdefault(line.removeprefix("| ").partition(" | ")[0], []).append(line)
    return found


@pytest.fixture(scope="module")
def observed(request: pytest.FixtureRequest) -> Iterator[dict[str, list[str]]]:
    """Rows as they were observed, by what happened; at the end they are written, if that was asked for.

    What this machine cannot do, or was not asked to, stays as it is.
    """
    rows = {found.what: rows_in_document().get(found.what, []) for found in DOCUMENTED}
    yield rows
    if request.config.getoption("--write-failures"):
        head = f"| {' | '.join(TABLE_HEAD)} |\n|{' --- |' * len(TABLE_HEAD)}"
        lines = "\n".join(line for found in rows.values() for line in found)
        before, _, rest = DOCUMENT.read_text().partition(TABLE_START)
        _, _, after = rest.partition(TABLE_END)
        DOCUMENT.write_text(f"{before}{TABLE_START}{head}\n{lines}{TABLE_END}{after}")


@pytest.mark.e2e
@where(lambda found: bool(found.what))
def test_a_row_of_the_document_is_what_was_observed(
    run: Run, observed: dict[str, list[str]], request: pytest.FixtureRequest
) -> None:
    """Sentence for sentence."""
    if ".".join(map(str, TORCH)) != TABLE_TORCH:
        pytest.skip(f"the document has the words of torch {TABLE_TORCH}")
    what = run.scenario.what
    observed[what] = [row(what, node, run.run_id) for node in run.nodes]
    if not request.config.getoption("--write-failures"):
        assert rows_in_document().get(what) == observed[what]


def test_the_document_has_a_row_for_each_scenario_in_order() -> None:
    """None is missing, none is left over."""
    assert list(rows_in_document()) == [found.what for found in DOCUMENTED]
