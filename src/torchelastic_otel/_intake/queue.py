"""From the host's threads to the bridge's own: a queue, a doorbell and a thread.

The host's side is one append and one lock release, each a single instruction of the interpreter, so that a
signal that the host turns into an exception between any two instructions leaves everything usable. All else
happens on the bridge's thread, where Python runs no signal handlers.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from .._runtime.guard import note_internal_error, say_once
from .._runtime.imports import importing
from .._runtime.node_name import look_up_node_name, node_name_soon
from .._runtime.own_thread import this_thread
from .messages import (
    AgentFact,
    Answer,
    Flush,
    LoggedText,
    Message,
    Question,
    Recorded,
    RecordedEvent,
    RecordedRendezvousEvent,
)

if TYPE_CHECKING:
    from .._config.settings import Settings
    from .._job.engine import Engine
    from .._job.facts import Raised
    from .._telemetry.providers import Providers
    from .._telemetry.telemetry import Telemetry

MOST_QUEUED = 100_000
"""Messages that wait for the bridge's thread at most; beyond it the oldest is dropped and counted."""

MOST_QUIET = 1_000
"""Messages beyond which quiet ones are left out."""

LOAD_S = 2.0
"""Longest time that somebody waits for what sends to be loaded, in seconds."""

_LINGER_S = 0.02
_MOST_LINGERS = 4
_TICK_S = 1.0
# Python 3.12 alone starts no thread once the interpreter is ending, not even from its exit hooks. The SDK
# needs several: a worker whose first event is its last act has to wait for them, once.
_NO_LATE_THREADS = sys.version_info[:2] == (3, 12)

T = TypeVar("T")


class Bridge:
    """The process's bridge. ``enqueue`` from any thread; what is queued is taken on its own."""

    def __init__(self, providers: Providers | None = None, *, off: bool = False) -> None:
        self._queue: deque[Message] = deque()
        self._doorbell = threading.Lock()
        self._doorbell.acquire()
        self._rung = False
        self._urgent = False
        self._dropped = 0
        self._providers = providers
        self._claim = threading.Lock()
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
        queue = self._queue
        if quiet and len(queue) >= MOST_QUIET:
            return  # somebody is in trouble: what is queued says more
        if len(queue) >= MOST_QUEUED:
            with contextlib.suppress(IndexError):
                queue.popleft()
            self._dropped += 1
        queue.append(message)
        if urgent:
            self._urgent = True
        if quiet and self._running:
            return
        if not self._rung or urgent:
            first = not self._running
            self._ring()
            if first and _NO_LATE_THREADS and not isinstance(message, (AgentFact, Question, Flush)):
                self.wait_loaded(LOAD_S)

    def _ring(self) -> None:
        self._rung = True
        with contextlib.suppress(RuntimeError):  # it rings already
            self._doorbell.release()
        if not self._running:
            # One instruction: a signal's exception inside of Thread.start() would leave a thread that cannot
            # begin. Should two be started, the second finds that the first has the claim.
            _thread.start_new_thread(self._run, ())

    def flush(self, timeout_s: float) -> bool:
        """Process and send all that is queued; False if that took longer than ``timeout_s`` seconds."""
        return self._flush(timeout_s, ending=False, nothing=not self._running)

    def finish(self, timeout_s: float) -> bool:
        """End all jobs, then flush: the process is about to end."""
        return self._flush(timeout_s, ending=True, nothing=not self._running or self._said_all)

    def _flush(self, timeout_s: float, *, ending: bool, nothing: bool) -> bool:
        if self._off or (nothing and not self._queue):
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
            self.ask(_nothing, timeout_s)

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
    def off(self) -> bool:
        """Whether nothing is to be sent: the SDK is disabled, or could not be set up."""
        return self._off

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
        """Say what is not delivered and where it is; "" if nothing is left."""
        if self._telemetry is None:
            return ""
        return self._telemetry.outboxes.summary()

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
        settled = True
        while True:
            self._doorbell.acquire(timeout=_TICK_S if settled else 0.25)
            self._linger()
            self._urgent = False
            self._rung = False
            self._drain(engine)
            if self._retired:
                return
            try:
                settled = engine.settle(time.time_ns())
                if self._telemetry is not None:
                    self._telemetry.commit()
                    self._telemetry.publish()
            except Exception as error:
                note_internal_error("keeping what was recorded", error)

    def _build(self) -> Engine:
        look_up_node_name()
        with importing:
            from .._config.settings import read_settings
        self._settings = read_settings(os.environ, _warn)
        with importing:
            from .._job.engine import Engine
            from .._telemetry.telemetry import Telemetry
        self._telemetry = Telemetry(os.environ, _warn, self._providers, self._settings)
        return Engine(self._telemetry, self._settings, os.environ, node_name_soon())

    def _linger(self) -> None:
        """Let the agent finish what it is doing: its events come in bursts, and it is in a hurry."""
        for _ in range(_MOST_LINGERS):
            queued = len(self._queue)
            if self._urgent or self._doorbell.acquire(timeout=_LINGER_S) or len(self._queue) == queued:
                return

    def _drain(self, engine: Engine) -> None:
        queue = self._queue
        count = 0
        while queue:
            message = queue.popleft()
            try:
                self._process(engine, message)
            except Exception as error:
                _broken(engine, message, error)
            count += 1
            if not count % 16:
                time.sleep(0)  # hand the interpreter to the agent if it waits for it
        if self._dropped:
            say_once(
                "queue full",
                f"events came faster than they could be processed; {self._dropped} or more were dropped.",
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
            engine.text(message.text, message.recorded_ns, message.thread, message.span)
        elif isinstance(message, RecordedEvent):
            engine.event(_fields(message), message.recorded_ns, message.span)
        elif isinstance(message, RecordedRendezvousEvent):
            engine.rendezvous_event(message.fields, message.recorded_ns, message.thread)
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


def _fields(event: RecordedEvent) -> tuple[object, object, object, object]:
    return (event.name, event.source, event.timestamp, event.metadata)


def _broken(engine: Engine, message: Message, error: Exception) -> None:
    """Keep, as a raw record, what the engine could not read."""
    if isinstance(message, (Question, Flush)):
        note_internal_error("answering", error)
        return
    try:
        engine.broken(_shown(message), time.time_ns(), error)
    except Exception as again:
        note_internal_error("recording a broken event", again)


def _shown(message: Recorded | AgentFact) -> str:
    if isinstance(message, LoggedText):
        return message.text
    if isinstance(message, RecordedEvent):
        shown: object = _fields(message)
    else:
        shown = message.fields if isinstance(message, RecordedRendezvousEvent) else message.fact
    return repr(shown)[:4096]


def _nothing(_engine: Engine) -> None:
    """Ask nothing: whoever asks waits for what was queued before."""


def _uncaught() -> Raised | None:
    """The exception that is ending the process, as the interpreter noted it."""
    from .._job.facts import Raised

    value = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
    return Raised(type(value).__name__, str(value)) if value is not None else None


def _warn(message: str) -> None:
    say_once(message, message)
