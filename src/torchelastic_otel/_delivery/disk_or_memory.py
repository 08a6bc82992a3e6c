"""Where a process keeps what it has to send: its spool, or memory where the disk does not do its part."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .._runtime.guard import note_internal_error, say_once
from .._runtime.own_thread import as_own_thread
from .encoding import Encoded
from .spool import Spool, SpoolError, leave_to_parent

_DISK_AGAIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Kept:
    """Where an item is kept until it is delivered."""

    store: Spool
    id: int

    @property
    def in_memory(self) -> bool:
        """Whether it ends with the process."""
        return self.store.in_memory

    @property
    def there(self) -> bool:
        """Whether it still is: at a bound the oldest go."""
        return self.store.has(self.id)


class DiskOrMemory:
    """The process's spool; memory takes its place when the disk does not do its part.

    What went to memory is written to the disk as soon as it takes something again.

    Args:
        open_spool: opens the spool on disk; None to do without.
        memory_bytes: bound of what is kept in memory.
    """

    def __init__(self, open_spool: Callable[[], Spool] | None, memory_bytes: int) -> None:
        self._open = open_spool
        self._memory_bytes = memory_bytes
        self._lock = threading.Lock()
        self._spools: list[Spool] = []  # the last one takes what is recorded now
        self._gone_drops: Counter[str] = Counter()  # of those that were given up
        self._again_s = 0.0
        self._retrying: threading.Thread | None = None
        self._ended = threading.Event()

    def keep(self, signal: str, encoded: Encoded, last_ns: int, ended: Sequence[str]) -> list[Kept]:
        """Keep items; return where, in order. The arguments are those of ``Outbox.keep``."""

        def add(spool: Spool) -> list[int]:
            return spool.add(signal, spool.scope(signal, encoded.header), encoded.payloads, last_ns, ended)

        return self._write(add)

    def keep_last_metrics(self, request: bytes) -> Kept:
        """Keep a request of metrics in place of the one before it."""
        (kept,) = self._write(lambda spool: [spool.replace_metrics(request)])
        return kept

    def keep_open_span(self, signal: str, span_id: str, encoded: Encoded) -> None:
        """Keep what is known of a span that has not ended."""

        def keep(spool: Spool) -> list[int]:
            scope_id = spool.scope(signal, encoded.header)
            for payload in encoded.payloads:
                spool.keep_open_span(span_id, scope_id, payload)
            return []

        self._write(keep)

    def forget_open_spans(self, span_ids: Sequence[str]) -> None:
        """Forget spans that have ended wherever they are open, as far as the disk lets it."""
        with self._lock:
            for spool in self._spools:
                with contextlib.suppress(SpoolError):
                    spool.forget_open_spans(span_ids)

    def _write(self, action: Callable[[Spool], list[int]]) -> list[Kept]:
        """Do ``action`` on the spool; while its disk refuses, say so once and go on in memory."""
        with self._lock:
            self._to_disk()
            if self._spools and not self._spools[-1].in_memory:
                try:
                    return _kept(self._spools[-1], action)
                except SpoolError as error:
                    self._refused(error)
            if not self._spools or not self._spools[-1].in_memory:
                self._spools.append(Spool.create_in_memory(self._memory_bytes))
            return _kept(self._spools[-1], action)

    def _to_disk(self, *, at_once: bool = False) -> None:
        """Open a spool on disk, and write what is in memory to it, unless the disk refused a while ago."""
        memory = self._spools[-1] if self._spools else None
        if self._open is None or (memory is not None and not memory.in_memory):
            return
        if time.monotonic() < self._again_s and not at_once:
            return
        try:
            disk = self._open()
            if memory is None:
                self._spools.append(disk)
                return
            try:
                memory.move_to(disk)
            except BaseException:
                disk.discard()
                raise
        except SpoolError as error:
            self._refused(error)
            return
        say_once(
            "spool again",
            f"the spool can be written again: what was in memory is in {memory.path}.",
            level=logging.INFO,
        )
        for spool in self._spools[:-1]:
            if spool.release_if_empty():
                self._spools.remove(spool)
                self._gone_drops.update(spool.drops)

    def _refused(self, error: SpoolError) -> None:
        say_once("spool", f"{error} Telemetry is kept in memory until it is sent or the disk takes it.")
        self._again_s = time.monotonic() + _DISK_AGAIN_S
        if self._retrying is None and not self._ended.is_set():
            self._retrying = threading.Thread(target=self._retry, name="torchelastic-otel-disk", daemon=True)
            try:
                self._retrying.start()
            except RuntimeError:  # the interpreter is ending, and tries once more by itself
                self._retrying = None

    def _retry(self) -> None:
        """Try the disk again though nothing is recorded, until it takes what is in memory."""
        as_own_thread()
        try:
            while not self._ended.wait(max(0.0, self._again_s - time.monotonic())):
                with self._lock:
                    self._to_disk()
                    if not self._spools or not self._spools[-1].in_memory:
                        self._retrying = None
                        return
        except Exception as error:
            note_internal_error("writing to the disk again", error)

    @property
    def dropped(self) -> int:
        """Items dropped at the bounds so far."""
        return self.drops.total()

    @property
    def drops(self) -> Counter[str]:
        """The same by signal."""
        found = Counter(self._gone_drops)
        for spool in list(self._spools):
            found.update(spool.drops)
        return found

    def settle(self) -> None:
        """Put what there is where it outlives the process best: on the disk, each spool in one file."""
        with self._lock:
            if self._spools:
                self._to_disk(at_once=True)
            for spool in self._spools:
                with contextlib.suppress(SpoolError):
                    spool.checkpoint()

    def retire(self) -> None:
        """Give all up; files go if nothing is left in them. What is recorded later opens new ones."""
        with self._lock:
            for spool in self._spools:
                self._gone_drops.update(spool.drops)
                spool.close()
            self._spools = []

    def disown(self) -> None:
        """In a forked child: leave everything to the parent."""
        self._ended.set()
        for spool in self._spools:
            spool.disown()
        leave_to_parent()


def _kept(spool: Spool, action: Callable[[Spool], list[int]]) -> list[Kept]:
    before = spool.dropped
    ids = action(spool)
    if spool.dropped > before:
        what = (
            "what is kept in memory is at its bound"
            if spool.in_memory
            else f"the spool {spool.path} is full (TORCHELASTIC_OTEL_SPOOL_MAX_BYTES)"
        )
        say_once("spool full", f"{what}: the oldest goes, and is counted in torchelastic_otel.dropped.")
    return [Kept(spool, number) for number in ids]
