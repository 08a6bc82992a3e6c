"""The process's bridge: the thread on which all else happens, and what the host's threads ask of it.

Python runs no signal handlers on that thread.
"""

from __future__ import annotations

import _thread
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

from .. import _contract as c
from .._runtime import collection
from .._runtime.clock import now
from .._runtime.guard import note_internal_error, say_once, warn_once
from .._runtime.imports import importing
from .._runtime.node_name import look_up_node_name, node_name_soon
from .._runtime.own_thread import keep_spare_threads, let_spare_threads_go, this_thread
from .messages import (
    AgentFact,
    Answer,
    Flush,
    LoggedText,
    Message,
    Question,
    RecordedEvent,
    RecordedRendezvousEvent,
    fields_of,
    shown,
)
from .queue import MessageQueue

if TYPE_CHECKING:
    from .._config.settings import Settings
    from .._job.engine import Engine
    from .._job.facts import Raised
    from .._telemetry.providers import Providers
    from .._telemetry.telemetry import Telemetry

# What was taken outlives the process after so many messages, or so long.
_MOST_TAKEN = 512
_TAKE_S = 0.1
_TICK_S = 1.0

T = TypeVar("T")


class Bridge:
    """The process's bridge. ``enqueue`` from any thread; what is queued is taken on its own."""

    def __init__(self, providers: Providers | None = None, *, off: bool = False) -> None:
        self._queue = MessageQueue()
        self._told_drops = dict(self._queue.dropped)
        self.after_each: Callable[[], None] | None = None
        """Called after each event from now on: nothing else will send it."""
        self._providers = providers
        self._claim = threading.Lock()
        self._started = False
        self._running = False
        self._said_all = False
        self._retired = False
        self._telemetry: Telemetry | None = None
        self._settings: Settings | None = None
        self._off = off or os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"

    # The host's side

    def enqueue(self, message: Message, *, urgent: bool = False, quiet: bool = False) -> None:
        """Queue a message for the bridge's thread, without blocking; what is ``quiet`` does not wake it."""
        if self._off:
            return
        wakes = not (quiet and self._running)
        if not self._queue.put(message, wakes=wakes, urgent=urgent, quiet=quiet):
            return
        if not self._started:
            self._start()
        if self.after_each is not None and not isinstance(message, (AgentFact, Question, Flush)):
            self.after_each()

    def _start(self) -> None:
        try:
            # One instruction: a signal's exception inside of Thread.start() would leave a thread that cannot
            # begin. Should two be started, the second finds that the first has the claim.
            _thread.start_new_thread(self._run, ())
        except RuntimeError:
            self._off = True
            say_once(
                "too late",
                "this process recorded its first event while Python was ending, when this version of it "
                "starts no threads any more; it is not sent.",
            )
            return
        self._started = True
        keep_spare_threads()

    def flush(self, timeout_s: float) -> bool:
        """Process and send all that is queued; False if that took longer than ``timeout_s`` seconds."""
        return self._flush(timeout_s, ending=False, nothing=not self._running)

    def finish(self, timeout_s: float) -> bool:
        """End all jobs, then flush: the process is about to end."""
        return self._flush(timeout_s, ending=True, nothing=not self._running or self._said_all)

    def _flush(self, timeout_s: float, *, ending: bool, nothing: bool) -> bool:
        if self._off or (nothing and not len(self._queue)):
            return True
        answer: Answer[bool] = Answer()
        self.enqueue(Flush(time.monotonic() + timeout_s, ending, answer), urgent=True)
        return bool(answer.wait(timeout_s))

    def ask(self, question: Callable[[Engine], T], timeout_s: float) -> T | None:
        """Ask the bridge's thread; None if it does not answer within ``timeout_s`` seconds."""
        if self._off:
            return None
        answer: Answer[T] = Answer()
        self.enqueue(
            Question(lambda engine: answer.give(lambda: self._answer(question, engine))), urgent=True
        )
        return answer.wait(timeout_s)

    def secure(self, timeout_s: float, *, loading: bool = True) -> None:
        """Wait until all that is queued is in the spool, at most for ``timeout_s`` seconds.

        Without ``loading`` nobody waits while telemetry is still being loaded.
        """
        if loading or self._telemetry is not None:
            self.ask(lambda _: None, timeout_s)  # answered after all that was queued before

    def last_words(self, timeout_s: float) -> None:
        """Get everything out, at most for ``timeout_s`` seconds: the process may end when it returns."""
        deadline = time.monotonic() + timeout_s
        self.secure(timeout_s)
        self.flush(max(0.0, deadline - time.monotonic()))

    def wait_loaded(self, timeout_s: float) -> None:
        """Wait until everything that sends is loaded, at most for ``timeout_s`` seconds."""
        if self._running or self._queue:
            deadline = time.monotonic() + timeout_s
            self.ask(lambda _: self._wait_loaded(deadline), timeout_s)

    @property
    def waiting(self) -> int:
        """How many messages have not been processed yet."""
        return len(self._queue)

    @property
    def dropped(self) -> Mapping[str, int]:
        """How much came too fast and was dropped so far, by signal."""
        return self._queue.dropped

    @property
    def off(self) -> bool:
        """Whether nothing is to be sent: the SDK is disabled, or could not be set up."""
        return self._off

    @property
    def exports_spans(self) -> bool:
        """Whether spans go anywhere, as far as is known yet."""
        return not self._off and (self._telemetry is None or self._telemetry.exports_spans)

    @property
    def has_providers(self) -> bool:
        """Whether providers were injected."""
        return self._providers is not None

    @property
    def exit_timeout_s(self) -> float:
        """How long the end of the process may wait for telemetry."""
        return self._settings.exit_timeout_s if self._settings is not None else 0.5

    def clear_spool(self, timeout_s: float) -> None:
        """Remove a spool in which nothing is left, if that can be done within ``timeout_s`` seconds.

        On the bridge's thread: the host's own never waits for a disk without a bound.
        """
        if self._running:
            self.ask(lambda _: self._clear_spool(timeout_s / 2), timeout_s)

    def retire(self, timeout_s: float) -> None:
        """Clear the spool and end the thread: another bridge takes over."""
        if self._running:
            self.ask(lambda _: self._retire(timeout_s / 2), timeout_s)

    def disown(self) -> None:
        """In a forked child: leave the spool to the parent."""
        if self._telemetry is not None:
            self._telemetry.outboxes.disown()

    def left(self) -> str:
        """Say what is not delivered and where it is, and what was dropped; "" if nothing is left."""
        parts = [self._telemetry.outboxes.summary()] if self._telemetry is not None else []
        waiting, dropped = self.waiting, self.dropped["logs"]
        if waiting:
            parts.append(f"{waiting} events had not been processed and are lost.")
        if dropped:
            parts.append(f"{dropped} events came faster than they could be processed and were dropped.")
        return " ".join(part for part in parts if part)

    # The bridge's own thread

    def _run(self) -> None:
        if not self._claim.acquire(blocking=False):
            return
        self._running = True
        this_thread.own = True
        threading.current_thread().name = "torchelastic-otel"
        try:
            engine = self._build()
        except Exception as error:
            note_internal_error("setting up telemetry", error)
            self._off = True
            self._queue.clear()
            return
        settled, emptied = True, False  # what came while this was set up has waited for long enough
        while not self._retired:
            woken = emptied and self._queue.wait(_TICK_S if settled else 0.25)
            if woken and self.waiting <= _MOST_TAKEN:
                self._queue.linger()
            emptied = self._take(engine)
            if self._retired:
                return
            try:
                settled = engine.tick(now())
                collection.go_on_when_due()
                if self._telemetry is not None:
                    self._telemetry.commit()
                    self._tell_dropped(self._telemetry)
                    self._telemetry.publish()
            except Exception as error:
                note_internal_error("keeping what was recorded", error)

    def _build(self) -> Engine:
        look_up_node_name()
        with importing:
            from .._config.settings import read_settings
        self._settings = read_settings(os.environ, warn_once)
        with importing:
            from .._job.engine import Engine
            from .._telemetry.telemetry import Telemetry
        self._telemetry = Telemetry(os.environ, warn_once, self._providers, self._settings)
        let_spare_threads_go()
        return Engine(self._telemetry, self._settings, os.environ, node_name_soon())

    def _take(self, engine: Engine) -> bool:
        """Process what is queued, for a bounded time: then it is to be committed. True if that was all."""
        deadline = time.monotonic() + _TAKE_S
        for count in range(1, _MOST_TAKEN + 1):
            message = self._queue.take()
            if message is None:
                return True
            self._process_safely(engine, message)
            if time.monotonic() > deadline:
                return False
            if not count % 16:
                time.sleep(0)  # hand the interpreter to the agent if it waits for it
        return False

    def _process_safely(self, engine: Engine, message: Message) -> None:
        try:
            self._process(engine, message)
        except Exception as error:
            _broken(engine, message, error)

    def _tell_dropped(self, telemetry: Telemetry) -> None:
        """Count what was dropped since the last time."""
        for signal, total in self.dropped.items():
            new = total - self._told_drops[signal]
            if new:
                self._told_drops[signal] = total
                known = {c.RUN_ID: telemetry.run_id} if telemetry.run_id else {}
                attributes = {**known, c.OTEL_SIGNAL: signal, c.REASON: "queue_full"}
                telemetry.measure(c.METRIC_DROPPED, new, attributes)
        dropped = self.dropped["logs"]
        if dropped:
            say_once(
                "queue full",
                f"events came faster than they could be processed; {dropped} or more were dropped.",
            )

    def _process(self, engine: Engine, message: Message) -> None:
        if isinstance(message, Question):
            message.answer(engine)
            return
        if isinstance(message, Flush):
            message.answer.give(lambda: self._send(engine, message))
            return
        self._said_all = False
        if isinstance(message, LoggedText):
            engine.text(message.text, message.recorded, message.thread, message.span)
        elif isinstance(message, RecordedEvent):
            engine.event(fields_of(message), message.recorded, message.span)
        elif isinstance(message, RecordedRendezvousEvent):
            engine.rendezvous_event(message.fields, message.recorded, message.thread)
        else:
            engine.fact(message.fact)

    def _answer(self, question: Callable[[Engine], T], engine: Engine) -> T:
        # What was queued before a question is in the spool before it is answered.
        if self._telemetry is not None:
            self._telemetry.commit()
        return question(engine)

    def _send(self, engine: Engine, flush: Flush) -> bool:
        if flush.ending:
            engine.close(_uncaught())
        if self._telemetry is not None:
            self._telemetry.commit()
            self._tell_dropped(self._telemetry)
        sent = self._telemetry is None or self._telemetry.flush(flush.deadline)
        # The end of a process comes in two steps: there is nothing more to say in the second.
        self._said_all = flush.ending and sent
        return sent

    def _wait_loaded(self, deadline: float) -> None:
        if self._telemetry is not None:
            self._telemetry.wait_loaded(deadline)

    def _clear_spool(self, timeout_s: float) -> None:
        if self._telemetry is not None:
            self._telemetry.outboxes.close(timeout_s)

    def _retire(self, timeout_s: float) -> None:
        self._retired = True
        if self._telemetry is not None:
            self._telemetry.retire()
        self._clear_spool(timeout_s)


def _broken(engine: Engine, message: Message, error: Exception) -> None:
    """Keep, as a raw record, what the engine could not read."""
    if isinstance(message, (Question, Flush)):
        note_internal_error("answering", error)
        return
    try:
        engine.broken(shown(message), now(), error)
    except Exception as again:
        note_internal_error("recording a broken event", again)


def _uncaught() -> Raised | None:
    """The exception that is ending the process, as the interpreter noted it."""
    from .._job.facts import Raised

    value = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
    return Raised(type(value).__name__, str(value)) if value is not None else None
