"""Between a program's threads and its telemetry: nothing blocks, nothing raises, nothing is lost silently."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider

import torchelastic_otel
from otlp_receiver import OtlpReceiver
from torchelastic_otel._intake import bridge as _bridge
from torchelastic_otel._intake import recording as _handler
from torchelastic_otel._intake.bridge import EVENT, TEXT, Bridge
from torchelastic_otel._intake.recording import OtelHandler, submit_event, submit_rendezvous_event
from torchelastic_otel._job.engine import Engine
from torchelastic_otel._runtime import guard as _guard
from torchelastic_otel._runtime.guard import (
    from_signal_handler,
    guarded,
    note_internal_error,
    say_once,
)
from torchelastic_otel._telemetry.batcher import Batcher
from torchelastic_otel._telemetry.flusher import Flusher
from torchelastic_otel._telemetry.providers import Providers
from torchelastic_otel._torch.launcher_signals import SignalWatch
from torchelastic_otel.events import (
    Event,
    EventSource,
    NodeState,
    RdzvEvent,
)

LONG_S = 60.0
"""Longest time that anything here may take on a busy machine; nothing waits for it to pass."""

SOURCES = str(Path(torchelastic_otel.__file__).parents[1])


def soon() -> float:
    """Return a deadline that is far away."""
    return time.monotonic() + LONG_S


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what was said once, before each test and for its time."""
    monkeypatch.setattr(_guard, "_said", set())


class Said(logging.Handler):
    """What the package's logger said, as it is said."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.texts: list[str] = []
        self._changed = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message."""
        with self._changed:
            self.texts.append(record.getMessage())
            self._changed.notify_all()

    def having(self, words: str) -> list[str]:
        """Return the messages that contain these words."""
        return [text for text in self.texts if words in text]

    def wait(self, words: str) -> list[str]:
        """Wait for a message that contains these words; return all that do."""
        with self._changed:
            self._changed.wait_for(lambda: self.having(words), LONG_S)
        return self.having(words)


@pytest.fixture
def said() -> Iterator[Said]:
    """Give what the package's logger says."""
    logger = logging.getLogger("torchelastic_otel")
    level, handler = logger.level, Said()
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


# --- the guard --------------------------------------------------------------------------------------------


class HostsError(Exception):
    """What a program's signal handler raises."""


@pytest.fixture
def usr1() -> Iterator[Callable[[Any], None]]:
    """Give a function that sets a handler for SIGUSR1; the one before is put back."""
    before = signal.getsignal(signal.SIGUSR1)

    def install(handler: Any) -> None:
        signal.signal(signal.SIGUSR1, handler)

    yield install
    signal.signal(signal.SIGUSR1, before)


def hosts_handler(number: int, frame: FrameType | None) -> None:
    """Raise, as torch's own handler does."""
    raise HostsError


class Host:
    """A program whose handler is a method."""

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Raise."""
        self.stop()

    def stop(self) -> None:
        """Raise, a call deeper."""
        raise HostsError


@pytest.mark.parametrize("handler", [hosts_handler, Host().handle], ids=["function", "method"])
def test_signal_that_becomes_an_exception_passes_through(
    usr1: Callable[[Any], None], handler: Any, said: Said
) -> None:
    """A job that was told to stop stops, wherever in the bridge's code that reaches it."""
    usr1(handler)

    def bridges_own() -> None:
        signal.raise_signal(signal.SIGUSR1)

    with pytest.raises(HostsError):
        guarded(bridges_own)
    assert said.texts == []


def test_signal_during_submit_passes_through(usr1: Callable[[Any], None]) -> None:
    """Through the functions that a program calls, too: here while its metadata is read."""
    usr1(hosts_handler)

    class Interrupting:
        def __str__(self) -> str:
            signal.raise_signal(signal.SIGUSR1)
            return "unreached"

    class Interrupted:
        name = "e"
        source = "AGENT"
        timestamp = 0

        @property
        def metadata(self) -> dict[str, object]:
            signal.raise_signal(signal.SIGUSR1)
            return {}

    with pytest.raises(HostsError):
        submit_event(Interrupted())


def test_torchs_signal_exception_passes_through_by_its_name() -> None:
    """Its handler may be gone by then: torch puts the old ones back."""
    signal_exception = type("SignalException", (Exception,), {})

    def bridges_own() -> None:
        raise signal_exception

    with pytest.raises(signal_exception):
        guarded(bridges_own)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_is_no_error_passes_through(error: type[BaseException]) -> None:
    """Ctrl-C and exits are nobody's to hold back."""

    def bridges_own() -> None:
        raise error

    with pytest.raises(error):
        guarded(bridges_own)


def test_own_errors_stay_here(usr1: Callable[[Any], None], said: Said) -> None:
    """They are said once per place and kind, with the promise that the job goes on."""
    usr1(hosts_handler)

    def bridges_own(kind: type[Exception]) -> None:
        raise kind("wrong")

    for kind in (ValueError, ValueError, KeyError):
        guarded(bridges_own, kind)
    assert len(said.texts) == 2
    assert "bridges_own: ValueError: wrong" in said.texts[0]
    assert "The job is not affected" in said.texts[0]
    assert "KeyError" in said.texts[1]


def test_own_error_after_a_handled_signal_stays_here(usr1: Callable[[Any], None], said: Said) -> None:
    """The signal's exception was caught by whoever expected it; what went wrong later is not the host's."""
    usr1(hosts_handler)

    def bridges_own() -> None:
        try:
            signal.raise_signal(signal.SIGUSR1)
        except HostsError:
            raise ValueError("wrong") from None

    guarded(bridges_own)
    assert len(said.texts) == 1


def test_other_threads_have_no_signals() -> None:
    """Python runs handlers in the main thread alone, so elsewhere every error is the bridge's."""
    found: list[bool] = []

    def elsewhere() -> None:
        try:
            raise type("SignalException", (Exception,), {})
        except Exception as error:
            found.append(from_signal_handler(error))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert found == [False]


def test_arguments_are_passed_on() -> None:
    """What is guarded is called as it would be."""
    got: list[object] = []
    guarded(lambda *args, **kwargs: got.append((args, kwargs)), 1, two=2)
    assert got == [((1,), {"two": 2})]


def test_said_once(said: Said) -> None:
    """One message per kind, however often and with whatever words."""
    for text in ("first", "second"):
        say_once("kind", text)
    say_once("other", "third")
    assert said.texts == ["first", "third"]


def test_what_was_said_is_bounded(said: Said) -> None:
    """A program whose errors all differ fills neither the log nor the memory."""
    for number in range(5000):
        note_internal_error(f"place {number}", ValueError())
    assert len(said.texts) == len(_guard._said) < 1000


# --- the queue --------------------------------------------------------------------------------------------


class Names:
    """A log record processor that keeps the names and bodies of what it is given."""

    def __init__(self) -> None:
        self.records: list[tuple[str, str]] = []

    def on_emit(self, data: Any) -> None:
        """Keep a record."""
        self.records.append((data.log_record.event_name, data.log_record.body))

    def shutdown(self) -> None:
        """Do nothing."""

    def force_flush(self, timeout_millis: int = 0) -> bool:
        """Do nothing."""
        return True


class Held:
    """A bridge with its records in memory, whose thread can be held."""

    def __init__(self) -> None:
        self._sink = Names()
        loggers = LoggerProvider(shutdown_on_exit=False)
        loggers.add_log_record_processor(self._sink)  # type: ignore[arg-type]  # a duck, for all versions
        meters = MeterProvider(shutdown_on_exit=False)
        self.bridge = Bridge(Providers(TracerProvider(shutdown_on_exit=False), loggers, meters))
        self._release = threading.Event()
        self._holder: threading.Thread | None = None

    def put(self, *names: str) -> None:
        """Queue an event for each name."""
        for name in names:
            self.bridge.put((EVENT, (name, "AGENT", 0, {}), time.time_ns(), None))

    def hold(self) -> None:
        """Keep the bridge's thread busy; returns once it is."""
        entered = threading.Event()
        self._release.clear()

        def wait(engine: Engine) -> None:
            entered.set()
            self._release.wait(LONG_S)

        self._holder = threading.Thread(target=self.bridge.ask, args=(wait, LONG_S), daemon=True)
        self._holder.start()
        assert entered.wait(LONG_S)

    def release(self) -> None:
        """Let the bridge's thread go on."""
        self._release.set()
        if self._holder is not None:
            self._holder.join(LONG_S)

    def names(self) -> list[str]:
        """Return the names of all records, after a flush."""
        return [name for name, _ in self.records()]

    def records(self) -> list[tuple[str, str]]:
        """Return the names and bodies of all records, after a flush."""
        assert self.bridge.flush(LONG_S)
        return list(self._sink.records)


@pytest.fixture
def held() -> Iterator[Held]:
    """Give such a bridge."""
    made = Held()
    yield made
    made.release()


def test_order_is_kept(held: Held) -> None:
    """Records leave in the order in which they were recorded."""
    names = [f"e{number}" for number in range(500)]
    held.put(*names)
    assert held.names() == names


def test_queue_is_bounded(held: Held, monkeypatch: pytest.MonkeyPatch, said: Said) -> None:
    """While the bridge's thread does not keep up, the newest events stay, and the loss is said once."""
    monkeypatch.setattr(_bridge, "MOST_QUEUED", 50)
    held.hold()
    held.put(*(f"e{number}" for number in range(80)))
    held.release()
    names = held.names()
    # The flush itself is one more item, if it comes before the queue is taken.
    assert names in ([f"e{number}" for number in range(first, 80)] for first in (30, 31))
    (text,) = said.wait("dropped")
    assert "30" in text or "31" in text


def test_putting_never_blocks(held: Held) -> None:
    """A held bridge takes what it is given; all of it is there when it goes on."""
    held.hold()
    held.put(*(f"e{number}" for number in range(1000)))
    held.release()
    assert len(held.names()) == 1000


def test_events_of_many_threads(held: Held) -> None:
    """None is lost and none comes twice, each thread's in its order."""
    start = threading.Barrier(8)

    def record(thread: int) -> None:
        start.wait()
        held.put(*(f"{thread}/{number}" for number in range(200)))

    threads = [threading.Thread(target=record, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names = held.names()
    assert len(names) == 1600
    for thread_number in range(8):
        own = [name for name in names if name.startswith(f"{thread_number}/")]
        assert own == [f"{thread_number}/{number}" for number in range(200)]


def test_one_bridge_for_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that record a program's first events at the same time share one bridge."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(100):
            monkeypatch.setattr(_bridge, "_bridge", None)
            found: list[Bridge] = []
            start = threading.Barrier(8)

            def ask(start: threading.Barrier = start, found: list[Bridge] = found) -> None:
                start.wait()
                found.append(_bridge.bridge())

            threads = [threading.Thread(target=ask) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len({id(made) for made in found}) == 1
    finally:
        sys.setswitchinterval(interval)


# --- what cannot be read ----------------------------------------------------------------------------------


class Unreadable:
    """Raises where its text is asked for."""

    def __str__(self) -> str:
        raise ValueError("no text")


class Unspeakable(Unreadable):
    """Cannot even be shown."""

    __repr__ = Unreadable.__str__


def test_broken_event_becomes_a_raw_record(held: Held, said: Said) -> None:
    """What cannot be translated arrives as text; its neighbours are as they were, and it is said once."""
    held.put("before")
    for _ in range(2):
        held.bridge.put((EVENT, (Unreadable(), "AGENT", 0, {"key": "kept"}), time.time_ns(), None))
    held.put("after")
    records = held.records()
    assert [name for name, _ in records] == ["before", *["torchelastic.unparsed"] * 2, "after"]
    assert "kept" in records[1][1]
    assert len(said.having("internal error")) == 1


def test_broken_text_is_kept(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever fails on the way, the text that torch wrote is in the raw record."""

    def fail(*_args: object) -> None:
        raise RuntimeError("wrong")

    monkeypatch.setattr(Engine, "text", fail)
    held.put("before")
    held.bridge.put((TEXT, '{"name": "what torch wrote"}', time.time_ns(), None, None))
    held.put("after")
    assert held.records() == [
        ("before", "before"),
        ("torchelastic.unparsed", '{"name": "what torch wrote"}'),
        ("after", "after"),
    ]


def test_event_that_cannot_even_be_shown(held: Held, said: Said) -> None:
    """It costs itself and nobody else."""
    held.put("before")
    held.bridge.put((EVENT, (Unspeakable(), "AGENT", 0, {}), time.time_ns(), None))
    held.put("after")
    names = held.names()
    assert (names[0], names[-1]) == ("before", "after")
    assert said.having("internal error")


def test_question_that_fails_is_answered(held: Held) -> None:
    """Whoever asks is not left waiting."""

    def fail(engine: Engine) -> None:
        raise ValueError("wrong")

    assert held.bridge.ask(fail, LONG_S) is None
    held.put("after")
    assert "after" in held.names()


def test_telemetry_that_cannot_be_set_up(monkeypatch: pytest.MonkeyPatch, said: Said) -> None:
    """Said once; after that, recording and flushing cost nothing."""

    def fail(self: Bridge) -> Engine:
        raise RuntimeError("wrong")

    monkeypatch.setattr(Bridge, "_build", fail)
    made = Held()
    made.put("event")
    deadline = time.monotonic() + LONG_S
    while not made.bridge._off:  # its thread gives up, and has no handle to be awaited by
        assert time.monotonic() < deadline
        time.sleep(0)
    made.put("event")
    assert made.bridge.flush(LONG_S)
    assert made.bridge.ask(lambda engine: 1, LONG_S) is None
    assert len(said.having("setting up telemetry")) == 1


# --- no loops ---------------------------------------------------------------------------------------------


class Taken:
    """A bridge that keeps what is put, and sends nothing."""

    def __init__(self) -> None:
        self.items: list[tuple[Any, ...]] = []
        self.flushes = 0

    def put(self, item: tuple[Any, ...], *, urgent: bool = False) -> None:
        """Keep an item."""
        self.items.append(item)

    def last_words(self, timeout_s: float) -> None:
        """Count how often somebody said that it may be over."""
        self.flushes += 1


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Taken:
    """Give a bridge in the place of the process's."""
    made = Taken()
    monkeypatch.setattr(_handler, "bridge", lambda: made)
    return made


EVENT_1 = Event("e", EventSource.AGENT, metadata={"k": 1})
RDZV_1 = RdzvEvent("n", "r", "m", "h", 1, NodeState.RUNNING)


def log_record(name: str, text: str = "text") -> logging.LogRecord:
    """Return a log record of a logger."""
    return logging.LogRecord(name, logging.INFO, "file.py", 1, text, (), None)


@pytest.mark.parametrize(
    "name",
    [
        *("torchelastic_otel", "torchelastic_otel.x", "opentelemetry.exporter.otlp", "grpc._server"),
        *("urllib3.connectionpool", "requests"),
    ],
)
def test_exporters_logs_never_come_round(taken: Taken, name: str) -> None:
    """A failed export is logged; were that an event, it would be exported, and fail."""
    OtelHandler().handle(log_record(name))
    assert taken.items == []


def test_other_loggers_are_taken(taken: Taken) -> None:
    """Whatever else a handler is put on, its text is queued as it is, formatted and with its time."""
    record = logging.LogRecord("torchelastic-events-otel", logging.INFO, "f", 1, "a %s", ("b",), None)
    assert OtelHandler().handle(record)
    (item,) = taken.items
    assert item[:3] == (TEXT, "a b", int(record.created * 1e9))


def test_own_threads_record_nothing(taken: Taken) -> None:
    """An instrumented exporter that records events from the delivery thread does not feed itself."""
    exported = threading.Event()

    def export(batch: Sequence[str]) -> bool:
        submit_event(EVENT_1)
        submit_rendezvous_event(RDZV_1)
        OtelHandler().handle(log_record("training"))
        exported.set()
        return True

    batcher = Batcher("logs", lambda: export, delay_s=0, max_batch=1, max_queue=10)
    batcher.put("item")
    assert exported.wait(LONG_S)
    assert batcher.flush(soon())
    assert taken.items == []
    submit_event(EVENT_1)
    assert len(taken.items) == 1


def test_threads_of_the_program_are_never_taken_for_own(taken: Taken) -> None:
    """A thread gets the identity of one that has ended: the watch ends with the first workers' start."""
    watch = SignalWatch(lambda name: None)
    before = set(threading.enumerate())
    watch.install()
    own = [thread for thread in threading.enumerate() if thread not in before]
    assert own
    watch.remove()
    for thread in own:
        thread.join(LONG_S)
        assert not thread.is_alive()
    for _ in range(20):
        thread = threading.Thread(target=submit_event, args=(EVENT_1,))
        thread.start()
        thread.join()
    assert len(taken.items) == 20


def test_last_words_are_flushed(taken: Taken) -> None:
    """The watchdog kills its own process right after this event; it is on its way before that."""
    kill = Event("kill worker process", EventSource.AGENT)
    submit_event(kill)
    assert taken.flushes == 1
    OtelHandler().handle(log_record("torchelastic-events-otel", kill.serialize()))
    assert taken.flushes == 2
    submit_event(EVENT_1)
    assert taken.flushes == 2


def test_event_is_taken_as_it_is_now(taken: Taken) -> None:
    """What the program does with its objects afterwards does not reach the record."""
    nested = [1]
    metadata: dict[str, Any] = {"n": nested, "k": 1}
    submit_event(SimpleNamespace(name="e", source="AGENT", timestamp=0, metadata=metadata))
    nested.append(2)
    metadata["k"] = 2
    ((_, fields, *_),) = taken.items
    assert fields == ("e", "AGENT", 0, {"n": "[1]", "k": 1})


@pytest.mark.parametrize("event", [None, object(), 7, SimpleNamespace(name="e")])
def test_what_is_no_event_raises_nothing(event: Any, taken: Taken) -> None:
    """Telemetry never ends a program, whatever it is given."""
    submit_event(event)
    submit_rendezvous_event(event)


# --- waiting ----------------------------------------------------------------------------------------------


def test_flush_and_ask_have_a_bound(held: Held) -> None:
    """Whoever waits for a bridge that is stuck gets a plain answer, and the next one works again."""
    held.put("first")
    assert held.bridge.flush(LONG_S)
    held.hold()
    assert held.bridge.flush(0.01) is False
    assert held.bridge.ask(lambda engine: 1, 0.01) is None
    held.release()
    assert held.bridge.flush(LONG_S) is True
    assert held.bridge.ask(lambda engine: 1, LONG_S) == 1


@pytest.mark.parametrize("timeout_s", [0, -1, -5])
def test_flush_with_no_time_left(held: Held, timeout_s: float) -> None:
    """A deadline that has passed is a flush that did not succeed: no error, and no waiting for ever."""
    held.put("first")
    held.hold()
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(held.bridge.flush(timeout_s)), daemon=True)
    thread.start()
    thread.join(LONG_S / 6)
    while_held = list(answers)
    held.release()
    thread.join(LONG_S)
    assert while_held == [False]


def test_flush_of_nothing() -> None:
    """A process that recorded nothing starts no thread for it."""
    bridge = Bridge()
    assert bridge.flush(LONG_S)
    assert not bridge._running


@pytest.mark.parametrize("value", ["true", "TRUE", " True "])
def test_disabled(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """OTEL_SDK_DISABLED: no thread, no queue, and nothing to wait for."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", value)
    bridge = Bridge()
    bridge.put((EVENT, ("e", "AGENT", 0, {}), 0, None))
    assert bridge.flush(LONG_S)
    assert bridge.ask(lambda engine: 1, LONG_S) is None
    assert not bridge._running
    assert not bridge._queue


# --- delivery ---------------------------------------------------------------------------------------------


class Exporter:
    """Keeps the batches that it is given; can be held, and told what to answer."""

    def __init__(self, *, answer: bool = True, error: Exception | None = None) -> None:
        self.batches: list[list[object]] = []
        self.answer = answer
        self.error = error
        self.entered = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()
        self._changed = threading.Condition()

    def __call__(self, batch: Sequence[object]) -> bool:
        """Export a batch."""
        self.entered.set()
        assert self.go_on.wait(LONG_S)
        with self._changed:
            self.batches.append(list(batch))
            self._changed.notify_all()
        if self.error is not None:
            raise self.error
        return self.answer

    @property
    def items(self) -> list[object]:
        """All items so far."""
        return [item for batch in self.batches for item in batch]

    def wait(self, count: int) -> bool:
        """Wait for so many items."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self.items) >= count, LONG_S)


def batching(
    exporter: Exporter, delay_s: float = LONG_S, max_batch: int = 512, max_queue: int = 2048
) -> Batcher[object]:
    """Return a batcher that waits for long unless told otherwise."""
    return Batcher("logs", lambda: exporter, delay_s=delay_s, max_batch=max_batch, max_queue=max_queue)


def test_batch_goes_out_after_the_delay() -> None:
    """Nobody has to flush."""
    exporter = Exporter()
    batcher = batching(exporter, delay_s=0.01)
    batcher.put(1)
    assert exporter.wait(1)


def test_full_batch_goes_out_at_once() -> None:
    """And what came before it was full waited for it."""
    exporter = Exporter()
    batcher = batching(exporter, max_batch=3)
    for item in range(3):
        batcher.put(item)
    assert exporter.wait(3)
    assert exporter.batches == [[0, 1, 2]]


def test_flush_does_not_wait_for_the_delay() -> None:
    """All that is queued goes out, in batches of the right size and in order."""
    exporter = Exporter()
    batcher = batching(exporter, max_batch=4)
    exporter.go_on.clear()
    batcher.put(0)
    batcher.hurry()
    assert exporter.entered.wait(LONG_S)
    for item in range(1, 11):
        batcher.put(item)
    exporter.go_on.set()
    assert batcher.flush(soon())
    assert exporter.batches == [[0], [1, 2, 3, 4], [5, 6, 7, 8], [9, 10]]
    assert batcher.dropped == 0


def test_hurry_sends_without_waiting() -> None:
    """What somebody else waits for goes out now."""
    exporter = Exporter()
    batcher = batching(exporter)
    batcher.put(1)
    batcher.hurry()
    assert exporter.wait(1)


def test_oldest_is_dropped(said: Said) -> None:
    """While the exporter is busy the queue keeps the newest; the loss is counted and said once."""
    exporter = Exporter()
    batcher = batching(exporter, max_queue=5)
    exporter.go_on.clear()
    batcher.put("first")
    batcher.hurry()
    assert exporter.entered.wait(LONG_S)
    for item in range(8):
        batcher.put(item)
    exporter.go_on.set()
    assert batcher.flush(soon())
    assert exporter.items == ["first", 3, 4, 5, 6, 7]
    assert batcher.dropped == 3
    assert len(said.texts) == 1
    assert "logs" in said.texts[0]


def test_flush_has_a_deadline() -> None:
    """An exporter that hangs holds nobody; once it goes on, a flush succeeds again."""
    exporter = Exporter()
    batcher = batching(exporter)
    exporter.go_on.clear()
    batcher.put(1)
    assert batcher.flush(time.monotonic() + 0.01) is False
    assert batcher.flush(time.monotonic() - 1) is False
    exporter.go_on.set()
    assert batcher.flush(soon()) is True
    assert exporter.items == [1]


def test_flush_of_an_empty_queue() -> None:
    """There is nothing to wait for, and no empty batch is sent."""
    exporter = Exporter()
    assert batching(exporter).flush(soon())
    assert exporter.batches == []


def test_flush_ends_while_more_comes_in() -> None:
    """What was queued before is out: a program that never pauses does not make its flush fail."""
    batcher: Batcher[object]
    exported = threading.Event()
    stop = threading.Event()

    def export(batch: Sequence[object]) -> bool:
        if not stop.is_set():
            batcher.put("one more")
        if "last" in batch:
            exported.set()
        return True

    batcher = Batcher("logs", lambda: export, delay_s=0, max_batch=1, max_queue=100)
    batcher.put("first")
    batcher.put("last")
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(batcher.flush(soon())))
    thread.start()
    assert exported.wait(LONG_S)
    thread.join(LONG_S / 6)
    ended = not thread.is_alive()
    stop.set()
    thread.join(LONG_S)
    assert ended
    assert answers == [True]


@pytest.mark.parametrize(
    "exporter",
    [lambda: Exporter(error=ValueError("wrong")), lambda: Exporter(answer=False)],
    ids=["raising", "failing"],
)
def test_exporter_that_fails(exporter: Callable[[], Exporter], said: Said) -> None:
    """Its batches are counted as lost, and the loss is said once."""
    bad = exporter()
    batcher = batching(bad, max_batch=2)
    for item in range(4):
        batcher.put(item)
    assert batcher.flush(soon())
    assert bad.items == [0, 1, 2, 3]
    assert batcher.dropped == 4
    assert len(said.having("being lost")) == 1
    bad.answer, bad.error = True, None
    batcher.put(4)
    assert batcher.flush(soon())
    assert batcher.dropped == 4


def test_exporter_that_cannot_be_loaded(said: Said) -> None:
    """Said once; what is queued is counted as lost, and flushing does not hang."""

    def fail() -> Callable[[Sequence[object]], bool]:
        raise ImportError("no such exporter")

    batcher: Batcher[object] = Batcher("logs", fail, delay_s=0, max_batch=1, max_queue=10)
    batcher.put(1)
    assert batcher.flush(soon())
    assert said.having("no such exporter")
    assert batcher.dropped == 1


class Provider:
    """Something of the SDK's that can be flushed; can be held, and told to raise."""

    def __init__(self) -> None:
        self.flushes = 0
        self.go_on = threading.Event()
        self.go_on.set()
        self.error: Exception | None = None

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush, far beyond the time-out if held."""
        assert self.go_on.wait(LONG_S)
        self.flushes += 1
        if self.error is not None:
            raise self.error
        return True


def test_providers_flush_has_a_deadline() -> None:
    """The SDK's own may block far beyond its time-out; nobody waits for that."""
    provider = Provider()
    flusher = Flusher("logs", lambda: provider)
    provider.go_on.clear()
    number = flusher.request(soon())
    assert flusher.wait(number, time.monotonic() + 0.01) is False
    provider.go_on.set()
    assert flusher.wait(number, soon()) is True
    assert provider.flushes == 1


def test_providers_flush_that_raises(said: Said) -> None:
    """It counts as done, and the next one is tried again."""
    provider = Provider()
    provider.error = ValueError("wrong")
    flusher = Flusher("logs", lambda: provider)
    for _ in range(2):
        assert flusher.wait(flusher.request(soon()), soon())
    assert provider.flushes == 2
    assert len(said.texts) == 1


@pytest.mark.parametrize("made", [None, object()])
def test_what_cannot_be_flushed_is_done(made: object) -> None:
    """There may be no such provider, or one without a flush."""
    flusher = Flusher("logs", lambda: made)
    assert flusher.wait(flusher.request(soon()), soon())


# --- processes --------------------------------------------------------------------------------------------

PROTOCOLS = ["http/protobuf", "grpc"]


def run(script: str, endpoint: str, protocol: str = "http/protobuf", **env: str) -> tuple[int, str]:
    """Run a script with the package's API at hand; return its exit code and standard error."""
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "PATH", "TMPDIR") if name in os.environ}
    settings = {
        "PYTHONPATH": SOURCES,
        "PYTHONWARNINGS": "ignore::DeprecationWarning",  # Python's, about fork in a process with threads
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_METRICS_EXPORTER": "none",
        "TORCHELASTIC_OTEL_EXIT_TIMEOUT": str(LONG_S),
        "TORCHELASTIC_OTEL_SPOOL_DIR": "off",
    }
    head = """
        import os, sys
        from torchelastic_otel import events, flush

        def record(name, **metadata):
            events.record(events.Event(name, events.EventSource.WORKER, metadata=metadata), "otel")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(head) + textwrap.dedent(script)],
        env={**kept, **settings, **env},
        capture_output=True,
        text=True,
        timeout=2 * LONG_S,
        check=False,
    )
    return done.returncode, done.stderr


def endpoint_of(receiver: OtlpReceiver, protocol: str) -> str:
    """Return the receiver's endpoint for a protocol."""
    return receiver.grpc_endpoint if protocol == "grpc" else receiver.http_endpoint


def received(receiver: OtlpReceiver) -> Counter[str]:
    """Count the records that arrived by their names."""
    return Counter(record.event_name for record in receiver.logs)


MANY = """
    for number in range(400):
        record(f"e{number}", number=number)
"""


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_process_that_ends_at_once_delivers_everything(protocol: str) -> None:
    """400 events, and the script is over: all of them arrive, once, and nothing is said."""
    with OtlpReceiver() as receiver:
        code, err = run(MANY, endpoint_of(receiver, protocol), protocol)
        assert received(receiver) == {f"e{number}": 1 for number in range(400)}
        assert len({record.attributes["log.record.uid"] for record in receiver.logs}) == 400
    assert (code, err) == (0, "")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_process_that_ends_at_once_with_a_dead_endpoint(protocol: str) -> None:
    """The loss is told in plain words; the process ends as it would, and no error of ours is shown."""
    code, err = run(MANY, "http://127.0.0.1:9", protocol, TORCHELASTIC_OTEL_EXIT_TIMEOUT="1")
    assert code == 0
    assert "internal error" not in err
    assert "Traceback" not in err
    assert "400 log records could not be delivered" in err
    assert "lost" in err


@pytest.mark.parametrize(
    ("ending", "expected"),
    [
        ("sys.exit(3)", 3),
        ("raise RuntimeError('the program failed')", 1),
        ("import threading; threading.Thread(target=record, args=('thread',)).start()", 0),
        ("import atexit; atexit.register(record, 'atexit')", 0),
        (
            "import signal, time; signal.signal(signal.SIGTERM, lambda *a: sys.exit(7))\n"
            "os.kill(os.getpid(), 15); time.sleep(60)",
            7,
        ),
    ],
    ids=["exit", "exception", "thread", "atexit", "signal"],
)
def test_whatever_way_a_process_ends(ending: str, expected: int) -> None:
    """Its events arrive, also those of its last moments, and its exit code is its own."""
    with OtlpReceiver() as receiver:
        code, err = run(f"record('e')\n{ending}\n", receiver.http_endpoint)
        names = received(receiver)
    wanted = {"e": 1, **{name: 1 for name in ("thread", "atexit") if f"'{name}'" in ending}}
    assert names == wanted
    assert code == expected
    assert "internal error" not in err


def test_refused_records_are_told(tmp_path: Path) -> None:
    """A collector that refuses: the loss is said, in one line of ours, and the process ends as it would."""
    with OtlpReceiver() as receiver:
        receiver.respond(status=400)
        code, err = run(MANY, receiver.http_endpoint)
    assert code == 0
    assert err.count("telemetry is being lost: log records") == 1
    assert "internal error" not in err


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_fork(protocol: str) -> None:
    """The child's records are its own and arrive; the parent's come once, from the parent."""
    script = """
        record("before", pid=os.getpid())
        flush(60)
        child = os.fork()
        record("child" if child == 0 else "parent", pid=os.getpid())
        if child:
            os.waitpid(child, 0)
            record("after", pid=os.getpid())
    """
    with OtlpReceiver() as receiver:
        code, err = run(script, endpoint_of(receiver, protocol), protocol)
        records = receiver.logs
    assert Counter(record.event_name for record in records) == dict.fromkeys(
        ("before", "child", "parent", "after"), 1
    )
    assert all(record.attributes["pid"] == record.resource["process.pid"] for record in records)
    assert len({record.attributes["log.record.uid"] for record in records}) == 4
    assert (code, err) == (0, "")


def test_fork_with_events_in_the_queue() -> None:
    """A fork before anything was sent: what is queued is the parent's to send, and nobody's twice."""
    script = """
        for number in range(50):
            record(f"e{number}")
        child = os.fork()
        if child == 0:
            record("child")
            sys.exit(5)
        _, status = os.waitpid(child, 0)
        sys.exit(os.waitstatus_to_exitcode(status))
    """
    with OtlpReceiver() as receiver:
        code, err = run(script, receiver.http_endpoint, TORCHELASTIC_OTEL_EXIT_TIMEOUT="10")
        names = received(receiver)
    assert names == {"child": 1, **{f"e{number}": 1 for number in range(50)}}
    assert (code, err) == (5, "")


def test_fork_while_the_bridge_imports() -> None:
    """A forked child can import what the bridge's thread was importing, and collects its garbage.

    Locks of imports that another thread had begun would stay locked in it for ever.
    """
    script = """
        import gc, signal, threading

        importing, forked = threading.Event(), threading.Event()

        class Slow:
            def find_spec(self, name, path=None, target=None):
                if name == "opentelemetry.sdk.trace" and not importing.is_set():
                    importing.set()
                    forked.wait(3)

        sys.meta_path.insert(0, Slow())
        record("parent")
        assert importing.wait(60)
        child = os.fork()
        if child == 0:
            signal.alarm(30)
            import opentelemetry.sdk.trace

            opentelemetry.sdk.trace.TracerProvider
            os._exit(0 if gc.isenabled() else 9)
        forked.set()
        _, status = os.waitpid(child, 0)
        sys.exit(status)
    """
    with OtlpReceiver() as receiver:
        code, err = run(script, receiver.http_endpoint)
        names = received(receiver)
    assert names == {"parent": 1}
    assert (code, err) == (0, "")


def test_forked_worker_of_multiprocessing() -> None:
    """Such a process skips atexit handlers; its records arrive all the same."""
    script = """
        import multiprocessing

        record("before")
        flush(60)
        worker = multiprocessing.get_context("fork").Process(target=record, args=("worker",))
        worker.start()
        worker.join()
        sys.exit(worker.exitcode)
    """
    with OtlpReceiver() as receiver:
        code, err = run(script, receiver.http_endpoint)
        names = received(receiver)
    assert names == {"before": 1, "worker": 1}
    assert (code, err) == (0, "")


def test_flush_is_enough_before_a_hard_exit() -> None:
    """``flush`` returns True when what was recorded is at the receiver."""
    with OtlpReceiver() as receiver:
        code, _ = run('record("e")\nos._exit(0 if flush(60) else 1)', receiver.http_endpoint)
        assert received(receiver) == {"e": 1}
    assert code == 0


def test_recording_alone_imports_nothing_heavy() -> None:
    """The program's thread pays neither for the SDK nor for torch; the bridge's own loads what it needs."""
    script = """
        record("e")
        assert "torch" not in sys.modules
        assert flush(60)
        assert "torch" not in sys.modules
        assert "opentelemetry.sdk.trace" in sys.modules
    """
    with OtlpReceiver() as receiver:
        code, err = run(script, receiver.http_endpoint)
    assert (code, err) == (0, "")
