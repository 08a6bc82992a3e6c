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
from .._runtime.own_thread import as_own_thread, loaded, start_own_thread
from .backoff import Backoff
from .disk_or_memory import DiskOrMemory, Kept
from .encoding import Encoded
from .experience import Experience
from .policy import ASK_AGAIN_S, Decision, refused_items
from .spool import ClosedError, Item, Spool, SpoolError, assemble_readable, fitting
from .waiting import Waiting

if TYPE_CHECKING:
    from .answer import Answer, AnswerKind
    from .sender import Sender

_PAUSE_S = 1.0
_DISK_AGAIN_S = 10.0
NAMES = {"logs": "log records", "traces": "spans", "metrics": "metrics"}
"""What the items of a signal are called."""

# What to do about items that are kept, where that is more than to wait.
_ADVICE: dict[AnswerKind, str] = {
    "shut": "Check its address and credentials.",
    "foreign": "Check its address: something else listens there, or a page is in the way.",
    "unsupported": "It took some before.",
}
# And about those that this process sends no more, by reason.
_ADVICE_HELD = {
    "rejected": "check that this is the right address for them",
    "late": "it takes nothing that old; let it (Loki: reject_old_samples_max_age, "
    "Prometheus: out_of_order_time_window)",
    "poison": "others are taken meanwhile, so see what is wrong with these",
}


class Outbox:
    """One signal's way out.

    Args:
        signal: which one.
        keeper: keeps items until they are delivered.
        load: makes the sender; called once, on the sending thread. None if it cannot be made (that is said).
        endpoint: where it goes, for messages.
        timeout_s: longest time for one attempt, in seconds.
        backoff: when to try again.
        delay_s: longest time that an item waits for others, in seconds.
        max_batch: items per request.
        max_queue: items kept where there is no disk; beyond it the oldest is dropped and counted.
        delivered: told after each delivery.
        clock: what the back-off goes by, in seconds.
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
        clock: Callable[[], float] = time.monotonic,
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
        self._delivered = delivered
        self._clock = clock
        self._waiting = Waiting(max_queue, clock)
        self._experience: Experience[Kept] = Experience(own=True, most=max_batch)
        self._off_until = float("-inf")
        self._refusing: Spool | None = None  # a disk that gives nothing back
        self._refusing_until = 0.0
        self._loaded = threading.Event()
        self._sender: Sender | None = None
        start_own_thread(f"torchelastic-otel-{signal}", self._run)

    # From the bridge's thread

    @property
    def off(self) -> bool:
        """Whether its place does not take this signal, as far as is known: it is not to be waited for."""
        return self._clock() < self._off_until

    def keep(
        self,
        encoded: Sequence[Encoded],
        last_ns: int,
        ended: Sequence[str] = (),
        recorded: int | None = None,
    ) -> None:
        """Keep items and queue them; when this returns they are out of the process, if there is a disk.

        Args:
            encoded: the items.
            last_ns: when the last of them happened, in nanoseconds since the epoch.
            ended: ids of spans kept open so far that are among them.
            recorded: how many there were before they were encoded; None for as many as there are now.
        """
        count = sum(len(part.payloads) for part in encoded)
        if recorded is not None and recorded > count:
            self._lost(recorded - count, "unencodable", "they cannot be encoded")
        if self.off:
            self.counts["dropped", "unsupported"] += count
            self._keeper.forget_open_spans(ended)
            return
        for part in encoded:
            excess = self._waiting.add(self._keeper.keep(self.signal, part, last_ns, ended))
            lost = self._remove(excess)
            if lost:
                self._lost(lost, "queue_full", "its queue is full")

    def keep_metrics(self, request: bytes, *, last_only: bool) -> None:
        """Keep a request of metrics and queue it; ``last_only`` in place of those before."""
        if not last_only:
            self.keep([Encoded(b"", [request])], time.time_ns())
            return
        kept = self._keeper.keep_last_metrics(request)
        replaced = self._waiting.replace(kept)
        self._remove([old for old in replaced if old.store is not kept.store])

    def keep_open_span(self, span_id: str, encoded: Sequence[Encoded]) -> None:
        """Keep what is known of a span that has not ended, in case that this process is killed."""
        if self.off:
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

        Returns as soon as an attempt fails: what is in a spool need not hold up the end of a process. Where a
        signal is off that is all that can be done.
        """
        done = self._waiting.flush(deadline)
        if not done:
            self._keeper.settle()
        return done or self.off

    def wait_loaded(self, deadline: float) -> None:
        """Wait until the sender is loaded, at most until ``deadline`` (``time.monotonic`` seconds)."""
        self._loaded.wait(max(0.0, deadline - time.monotonic()))

    def left(self, *, in_memory: bool | None = None) -> int:
        """Return how many items are still to be sent; of those in memory, or on disk, if that is said."""
        # What waits may have gone at a bound meanwhile.
        return sum(
            min(count, store.waiting(self.signal))
            for store, count in self._waiting.left().items()
            if in_memory in (None, store.in_memory)
        )

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
                self._waiting.attempt_failed()
                self._waiting.pause(_PAUSE_S)  # whatever it is, it is not worth a processor

    def _turn(self) -> None:
        self._waiting.wait_for_items(self._experience.size, self._delay_s)
        if self._sender is None:
            self._without_sender(self._waiting.first(self._experience.size))
            return
        self._waiting.wait_for_turn(self._backoff)
        kept = self._waiting.first(
            self._experience.size, passed_over=self._is_passed_over, alone=self._experience.is_alone
        )
        if not kept:
            self._nothing_to_send_now()
            return
        store = kept[0].store
        try:
            kept, items = _fitting(kept, store.load([each.id for each in kept]))
            request, unreadable = assemble_readable(self.signal, items, store.header)
        except ClosedError:  # metrics that were collected once more while the process ends
            self._waiting.remove(kept)
            return
        except SpoolError as error:
            self._disk_refused(store, error)
            return
        there = {item.id for item in items}
        self._waiting.remove([each for each in kept if each.id not in there])
        spoiled = {item.id for item in unreadable}
        self._set_aside([each for each in kept if each.id in spoiled])
        sent = [each for each in kept if each.id in there - spoiled]
        if sent:
            answer = self._sender.send(request, self._waiting.time_left_s(self._timeout_s))
            self._act_on(answer, sent)

    def _is_passed_over(self, kept: Kept) -> bool:
        return kept.store is self._refusing or self._experience.is_later(kept)

    def _nothing_to_send_now(self) -> None:
        """All that waits is to go after others, and there are none; or its disk does not give it back."""
        self._experience.no_others()
        if self._refusing is not None:
            self._waiting.attempt_failed()
            self._waiting.pause(_PAUSE_S)
            if time.monotonic() >= self._refusing_until:
                self._refusing = None

    def _disk_refused(self, store: Spool, error: SpoolError) -> None:
        """Leave what is on a disk that gives nothing back there for a while; the rest goes on."""
        say_once(f"spool read {store.path}", f"{error} What is in it is sent when it can be read.")
        self.last_error = str(error)
        self._refusing = store
        self._refusing_until = time.monotonic() + _DISK_AGAIN_S
        self._waiting.attempt_failed()

    def _without_sender(self, kept: list[Kept]) -> None:
        """Keep what is on disk for a process that can send it."""
        if kept[0].in_memory:
            self._drop(kept, "no_exporter", "its exporter could not be made")
            return
        say_once(
            f"kept:{self.signal}",
            f"{NAMES[self.signal]} are kept in {kept[0].store.path}; once their exporter can be made, the "
            "next job sends them, or: torchelastic-otel replay",
        )
        self._keep_for_later(kept, "no_exporter")

    def _act_on(self, answer: Answer, sent: list[Kept]) -> None:
        """Do what the policy says."""
        decision = self._experience.judge(answer, sent, in_memory=sent[0].in_memory)
        self._wait_as_decided(answer, decision)
        if decision.fate == "delivered":
            self._took(answer, sent)
        elif decision.fate == "kept":
            self._kept(answer, decision)
        elif decision.fate == "held":
            self._hold(sent, decision.reason, answer.message)
        elif decision.fate == "dropped":
            self._drop(sent, decision.reason, f"{self.endpoint} refused them: {answer.message}")

    def _wait_as_decided(self, answer: Answer, decision: Decision) -> None:
        now = self._clock()
        if decision.then == "go on":
            self._backoff.succeeded()
        elif answer.kind == "unreachable":
            self._backoff.unreachable(now)
        elif decision.then == "signal off":
            self._backoff.failed(now, max(ASK_AGAIN_S, answer.retry_after_s or 0.0))
            self._off_until = now + self._backoff.wait_s(now)
        else:
            self._backoff.failed(now, answer.retry_after_s)

    def _took(self, answer: Answer, sent: list[Kept]) -> None:
        there = self._done(sent)  # what went at a bound on its way is counted already
        refused = refused_items(answer, self.signal, there)
        self.counts["exported", ""] += there - refused
        if answer.rejected:
            self._lost(refused, "rejected", f"the backend refused some: {answer.message}")
        self._delivered()

    def _kept(self, answer: Answer, decision: Decision) -> None:
        what, minutes = NAMES[self.signal], f"{ASK_AGAIN_S / 60:g}"
        self.last_error = answer.message
        if decision.then == "signal off":
            say_once(
                f"unsupported:{self.signal}",
                f"{self.endpoint} takes no {what} ({answer.message}): from now on they are neither sent nor "
                f"kept, apart from those that were recorded before. It is asked again in {minutes} minutes. "
                f"OTEL_{self.signal.upper()}_EXPORTER=none says so from the start.",
            )
        else:
            advice = _ADVICE.get(answer.kind, "")
            say_once(
                f"{answer.kind}:{self.signal}",
                f"{what} cannot be sent to {self.endpoint} now ({answer.message}); they are kept and tried "
                f"again. {advice}".rstrip(),
            )
        self.counts["kept", ""] += self._waiting.newly_kept()
        self._waiting.attempt_failed()

    # Ends of items

    def _hold(self, sent: list[Kept], reason: str, message: str) -> None:
        store = sent[0].store
        self.last_error = message
        say_once(
            f"{reason}:{self.signal}",
            f"{NAMES[self.signal]} were refused by {self.endpoint}: {message}. They stay in {store.path}: "
            f"{_ADVICE_HELD[reason]}, then run: torchelastic-otel replay",
        )
        try:
            store.hold([each.id for each in sent], message)
        except SpoolError as error:  # they stay in it all the same, and are sent again
            say_once("spool hold", f"{error} What was refused may be sent again.")
        self._keep_for_later(sent, reason)

    def _set_aside(self, spoiled: list[Kept]) -> None:
        """Keep what cannot be read: somebody may want to see it."""
        if not spoiled:
            return
        store = spoiled[0].store
        say_once(
            f"unreadable:{self.signal}",
            f"{store.path} is damaged: some {NAMES[self.signal]} in it cannot be read, and are not sent.",
        )
        store.hold([each.id for each in spoiled], "unreadable")
        self._keep_for_later(spoiled, "unreadable")

    def _keep_for_later(self, kept: list[Kept], reason: str) -> None:
        """Take items out of the line that stay where they are."""
        self.counts["kept", reason] += sum(each.there for each in kept)
        self._waiting.remove(kept)

    def _drop(self, kept: list[Kept], reason: str, why: str) -> None:
        self._lost(self._done(kept), reason, why)

    def _done(self, kept: list[Kept]) -> int:
        count = self._remove(kept)
        self._waiting.remove(kept)
        return count

    def _remove(self, kept: list[Kept]) -> int:
        """Remove items from their stores; return how many were there: at a bound the oldest go."""
        count = sum(each.there for each in kept)
        for store in {id(each.store): each.store for each in kept}.values():
            try:
                store.remove([each.id for each in kept if each.store is store])
            except ClosedError:
                pass  # its file went, or keeps it for the next job
            except SpoolError as error:
                say_once("spool remove", f"{error} What was sent may be sent again.")
        return count

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
