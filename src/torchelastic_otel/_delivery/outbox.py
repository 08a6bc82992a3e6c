"""What is recorded, on its way to a backend: from the spool to a sender, on a thread of its own per signal.

Items leave the spool when the backend has them, or has refused them for good. Whatever happens to the process
in between, they are in the file: at least once, and in order.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .._config.environment import Signal
from .._runtime.guard import note_internal_error, say_once
from .._runtime.own_thread import as_own_thread, loaded
from .backoff import Backoff
from .disk_or_memory import DiskOrMemory, Kept
from .encoding import Encoded
from .policy import Circumstances, decide, refused_items
from .spool import Item, SpoolError, assemble_readable, fitting
from .waiting import Waiting

if TYPE_CHECKING:
    from .answer import Answer
    from .sender import Sender

_PAUSE_S = 1.0
NAMES = {"logs": "log records", "traces": "spans", "metrics": "metrics"}
"""What the items of a signal are called."""


class Outbox:
    """One signal's way out.

    Args:
        signal: which one.
        keeper: keeps items until they are delivered.
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
        signal: Signal,
        keeper: DiskOrMemory,
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
        self.last_error = ""
        """Why something was not delivered that may be delivered later."""
        self._keeper = keeper
        self._load = load
        self._timeout_s = timeout_s
        self._backoff = backoff
        self._delay_s = delay_s
        self._max_batch = self._batch = max_batch
        self._delivered = delivered
        self._waiting = Waiting(max_queue)
        self._off = False
        self._loaded = threading.Event()
        self._sender: Sender | None = None
        threading.Thread(target=self._run, name=f"torchelastic-otel-{signal}", daemon=True).start()

    # From the bridge's thread

    def keep(self, encoded: Sequence[Encoded], last_ns: int, ended: Sequence[str] = ()) -> None:
        """Keep items and queue them; when this returns they are out of the process, if there is a disk.

        Args:
            encoded: the items.
            last_ns: when the last of them happened, in nanoseconds since the epoch.
            ended: ids of spans kept open so far that are among them.
        """
        if self._off:
            self.counts["dropped", "unsupported"] += sum(len(part.payloads) for part in encoded)
            return
        for part in encoded:
            excess = self._waiting.add(self._keeper.keep(self.signal, part, last_ns, ended))
            if excess:
                self._remove(excess)
                self._lost(len(excess), "queue_full", "its queue is full")

    def keep_metrics(self, request: bytes, *, last_only: bool) -> None:
        """Keep a request of metrics and queue it; ``last_only`` in place of those before."""
        if self._off:
            return
        if not last_only:
            self.keep([Encoded(b"", [request])], time.time_ns())
            return
        kept = self._keeper.keep_last_metrics(request)
        replaced = self._waiting.replace(kept)
        self._remove([old for old in replaced if old.store is not kept.store])

    def keep_open_span(self, span_id: str, encoded: Sequence[Encoded]) -> None:
        """Keep what is known of a span that has not ended, in case that this process is killed."""
        if self._off:
            return
        for part in encoded:
            self._keeper.keep_open_span(self.signal, span_id, part)

    def forget_open_spans(self, span_ids: Sequence[str]) -> None:
        """Forget open spans: they have ended."""
        self._keeper.forget_open_spans(span_ids)

    def hurry(self) -> None:
        """Ask for what is queued to be sent now, without waiting for it."""
        self._waiting.hurry()

    def flush(self, deadline: float) -> bool:
        """Try to send all that is queued; True if that is done by ``deadline`` (``time.monotonic`` seconds).

        Returns as soon as an attempt fails: what is in a spool need not hold up the end of a process.
        """
        return self._waiting.flush(deadline)

    def wait_loaded(self, deadline: float) -> None:
        """Wait until the sender is loaded, at most until ``deadline`` (``time.monotonic`` seconds)."""
        self._loaded.wait(max(0.0, deadline - time.monotonic()))

    def left(self, *, in_memory: bool | None = None) -> int:
        """Return how many items are still to be sent; of those in memory, or on disk, if that is said."""
        return self._waiting.left(in_memory=in_memory)

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
                self._attempt_failed(None)
                self._waiting.pause(_PAUSE_S)  # whatever it is, it is not worth a processor

    def _turn(self) -> None:
        kept = self._waiting.next(self._batch, self._delay_s)
        if self._sender is None:
            self._without_sender(kept)
            return
        spool = kept[0].store
        try:
            items = spool.load([each.id for each in kept])
            kept, items = _fitting(kept, items)
            request, unreadable = assemble_readable(self.signal, items, spool.header)
        except SpoolError as error:  # a disk that gives nothing back must not keep back what is elsewhere
            self._lost(len(kept), "unreadable", str(error))
            self._waiting.remove(kept)
            return
        if unreadable:
            self._lost(len(unreadable), "unreadable", f"{spool.path} is damaged")
        if len(unreadable) == len(items):  # also if all were dropped at the spool's bound meanwhile
            self._done(kept)
            return
        self._waiting.wait_for_turn(self._backoff)
        answer = self._sender.send(request, self._waiting.time_left_s(self._timeout_s))
        self._act_on(answer, kept, len(items) - len(unreadable))

    def _without_sender(self, kept: list[Kept]) -> None:
        """Keep what is on disk for a process that can send it."""
        spool = kept[0].store
        if kept[0].in_memory:
            self._drop(kept, "no_exporter", "its exporter could not be made")
            return
        say_once(
            f"kept:{self.signal}",
            f"{NAMES[self.signal]} are kept in {spool.path}; once their exporter can be made, the next job "
            "sends them, or: torchelastic-otel replay",
        )
        self._waiting.remove(kept)

    def _act_on(self, answer: Answer, kept: list[Kept], count: int) -> None:
        """Do what the policy says; ``count`` of what is ``kept`` was in the request."""
        decision = decide(
            answer,
            Circumstances(
                own=True,
                in_memory=kept[0].in_memory,
                count=count,
                taken_before=self.counts["exported", ""] > 0,
            ),
        )
        if decision.then != "back off":
            self._backoff.succeeded()
        if decision.fate == "split":
            self._batch = max(1, count // 2)
            return
        if answer.kind in ("retry", "held", "late"):
            self.last_error = answer.message
        if decision.fate == "delivered":
            self._took(answer, kept, count)
        elif decision.fate == "kept":
            self._batch = max(1, min(self._batch, count) // 2)  # the request itself may be what is wrong
            say_once(
                f"retry:{self.signal}",
                f"{NAMES[self.signal]} cannot be sent to {self.endpoint} now ({answer.message}); "
                "they are kept and tried again.",
            )
            self.counts["kept", ""] += self._waiting.newly_kept()
            self._attempt_failed(answer.retry_after_s)
        elif decision.fate == "held":
            self._hold(kept, decision.reason, answer.message)
        elif decision.then == "signal off":
            self._turn_off(decision.reason, answer.message)
        else:
            self._drop(kept, decision.reason, f"{self.endpoint} refused them: {answer.message}")

    def _took(self, answer: Answer, kept: list[Kept], count: int) -> None:
        self._batch = min(self._max_batch, self._batch * 2)
        refused = refused_items(answer, self.signal, count)
        self.counts["exported", ""] += count - refused
        if answer.rejected:
            self._lost(refused, "rejected", f"the backend refused some: {answer.message}")
        self._done(kept)
        self._delivered()

    def _turn_off(self, reason: str, message: str) -> None:
        self._off = True
        what = NAMES[self.signal]
        say_once(
            f"{reason}:{self.signal}",
            f"{self.endpoint} takes no {what} ({message}): they are neither sent nor kept. "
            f"OTEL_{self.signal.upper()}_EXPORTER=none says so from the start.",
        )
        waiting = self._waiting.turn_off()
        self.counts["dropped", reason] += len(waiting)
        self._done(waiting)

    def _hold(self, kept: list[Kept], reason: str, message: str) -> None:
        spool = kept[0].store
        advice = (
            "it takes nothing that old; let it (Loki: reject_old_samples_max_age, "
            "Prometheus: out_of_order_time_window)"
            if reason == "late"
            else "check its address and credentials"
        )
        say_once(
            f"{reason}:{self.signal}",
            f"{NAMES[self.signal]} were refused by {self.endpoint}: {message}. They stay in "
            f"{spool.path}: {advice}, then run: torchelastic-otel replay",
        )
        spool.hold([each.id for each in kept], message)
        self.counts["kept", reason] += len(kept)
        self._waiting.remove(kept)

    def _attempt_failed(self, retry_after_s: float | None) -> None:
        self._backoff.failed(retry_after_s)
        self._waiting.attempt_failed()

    # Ends of items

    def _drop(self, kept: list[Kept], reason: str, why: str) -> None:
        self._lost(len(kept), reason, why)
        self._done(kept)

    def _done(self, kept: list[Kept]) -> None:
        self._remove(kept)
        self._waiting.remove(kept)

    def _remove(self, kept: list[Kept]) -> None:
        """Remove items from their spools."""
        for store in {id(each.store): each.store for each in kept}.values():
            try:
                store.remove([each.id for each in kept if each.store is store])
            except SpoolError as error:
                say_once("spool remove", f"{error} What was sent may be sent again.")

    def _lost(self, count: int, reason: str, why: str) -> None:
        self.counts["dropped", reason] += count
        say_once(
            f"dropped:{self.signal}:{reason}",
            f"telemetry is being lost: {NAMES[self.signal]} could not be sent, {why}.",
        )


def _fitting(kept: list[Kept], items: list[Item]) -> tuple[list[Kept], list[Item]]:
    """Return as many of the first items as fit into one request, and where they are kept.

    What is kept and not found was dropped at the spool's bound meanwhile.
    """
    first = fitting(items)
    if len(first) == len(items):
        return kept, first
    numbers = [each.id for each in kept]
    return kept[: numbers.index(items[len(first)].id)], first
