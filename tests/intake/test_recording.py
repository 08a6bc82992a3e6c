"""What a program's threads hand over: as it is now, without an error, and never the bridge's own words."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.waiting import LONG_S, soon
from torchelastic_otel._intake import recording
from torchelastic_otel._intake.messages import LoggedText, Message, RecordedEvent
from torchelastic_otel._intake.recording import OtelHandler, submit_event, submit_rendezvous_event
from torchelastic_otel._runtime.clock import now
from torchelastic_otel._telemetry.batcher import Batcher
from torchelastic_otel._torch.launcher_signals import SignalWatch
from torchelastic_otel.events import Event, EventSource, NodeState, RdzvEvent


class Taken:
    """A bridge that keeps what is put, and sends nothing."""

    def __init__(self) -> None:
        self.items: list[Message] = []
        self.flushes = 0

    def enqueue(self, item: Message, *, urgent: bool = False) -> None:
        """Keep a message."""
        self.items.append(item)

    def last_words(self, timeout_s: float) -> None:
        """Count how often somebody said that it may be over."""
        self.flushes += 1


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Taken:
    """Give a bridge in the place of the process's."""
    made = Taken()
    monkeypatch.setattr(recording, "bridge", lambda: made)
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
    assert isinstance(item, LoggedText)
    assert (item.text, item.recorded.wall_ns) == ("a b", int(record.created * 1e9))


def test_a_record_that_comes_late_is_of_its_own_time(taken: Taken) -> None:
    """Between its making and its taking another thread may have had its turn: nobody has set the clock."""
    record = log_record("torchelastic-events-otel")
    record.created -= 1
    before = now()
    OtelHandler().handle(record)
    (message,) = taken.items
    assert isinstance(message, LoggedText)
    assert message.recorded.wall_ns == int(record.created * 1e9)
    assert not message.recorded.set_since(before)
    assert message.recorded < before


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
    for name, source in (("a kill worker process b", EventSource.AGENT), (kill.name, EventSource.WORKER)):
        event = Event(name, source, metadata={"text": kill.serialize()})
        submit_event(event)
        OtelHandler().handle(log_record("torchelastic-events-otel", event.serialize()))
    assert taken.flushes == 2  # it is not enough to speak of it


def test_event_is_taken_as_it_is_now(taken: Taken) -> None:
    """What the program does with its objects afterwards does not reach the record."""
    nested = [1]
    metadata: dict[str, Any] = {"n": nested, "k": 1}
    submit_event(SimpleNamespace(name="e", source="AGENT", timestamp=0, metadata=metadata))
    nested.append(2)
    metadata["k"] = 2
    (item,) = taken.items
    assert isinstance(item, RecordedEvent)
    assert (item.name, item.source, item.timestamp) == ("e", "AGENT", 0)
    assert item.metadata == {"n": "[1]", "k": 1}


@pytest.mark.internal_errors("_submit_event: AttributeError")
@pytest.mark.parametrize("event", [None, object(), 7, SimpleNamespace(name="e")])
def test_what_is_no_event_raises_nothing(event: Any, taken: Taken) -> None:
    """Telemetry never ends a program, whatever it is given."""
    submit_event(event)
    submit_rendezvous_event(event)
