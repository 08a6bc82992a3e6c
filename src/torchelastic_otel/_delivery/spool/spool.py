"""What is recorded and not delivered yet, on the node's disk: one SQLite file per process.

What ``add`` returned from is in the operating system's hands: it survives the process, also SIGKILL. It is
not forced onto the disk, so that a job never waits for one; a power failure may take the last of it, or leave
a damaged file, which is set aside.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..encoding import truncated
from . import files
from .files import SpoolError, StoreLock
from .items import Destination, Item
from .sqlite import Database, make_tables, read_tables

if TYPE_CHECKING:
    import sqlite3


_FORGET_OPEN_SPAN = "DELETE FROM open_span WHERE span_id = ?"


@dataclass(frozen=True, slots=True)
class Held:
    """How many items of a signal wait for somebody to act, and why."""

    signal: str
    why: str
    count: int


class Spool:
    """The items of one process. Safe for threads; a forked child must not use its parent's.

    Made by ``create``, ``create_in_memory`` and ``open_existing``. Every method raises SpoolError where the
    disk refuses; what was there before is then unchanged.
    """

    def __init__(self, path: Path, owner: StoreLock | None, database: Database) -> None:
        self.path = path
        self.dropped = 0
        """How many items went at the bound so far."""
        self.destinations: Mapping[str, Destination] = {}
        """Where each signal was to go."""
        self._owner = owner
        self._pid = os.getpid()
        self._database = database
        self._lock = threading.Lock()
        self._scopes: dict[tuple[str, bytes], int] = {}
        self._max_bytes = self._bytes = 0
        self._next_id = 1
        self._unremoved: frozenset[int] = frozenset()

    @property
    def in_memory(self) -> bool:
        """Whether it ends with the process."""
        return self._owner is None

    @classmethod
    def create(cls, directory: Path, max_bytes: int, destinations: Mapping[str, Destination]) -> Spool:
        """Make a store for this process in ``directory``.

        Args:
            directory: made if it is not there; refused if others could put files there.
            max_bytes: bound of the items' bytes.
            destinations: where each signal is to go.
        """
        files.prepare_directory(directory)
        owner = None
        while owner is None:  # one that removes lone locks may have taken this one for such
            path = files.new_store(directory)
            owner = StoreLock.take(path)
        try:
            files.make_file(path)
            spool = cls(path, owner, Database(path))
            spool._begin(max_bytes, destinations)
        except BaseException:
            files.delete(path)
            owner.release(remove=True)
            raise
        return spool

    @classmethod
    def create_in_memory(cls, max_bytes: int) -> Spool:
        """Make a store that takes the place of one on disk where there can be none."""
        spool = cls(Path(":memory:"), None, Database(None))
        spool._begin(max_bytes, {})
        return spool

    @classmethod
    def open_existing(cls, path: Path) -> Spool | None:
        """Take over the store of a process that is gone, or a copy of one; None if its owner lives."""
        files.check_directory(path.parent)
        if not os.path.lexists(path):
            raise SpoolError(f"{path} is not there.")
        owner = StoreLock.take(path)
        if owner is None:
            return None
        try:
            return cls.open_owned(path, owner)
        except BaseException:
            owner.release()
            raise

    @classmethod
    def open_owned(cls, path: Path, owner: StoreLock) -> Spool:
        """Open a store whose lock the caller has taken, and keep that with it."""
        files.check_files(path)
        spool = cls(path, owner, Database(path))
        try:
            spool._read()
        except BaseException:
            spool._database.close()
            raise
        return spool

    def _begin(self, max_bytes: int, destinations: Mapping[str, Destination]) -> None:
        try:
            with self._transaction() as connection:
                make_tables(connection, max_bytes, destinations)
        except BaseException:
            self._database.close()
            raise
        self._max_bytes = max_bytes
        self.destinations = dict(destinations)

    def _read(self) -> None:
        """Read what an earlier process left."""
        with self._transaction() as connection:
            found = read_tables(self.path, connection)
        if found is None:  # its process died at once
            self._begin(0, {})
            return
        self._max_bytes, self._bytes, self.dropped = found.max_bytes, found.item_bytes, found.dropped
        self._next_id = found.last_id + 1
        self.destinations = found.destinations

    @contextlib.contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection, None, None]:
        # Before the lock, which a thread of the parent's may have held during the fork.
        if self._pid != os.getpid():
            raise SpoolError(f"{self.path} belongs to the process that forked this one.")
        with self._lock:
            before = self._bytes, self.dropped
            try:
                with self._database.transaction() as connection:
                    yield connection
            except BaseException:
                self._bytes, self.dropped = before
                raise

    def scope(self, signal: str, header: bytes) -> int:
        """Return the id of a header, the same for the same bytes.

        Args:
            signal: ``logs`` or ``traces``.
            header: serialized ResourceLogs or ResourceSpans with one empty ScopeLogs or ScopeSpans.
        """
        scope_id = self._scopes.get((signal, header))
        if scope_id is None:
            key = (signal, header)
            with self._transaction() as connection:
                query = "SELECT id FROM scope WHERE signal = ? AND header = ?"
                if connection.execute(query, key).fetchone() is None:
                    connection.execute("INSERT INTO scope (signal, header) VALUES (?, ?)", key)
                scope_id = int(connection.execute(query, key).fetchone()[0])
            self._scopes[key] = scope_id
        return scope_id

    def header(self, scope_id: int) -> bytes:
        """Return the header of that id."""
        with self._transaction() as connection:
            row = connection.execute("SELECT header FROM scope WHERE id = ?", (scope_id,)).fetchone()
        if row is None:
            raise SpoolError(f"{self.path} has no scope {scope_id}.")
        return bytes(row[0])

    def add(
        self,
        signal: str,
        scope_id: int,
        payloads: Sequence[bytes],
        last_ns: int,
        ended: Sequence[str] = (),
    ) -> list[int]:
        """Keep ``payloads``, all or none; return their ids, in order.

        At the bound the oldest items go, and are counted in ``dropped``.

        Args:
            signal: ``logs`` or ``traces``.
            scope_id: which header they belong to.
            payloads: serialized LogRecords or Spans.
            last_ns: when the last of them happened (nanoseconds since the epoch).
            ended: spans that are open no more, since they are among ``payloads``.
        """
        with self._transaction() as connection:
            connection.executemany(_FORGET_OPEN_SPAN, [(span_id,) for span_id in ended])
            ids = self._insert(connection, signal, scope_id, payloads)
            self._drop_oldest(connection)
            connection.execute(
                "UPDATE store SET last_ns = max(last_ns, ?), dropped = ?", (last_ns, self.dropped)
            )
        return ids

    def replace_metrics(self, payload: bytes) -> int:
        """Keep a request of metrics in place of the one before it, whose sums it includes."""
        with self._transaction() as connection:
            old = connection.execute("SELECT id FROM item WHERE signal = 'metrics'").fetchall()
            self._delete(connection, [number for (number,) in old])
            ids = self._insert(connection, "metrics", 0, [payload])
            self._drop_oldest(connection)
            connection.execute("UPDATE store SET dropped = ?", (self.dropped,))
        return ids[0]

    def _insert(
        self, connection: sqlite3.Connection, signal: str, scope_id: int, payloads: Sequence[bytes]
    ) -> list[int]:
        # SQLite would give the last id again once its item is removed, and a sender may still know it.
        ids = list(range(self._next_id, self._next_id + len(payloads)))
        self._next_id += len(payloads)
        connection.executemany(
            "INSERT INTO item VALUES (?, ?, ?, ?, NULL)",
            [(number, signal, scope_id, payload) for number, payload in zip(ids, payloads, strict=True)],
        )
        self._bytes += sum(map(len, payloads))
        return ids

    def _drop_oldest(self, connection: sqlite3.Connection) -> None:
        if self._bytes <= self._max_bytes:
            return
        oldest = []
        for number, length in connection.execute("SELECT id, length(payload) FROM item ORDER BY id"):
            oldest.append((number,))
            self._bytes -= length
            if self._bytes <= self._max_bytes:
                break
        self.dropped += len(oldest)
        connection.executemany("DELETE FROM item WHERE id = ?", oldest)

    def _delete(self, connection: sqlite3.Connection, ids: Sequence[int]) -> None:
        for number in ids:
            row = connection.execute("SELECT length(payload) FROM item WHERE id = ?", (number,)).fetchone()
            if row is not None:
                connection.execute("DELETE FROM item WHERE id = ?", (number,))
                self._bytes -= row[0]

    def keep_open_span(self, span_id: str, scope_id: int, payload: bytes) -> None:
        """Keep a span that has begun, in case the process dies before it ends; again to replace it.

        Args:
            span_id: names it for ``forget_open_spans``.
            scope_id: which header it belongs to.
            payload: serialized Span without an end.
        """
        with self._transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO open_span VALUES (?, ?, ?)", (span_id, scope_id, payload)
            )

    def forget_open_spans(self, span_ids: Sequence[str]) -> None:
        """Forget spans that have begun, for they have ended."""
        with self._transaction() as connection:
            connection.executemany(_FORGET_OPEN_SPAN, [(span_id,) for span_id in span_ids])

    def truncate_open_spans(self) -> int:
        """Make an item of each span that never ended, marked as truncated; return how many.

        Each ends with the last that its process recorded, though not before its start. The bound does not
        count here: what becomes an item was there before.
        """
        with self._transaction() as connection:
            last_ns = connection.execute("SELECT last_ns FROM store").fetchone()[0]
            rows = connection.execute("SELECT scope_id, payload FROM open_span ORDER BY rowid").fetchall()
            count = 0
            for scope_id, begun in rows:
                span = truncated(begun, last_ns)
                if span is None:  # what a power failure left of it
                    self.dropped += 1
                    continue
                self._insert(connection, "traces", scope_id, [span])
                count += 1
            connection.execute("DELETE FROM open_span")
            connection.execute("UPDATE store SET dropped = ?", (self.dropped,))
        return count

    def load(self, ids: Sequence[int]) -> list[Item]:
        """Return the items of these ids that are still there, in that order."""
        query = "SELECT id, signal, scope_id, payload FROM item WHERE id = ?"
        with self._transaction() as connection:
            rows = [connection.execute(query, (number,)).fetchone() for number in ids]
        return [Item(*row) for row in rows if row is not None]

    def pending(self, signal: str, after_id: int, limit: int) -> list[Item]:
        """Return the oldest items of ``signal`` after ``after_id`` that are not held, at most ``limit``."""
        with self._transaction() as connection:
            rows = connection.execute(
                "SELECT id, signal, scope_id, payload FROM item "
                "WHERE signal = ? AND held IS NULL AND id > ? ORDER BY id LIMIT ?",
                (signal, after_id, limit),
            ).fetchall()
        return [Item(*row) for row in rows]

    def remove(self, ids: Sequence[int]) -> None:
        """Forget items: they have arrived, or never will.

        Those that a full disk keeps from being removed go with the next ones, or with the whole file.
        """
        try:
            with self._transaction() as connection:
                self._delete(connection, [*self._unremoved, *ids])
        except SpoolError:
            self._unremoved |= frozenset(ids)
            raise
        self._unremoved = frozenset()

    def hold(self, ids: Sequence[int], why: str) -> None:
        """Keep items without sending them, until ``release_held``."""
        with self._transaction() as connection:
            connection.executemany("UPDATE item SET held = ? WHERE id = ?", [(why, number) for number in ids])

    def held(self) -> list[Held]:
        """Return how many items are held, by signal and reason."""
        with self._transaction() as connection:
            rows = connection.execute(
                "SELECT signal, held, count(*) FROM item WHERE held IS NOT NULL GROUP BY signal, held"
            ).fetchall()
        return [Held(*row) for row in rows]

    def release_held(self) -> None:
        """Make all held items pending again."""
        with self._transaction() as connection:
            connection.execute("UPDATE item SET held = NULL WHERE held IS NOT NULL")

    def counts(self) -> dict[str, int]:
        """Return how many items are left, by signal: held ones too, open spans not."""
        with self._transaction() as connection:
            return dict(connection.execute("SELECT signal, count(*) FROM item GROUP BY signal").fetchall())

    def left(self) -> int:
        """Return how many items and open spans are left."""
        with self._transaction() as connection:
            return _left(connection, self._unremoved)

    def close(self) -> None:
        """Give the store up; its files go if nothing is left in it."""
        self._close(delete=False)

    def discard(self) -> None:
        """Give the store up and delete it, with all that is left in it."""
        self._close(delete=True)

    def _close(self, *, delete: bool) -> None:
        if self._pid != os.getpid():
            self.disown()
            return
        with self._lock:
            if self._database.closed:
                return
            with contextlib.suppress(SpoolError), self._database.transaction() as connection:
                delete = delete or not _left(connection, self._unremoved)
            self._database.close()
            if self._owner is not None:
                if delete:
                    files.delete(self.path)
                self._owner.release(remove=delete)

    def disown(self) -> None:
        """In a forked child: leave the store to the parent, whatever its threads were doing."""
        self._database.disown()
        self._lock = threading.Lock()
        if self._owner is not None:
            self._owner.disown()


def _left(connection: sqlite3.Connection, unremoved: Iterable[int]) -> int:
    query = "SELECT (SELECT count(*) FROM item) + (SELECT count(*) FROM open_span)"
    left: int = connection.execute(query).fetchone()[0]
    for number in unremoved:
        left -= connection.execute("SELECT count(*) FROM item WHERE id = ?", (number,)).fetchone()[0]
    return left
