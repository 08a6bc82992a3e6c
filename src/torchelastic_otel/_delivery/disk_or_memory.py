"""Where a process keeps what it has to send: its spool, or memory where the disk does not do its part."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

from .._runtime.guard import say_once
from .spool import Spool, SpoolError

_DISK_AGAIN_S = 60.0


class Store:
    """The process's spool; memory takes its place when the disk does not.

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
        self._closed_drops = 0

    @property
    def on_disk(self) -> bool:
        """Whether what is recorded now goes to the disk."""
        return self._open is not None and time.monotonic() >= self._disk_again_s

    def write(self, action: Callable[[Spool], list[int]]) -> list[tuple[Spool, int]]:
        """Do ``action`` on the spool; while its disk refuses, say so once and go on in memory."""
        with self._lock:
            if self.on_disk and self._open is not None:
                try:
                    self._disk = self._disk or self._open()
                    return self._done(self._disk, action(self._disk))
                except SpoolError as error:
                    self._disk_again_s = time.monotonic() + _DISK_AGAIN_S
                    say_once("spool", f"{error} Telemetry is kept in memory until it is sent.")
            self._memory = self._memory or self._make_memory()
            return self._done(self._memory, action(self._memory))

    def _done(self, spool: Spool, ids: list[int]) -> list[tuple[Spool, int]]:
        if spool.dropped:
            say_once(
                "spool full",
                f"the spool {spool.path} is full (TORCHELASTIC_OTEL_SPOOL_MAX_BYTES): the oldest goes, "
                "and is counted in torchelastic_otel.dropped.",
            )
        return [(spool, number) for number in ids]

    def everywhere(self, action: Callable[[Spool], None]) -> None:
        """Do ``action`` on every spool that there is, as far as their disks let it."""
        with self._lock:
            for spool in (self._disk, self._memory):
                if spool is not None:
                    with contextlib.suppress(SpoolError):
                        action(spool)

    @property
    def dropped(self) -> int:
        """Items dropped at the bounds so far."""
        spools = [spool for spool in (self._disk, self._memory) if spool is not None]
        return self._closed_drops + sum(spool.dropped for spool in spools)

    def close(self) -> None:
        """Remove what is empty. What is recorded later opens a new one."""
        with self._lock:
            self._closed_drops = self.dropped
            for spool in (self._disk, self._memory):
                if spool is not None:
                    spool.close()
            self._disk = self._memory = None

    def disown(self) -> None:
        """In a forked child: leave everything to the parent."""
        for spool in (self._disk, self._memory):
            if spool is not None:
                spool.disown()
