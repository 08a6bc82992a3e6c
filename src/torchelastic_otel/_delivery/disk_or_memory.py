"""Where a process keeps what it has to send: its spool, or memory where the disk does not do its part."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .._runtime.guard import say_once
from .encoding import Encoded
from .spool import Spool, SpoolError

_DISK_AGAIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Kept:
    """Where an item is kept until it is delivered."""

    spool: Spool
    id: int


class DiskOrMemory:
    """The process's spool; memory takes its place when the disk does not do its part.

    Args:
        open_spool: opens the spool on disk; None to do without.
        memory: opens one in memory.
    """

    def __init__(self, open_spool: Callable[[], Spool] | None, memory: Callable[[], Spool]) -> None:
        self._open = open_spool
        self._make_memory = memory
        self._lock = threading.Lock()
        self._disk: Spool | None = None
        self._memory: Spool | None = None
        self._disk_again_s = 0.0
        self._retired_drops = 0

    @property
    def on_disk(self) -> bool:
        """Whether what is recorded now goes to the disk."""
        return self._open is not None and time.monotonic() >= self._disk_again_s

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
            for spool in (self._disk, self._memory):
                if spool is not None:
                    with contextlib.suppress(SpoolError):
                        spool.forget_open_spans(span_ids)

    def _write(self, action: Callable[[Spool], list[int]]) -> list[Kept]:
        """Do ``action`` on the spool; while its disk refuses, say so once and go on in memory."""
        with self._lock:
            if self.on_disk and self._open is not None:
                try:
                    self._disk = self._disk or self._open()
                    return _written(self._disk, action(self._disk))
                except SpoolError as error:
                    self._disk_again_s = time.monotonic() + _DISK_AGAIN_S
                    say_once("spool", f"{error} Telemetry is kept in memory until it is sent.")
            self._memory = self._memory or self._make_memory()
            return _written(self._memory, action(self._memory))

    @property
    def dropped(self) -> int:
        """Items dropped at the bounds so far."""
        spools = [spool for spool in (self._disk, self._memory) if spool is not None]
        return self._retired_drops + sum(spool.dropped for spool in spools)

    def retire(self) -> None:
        """Give both up; files go if nothing is left in them. What is recorded later opens new ones."""
        with self._lock:
            self._retired_drops = self.dropped
            for spool in (self._disk, self._memory):
                if spool is not None:
                    spool.close()
            self._disk = self._memory = None

    def disown(self) -> None:
        """In a forked child: leave everything to the parent."""
        for spool in (self._disk, self._memory):
            if spool is not None:
                spool.disown()


def _written(spool: Spool, ids: list[int]) -> list[Kept]:
    if spool.dropped:
        say_once(
            "spool full",
            f"the spool {spool.path} is full (TORCHELASTIC_OTEL_SPOOL_MAX_BYTES): the oldest goes, "
            "and is counted in torchelastic_otel.dropped.",
        )
    return [Kept(spool, number) for number in ids]
