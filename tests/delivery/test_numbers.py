"""What is said of items at a bound is what is true of them: each is counted once, and none that is gone."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest

from tests.support.node import DEAD, MANY, Node
from tests.support.outboxes import Clock, encoded, keep, outbox_to
from tests.support.picky import TAKEN, Asked, PickyBackend, Reply, refusing
from tests.support.sending import target_of
from tests.support.waiting import LONG_S, soon
from torchelastic_otel._config.environment import Signal
from torchelastic_otel._config.limits import BatchSettings
from torchelastic_otel._config.settings import Settings
from torchelastic_otel._delivery.disk_or_memory import DiskOrMemory
from torchelastic_otel._delivery.outbox import Outbox
from torchelastic_otel._delivery.outboxes import Outboxes
from torchelastic_otel._delivery.spool import Spool, destination_of, orphans


def test_what_is_said_to_be_kept_is_there(node: Node) -> None:
    """Not what went at the bound before."""
    script = f"for turn in range(5):\n    {MANY.strip().replace(chr(10), chr(10) + '    ')}\n    flush(5)"
    _, err = node.run(script, DEAD, TORCHELASTIC_OTEL_SPOOL_MAX_BYTES="50000")
    told = re.search(r"(\d+) log records could not be delivered yet", err)
    assert told, err
    left = node.left()["logs"]
    assert int(told[1]) == left
    assert 0 < left < 1500


@pytest.mark.parametrize("on_disk", [True, False], ids=["disk", "memory"])
def test_each_item_is_counted_once(directory: Path, on_disk: bool) -> None:
    """Whichever of two bounds it went at, and though it was refused later."""
    keeper = DiskOrMemory((lambda: Spool.create(directory, 2000, {})) if on_disk else None, 2000)
    outbox = outbox_to(DEAD, keeper=keeper, max_queue=30, clock=Clock())
    for number in range(20):
        keep(outbox, *(f"{10 * number + each:0100}" for each in range(10)))
        assert outbox.left() == 10 * number + 10 - dropped(outbox, keeper)
    assert 0 < outbox.left() < 30
    assert outbox.left(in_memory=on_disk) == 0
    keeper.retire()
    found = sum(spool.counts()["logs"] for spool in orphans(directory))
    assert found == (200 - keeper.dropped if on_disk else 0)


def dropped(outbox: Outbox, keeper: DiskOrMemory) -> int:
    """Return how many items are counted as dropped."""
    return keeper.dropped + sum(count for (what, _), count in outbox.counts.items() if what == "dropped")


@pytest.mark.parametrize("reply", [TAKEN, Reply(400)], ids=["taken", "refused"])
def test_an_item_that_goes_at_a_bound_on_its_way_is_counted_once(reply: Reply) -> None:
    """As dropped: whatever the backend says of it afterwards."""
    on_its_way, go_on = threading.Event(), threading.Event()

    def rule(asked: Asked) -> Reply:
        on_its_way.set()
        assert go_on.wait(LONG_S)
        return reply

    with PickyBackend(rule) as backend:
        outbox = outbox_to(backend.endpoint, max_queue=5)
        keep(outbox, *(f"first{number}" for number in range(5)))
        assert on_its_way.wait(LONG_S)
        keep(outbox, *(f"second{number}" for number in range(5)))
        go_on.set()
        assert outbox.flush(soon())
    assert outbox.counts["dropped", "queue_full"] == 5
    assert outbox.counts.total() == 10


def test_what_goes_at_the_spools_bound_has_its_signal(directory: Path) -> None:
    """The oldest goes, whichever signal made the room necessary."""
    outboxes = Outboxes(Settings(spool_dir=str(directory), spool_max_bytes=4000), pytest.fail)
    batch = BatchSettings(delay_s=0.0, max_batch=8, max_queue=8)
    signals: list[Signal] = ["logs", "traces"]
    logs, traces = (
        outboxes.outbox(signal, target_of(DEAD, "http/protobuf", signal), batch) for signal in signals
    )
    keep(logs, *(f"{number:0100}" for number in range(10)))
    keep(traces, *(f"{number:0100}" for number in range(35)))
    counts = outboxes.counts()
    assert counts["logs", "dropped", "spool_full"] == 10
    assert counts["traces", "dropped", "spool_full"] == 35 - traces.left()
    assert {signal for signal, _, _ in counts} <= {"logs", "traces"}
    assert outboxes.summary().endswith(" 10 log records had no room to wait in and were dropped.")
    outboxes.disown()


def test_what_recovery_drops_is_counted(directory: Path) -> None:
    """An earlier process recorded it, and it is lost now."""
    with PickyBackend(refusing("bad", status=400)) as backend:
        target = target_of(backend.endpoint, "http/protobuf")
        left = Spool.create(directory, 100_000, {"logs": destination_of(target)})
        for part in encoded("logs", ["good", "bad"]):
            left.add("logs", left.scope("logs", part.header), part.payloads, 1)
        left.close()
        outboxes = Outboxes(Settings(spool_dir=str(directory)), pytest.fail)
        outbox = outboxes.outbox("logs", target, BatchSettings(delay_s=0.0, max_batch=8, max_queue=8))
        keep(outbox, "own")
        assert backend.wait(lambda b: b.requests()[-1:] == [("bad",)])
        outboxes.close(LONG_S)
    counts = outboxes.counts()
    assert counts["logs", "replayed", ""] == 1
    assert counts["logs", "dropped", "rejected"] == 1
