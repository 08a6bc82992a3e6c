"""From the host's threads to the bridge's own: a queue, a doorbell and a thread.

The host's side is one append and one lock release, each a single instruction of the interpreter, so that a
signal that torch turns into an exception between any two instructions leaves everything usable. All else
happens on the bridge's thread, where Python runs no signal handlers.
"""

from __future__ import annotations

import _thread
import atexit
import contextlib
import ctypes
import gc
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .._runtime.guard import (
    logger,
    note_internal_error,
    say_once,
    this_thread,
)
from .._runtime.loading import after_fork, before_fork, loading

if TYPE_CHECKING:
    from .._config.settings import Settings
    from .._job.engine import Engine
    from .._job.facts import Fact, Raised
    from .._telemetry.providers import Providers
    from .._telemetry.telemetry import Telemetry

TEXT, EVENT, RENDEZVOUS_EVENT, FACT, REQUEST = range(5)
"""What a queued item is; the rest of its tuple depends on it."""

MOST_QUEUED = 100_000
"""Items that wait for the bridge's thread at most; beyond it the oldest is dropped and counted."""

MOST_QUIET = 1_000
"""Items beyond which quiet ones are left out."""

_LINGER_S = 0.02
_MOST_LINGERS = 4
_TICK_S = 1.0
_LOAD_S = 2.0
# Python 3.12 alone starts no thread once the interpreter is ending, not even from its exit hooks. The SDK
# needs several: a worker whose first event is its last act has to wait for them, once.
_NO_LATE_THREADS = sys.version_info[:2] == (3, 12)


class _Request:
    """Something that a host's thread waits for, with a bound."""

    __slots__ = ("answer", "deadline", "done", "ending", "question")

    def __init__(
        self, deadline: float, *, ending: bool = False, question: Callable[[Engine], object] | None = None
    ) -> None:
        self.deadline = deadline
        self.ending = ending
        self.question = question
        self.answer: object = None
        # A bare lock: waiting on it is one interruptible call, releasing it one instruction.
        self.done = threading.Lock()
        self.done.acquire()


class Bridge:
    """The process's bridge. ``put`` from any thread; everything else runs on its own."""

    def __init__(self, providers: Providers | None = None) -> None:
        self._queue: deque[tuple[Any, ...]] = deque()
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
        self._off = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"

    # The host's side

    def put(self, item: tuple[Any, ...], *, urgent: bool = False, quiet: bool = False) -> None:
        """Queue ``item`` for the bridge's thread. Never blocks. What is ``quiet`` waits for its next look."""
        if self._off:
            return
        queue = self._queue
        if quiet and len(queue) >= MOST_QUIET:
            return  # somebody is in trouble: what is queued says more
        if len(queue) >= MOST_QUEUED:
            with contextlib.suppress(IndexError):
                queue.popleft()
            self._dropped += 1
        queue.append(item)
        if urgent:
            self._urgent = True
        if quiet and self._running:
            return
        if not self._rung or urgent:
            first = not self._running
            self._ring()
            if first and _NO_LATE_THREADS and item[0] not in (FACT, REQUEST):
                self.wait_loaded(_LOAD_S)

    def fact(self, fact: Fact, *, urgent: bool = False, quiet: bool = False) -> None:
        """Queue what the agent did."""
        self.put((FACT, fact), urgent=urgent, quiet=quiet)

    def _ring(self) -> None:
        self._rung = True
        with contextlib.suppress(RuntimeError):  # it rings already
            self._doorbell.release()
        if not self._running:
            # One instruction: a signal's exception inside of Thread.start() would leave a thread that cannot
            # begin. Should two be started, the second finds that the first has the claim.
            _thread.start_new_thread(self._run, ())

    def flush(self, timeout_s: float, *, ending: bool = False) -> bool:
        """Process and send all that is queued; False if that took longer than ``timeout_s`` seconds.

        ``ending`` ends all jobs first: the process is about to end.
        """
        nothing = not self._running or (ending and self._said_all)
        if self._off or (nothing and not self._queue):
            return True
        return bool(self._request(timeout_s, ending=ending))

    def ask(self, question: Callable[[Engine], object], timeout_s: float) -> object:
        """Ask the bridge's thread; None if it does not answer within ``timeout_s`` seconds."""
        if self._off:
            return None
        return self._request(timeout_s, question=question)

    def _request(
        self, timeout_s: float, *, ending: bool = False, question: Callable[[Engine], object] | None = None
    ) -> object:
        request = _Request(time.monotonic() + timeout_s, ending=ending, question=question)
        self.put((REQUEST, request), urgent=True)
        return request.answer if request.done.acquire(timeout=max(0.0, timeout_s)) else None

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

    def close(self, timeout_s: float, *, retire: bool = False) -> None:
        """Remove a spool in which nothing is left, if that can be done within ``timeout_s`` seconds.

        On the bridge's thread: the host's own never waits for a disk without a bound. With ``retire`` that
        thread ends, too: another bridge takes over.
        """
        if self._running:
            self.ask(lambda _: self._close(timeout_s / 2, retire=retire), timeout_s)

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
            with loading():
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
                settled = engine.settle()
                if self._telemetry is not None:
                    self._telemetry.commit()
                    self._telemetry.publish()
            except Exception as error:
                note_internal_error("keeping what was recorded", error)

    def _close(self, timeout_s: float, *, retire: bool) -> None:
        self._retired = retire
        if self._telemetry is not None:
            if retire:
                self._telemetry.retire()
            self._telemetry.outboxes.close(timeout_s)

    def _wait_loaded(self, deadline: float) -> None:
        if self._telemetry is not None:
            self._telemetry.wait_loaded(deadline)

    def _linger(self) -> None:
        """Let the agent finish what it is doing: its events come in bursts, and it is in a hurry."""
        for _ in range(_MOST_LINGERS):
            queued = len(self._queue)
            if self._urgent or self._doorbell.acquire(timeout=_LINGER_S) or len(self._queue) == queued:
                return

    def _build(self) -> Engine:
        from .._config.settings import read_settings
        from .._job.engine import Engine
        from .._telemetry.telemetry import Telemetry

        self._settings = read_settings(os.environ, _warn)
        self._telemetry = Telemetry(os.environ, _warn, self._providers, self._settings)
        return Engine(self._telemetry, self._settings, os.environ)

    def _drain(self, engine: Engine) -> None:
        queue = self._queue
        count = 0
        while queue:
            item = queue.popleft()
            try:
                self._process(engine, item)
            except Exception as error:
                self._broken(engine, item, error)
            count += 1
            if not count % 16:
                time.sleep(0)  # hand the interpreter to the agent if it waits for it
        if self._dropped:
            say_once(
                "queue full",
                f"events came faster than they could be processed; {self._dropped} or more were dropped.",
            )

    def _process(self, engine: Engine, item: tuple[Any, ...]) -> None:
        kind = item[0]
        self._said_all = self._said_all and kind == REQUEST
        if kind == TEXT:
            engine.text(*item[1:])
        elif kind == EVENT:
            engine.event(*item[1:])
        elif kind == FACT:
            engine.fact(item[1])
        elif kind == RENDEZVOUS_EVENT:
            engine.rendezvous_event(*item[1:])
        else:
            self._fulfil(engine, item[1])

    def _broken(self, engine: Engine, item: tuple[Any, ...], error: Exception) -> None:
        try:
            text = item[1] if item[0] == TEXT else repr(item[1])[:4096]
            engine.broken(text, time.time_ns(), error)
        except Exception as again:
            note_internal_error("recording a broken event", again)

    def _fulfil(self, engine: Engine, request: _Request) -> None:
        try:
            if request.question is not None:
                if self._telemetry is not None:
                    self._telemetry.commit()
                request.answer = request.question(engine)
                return
            if request.ending:
                engine.close(_uncaught())
            sent = self._telemetry is None or self._telemetry.flush(request.deadline)
            # The end of a process comes in two steps: there is nothing more to say in the second.
            self._said_all = request.ending and sent
            request.answer = sent
        finally:
            request.done.release()


def _nothing(_engine: Engine) -> None:
    """Ask nothing: what was queued before a question is in the spool before it is answered."""


def _uncaught() -> Raised | None:
    """The exception that is ending the process, as the interpreter noted it."""
    from .._job.facts import Raised

    value = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
    return Raised(type(value).__name__, str(value)) if value is not None else None


def _warn(message: str) -> None:
    say_once(message, message)


_bridge: Bridge | None = None
# Reentrant: a signal handler may record an event while the first one is being recorded.
_making = threading.RLock()
_providers: Providers | None = None
_hooked_exit = False
_gave_up = False


def bridge() -> Bridge:
    """Return this process's bridge; made at first use, the same for all threads."""
    global _bridge
    found = _bridge
    if found is None:
        with _making:
            if _bridge is None:
                _bridge = Bridge(_providers)
                _hook_exit()
            found = _bridge
    return found


def use_providers(providers: Providers | None) -> None:
    """Use these providers in bridges made from now on."""
    global _providers, _bridge
    _providers = providers
    if _bridge is not None:
        _bridge.flush(_bridge.exit_timeout_s, ending=True)
        _bridge.close(_bridge.exit_timeout_s, retire=True)
        _bridge = None


def _hook_exit() -> None:
    global _hooked_exit
    if _hooked_exit:
        return
    # Whoever imports it later than the exit below begins finds that it can no longer be imported.
    import concurrent.futures.thread  # noqa: F401

    atexit.register(_at_exit)
    register = getattr(threading, "_register_atexit", None)
    if register is not None:
        # Before atexit, where threads can no longer be started and so nothing new be connected; it also runs
        # in forked workers, which never reach atexit.
        with contextlib.suppress(RuntimeError):
            register(_at_exit)
    _hooked_exit = True


def _after_fork() -> None:
    """A forked child starts afresh: its parent's queue is its parent's to send."""
    global _bridge, _making
    after_fork()
    if _bridge is not None:
        # Nothing of gRPC's may be freed here, neither the bridge's nor what its calls left behind: a channel
        # ends threads that are not there in the child, and that kills it.
        _bridge.disown()
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(_bridge))
        gc.freeze()
    _bridge = None
    _making = threading.RLock()


def _at_exit() -> None:
    global _gave_up
    current = _bridge
    if current is None or _gave_up:
        return
    with _signals_ignored():
        # A process of one event may end before anything is loaded; that is not the backend's time.
        current.wait_loaded(_LOAD_S)
        deadline = time.monotonic() + current.exit_timeout_s
        _gave_up = not current.flush(current.exit_timeout_s, ending=True)
        if not _gave_up:
            current.close(max(0.0, deadline - time.monotonic()))
    if _gave_up:
        left = current.left()
        logger.warning(
            "%s",
            left
            or f"telemetry was not all sent within {current.exit_timeout_s:g} s "
            "(TORCHELASTIC_OTEL_EXIT_TIMEOUT).",
        )


@contextlib.contextmanager
def _signals_ignored() -> Any:
    """Keep a second SIGTERM or SIGINT from ending the flush; it is bounded, and the exit code stands."""
    previous: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(ValueError, OSError):
                previous[number] = signal.signal(number, lambda _number, _frame: None)
    try:
        yield
    finally:
        for restored, handler in previous.items():
            if handler is not None:
                with contextlib.suppress(ValueError, OSError):
                    signal.signal(restored, handler)


os.register_at_fork(before=before_fork, after_in_parent=after_fork, after_in_child=_after_fork)
