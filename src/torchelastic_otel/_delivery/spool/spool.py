"""What is recorded and not delivered yet, on the node's disk: one SQLite file per process.

What ``add`` returned from is in the operating system's hands: it survives the process, also SIGKILL. It is
not forced onto the disk, so that a job never waits for one; a power failure may take the last of it, or leave
a damaged file, of which all is sent that can still be read.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path

from ..._runtime.guard import say_once
from . import files, tables
from .files import SpoolError, StoreLock
from .items import Destination, Item
from .sqlite import Database
from .store import Held, Store


class Spool:
    """The items of one process. Safe for threads; a forked child must not use its parent's.

    Made by ``create``, ``create_in_memory`` and ``take_over``. Every method raises SpoolError where the disk
    refuses; what was there before is then unchanged.
    """

    def __init__(self, store: Store, owner: StoreLock | None) -> None:
        self._store = store
        self._owner = owner
        self._pid = os.getpid()
        self._closed = False
        self._lock = threading.Lock()

    @property
    def path(self) -> Path:
        """The file."""
        return self._store.path

    @property
    def destinations(self) -> Mapping[str, Destination]:
        """Where each signal was to go."""
        return self._store.destinations

    @property
    def damage(self) -> str:
        """What is wrong with the file, "" if nothing is known to be."""
        return self._store.damage

    @property
    def in_memory(self) -> bool:
        """Whether it ends with the process."""
        return self._store.database is None

    @property
    def dropped(self) -> int:
        """How many items went at the bound so far."""
        return self._store.drops.total()

    @property
    def drops(self) -> Counter[str]:
        """The same by signal; those of earlier owners are under ""."""
        return Counter(self._store.drops)

    @classmethod
    def create(
        cls,
        directory: Path,
        max_bytes: int,
        destinations: Mapping[str, Destination],
        lost: Mapping[str, int] | None = None,
    ) -> Spool:
        """Make a store for this process in ``directory``.

        Args:
            directory: made if it is not there; refused if others could put files there.
            max_bytes: bound of the items' bytes.
            destinations: where each signal is to go.
            lost: how many items of others went for it, by signal; they are counted with its own.
        """
        files.prepare_directory(directory)
        path, owner = files.new_store(directory)
        database = None
        try:
            files.make_file(path)
            database = Database(path)
            tables.make_tables(database, max_bytes, destinations)
        except BaseException:
            if database is not None:
                database.close()
            files.delete(path)
            owner.release(remove=True)
            raise
        store = Store(path, database, max_bytes, destinations)
        store.drops.update(lost or {})
        return cls(store, owner)

    @classmethod
    def create_in_memory(cls, max_bytes: int) -> Spool:
        """Make a store that takes the place of one on disk where there can be none."""
        return cls(Store(Path(":memory:"), None, max_bytes, {}), None)

    @classmethod
    def take_over(cls, path: Path, owner: StoreLock) -> Spool:
        """Open what an earlier process left, as far as it can be read.

        Args:
            path: of the store.
            owner: its lock, which the caller has taken and leaves to the store, unless this raises.

        Raises:
            ForeignError: a newer version made it.
            DamagedError: nothing of it can be read.
            SpoolError: not now, perhaps later.
        """
        files.check_files(path)
        database = Database(path)
        store = Store(path, database, 0, {})
        try:
            store.read()
        except BaseException:
            database.close()
            raise
        return cls(store, owner)

    @contextlib.contextmanager
    def _mine(self) -> Generator[Store, None, None]:
        """Let one thread at a time use the store, of the process that owns it."""
        # Before the lock, which a thread of the parent's may have held during the fork.
        if self._pid != os.getpid():
            raise SpoolError(f"{self.path} belongs to the process that forked this one.")
        with self._lock:
            if self._closed:
                raise files.ClosedError(f"{self.path} is closed.")
            yield self._store

    # What is recorded

    def scope(self, signal: str, header: bytes) -> int:
        """Return the id of a header, the same for the same bytes.

        Args:
            signal: ``logs`` or ``traces``.
            header: serialized ResourceLogs or ResourceSpans with one empty ScopeLogs or ScopeSpans.
        """
        with self._mine() as store:
            return store.scope(signal, header)

    def add(
        self,
        signal: str,
        scope_id: int,
        payloads: Sequence[bytes],
        last_ns: int,
        ended: Sequence[str] = (),
    ) -> list[int]:
        """Keep ``payloads``, all or none; return their ids, in order.

        At the bound the oldest items go, those that were added together at once; ``drops`` counts them.

        Args:
            signal: ``logs``, ``traces`` or ``metrics``.
            scope_id: which header they belong to.
            payloads: serialized LogRecords or Spans, or requests of metrics.
            last_ns: when the last of them happened (nanoseconds since the epoch).
            ended: spans that are open no more, since they are among ``payloads``.
        """
        with self._mine() as store:
            return store.add(signal, scope_id, payloads, last_ns, ended)

    def replace_metrics(self, payload: bytes) -> int:
        """Keep a request of metrics in place of the one before it, whose sums it includes."""
        with self._mine() as store:
            return store.replace_metrics(payload)

    def keep_open_span(self, span_id: str, scope_id: int, payload: bytes) -> None:
        """Keep a span that has begun, in case the process dies before it ends; again to replace it.

        Args:
            span_id: names it for ``forget_open_spans``.
            scope_id: which header it belongs to.
            payload: serialized Span without an end.
        """
        with self._mine() as store:
            store.keep_open_span(span_id, scope_id, payload)

    def forget_open_spans(self, span_ids: Sequence[str]) -> None:
        """Forget spans that have begun, for they have ended."""
        with self._mine() as store:
            store.forget_open_spans(span_ids)

    def truncate_open_spans(self) -> int:
        """Make an item of each span that never ended, marked as truncated; return how many.

        Each ends with the last that its process recorded, though not before its start. The bound does not
        count here: what becomes an item was there before. One that a bad disk spoiled is held.
        """
        with self._mine() as store:
            return store.truncate_open_spans()

    # What is sent

    def header(self, scope_id: int) -> bytes:
        """Return the header of that id; UnreadableError if it is not there as it was written."""
        with self._mine() as store:
            return store.header(scope_id)

    def load(self, ids: Sequence[int]) -> list[Item]:
        """Return the items of these ids that are still there, in that order."""
        with self._mine() as store:
            return store.load(ids)

    def pending(self, signal: str, after_id: int, limit: int) -> list[Item]:
        """Return the oldest items of ``signal`` after ``after_id`` that are not held, at most ``limit``."""
        with self._mine() as store:
            return store.load(store.pending(signal, after_id, limit))

    def has(self, number: int) -> bool:
        """Tell whether an item is still there; waits for no disk."""
        return not self._closed and self._store.has(number)

    def waiting(self, signal: str) -> int:
        """Return how many items of ``signal`` are left and not held; waits for no disk."""
        return 0 if self._closed else self._store.waiting(signal)

    def counts(self) -> dict[str, int]:
        """Return how many items are left, by signal: held ones too, open spans not."""
        with self._mine() as store:
            return store.counts()

    def left(self) -> int:
        """Return how many items and open spans are left."""
        with self._mine() as store:
            return store.left

    # What became of it

    def remove(self, ids: Sequence[int]) -> int:
        """Forget items: they have arrived, or never will. Return how many were still there.

        Those that a full disk keeps from being removed go with the next ones, or with the whole file.
        """
        with self._mine() as store:
            return store.remove(ids)

    def hold(self, ids: Sequence[int], why: str) -> None:
        """Keep items without sending them, until ``release_held``."""
        with self._mine() as store:
            store.hold(ids, why)

    def held(self) -> list[Held]:
        """Return how many items are held, by signal and reason."""
        with self._mine() as store:
            return store.held()

    def release_held(self) -> None:
        """Make all held items pending again."""
        with self._mine() as store:
            store.release_held()

    # Where it is

    def move_to(self, disk: Spool) -> None:
        """Write all that is in memory to ``disk``, just made, and be that one from now on."""
        with self._mine() as store, disk._mine() as other:
            store.move_to(other)
            self._owner, disk._owner, disk._closed = disk._owner, None, True

    def checkpoint(self) -> None:
        """Put all of it into the one file: what SQLite's log holds is lost with a single bit of it."""
        with self._mine() as store:
            if store.database is not None:
                store.database.checkpoint()

    def release_if_empty(self) -> bool:
        """Delete the file if nothing is left in it; whoever still asks for items of it finds none."""
        with self._mine() as store:
            if store.left or store.damage or store.database is None:
                return False
            store.database.close()
            files.delete(store.path)
            store.database, store.max_bytes = None, 0
            if self._owner is not None:
                self._owner.release(remove=True)
                self._owner = None
            return True

    def close(self) -> None:
        """Give the store up; its files go if nothing is left in it.

        A damaged one is renamed to ``*.damaged``, and what can be read of it goes on in a new store.
        """
        self._close(delete=False)

    def discard(self) -> None:
        """Give the store up and delete it, with all that is left in it."""
        self._close(delete=True)

    def _close(self, *, delete: bool) -> None:
        if self._pid != os.getpid():
            self.disown()
            return
        with self._lock:
            if self._closed:
                return
            self._closed = True
            store, owner = self._store, self._owner
            damaged = bool(store.damage) and not delete
            saved = _save(store) if damaged else True
            if store.database is not None:
                store.database.close()
            if owner is None:
                return
            if damaged and saved:
                files.set_aside(store.path)
            elif delete or not store.left:
                files.delete(store.path)
            owner.release(remove=not files.is_there(store.path))

    def disown(self) -> None:
        """In a forked child: leave the store to the parent, whatever its threads were doing."""
        if self._store.database is not None:
            self._store.database.disown()
        self._lock = threading.Lock()
        if self._owner is not None:
            self._owner.disown()


def _save(store: Store) -> bool:
    """Write what can be read of a damaged store to a new one; False if there is no room for it now."""
    spoiled = 0
    what = "Nothing more of it can be sent."
    try:
        if store.left:
            new = Spool.create(store.path.parent, store.max_bytes, store.destinations)
            try:
                with new._mine() as disk:
                    spoiled = store.rescue_to(disk)
                    what = f"{disk.left} items of it go on in {disk.path}, and {spoiled} cannot be read."
            except BaseException:
                new.discard()
                raise
            new.close()
    except SpoolError as error:
        say_once(f"spool {store.path}", f"{store.damage} What can be read of it stays there: {error}")
        return False
    aside = files.aside(store.path)
    say_once(f"spool {store.path}", f"{store.damage} It is now {aside}. {what}")
    return True
