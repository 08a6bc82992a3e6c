"""Where a process keeps what it has to send: its spool, or memory where the disk does not do its part."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from .._runtime.guard import say_once
from .encoding import Encoded
from .memory import Memory
from .spool import Item, Spool, SpoolError

_DISK_AGAIN_S = 60.0


class Store(Protocol):
    """Keeps items until they are delivered: the spool on disk, or memory.

    Arguments and results are those of ``Spool``. What is on a disk raises SpoolError where that refuses.
    """

    @property
    def path(self) -> Path:
        """Where it is, for messages."""

    @property
    def in_memory(self) -> bool:
        """Whether it ends with the process."""

    def scope(self, signal: str, header: bytes) -> int:
        """Return the id of a header."""

    def header(self, scope_id: int) -> bytes:
        """Return the header of that id."""

    def add(
        self, signal: str, scope_id: int, payloads: Sequence[bytes], last_ns: int, ended: Sequence[str] = ()
    ) -> list[int]:
        """Keep items; return their ids, in order."""

    def replace_metrics(self, payload: bytes) -> int:
        """Keep a request of metrics in place of those before it."""

    def keep_open_span(self, span_id: str, scope_id: int, payload: bytes) -> None:
        """Keep what is known of a span that has not ended."""

    def forget_open_spans(self, span_ids: Sequence[str]) -> None:
        """Forget spans that have ended."""

    def load(self, ids: Sequence[int]) -> list[Item]:
        """Return the items of these ids that are still there, in that order."""

    def remove(self, ids: Sequence[int]) -> None:
        """Forget items."""

    def hold(self, ids: Sequence[int], why: str) -> None:
        """Keep items that are not to be sent by this process."""

    def close(self) -> None:
        """Give it up."""

    def disown(self) -> None:
        """In a forked child: leave all of it to the parent."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Where an item is kept until it is delivered."""

    store: Store
    id: int

    @property
    def in_memory(self) -> bool:
        """Whether it ends with the process."""
        return self.store.in_memory


class DiskOrMemory:
    """The process's spool; memory takes its place when the disk does not do its part.

    Args:
        open_spool: opens the spool on disk; None to do without.
        memory_bytes: bound of what is kept in memory.
    """

    def __init__(self, open_spool: Callable[[], Spool] | None, memory_bytes: int) -> None:
        self._open = open_spool
        self._lock = threading.Lock()
        self._disk: Spool | None = None
        self._memory = Memory(memory_bytes)
        self._disk_again_s = 0.0
        self._retired_drops = 0

    @property
    def on_disk(self) -> bool:
        """Whether what is recorded now goes to the disk."""
        return self._open is not None and time.monotonic() >= self._disk_again_s

    def keep(self, signal: str, encoded: Encoded, last_ns: int, ended: Sequence[str]) -> list[Kept]:
        """Keep items; return where, in order. The arguments are those of ``Outbox.keep``."""

        def add(store: Store) -> list[int]:
            return store.add(signal, store.scope(signal, encoded.header), encoded.payloads, last_ns, ended)

        return self._write(add)

    def keep_last_metrics(self, request: bytes) -> Kept:
        """Keep a request of metrics in place of the one before it."""
        (kept,) = self._write(lambda store: [store.replace_metrics(request)])
        return kept

    def keep_open_span(self, signal: str, span_id: str, encoded: Encoded) -> None:
        """Keep what is known of a span that has not ended."""

        def keep(store: Store) -> list[int]:
            scope_id = store.scope(signal, encoded.header)
            for payload in encoded.payloads:
                store.keep_open_span(span_id, scope_id, payload)
            return []

        self._write(keep)

    def forget_open_spans(self, span_ids: Sequence[str]) -> None:
        """Forget spans that have ended if they are open on the disk, as far as it lets it."""
        with self._lock, contextlib.suppress(SpoolError):
            if self._disk is not None:
                self._disk.forget_open_spans(span_ids)

    def _write(self, action: Callable[[Store], list[int]]) -> list[Kept]:
        """Do ``action`` on the spool; while its disk refuses, say so once and go on in memory."""
        with self._lock:
            if self.on_disk and self._open is not None:
                try:
                    self._disk = self._disk or self._open()
                    return _written(self._disk, action(self._disk))
                except SpoolError as error:
                    self._disk_again_s = time.monotonic() + _DISK_AGAIN_S
                    say_once("spool", f"{error} Telemetry is kept in memory until it is sent.")
            return _written(self._memory, action(self._memory))

    @property
    def dropped(self) -> int:
        """Items dropped at the bounds so far."""
        on_disk = self._disk.dropped if self._disk is not None else 0
        return self._retired_drops + self._memory.dropped + on_disk

    def retire(self) -> None:
        """Give both up; files go if nothing is left in them. What is recorded later opens new ones."""
        with self._lock:
            if self._disk is not None:
                self._retired_drops += self._disk.dropped
                self._disk.close()
                self._disk = None
            self._memory.close()

    def disown(self) -> None:
        """In a forked child: leave everything to the parent."""
        if self._disk is not None:
            self._disk.disown()
        self._memory.disown()


def _written(store: Spool | Memory, ids: list[int]) -> list[Kept]:
    if store.dropped:
        say_once(
            "spool full",
            f"the spool {store.path} is full (TORCHELASTIC_OTEL_SPOOL_MAX_BYTES): the oldest goes, "
            "and is counted in torchelastic_otel.dropped.",
        )
    return [Kept(store, number) for number in ids]
