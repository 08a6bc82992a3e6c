"""Delivery by OTLP: an outbox per signal, one place to keep for all, and what earlier processes left."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from .._config.environment import Signal, Warn
from .._config.limits import BatchSettings
from .._runtime.guard import say_once
from .backoff import Backoff, Place
from .disk_or_memory import DiskOrMemory
from .outbox import NAMES, Outbox
from .recovery import Recovery
from .spool import Destination, Spool, destination_of, directory_of, make_room, on_network_filesystem

if TYPE_CHECKING:
    from .._config.otlp import OtlpTarget
    from .._config.settings import Settings
    from .sender import Sender

_SERVER = re.compile(r"[^/]*//[^/?#]+")
_NO_ROOM = ("queue_full", "spool_full")
_MEMORY_BYTES = 16 * 1024 * 1024


class Outboxes:
    """Makes outboxes, and knows what is still in them.

    Args:
        settings: where the spool is and how large it may be.
        warn: takes one clear sentence for each thing that is wrong.
    """

    def __init__(self, settings: Settings, warn: Warn) -> None:
        self._settings = settings
        self._warn = warn
        self._destinations: dict[str, Destination] = {}
        self._targets: dict[Signal, OtlpTarget] = {}
        self._places: dict[str, Place] = {}
        self._backoffs: dict[Signal, Backoff] = {}
        self._outboxes: list[Outbox] = []
        self.directory = directory = directory_of(settings.spool_dir, os.environ)
        self._recovery: Recovery | None = None
        if directory is not None:
            kind = on_network_filesystem(directory)
            if kind:
                say_once(
                    "network spool",
                    f"the spool {directory} is on a network file system ({kind}), where a job can come "
                    "to wait for it: set TORCHELASTIC_OTEL_SPOOL_DIR to a directory on the node's own disk.",
                )
            if "LOCAL_RANK" not in os.environ:  # workers leave what others left to launchers
                self._recovery = Recovery(directory, self._destinations, self._senders, self._backoffs)
        self._keeper = DiskOrMemory(
            None if directory is None else lambda: self._open(directory), _MEMORY_BYTES
        )

    def __iter__(self) -> Iterator[Outbox]:
        return iter(self._outboxes)

    def _open(self, directory: Path) -> Spool:
        lost = make_room(directory, self._settings.spool_max_bytes)
        return Spool.create(directory, self._settings.spool_max_bytes, self._destinations, lost)

    def outbox(self, signal: Signal, target: OtlpTarget, batch: BatchSettings) -> Outbox:
        """Make the outbox of a signal that goes to ``target``."""
        self._destinations[signal] = destination_of(target)
        self._targets[signal] = target
        place = self._places.setdefault(server_of(target.endpoint), Place())
        self._backoffs[signal] = Backoff(place)
        outbox = Outbox(
            signal,
            self._keeper,
            lambda: self._sender(signal),
            endpoint=self._destinations[signal].endpoint,
            timeout_s=target.timeout_s,
            backoff=self._backoffs[signal],
            delay_s=batch.delay_s,
            max_batch=batch.max_batch,
            max_queue=batch.max_queue,
            delivered=self._delivered,
        )
        self._outboxes.append(outbox)
        return outbox

    def _sender(self, signal: Signal) -> Sender | None:
        from .sender import make_sender

        try:
            return make_sender(signal, self._targets[signal])
        except Exception as error:
            self._warn(
                f"OTEL_{signal.upper()}_EXPORTER: what sends by OTLP cannot be made "
                f"({type(error).__name__}: {error}); {signal} are not sent."
            )
            return None

    def _delivered(self) -> None:
        """Something arrived: what earlier processes left can go, too."""
        if self._recovery is not None:
            self._recovery.begin()

    def _senders(self) -> dict[Signal, Sender]:
        made = {signal: self._sender(signal) for signal in self._targets}
        return {signal: sender for signal, sender in made.items() if sender is not None}

    def summary(self) -> str:
        """Say what is not delivered, why, and where it is, and what had no room; "" if that is nothing."""
        error = next((outbox.last_error for outbox in self._outboxes if outbox.last_error), "")
        reason = f" ({error})" if error else ""
        sentences = []
        kept, lost = (
            " and ".join(
                f"{count} {NAMES[outbox.signal]}"
                for outbox in self._outboxes
                if not outbox.off and (count := outbox.left(in_memory=in_memory))
            )
            for in_memory in (False, True)
        )
        if kept:
            sentences.append(
                f"{kept} could not be delivered yet{reason}; they are kept in {self.directory}. The next job "
                "of this user on this node sends them there, or: torchelastic-otel replay"
            )
        if lost:
            sentences.append(
                f"{lost} could not be delivered{reason} and are lost: there is no spool to keep them."
            )
        counts = self.counts()
        dropped = " and ".join(
            f"{count} {NAMES[outbox.signal]}"
            for outbox in self._outboxes
            if (count := sum(counts[outbox.signal, "dropped", why] for why in _NO_ROOM))
        )
        if dropped:
            sentences.append(f"{dropped} had no room to wait in and were dropped.")
        return " ".join(sentences)

    def counts(self) -> Counter[tuple[str, str, str]]:
        """Return items so far, by signal, what became of them, and why."""
        found: Counter[tuple[str, str, str]] = Counter()
        for outbox in self._outboxes:
            for (what, why), count in list(outbox.counts.items()):
                found[outbox.signal, what, why] += count
        for signal, count in self._keeper.drops.items():
            found[signal, "dropped", "spool_full"] += count
        if self._recovery is not None:
            sent = self._recovery.sent
            for what, why, counts in (
                ("replayed", "", sent.delivered),
                ("dropped", "rejected", sent.rejected),
            ):
                for left, count in list(counts.items()):
                    found[left, what, why] += count
        return found

    def close(self, timeout_s: float) -> None:
        """Give up the spool if nothing is left to send; wait at most so long for what is under way."""
        if self._recovery is not None:
            self._recovery.stop(timeout_s)
        if not any(outbox.left() for outbox in self._outboxes):
            self._keeper.retire()

    def disown(self) -> None:
        """In a forked child: leave the spool to the parent."""
        self._keeper.disown()


def server_of(endpoint: str) -> str:
    """Return the part of an endpoint that is common to all signals that go to the same server."""
    server = _SERVER.match(endpoint)
    return server[0] if server else endpoint
