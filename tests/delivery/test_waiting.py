"""What waits in an outbox leaves in order, and nobody waits for it longer than there is hope."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from torchelastic_otel._delivery.backoff import Backoff
from torchelastic_otel._delivery.disk_or_memory import Kept
from torchelastic_otel._delivery.spool import Spool
from torchelastic_otel._delivery.waiting import Waiting

LONG_S = 20.0


@pytest.fixture
def memory() -> Spool:
    """A store in memory."""
    return Spool.create_in_memory(1 << 20)


def kept(store: Spool, *numbers: int) -> list[Kept]:
    """Return items of ``store``."""
    return [Kept(store, number) for number in numbers]


def soon() -> float:
    """Return a deadline that no test reaches."""
    return time.monotonic() + LONG_S


def in_thread(function: Callable[[], bool]) -> Callable[[], bool]:
    """Begin ``function`` in a thread; return what waits for its result."""
    results: list[bool] = []
    thread = threading.Thread(target=lambda: results.append(function()), daemon=True)
    thread.start()

    def result() -> bool:
        thread.join(LONG_S)
        (found,) = results
        return found

    return result


def test_items_come_in_order_and_stay_until_they_are_removed(memory: Spool) -> None:
    """As many as are asked for; a process that ends in between still has them in the line."""
    waiting = Waiting(9)
    assert waiting.add(kept(memory, 1, 2, 3)) == []
    assert waiting.first(2) == kept(memory, 1, 2)
    assert waiting.left() == {memory: 3}
    assert waiting.remove(kept(memory, 1, 2)) == kept(memory, 1, 2)
    assert waiting.remove(kept(memory, 1, 2)) == []
    assert waiting.first(2) == kept(memory, 3)


def test_items_can_be_passed_over_or_sent_alone(memory: Spool) -> None:
    """Those that failed before, one by one and after the others."""
    waiting = Waiting(9)
    one, two, three, four = kept(memory, 1, 2, 3, 4)
    waiting.add([one, two, three, four])
    assert waiting.first(9, passed_over={one, three}.__contains__) == [two, four]
    assert waiting.first(9, alone={three}.__contains__) == [one, two]
    assert waiting.first(9, alone={one}.__contains__) == [one]
    assert waiting.first(9, passed_over={one, two, three, four}.__contains__) == []


def test_a_request_has_items_of_one_spool(memory: Spool, spool: Spool) -> None:
    """Where the disk refused for a while, some are in memory and some are not."""
    waiting = Waiting(9)
    waiting.add(kept(spool, 1))
    waiting.add(kept(memory, 1))
    waiting.add(kept(spool, 2))
    assert waiting.first(9) == kept(spool, 1)
    assert waiting.left() == {memory: 1, spool: 2}


def test_memory_has_a_bound_and_the_disk_has_its_own(memory: Spool, spool: Spool) -> None:
    """The oldest in memory are handed back; what is on a disk is not even counted."""
    waiting = Waiting(2)
    assert waiting.add(kept(spool, 1, 2, 3, 4)) == []
    assert waiting.add(kept(memory, 1, 2, 3)) == kept(memory, 1)
    assert waiting.left().total() == 6


def test_who_hurries_waits_for_no_others(memory: Spool) -> None:
    """The delay is for what comes later, again."""
    waiting = Waiting(9)
    waiting.add(kept(memory, 1))
    waiting.hurry()
    waiting.wait_for_items(9, delay_s=LONG_S * 1000)


def test_an_item_can_take_the_place_of_all(memory: Spool) -> None:
    """Those are handed back, and gone for who waits for them."""
    waiting = Waiting(9)
    waiting.add(kept(memory, 1, 2))
    (last,) = kept(memory, 3)
    assert waiting.replace(last) == kept(memory, 1, 2)
    assert waiting.first(9) == [last]
    waiting.remove([last])
    assert waiting.flush(soon())


def test_a_flush_ends_when_all_is_gone_or_an_attempt_failed(memory: Spool) -> None:
    """Whichever is first."""
    waiting = Waiting(9)
    waiting.add(kept(memory, 1, 2))
    flushed = in_thread(lambda: waiting.flush(soon()))
    waiting.wait_for_items(9, delay_s=LONG_S * 1000)  # the flush hurries them
    waiting.attempt_failed()
    assert not flushed()
    assert not waiting.flush(time.monotonic())
    flushed = in_thread(lambda: waiting.flush(soon()))
    waiting.remove(kept(memory, 1, 2))
    assert flushed()


def test_a_flush_waits_for_what_was_there(memory: Spool) -> None:
    """Others that overtake one that failed are no substitute for it; what comes later is not waited for."""
    waiting = Waiting(9)
    waiting.add(kept(memory, 1, 2))
    flushed = in_thread(lambda: waiting.flush(soon()))
    waiting.wait_for_items(9, delay_s=LONG_S * 1000)
    waiting.add(kept(memory, 3, 4))
    waiting.remove(kept(memory, 2, 3))
    waiting.attempt_failed()
    assert not flushed()
    flushed = in_thread(lambda: waiting.flush(soon()))
    waiting.remove(kept(memory, 1, 4))
    assert flushed()


def test_a_flush_does_not_wait_for_the_back_off(memory: Spool) -> None:
    """Only what the server asked for is waited for, and who flushes is told that this is no attempt."""
    waiting, backoff = Waiting(9), Backoff()
    waiting.add(kept(memory, 1))
    backoff.failed(time.monotonic(), 3600.0)
    turn = threading.Thread(target=waiting.wait_for_turn, args=(backoff,), daemon=True)
    turn.start()
    assert not waiting.flush(soon())
    assert turn.is_alive()


def test_what_waits_is_counted_once(memory: Spool) -> None:
    """However many attempts fail, and only if it is there."""
    waiting = Waiting(9)
    one, two, three, four = kept(memory, *memory.add("logs", 1, [b"a", b"b", b"c", b"d"], 1))
    waiting.add([one, two])
    assert [waiting.newly_kept(), waiting.newly_kept()] == [2, 0]
    waiting.remove([one, two])
    waiting.add([three, four])
    memory.remove([three.id])
    assert waiting.newly_kept() == 1
