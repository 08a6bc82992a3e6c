"""The spool's SQLite file: how it is opened, its tables, and what SQLite's errors mean."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from .files import SpoolError
from .items import Destination

if TYPE_CHECKING:
    import sqlite3

_VERSION = 1
_TABLES = (
    "CREATE TABLE store (max_bytes INTEGER, last_ns INTEGER, dropped INTEGER)",
    "CREATE TABLE destination (signal TEXT PRIMARY KEY, endpoint TEXT, fingerprint TEXT)",
    "CREATE TABLE scope (id INTEGER PRIMARY KEY, signal TEXT, header BLOB)",
    "CREATE TABLE item (id INTEGER PRIMARY KEY, signal TEXT, scope_id INTEGER, payload BLOB, held TEXT)",
    "CREATE INDEX item_by_signal ON item (signal, held)",
    "CREATE TABLE open_span (span_id TEXT PRIMARY KEY, scope_id INTEGER, payload BLOB)",
    f"PRAGMA user_version={_VERSION}",
)
_BUSY_S = 0.2
# A checkpoint copies that many pages (1 MB) within an add: short enough for none to be noticed.
_CHECKPOINT_PAGES = 256


class DamagedError(SpoolError):
    """The file is no store that this version can read."""


class Database:
    """A connection to a store's file, which is there, or to memory (None). For one thread at a time."""

    def __init__(self, path: Path | None) -> None:
        self._path = path or Path(":memory:")
        self._connection: sqlite3.Connection | None = _connect(path)

    @property
    def closed(self) -> bool:
        """Whether it was closed or disowned."""
        return self._connection is None

    @contextlib.contextmanager
    def transaction(self) -> Generator[sqlite3.Connection, None, None]:
        """Do all of what is in it or nothing; SpoolError where the disk refuses."""
        import sqlite3

        connection = self._connection
        if connection is None:
            raise SpoolError(f"{self._path} is closed.")
        try:
            connection.execute("BEGIN")
            yield connection
            connection.execute("COMMIT")
        except BaseException as error:
            with contextlib.suppress(sqlite3.Error):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise _explained(self._path, error) from error
            raise

    def close(self) -> None:
        """Close the connection; again does nothing."""
        import sqlite3

        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def disown(self) -> None:
        """In a forked child: leave the connection to the parent."""
        if self._connection is not None:
            # Closing it, be it when it is freed, would remove SQLite's log under the parent, or wait for a
            # thread that is not there in the child.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._connection))
            self._connection = None


def _connect(path: Path | None) -> sqlite3.Connection:
    try:
        import sqlite3
    except ImportError as error:
        raise SpoolError(f"This Python has no sqlite3 ({error}): install one that has.") from error

    # Not by its plain path: SQLite would make a file that is not there.
    name = ":memory:" if path is None else f"file:{quote(os.fsencode(path.absolute()))}?mode=rw"
    shown = path or Path(name)
    try:
        connection = sqlite3.connect(
            name, timeout=_BUSY_S, isolation_level=None, check_same_thread=False, uri=True
        )
    except sqlite3.Error as error:
        raise _explained(shown, error) from error
    try:
        # No file is mapped into memory, for there a failing disk is a fatal signal. SQLite would map one to
        # share it with other processes; but none opens the store while its lock is held.
        connection.execute("PRAGMA mmap_size = 0").fetchall()
        connection.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
        connection.execute("PRAGMA synchronous = OFF")
        if not _has_wal(connection):
            connection.execute("PRAGMA journal_mode = TRUNCATE").fetchall()
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    except sqlite3.Error as error:
        connection.close()
        raise _explained(shown, error) from error
    return connection


def _has_wal(connection: sqlite3.Connection) -> bool:
    """Switch to the write-ahead log; False where the file system cannot have one."""
    import sqlite3

    try:
        return bool(connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] == "wal")
    except sqlite3.OperationalError:  # whatever else is wrong, the next statement says
        return False


def make_tables(
    connection: sqlite3.Connection, max_bytes: int, destinations: Mapping[str, Destination]
) -> None:
    """Make the tables of a new store."""
    rows = [(signal, place.endpoint, place.fingerprint) for signal, place in destinations.items()]
    for statement in _TABLES:
        connection.execute(statement)
    connection.execute("INSERT INTO store VALUES (?, 0, 0)", (max_bytes,))
    connection.executemany("INSERT INTO destination VALUES (?, ?, ?)", rows)


@dataclass(frozen=True, slots=True)
class Found:
    """What is in a store that an earlier process left."""

    max_bytes: int
    item_bytes: int
    """Bytes of its items together."""
    dropped: int
    """Items that it dropped at its bound."""
    last_id: int
    """The highest id of an item, 0 if there is none."""
    destinations: dict[str, Destination]


def read_tables(path: Path, connection: sqlite3.Connection) -> Found | None:
    """Return what is in a store; None if it has no tables. DamagedError if this version cannot read it."""
    if not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
        return None
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version != _VERSION:
        raise DamagedError(f"{path} has version {version}, and only {_VERSION} can be read.")
    check = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if check != "ok":
        raise DamagedError(f"{path} is damaged ({check}).")
    max_bytes, dropped = connection.execute("SELECT max_bytes, dropped FROM store").fetchone()
    item_bytes, last_id = connection.execute(
        "SELECT ifnull(sum(length(payload)), 0), ifnull(max(id), 0) FROM item"
    ).fetchone()
    places = connection.execute("SELECT signal, endpoint, fingerprint FROM destination").fetchall()
    destinations = {signal: Destination(*place) for signal, *place in places}
    return Found(max_bytes, item_bytes, dropped, last_id, destinations)


_ADVICE = {
    "full": "make room on its file system",
    "readonly": "its file system or the file does not let it be written",
    "locked": "another program has it open, which is to close it",
    "I/O": "see its file system, the user's quota and the limit of file sizes",
}


def _explained(path: Path, error: sqlite3.Error) -> SpoolError:
    """Return what to raise for ``error``."""
    import sqlite3

    if type(error) is sqlite3.DatabaseError:  # its subclasses are about the disk or the query
        return DamagedError(f"{path} is damaged ({error}).")
    advice = next((f": {advice}" for word, advice in _ADVICE.items() if word in str(error)), "")
    return SpoolError(f"{path} cannot be used ({error}){advice}.")
