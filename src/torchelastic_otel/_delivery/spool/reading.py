"""What an earlier process left in a store: read as far as it can be, and brought up from older versions."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from . import tables
from .items import Destination
from .runs import Run, checksum, cut, sizes_of
from .sqlite import DamagedError, Database, ForeignError, Statement
from .tables import OpenSpan

Row: TypeAlias = "tuple[Any, ...]"
"""What stands in a file, of whatever types a bad disk made of it: Any."""

_LEAST, _MOST = -(1 << 63), (1 << 63) - 1


@dataclass(slots=True)
class Found:
    """What is in a store, as far as it can be read."""

    max_bytes: int = 0
    last_ns: int = 0
    dropped: int = 0
    destinations: dict[str, Destination] = field(default_factory=dict)
    scopes: dict[int, tuple[str, bytes]] = field(default_factory=dict)
    """Signal and header by id; those that a bad disk spoiled are not among them."""
    runs: list[Run] = field(default_factory=list)
    open_spans: dict[str, OpenSpan] = field(default_factory=dict)
    damage: str = ""
    """What is wrong with the file; there may then have been more in it."""


def read_tables(database: Database) -> Found | None:
    """Return what is in a store, brought up to this version; None if it has no tables.

    Raises:
        ForeignError: a newer version made it. It is left as it is.
        DamagedError: nothing of it can be read.
    """
    if not database.rows("SELECT 1 FROM sqlite_master LIMIT 1"):
        return None
    version = database.rows("PRAGMA user_version")[0][0]
    if version > tables.VERSION:
        raise ForeignError(
            f"{database.path} was made by a newer torchelastic-otel (its version is {version}, and this one "
            f"reads up to {tables.VERSION}), which can send it."
        )
    try:
        check = database.rows("PRAGMA quick_check(1)")[0][0]
        damage = "" if check == "ok" else f"{database.path} is damaged ({check})."
    except DamagedError as error:
        damage = str(error)
    if version < tables.VERSION:
        if version != 1 or damage:
            raise DamagedError(damage or f"{database.path} is damaged (version {version} never was).")
        _bring_up_version_1(database)
    return _Reader(database, damage).read()


class _Reader:
    """Reads the tables row by row, for in a damaged file some can be read and some cannot."""

    def __init__(self, database: Database, damage: str) -> None:
        self._database = database
        self._found = Found(damage=damage)
        self._marks: list[tuple[int, int, str | None]] = []

    def read(self) -> Found:
        found = self._found
        self._table("store", "rowid, max_bytes, last_ns, dropped", self._store)
        self._table("destination", "rowid, signal, endpoint, fingerprint", self._destination)
        self._table("scope", "id, signal, header, checksum", self._scope)
        self._table("run", "first, signal, scope_id, frames, length(payloads)", self._run)
        self._table("open_span", "rowid, span_id, scope_id, payload, checksum", self._open_span)
        self._table("mark", "number, first, last, held", self._mark)
        self._apply_marks()
        return found

    def _table(self, name: str, columns: str, take: Callable[..., None]) -> None:
        for row in self._rows(name, columns):
            try:
                take(*row)
            except (TypeError, ValueError, AttributeError) as error:
                self._damaged(f"{self._database.path} is damaged (a row of {name}: {error}).")

    def _rows(self, name: str, columns: str) -> Iterator[Row]:
        """Yield the rows of a table by its key; where one cannot be read, those before and those behind."""
        key = columns.partition(",")[0]
        query = f"SELECT {columns} FROM {name}"  # noqa: S608 - names of ours
        try:
            yield from self._database.rows(f"{query} ORDER BY {key}")
            return
        except DamagedError as error:
            self._damaged(str(error))
        found: dict[int, Row] = {}
        for then, order, last in ((">", "ASC", _LEAST), ("<", "DESC", _MOST)):
            step = f"{query} WHERE {key} {then} ? ORDER BY {key} {order} LIMIT 1"
            try:
                while rows := self._database.rows(step, (last,)):
                    (row,) = rows
                    if row[0] in found or (row[0] <= last) is (then == ">"):
                        break
                    found[row[0]] = row
                    last = row[0]
            except DamagedError:
                continue
        yield from (found[number] for number in sorted(found))

    def _damaged(self, damage: str) -> None:
        self._found.damage = self._found.damage or damage

    def _store(self, _: int, max_bytes: int, last_ns: int, dropped: int) -> None:
        found = self._found
        found.max_bytes, found.last_ns, found.dropped = int(max_bytes), int(last_ns), int(dropped)

    def _destination(self, _: int, signal: str, endpoint: str, fingerprint: str) -> None:
        self._found.destinations[signal] = Destination(endpoint, fingerprint)

    def _scope(self, number: int, signal: str, header: bytes, written: int) -> None:
        if checksum(number, signal, header) == written:
            self._found.scopes[number] = (signal, header)

    def _run(self, first: int, signal: str, scope_id: int, frames: bytes, length: int) -> None:
        self._found.runs.append(Run(first, str(signal), int(scope_id), sizes_of(frames, length)))

    def _open_span(self, _: int, span_id: str, scope_id: int, payload: bytes, written: int) -> None:
        sound = checksum(span_id, scope_id, payload) == written
        self._found.open_spans[span_id] = OpenSpan(int(scope_id), bytes(payload), sound)

    def _mark(self, _: int, first: int, last: int, held: str | None) -> None:
        self._marks.append((int(first), int(last), held))

    def _apply_marks(self) -> None:
        firsts = [run.first for run in self._found.runs]
        for first, last, held in self._marks:
            place = bisect_right(firsts, first) - 1
            if place < 0:
                continue
            run = self._found.runs[place]
            numbers = range(first, min(last + 1, run.end))
            if held is None:
                run.gone.update(numbers)
            else:
                run.held.update(dict.fromkeys(numbers, held))
        for run in self._found.runs:
            for number in run.gone:
                run.held.pop(number, None)


def _bring_up_version_1(database: Database) -> None:
    """Give a store the tables of today. Version 1 had a row for each item, and no checksums."""
    scopes: list[Row] = database.rows("SELECT id, signal, header FROM scope")
    open_spans = {
        row[0]: OpenSpan(row[1], row[2])
        for row in database.rows("SELECT span_id, scope_id, payload FROM open_span ORDER BY rowid")
    }
    with database.transaction() as connection:
        statements: list[Statement] = [
            ("DROP TABLE scope", [()]),
            ("DROP TABLE open_span", [()]),
            *((statement, [()]) for statement in tables.TABLES[2:]),
            *(tables.add_scope(*row) for row in scopes),
            tables.add_open_spans(open_spans),
        ]
        for statement, rows in statements:
            connection.executemany(statement, rows)
        query = "SELECT id, signal, scope_id, payload, held FROM item ORDER BY id"
        together: list[Row] = []
        for row in connection.execute(query):
            if together and not _follows(together[-1], row):
                _insert(connection, together)
                together = []
            together.append(row)
        _insert(connection, together)
        connection.execute("DROP TABLE item")


def _follows(before: Row, row: Row) -> bool:
    return (before[0] + 1, *before[1:3], before[4]) == (*row[:3], row[4])


def _insert(connection: Any, together: list[Row]) -> None:
    """Write items of version 1 that can be one run, or several where they are too large."""
    if not together:
        return
    first, signal, scope_id, _, held = together[0]
    for payloads in cut([row[3] for row in together]):
        run = Run(first, signal, scope_id, [len(payload) for payload in payloads])
        statements = [tables.add_runs([(run, payloads)])]
        if held is not None:
            statements.append(tables.mark_items(run.ids, held))
        for statement, rows in statements:
            connection.executemany(statement, rows)
        first = run.end
