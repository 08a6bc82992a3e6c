"""Memory keeps what a disk would, as far as it fits, and needs no SQLite."""

from __future__ import annotations

from otlp_receiver import OtlpReceiver
from tests.support.node import ALL, DEAD, MANY, Node, names
from torchelastic_otel._delivery.spool import Spool

WITHOUT_SQLITE = "sys.modules['sqlite3'] = None"
"""An import of it fails from then on, as in a Python that was built without."""


def loaded(memory: Spool, *ids: int) -> list[bytes]:
    """Return what is there of these."""
    return [item.payload for item in memory.load(ids)]


def test_a_python_without_sqlite_delivers_from_memory(node: Node, receiver: OtlpReceiver) -> None:
    """One warning says that nothing is kept on the disk, and everything arrives."""
    code, err = node.run(WITHOUT_SQLITE + MANY, receiver.http_endpoint)
    assert (code, names(receiver)) == (0, ALL), err
    assert err.count("kept in memory") == 1
    assert "internal error" not in err


def test_a_python_without_sqlite_leaves_earlier_stores_alone(node: Node, receiver: OtlpReceiver) -> None:
    """It cannot read what another Python left, and that stays for one that can."""
    node.run("record('before')", DEAD)
    node.run(WITHOUT_SQLITE + MANY, receiver.http_endpoint)
    assert names(receiver) == ALL
    assert node.left() == {"logs": 1}


def test_items_are_there_until_they_are_removed() -> None:
    """In the order that is asked for, with the header that they came with."""
    memory = Spool.create_in_memory(100)
    scope = memory.scope("logs", b"header")
    ids = memory.add("logs", scope, [b"a", b"b"], 1)
    assert loaded(memory, *ids) == [b"a", b"b"]
    assert memory.scope("logs", b"header") == scope != memory.scope("traces", b"header")
    assert memory.header(memory.load(ids)[0].scope_id) == b"header"
    memory.remove(ids[:1])
    assert loaded(memory, *ids) == [b"b"]


def test_at_the_bound_the_oldest_goes() -> None:
    """Whatever signal it is of; what is removed makes room."""
    memory = Spool.create_in_memory(10)
    first = memory.add("traces", 1, [b"x" * 6], 1)
    second = memory.add("logs", 1, [b"y" * 6, b"z" * 4], 1)
    assert loaded(memory, *first, *second) == [b"y" * 6, b"z" * 4]
    memory.remove(second[:1])
    memory.add("logs", 1, [b"w" * 6], 1)
    assert (memory.dropped, memory.counts()) == (1, {"logs": 2})


def test_the_last_metrics_take_the_place_of_those_before() -> None:
    """Their sums include them; other signals stay."""
    memory = Spool.create_in_memory(100)
    logs = memory.add("logs", 1, [b"a"], 1)
    old, new = memory.replace_metrics(b"1"), memory.replace_metrics(b"2")
    assert loaded(memory, *logs, old, new) == [b"a", b"2"]
