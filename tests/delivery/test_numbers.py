"""What is said of items at a bound is what is true of them: each is counted once, and none that is gone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.node import DEAD, MANY, Node
from tests.support.outboxes import Clock, keep, outbox_to
from torchelastic_otel._delivery.disk_or_memory import DiskOrMemory
from torchelastic_otel._delivery.outbox import Outbox
from torchelastic_otel._delivery.spool import Spool, orphans


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
