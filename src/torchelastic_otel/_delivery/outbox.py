"""What is recorded, on its way to a backend: from the spool to a sender, on a thread of its own per signal.

Items leave the spool when the backend has them, or has refused them for good. Whatever happens to the process
in between, they are in the file: at least once, and in order.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .._runtime.guard import note_internal_error, say_once
from .._runtime.own_thread import as_own_thread, loaded
from .backoff import Backoff
from .disk_or_memory import Store
from .encoding import Encoded
from .spool import (
    Item,
    Spool,
    SpoolError,
    assemble_readable,
    fitting,
)

if TYPE_CHECKING:
    from .answer import Answer
    from .sender import Sender

_PAUSE_S = 1.0
NAMES = {"logs": "log records", "traces": "spans", "metrics": "metrics"}


class Outbox:
    """One signal's way out.

    Args:
        signal: "logs", "traces" or "metrics".
        store: where items are kept until they are delivered.
        load: makes the sender; called once, on the sending thread. None if it cannot be made (that is said).
        endpoint: where it goes, for messages.
        timeout_s: longest time for one attempt, in seconds.
        backoff: common to all signals that go to the same place.
        delay_s: longest time that an item waits for others, in seconds.
        max_batch: items per request.
        max_queue: items kept where there is no disk; beyond it the oldest is dropped and counted.
        delivered: told after each delivery.
    """

    def __init__(
        self,
        signal: str,
        store: Store,
        load: Callable[[], Sender | None],
        *,
        endpoint: str,
        timeout_s: float,
        backoff: Backoff,
        delay_s: float,
        max_batch: int,
        max_queue: int,
        delivered: Callable[[], None] = lambda: None,
    ) -> None:
        self.signal = signal
        self.endpoint = endpoint
        self.counts: Counter[tuple[str, str]] = Counter()
        """Items so far by ("exported", "kept" or "dropped", reason)."""
        self._store = store
        self._load = load
        self._timeout_s = timeout_s
        self._backoff = backoff
        self._delay_s = delay_s
        self._max_batch = self._batch = max_batch
        self._max_queue = max_queue
        self._delivered = delivered
        self._queue: deque[tuple[Spool, int]] = deque()
        self._changed = threading.Condition()
        self._put = self._out = self._kept_to = 0
        self._hurried = 0
        self._deadline: float | None = None
        self._attempts_failed = 0
        self._off = False
        self.last_error = ""
        self._loaded = threading.Event()
        self._sender: Sender | None = None
        threading.Thread(target=self._run, name=f"torchelastic-otel-{signal}", daemon=True).start()

    # From the bridge's thread

    def put(self, encoded: Sequence[Encoded], last_ns: int, closing: Sequence[str] = ()) -> None:
        """Keep items and queue them; when this returns they are out of the process, if there is a disk.

        Args:
            encoded: the items.
            last_ns: when the last of them happened, in nanoseconds since the epoch.
            closing: ids of open spans that are among them.
        """
        if self._off:
            self.counts["dropped", "unsupported"] += sum(len(payloads) for _, payloads in encoded)
            return
        for header, payloads in encoded:
            self._enqueue(self._store.write(_adder(self.signal, header, payloads, last_ns, closing)))

    def open_span(self, span_id: str, encoded: Sequence[Encoded]) -> None:
        """Keep what is known of a span that has not ended, in case that this process is killed."""
        if self._off:
            return
        for header, payloads in encoded:
            for payload in payloads:
                self._store.write(_opener(self.signal, span_id, header, payload))

    def close_spans(self, span_ids: Sequence[str]) -> None:
        """Forget open spans: they have ended."""

        def close(spool: Spool) -> None:
            spool.forget_open_spans(span_ids)

        self._store.everywhere(close)

    def put_metrics(self, request: bytes, *, last_only: bool) -> None:
        """Keep a request of metrics; ``last_only`` in place of those before."""
        if self._off:
            return
        if not last_only:
            self.put([Encoded(b"", [request])], time.time_ns())
            return
        keys = self._store.write(lambda spool: [spool.replace_metrics(request)])
        with self._changed:
            replaced = list(self._queue)
            self._out += len(replaced)
            self._queue.clear()
        self._enqueue(keys)
        self._remove([key for key in replaced if key[0] is not keys[0][0]])

    def _enqueue(self, keys: list[tuple[Spool, int]]) -> None:
        with self._changed:
            self._queue.extend(keys)
            self._put += len(keys)
            excess = self._over_the_bound() if keys and keys[0][0].in_memory else []
            self._changed.notify()
        if excess:
            self._remove(excess)
            self._lost(len(excess), "queue_full", "its queue is full")

    def _over_the_bound(self) -> list[tuple[Spool, int]]:
        """Take out of the queue what memory is not to hold; what is on a disk stays."""
        if len(self._queue) <= self._max_queue:
            return []
        in_memory = [key for key in self._queue if key[0].in_memory]
        excess = in_memory[: max(0, len(in_memory) - self._max_queue)]
        gone = set(excess)
        kept = [key for key in self._queue if key not in gone]
        self._queue.clear()
        self._queue.extend(kept)
        self._out += len(excess)
        return excess

    def hurry(self) -> None:
        """Ask for what is queued to be sent now, without waiting for it."""
        with self._changed:
            self._hurried = self._put
            self._changed.notify()

    def flush(self, deadline: float) -> bool:
        """Try to send all that is queued; True if that is done by ``deadline`` (``time.monotonic`` seconds).

        Returns as soon as an attempt fails: what is in a spool need not hold up the end of a process.
        """
        with self._changed:
            wanted = self._hurried = self._put
            failed = self._attempts_failed
            self._deadline = deadline
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: self._out >= wanted or self._attempts_failed > failed or self._off,
                max(0.0, deadline - time.monotonic()),
            )
            self._deadline = None
            return self._out >= wanted or self._off

    def wait_loaded(self, deadline: float) -> None:
        """Wait until the sender is loaded, at most until ``deadline`` (``time.monotonic`` seconds)."""
        self._loaded.wait(max(0.0, deadline - time.monotonic()))

    def left(self, *, in_memory: bool | None = None) -> int:
        """Return how many items are still to be sent; of those in memory, or on disk, if that is said."""
        with self._changed:
            return sum(in_memory in (None, spool.in_memory) for spool, _ in self._queue)

    # The sending thread

    def _run(self) -> None:
        as_own_thread()
        self._sender = loaded(self._load, f"loading what sends {self.signal}")
        self._loaded.set()
        while True:
            try:
                self._turn()
            except Exception as error:
                note_internal_error(f"sending {self.signal}", error)
                self._failed(None)
                with self._changed:  # whatever it is, it is not worth a processor
                    self._changed.wait(_PAUSE_S)

    def _turn(self) -> None:
        keys = self._next()
        if self._sender is None:
            self._without_sender(keys)
            return
        try:
            items = self._items(keys)
            request, unreadable = assemble_readable(self.signal, items, keys[0][0].header)
        except SpoolError as error:  # a disk that gives nothing back must not keep back what is elsewhere
            self._lost(len(keys), "unreadable", str(error))
            self._forget(keys)
            return
        if unreadable:
            self._lost(len(unreadable), "unreadable", f"{keys[0][0].path} is damaged")
        if len(unreadable) == len(items):  # also if all were dropped at the spool's bound meanwhile
            self._done(keys)
            return
        self._wait_for_turn()
        answer = self._sender.send(request, self._time_left_s())
        self._act_on(answer, keys, len(items) - len(unreadable))

    def _without_sender(self, keys: list[tuple[Spool, int]]) -> None:
        """Keep what is on disk for a process that can send it."""
        if keys[0][0].in_memory:
            self._drop(keys, "no_exporter", "its exporter could not be made")
        else:
            say_once(
                f"kept:{self.signal}",
                f"{NAMES[self.signal]} are kept in {keys[0][0].path}; once their exporter can be made, the "
                "next job sends them, or: torchelastic-otel replay",
            )
            self._forget(keys)

    def _next(self) -> list[tuple[Spool, int]]:
        with self._changed:
            self._changed.wait_for(lambda: self._queue)
            self._changed.wait_for(
                lambda: len(self._queue) >= self._batch or self._hurried > self._out, self._delay_s
            )
            first = self._queue[0][0]
            keys: list[tuple[Spool, int]] = []
            for key in self._queue:
                if key[0] is not first or len(keys) >= self._batch:
                    break
                keys.append(key)
            return keys

    def _items(self, keys: list[tuple[Spool, int]]) -> list[Item]:
        """Return the items of a request: as many of ``keys``, which is cut to them, as fit into one."""
        found = keys[0][0].load([number for _, number in keys])
        items = fitting(found)
        if len(items) < len(found):
            del keys[[number for _, number in keys].index(found[len(items)].id) :]
        return items

    def _wait_for_turn(self) -> None:
        """Wait as the back-off says; a flush cuts it short, but for what the server asked for."""
        with self._changed:
            while True:
                urgent = self._deadline is not None
                wait_s = self._backoff.wait_s(urgent=urgent)
                if wait_s <= 0:
                    return
                if urgent:
                    self._attempts_failed += 1
                    self._changed.notify_all()
                self._changed.wait(wait_s)

    def _time_left_s(self) -> float:
        deadline = self._deadline
        if deadline is None:
            return self._timeout_s
        return max(0.05, min(self._timeout_s, deadline - time.monotonic()))

    def _act_on(self, answer: Answer, keys: list[tuple[Spool, int]], count: int) -> None:
        what = NAMES[self.signal]
        if answer.kind != "retry":
            self._backoff.succeeded()
        if answer.too_large and count > 1:
            self._batch = max(1, count // 2)
        elif answer.kind == "delivered":
            self._batch = min(self._max_batch, self._batch * 2)
            # A request of metrics is one item, with many points.
            refused = 0 if self.signal == "metrics" else min(answer.rejected, count)
            self.counts["exported", ""] += count - refused
            if answer.rejected:
                self._lost(refused, "rejected", f"the backend refused some: {answer.message}")
            self._done(keys)
            self._delivered()
        elif answer.kind == "retry":
            self.last_error = answer.message
            self._batch = max(1, min(self._batch, count) // 2)  # the request itself may be what is wrong
            say_once(
                f"retry:{self.signal}",
                f"{what} cannot be sent to {self.endpoint} now ({answer.message}); "
                "they are kept and tried again.",
            )
            self._count_kept()
            self._failed(answer.retry_after_s)
        elif answer.kind == "rejected":
            self._drop(keys, "rejected", f"{self.endpoint} refused them: {answer.message}")
        elif answer.kind == "unsupported":
            self._off = True
            say_once(
                f"unsupported:{self.signal}",
                f"{self.endpoint} takes no {what} ({answer.message}): they are neither sent nor kept. "
                f"OTEL_{self.signal.upper()}_EXPORTER=none says so from the start.",
            )
            with self._changed:
                keys = list(self._queue)
                self.counts["dropped", "unsupported"] += len(keys)
            self._done(keys)
        else:
            self._hold(keys, answer)

    def _hold(self, keys: list[tuple[Spool, int]], answer: Answer) -> None:
        what = NAMES[self.signal]
        self.last_error = answer.message
        if keys[0][0].in_memory:
            self._drop(keys, answer.kind, f"{self.endpoint} refused them: {answer.message}")
            return
        advice = (
            "it takes nothing that old; let it (Loki: reject_old_samples_max_age, "
            "Prometheus: out_of_order_time_window)"
            if answer.kind == "late"
            else "check its address and credentials"
        )
        say_once(
            f"{answer.kind}:{self.signal}",
            f"{what} were refused by {self.endpoint}: {answer.message}. They stay in "
            f"{keys[0][0].path}: {advice}, then run: torchelastic-otel replay",
        )
        keys[0][0].hold([number for _, number in keys], answer.message)
        self.counts["kept", answer.kind] += len(keys)
        self._forget(keys)

    def _count_kept(self) -> None:
        """Count what waits after a failed attempt, each item once."""
        with self._changed:
            self.counts["kept", ""] += self._put - max(self._kept_to, self._out)
            self._kept_to = self._put

    def _failed(self, retry_after_s: float | None) -> None:
        self._backoff.failed(retry_after_s)
        with self._changed:
            self._attempts_failed += 1
            self._changed.notify_all()

    # Ends of items

    def _done(self, keys: list[tuple[Spool, int]]) -> None:
        self._remove(keys)
        self._forget(keys)

    def _drop(self, keys: list[tuple[Spool, int]], reason: str, why: str) -> None:
        self._lost(len(keys), reason, why)
        self._done(keys)

    def _remove(self, keys: list[tuple[Spool, int]]) -> None:
        for spool in {id(spool): spool for spool, _ in keys}.values():
            try:
                spool.remove([number for owner, number in keys if owner is spool])
            except SpoolError as error:
                say_once("spool remove", f"{error} What was sent may be sent again.")

    def _forget(self, keys: list[tuple[Spool, int]]) -> None:
        gone = set(keys)
        with self._changed:
            while self._queue and self._queue[0] in gone:
                self._queue.popleft()
                self._out += 1
            self._changed.notify_all()

    def _lost(self, count: int, reason: str, why: str) -> None:
        self.counts["dropped", reason] += count
        say_once(
            f"dropped:{self.signal}:{reason}",
            f"telemetry is being lost: {NAMES[self.signal]} could not be sent, {why}.",
        )


def _adder(
    signal: str, header: bytes, payloads: list[bytes], last_ns: int, closing: Sequence[str]
) -> Callable[[Spool], list[int]]:
    return lambda spool: spool.add(signal, spool.scope(signal, header), payloads, last_ns, closing)


def _opener(signal: str, span_id: str, header: bytes, payload: bytes) -> Callable[[Spool], list[int]]:
    def open_span(spool: Spool) -> list[int]:
        spool.keep_open_span(span_id, spool.scope(signal, header), payload)
        return []

    return open_span
