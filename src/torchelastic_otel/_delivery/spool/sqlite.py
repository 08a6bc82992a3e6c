"""The spool's SQLite file: how it is opened, how it is written, and what SQLite's errors mean."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote

from .files import SpoolError

if TYPE_CHECKING:
    import sqlite3

Statement: TypeAlias = "tuple[str, Sequence[tuple[Any, ...]]]"
"""A statement, and the values for each time that it is to run: whatever SQLite takes, hence Any."""

_BUSY_S = 0.2
# A checkpoint copies that many pages (1 MB) within an add: short enough for none to be noticed.
_CHECKPOINT_PAGES = 256


class DamagedError(SpoolError):
    """The file, or a part of it, is not what was written."""


class ForeignError(SpoolError):
    """A newer version of this package wrote the file."""


class Database:
    """A connection to a store's file, which is there. For one thread at a time.

    Each statement is a moment in which the interpreter is given away: beside busy threads that costs more
    than all that SQLite does. So there are as few as can be.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = _connect(path)

    @property
    def closed(self) -> bool:
        """Whether it was closed or disowned."""
        return self._connection is None

    def change(self, statements: Sequence[Statement]) -> None:
        """Do all of them or none; SpoolError where the disk refuses."""
        wanted = [(statement, rows) for statement, rows in statements if rows]
        if len(wanted) == 1 and len(wanted[0][1]) == 1:  # SQLite makes a transaction of it by itself
            with self._told() as connection:
                connection.execute(wanted[0][0], wanted[0][1][0])
        elif wanted:
            with self.transaction() as connection:
                for statement, rows in wanted:
                    connection.executemany(statement, rows)

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return what a statement finds; SpoolError where the disk refuses."""
        with self._told() as connection:
            return connection.execute(statement, values).fetchall()

    @contextlib.contextmanager
    def transaction(self) -> Generator[sqlite3.Connection, None, None]:
        """Do all of what is in it or nothing; SpoolError where the disk refuses."""
        import sqlite3

        with self._told() as connection:
            connection.execute("BEGIN")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _told(self) -> Generator[sqlite3.Connection, None, None]:
        """Say SQLite's errors in our words."""
        import sqlite3

        if self._connection is None:
            raise SpoolError(f"{self.path} is closed.")
        try:
            yield self._connection
        except sqlite3.Error as error:
            raise _explained(self.path, error) from error

    def checkpoint(self) -> None:
        """Write what is in SQLite's log to the file, and empty the log."""
        self.rows("PRAGMA wal_checkpoint(TRUNCATE)")

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
            # Closing it would remove SQLite's log under the parent, or wait for a thread that is not there in
            # the child, and freeing it closes it. A list would keep it alive only until the interpreter ends,
            # which frees what modules have.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._connection))
            self._connection = None


def _connect(path: Path) -> sqlite3.Connection:
    try:
        import sqlite3
    except ImportError as error:
        raise SpoolError(f"This Python has no sqlite3 ({error}): install one that has.") from error

    # Not by its plain path: SQLite would make a file that is not there.
    name = f"file:{quote(os.fsencode(path.absolute()))}?mode=rw"
    try:
        connection = sqlite3.connect(
            name, timeout=_BUSY_S, isolation_level=None, check_same_thread=False, uri=True
        )
    except sqlite3.Error as error:
        raise _explained(path, error) from error
    connection.text_factory = _text
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
        raise _explained(path, error) from error
    return connection


def _text(data: bytes) -> str:
    """Return a text as it stands in the file, also where a bad disk spoiled it."""
    return data.decode(errors="replace")


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


def _explained(path: Path, error: sqlite3.Error) -> SpoolError:
    """Return what to raise for ``error``."""
    import sqlite3

    if type(error) is sqlite3.DatabaseError:  # its subclasses are about the disk or the query
        return DamagedError(f"{path} is damaged ({error}).")
    advice = next((f": {advice}" for word, advice in _ADVICE.items() if word in str(error)), "")
    return SpoolError(f"{path} cannot be used ({error}){advice}.")
