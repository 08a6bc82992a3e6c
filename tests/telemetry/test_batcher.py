"""Records wait for a full batch or a delay; an exporter that hangs or fails holds nobody."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import pytest

from tests.support.said import Said
from tests.support.waiting import LONG_S, soon
from torchelastic_otel._telemetry.batcher import Batcher


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
    assert not batcher.drops


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
    assert batcher.drops == {"queue_full": 3}
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
    assert batcher.drops == {"export_failed": 4}
    assert len(said.having("being lost")) == 1
    bad.answer, bad.error = True, None
    batcher.put(4)
    assert batcher.flush(soon())
    assert batcher.drops == {"export_failed": 4}


@pytest.mark.internal_errors("loading the logs exporter: ImportError: no such exporter")
def test_exporter_that_cannot_be_loaded(said: Said) -> None:
    """Said once; what is queued is counted as lost, and flushing does not hang."""

    def fail() -> Callable[[Sequence[object]], bool]:
        raise ImportError("no such exporter")

    batcher: Batcher[object] = Batcher("logs", fail, delay_s=0, max_batch=1, max_queue=10)
    batcher.put(1)
    assert batcher.flush(soon())
    assert said.having("no such exporter")
    assert batcher.drops == {"no_exporter": 1}
