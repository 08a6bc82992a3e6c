"""What is kept where there is no disk: items in this process, as many as fit, until it ends."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from .spool import Item


class Memory:
    """The items of one process that are on no disk. Needs no SQLite. Safe for threads.

    Args:
        max_bytes: bound of the items' bytes; beyond it the oldest go.
    """

    path = Path("memory")
    in_memory = True

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.dropped = 0
        """How many items went at the bound so far."""
        self._lock = threading.Lock()
        self._items: dict[int, Item] = {}
        self._scopes: dict[tuple[str, bytes], int] = {}
        self._headers: dict[int, bytes] = {}
        self._bytes = 0
        self._last_id = 0

    def scope(self, signal: str, header: bytes) -> int:
        """Return the id of a header, the same for the same bytes."""
        with self._lock:
            scope_id = self._scopes.setdefault((signal, header), len(self._scopes) + 1)
            self._headers[scope_id] = header
            return scope_id

    def header(self, scope_id: int) -> bytes:
        """Return the header of that id."""
        return self._headers[scope_id]

    def add(
        self,
        signal: str,
        scope_id: int,
        payloads: Sequence[bytes],
        last_ns: int = 0,
        ended: Sequence[str] = (),
    ) -> list[int]:
        """Keep ``payloads``; return their ids, in order. At the bound the oldest items go."""
        with self._lock:
            return [self._add(signal, scope_id, payload) for payload in payloads]

    def _add(self, signal: str, scope_id: int, payload: bytes) -> int:
        self._last_id += 1
        self._items[self._last_id] = Item(self._last_id, signal, scope_id, payload)
        self._bytes += len(payload)
        while self._bytes > self._max_bytes:
            self._remove(next(iter(self._items)))
            self.dropped += 1
        return self._last_id

    def replace_metrics(self, payload: bytes) -> int:
        """Keep a request of metrics in place of those before it."""
        with self._lock:
            for old in [item for item in self._items.values() if item.signal == "metrics"]:
                self._remove(old.id)
            return self._add("metrics", 0, payload)

    def keep_open_span(self, span_id: str, scope_id: int, payload: bytes) -> None:
        """Do nothing: what ends with the process need not be kept for its end."""

    def forget_open_spans(self, span_ids: Sequence[str]) -> None:
        """Do nothing: none is kept."""

    def load(self, ids: Sequence[int]) -> list[Item]:
        """Return the items of these ids that are still there, in that order."""
        with self._lock:
            return [self._items[number] for number in ids if number in self._items]

    def remove(self, ids: Sequence[int]) -> None:
        """Forget items: they have arrived, or never will."""
        with self._lock:
            for number in ids:
                self._remove(number)

    def _remove(self, number: int) -> None:
        item = self._items.pop(number, None)
        if item is not None:
            self._bytes -= len(item.payload)

    def hold(self, ids: Sequence[int], why: str) -> None:
        """Forget items: nobody can come and send them after this process."""
        self.remove(ids)

    def close(self) -> None:
        """Give up what is left."""
        with self._lock:
            self._items.clear()
            self._bytes = 0

    def disown(self) -> None:
        """In a forked child: leave all of it to the parent, whatever its threads were doing."""
        self._lock = threading.Lock()
        self.close()
