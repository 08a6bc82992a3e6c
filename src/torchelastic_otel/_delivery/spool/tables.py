"""The tables of a store, and the statements that write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .items import Destination
from .runs import Run, checksum, frames_of, spans
from .sqlite import Database, Statement

VERSION = 2
TABLES = (
    "CREATE TABLE store (max_bytes INTEGER, last_ns INTEGER, dropped INTEGER)",
    "CREATE TABLE destination (signal TEXT PRIMARY KEY, endpoint TEXT, fingerprint TEXT)",
    "CREATE TABLE scope (id INTEGER PRIMARY KEY, signal TEXT, header BLOB, checksum INTEGER)",
    # The payloads come last: what is before them is read without them.
    "CREATE TABLE run (first INTEGER PRIMARY KEY, signal TEXT, scope_id INTEGER, last_ns INTEGER,"
    " frames BLOB, payloads BLOB)",
    # Items of a run that are gone (held is NULL) or held, while the run is there.
    "CREATE TABLE mark (number INTEGER PRIMARY KEY, first INTEGER, last INTEGER, held TEXT)",
    "CREATE TABLE open_span (span_id TEXT PRIMARY KEY, scope_id INTEGER, payload BLOB, checksum INTEGER)",
    # What goes with a run goes with its statement.
    "CREATE TRIGGER run_came AFTER INSERT ON run WHEN NEW.last_ns > 0 BEGIN"
    " UPDATE store SET last_ns = max(last_ns, NEW.last_ns); END",
    "CREATE TRIGGER run_went AFTER DELETE ON run BEGIN"
    " DELETE FROM mark WHERE first BETWEEN OLD.first AND OLD.first + length(OLD.frames) / 8 - 1; END",
    f"PRAGMA user_version = {VERSION}",
)
FORGET_OPEN_SPAN = "DELETE FROM open_span WHERE span_id = ?"
FORGET_OPEN_SPANS = "DELETE FROM open_span"
RELEASE_HELD = "DELETE FROM mark WHERE held IS NOT NULL"
_MOST_VALUES = 500  # some builds of SQLite take 999


def add_runs(runs: Sequence[tuple[Run, Sequence[bytes]]], last_ns: int = 0) -> Statement:
    """Return what writes runs."""
    rows = [
        (run.first, run.signal, run.scope_id, last_ns, frames_of(run, payloads), b"".join(payloads))
        for run, payloads in runs
    ]
    return "INSERT INTO run VALUES (?, ?, ?, ?, ?, ?)", rows


def remove_runs(runs: Sequence[Run]) -> list[Statement]:
    """Return what removes runs, with their marks: one statement for as many as SQLite takes at once."""
    statements: list[Statement] = []
    for start in range(0, len(runs), _MOST_VALUES):
        part = tuple(run.first for run in runs[start : start + _MOST_VALUES])
        marks = ", ".join("?" * len(part))
        statements.append((f"DELETE FROM run WHERE first IN ({marks})", [part]))  # noqa: S608 - marks alone
    return statements


def mark_items(ids: Sequence[int], held: str | None) -> Statement:
    """Return what notes that items of one run, which stays, are held, or gone (None)."""
    rows = [(first, last, held) for first, last in spans(ids)]
    return "INSERT INTO mark (first, last, held) VALUES (?, ?, ?)", rows


def add_scope(scope_id: int, signal: str, header: bytes) -> Statement:
    """Return what writes a header."""
    row = (scope_id, signal, header, checksum(scope_id, signal, header))
    return "INSERT INTO scope VALUES (?, ?, ?, ?)", [row]


def add_open_spans(open_spans: Mapping[str, OpenSpan]) -> Statement:
    """Return what writes spans that have begun, in place of what was known of them."""
    rows = [
        (span_id, span.scope_id, span.payload, checksum(span_id, span.scope_id, span.payload))
        for span_id, span in open_spans.items()
    ]
    return "INSERT OR REPLACE INTO open_span VALUES (?, ?, ?, ?)", rows


def set_dropped(dropped: int) -> Statement:
    """Return what notes how many items went at the bound."""
    return "UPDATE store SET dropped = ?", [(dropped,)]


@dataclass(frozen=True, slots=True)
class OpenSpan:
    """A span that has begun and not ended."""

    scope_id: int
    payload: bytes
    """Serialized Span without an end."""
    sound: bool = True
    """It is what was written."""


def make_tables(database: Database, max_bytes: int, destinations: Mapping[str, Destination]) -> None:
    """Make the tables of a new store."""
    rows = [(signal, place.endpoint, place.fingerprint) for signal, place in destinations.items()]
    database.change(
        [
            *((statement, [()]) for statement in TABLES),
            ("INSERT INTO store VALUES (?, 0, 0)", [(max_bytes,)]),
            ("INSERT INTO destination VALUES (?, ?, ?)", rows),
        ]
    )


def read_runs(database: Database, runs: Sequence[Run]) -> dict[int, tuple[bytes, bytes]]:
    """Return frames and payloads of runs by their first id; without those that are not there."""
    found: dict[int, tuple[bytes, bytes]] = {}
    for start in range(0, len(runs), _MOST_VALUES):
        part = tuple(run.first for run in runs[start : start + _MOST_VALUES])
        marks = ", ".join("?" * len(part))
        query = f"SELECT first, frames, payloads FROM run WHERE first IN ({marks})"  # noqa: S608 - marks alone
        found.update({first: (frames, payloads) for first, frames, payloads in database.rows(query, part)})
    return found
