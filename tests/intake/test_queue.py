"""Between a program's threads and the bridge's own: nothing blocks, nothing is lost without a word."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import cast

import pytest

from tests.support.held_bridge import Held
from tests.support.said import Said
from tests.support.waiting import LONG_S, soon
from torchelastic_otel._intake import queue
from torchelastic_otel._intake.bridge import Bridge
from torchelastic_otel._intake.messages import AgentFact, LoggedText, RecordedEvent
from torchelastic_otel._job import facts as f
from torchelastic_otel._job.engine import Engine
from torchelastic_otel._runtime.clock import now
from torchelastic_otel._telemetry.providers import Providers


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


def test_quiet_facts_keep_their_place(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is measured of a job comes after its beginning and before its end, though it wakes nobody."""
    told: list[f.Fact] = []
    monkeypatch.setattr(Engine, "fact", lambda _engine, fact: told.append(fact))
    facts = [
        f.JobStarted(1, now(), run_id="r"),
        f.Operation(1, now(), "_rendezvous", 0.1),
        f.Monitored(1, now(), "HEALTHY", []),
        f.Operation(1, now(), "run", 0.1),
        f.JobEnded(1, now()),
    ]
    held.hold()
    for fact in facts:
        held.bridge.enqueue(AgentFact(fact), quiet=isinstance(fact, f.Operation))
    held.release()
    assert held.bridge.flush(LONG_S)
    assert told == facts


def test_queue_is_bounded(held: Held, monkeypatch: pytest.MonkeyPatch, said: Said) -> None:
    """While the bridge's thread does not keep up, the first events stay, the rest is counted."""
    monkeypatch.setattr(queue, "MOST_QUEUED", 50)
    held.hold()
    held.put(*(f"e{number}" for number in range(80)))
    assert held.bridge.dropped["logs"] == 30
    assert "30 events came faster" in held.bridge.left()
    held.release()
    assert held.names() == [f"e{number}" for number in range(50)]
    assert "30" in said.wait("dropped")[0]
    held.put("later")
    assert held.names()[-1] == "later"


def test_queue_is_bounded_in_bytes(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large texts fill it sooner, and it takes them again once it is empty."""
    monkeypatch.setattr(queue, "MOST_BYTES", 100_000)
    text = "x" * 20_000
    for _ in range(3):
        held.hold()
        for _ in range(8):
            held.bridge.enqueue(RecordedEvent("e", "AGENT", 0, {"text": text}, now(), None))
        held.release()
        assert held.bridge.flush(LONG_S)
    assert held.bridge.dropped["logs"] == 9
    assert len(held.names()) == 15


def test_facts_and_questions_are_never_dropped(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full queue still takes what the agent did, and whoever waits gets an answer."""
    monkeypatch.setattr(queue, "MOST_QUEUED", 5)
    held.hold()
    held.put(*(f"e{number}" for number in range(10)))
    answers: list[int | None] = []
    asking = threading.Thread(target=lambda: answers.append(held.bridge.ask(lambda engine: 1, LONG_S)))
    asking.start()
    deadline = soon()
    while held.bridge.waiting == 5:  # a question that waits tells nobody
        assert time.monotonic() < deadline
        time.sleep(0)
    held.release()
    asking.join()
    assert answers == [1]


def test_sustained_recording_is_committed_meanwhile(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commits come while the queue never gets empty: after every 512 messages at the latest."""
    sizes: list[int] = []
    held.put("first")
    assert held.bridge.flush(LONG_S)
    telemetry = held.bridge._telemetry
    assert telemetry is not None
    commit = telemetry.commit

    def counted() -> None:
        sizes.append(held.bridge.waiting)
        commit()

    monkeypatch.setattr(telemetry, "commit", counted)
    held.hold()
    held.put(*(f"e{number}" for number in range(5000)))
    held.release()
    assert len(held.names()) == 5001
    busy = [size for size in sizes if size]
    assert len(busy) >= 5000 // 512 - 1


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


# --- what cannot be read ----------------------------------------------------------------------------------


class Unreadable:
    """Raises where its text is asked for."""

    def __str__(self) -> str:
        raise ValueError("no text")


class Unspeakable(Unreadable):
    """Cannot even be shown."""

    __repr__ = Unreadable.__str__


@pytest.mark.internal_errors("translating an event: ValueError: no text")
def test_broken_event_becomes_a_raw_record(held: Held, said: Said) -> None:
    """What cannot be translated arrives as text; its neighbours are as they were, and it is said once."""
    held.put("before")
    for _ in range(2):
        held.bridge.enqueue(RecordedEvent(Unreadable(), "AGENT", 0, {"key": "kept"}, now(), None))
    held.put("after")
    records = held.records()
    assert [name for name, _ in records] == ["before", *["torchelastic.unparsed"] * 2, "after"]
    assert "kept" in records[1][1]
    assert len(said.having("internal error")) == 1


@pytest.mark.internal_errors("translating an event: RuntimeError: wrong")
def test_broken_text_is_kept(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever fails on the way, the text that torch wrote is in the raw record."""

    def fail(*_args: object) -> None:
        raise RuntimeError("wrong")

    monkeypatch.setattr(Engine, "text", fail)
    held.put("before")
    held.bridge.enqueue(LoggedText('{"name": "what torch wrote"}', now(), None, None))
    held.put("after")
    assert held.records() == [
        ("before", "before"),
        ("torchelastic.unparsed", '{"name": "what torch wrote"}'),
        ("after", "after"),
    ]


@pytest.mark.internal_errors("recording a broken event: ValueError: no text")
def test_event_that_cannot_even_be_shown(held: Held, said: Said) -> None:
    """It costs itself and nobody else."""
    held.put("before")
    held.bridge.enqueue(RecordedEvent(Unspeakable(), "AGENT", 0, {}, now(), None))
    held.put("after")
    names = held.names()
    assert (names[0], names[-1]) == ("before", "after")
    assert said.having("internal error")


@pytest.mark.internal_errors("answering: ValueError: wrong")
def test_question_that_fails_is_answered(held: Held, said: Said) -> None:
    """Whoever asks is not left waiting."""

    def fail(engine: Engine) -> None:
        raise ValueError("wrong")

    assert held.bridge.ask(fail, LONG_S) is None
    held.put("after")
    assert held.names() == ["after"]  # a question is no event that could not be read
    assert len(said.having("internal error")) == 1


@pytest.mark.internal_errors("setting up telemetry: AttributeError")
def test_telemetry_that_cannot_be_set_up(said: Said) -> None:
    """Said once; after that, recording and flushing cost nothing."""
    bridge = Bridge(cast(Providers, object()))
    event = RecordedEvent("e", "AGENT", 0, {}, now(), None)
    bridge.enqueue(event)
    assert said.wait("setting up telemetry")
    deadline = soon()
    while not bridge.off:  # its thread gives up, and has no handle to be awaited by
        assert time.monotonic() < deadline
        time.sleep(0)
    bridge.enqueue(event)
    assert bridge.flush(LONG_S)
    assert bridge.ask(lambda engine: 1, LONG_S) is None
    assert len(said.having("setting up telemetry")) == 1


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
    bridge.enqueue(RecordedEvent("e", "AGENT", 0, {}, now(), None))
    assert bridge.flush(LONG_S)
    assert bridge.ask(lambda engine: 1, LONG_S) is None
    assert not bridge._running
    assert not bridge.waiting
