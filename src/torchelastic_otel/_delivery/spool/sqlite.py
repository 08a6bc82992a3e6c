"""The spool's SQLite file: how it is opened, its tables, and what SQLite's errors mean."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from .files import SpoolError

if TYPE_CHECKING:
    import sqlite3

VERSION = 1
SCHEMA = (
    "CREATE TABLE store (max_bytes INTEGER, last_ns INTEGER, dropped INTEGER)",
    "CREATE TABLE destination (signal TEXT PRIMARY KEY, endpoint TEXT, fingerprint TEXT)",
    "CREATE TABLE scope (id INTEGER PRIMARY KEY, signal TEXT, header BLOB)",
    "CREATE TABLE item (id INTEGER PRIMARY KEY, signal TEXT, scope_id INTEGER, payload BLOB, held TEXT)",
    "CREATE INDEX item_by_signal ON item (signal, held)",
    "CREATE TABLE open_span (span_id TEXT PRIMARY KEY, scope_id INTEGER, payload BLOB)",
    f"PRAGMA user_version={VERSION}",
)
_BUSY_S = 0.2
# A checkpoint copies that many pages (1 MB) within an add: short enough for none to be noticed.
_CHECKPOINT_PAGES = 256


class DamagedError(SpoolError):
    """The file is no store that this version can read."""


def connect(path: Path | None) -> sqlite3.Connection:
    """Connect to a store's file, which is there, or to memory."""
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
        raise explained(shown, error) from error
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
        raise explained(shown, error) from error
    return connection


def _has_wal(connection: sqlite3.Connection) -> bool:
    """Switch to the write-ahead log; False where the file system cannot have one."""
    import sqlite3

    try:
        return bool(connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] == "wal")
    except sqlite3.OperationalError:  # whatever else is wrong, the next statement says
        return False


_ADVICE = {
    "full": "make room on its file system",
    "readonly": "its file system or the file does not let it be written",
    "locked": "another program has it open, which is to close it",
    "I/O": "see its file system, the user's quota and the limit of file sizes",
}


def explained(path: Path, error: sqlite3.Error) -> SpoolError:
    """Return what to raise for ``error``."""
    import sqlite3

    if type(error) is sqlite3.DatabaseError:  # its subclasses are about the disk or the query
        return DamagedError(f"{path} is damaged ({error}).")
    advice = next((f": {advice}" for word, advice in _ADVICE.items() if word in str(error)), "")
    return SpoolError(f"{path} cannot be used ({error}){advice}.")
