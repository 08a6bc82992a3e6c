"""Batches on their way to an exporter, each signal on a thread of its own.

Not by the SDK's batch processors: their ``force_flush`` takes no time-out (opentelemetry-python, issue 4568),
so that an exporter that hangs would hold the job's end. Each starts a thread in every forked worker. They
ignore what the exporter answers, and count nothing that they drop. Here every wait has a deadline, no thread
starts in a fork by itself, results and drops are counted, and the exporter is loaded on the delivery thread.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from .._runtime.guard import say_once
from .._runtime.own_thread import as_own_thread, loaded, start_own_thread

T = TypeVar("T")
Export = Callable[[Sequence[T]], bool]
"""Takes a batch, returns whether it was delivered."""


class Batcher(Generic[T]):
    """A bounded queue and the daemon thread that empties it in batches.

    Args:
        signal: "logs" or "traces", for messages and thread names.
        load: makes the export function; called once, on the delivery thread. None if it cannot be made.
        delay_s: longest time that an item waits for others, in seconds.
        max_batch: items per export.
        max_queue: items kept while the exporter is busy; beyond it the oldest is dropped and counted.
    """

    def __init__(
        self,
        signal: str,
        load: Callable[[], Export[T] | None],
        *,
        delay_s: float,
        max_batch: int,
        max_queue: int,
    ) -> None:
        self.signal = signal
        self._load = load
        self._delay_s = delay_s
        self._max_batch = max_batch
        self._queue: deque[T] = deque()
        self._max_queue = max_queue
        self._changed = threading.Condition()
        self._put = self._taken = self._out = 0  # items so far: queued, taken or dropped, done with
        self._hurried = 0
        self.drops: Counter[str] = Counter()
        """Items that were dropped so far, by reason."""
        self._loaded = threading.Event()
        self._export: Export[T] | None = None  # held here, too: see what a forked child does with its bridge
        start_own_thread(f"torchelastic-otel-{signal}", self._run)

    def put(self, item: T) -> None:
        """Queue ``item``; never blocks on the exporter."""
        with self._changed:
            if len(self._queue) >= self._max_queue:
                self._queue.popleft()
                self._taken += 1
                self._lost(1, "queue_full", "its queue is full")
            self._queue.append(item)
            self._put += 1
            if len(self._queue) in (1, self._max_batch):
                self._changed.notify()

    def hurry(self) -> None:
        """Ask for what is queued to be sent now, without waiting for it."""
        with self._changed:
            self._hurried = self._put
            self._changed.notify()

    def flush(self, deadline: float) -> bool:
        """Send all that is queued; False if that is not done by ``deadline`` (``time.monotonic`` seconds)."""
        with self._changed:
            wanted = self._hurried = self._put
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._out >= wanted, max(0.0, deadline - time.monotonic()))

    def wait_loaded(self, deadline: float) -> None:
        """Wait until the exporter is loaded, at most until ``deadline`` (``time.monotonic`` seconds)."""
        self._loaded.wait(max(0.0, deadline - time.monotonic()))

    def _lost(self, count: int, reason: str, why: str) -> None:
        self.drops[reason] += count
        say_once(
            f"dropped:{self.signal}", f"telemetry is being lost: {self.signal} could not be sent, {why}."
        )

    def _run(self) -> None:
        as_own_thread()
        self._export = loaded(self._load, f"loading the {self.signal} exporter")
        self._loaded.set()
        while True:
            batch = self._next()
            self._send(batch)
            with self._changed:
                self._out = self._taken
                self._changed.notify_all()

    def _next(self) -> list[T]:
        """Wait for a batch."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue)
            self._changed.wait_for(
                lambda: len(self._queue) >= self._max_batch or self._hurried > self._taken, self._delay_s
            )
            batch = [self._queue.popleft() for _ in range(min(self._max_batch, len(self._queue)))]
            self._taken += len(batch)
            return batch

    def _send(self, batch: Sequence[T]) -> None:
        delivered, reason, why = False, "export_failed", "the exporter says why"
        try:
            if self._export is None:
                reason, why = "no_exporter", "its exporter could not be loaded"
            else:
                delivered = self._export(batch)
        except Exception as error:  # as some versions of the stock exporters do when nobody listens
            delivered, why = False, f"{type(error).__name__}: {error}"
        if not delivered:
            with self._changed:
                self._lost(len(batch), reason, why)
