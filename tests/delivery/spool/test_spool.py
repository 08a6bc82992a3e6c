"""What the spool keeps is there, in order and within its bound, until it is removed."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.support.spools import MANY_BYTES, names, payloads, reopened, run_script
from torchelastic_otel._delivery.spool import Held, Item, Spool, SpoolError, open_store, orphans


def test_items_come_back_in_the_order_they_were_added(spool: Spool) -> None:
    """Ids rise, whatever the signal, and loading keeps the order that is asked for."""
    scope = spool.scope("logs", b"header")
    first = spool.add("logs", scope, [b"a", b"b"], 1)
    spans = spool.add("traces", scope, [b"s"], 2)
    second = spool.add("logs", scope, [b"c"], 3)
    assert first + spans + second == sorted(first + spans + second)
    assert payloads(spool) == [b"a", b"b", b"c"]
    assert spool.pending("logs", first[0], 1) == [Item(first[1], "logs", scope, b"b")]
    assert [item.payload for item in spool.load([second[0], 999, first[0]])] == [b"c", b"a"]
    assert spool.counts() == {"logs": 3, "traces": 1}


def test_removed_items_are_gone_and_their_ids_are_not_given_again(spool: Spool) -> None:
    """A sender that still knows an id never gets another item for it."""
    ids = spool.add("logs", 1, [b"a", b"b"], 1)
    spool.remove(ids)
    spool.remove(ids)
    assert spool.counts() == {}
    assert spool.add("logs", 1, [b"c"], 1)[0] > max(ids)


def test_the_same_header_has_one_id_also_for_the_next_owner(spool: Spool) -> None:
    """Scopes are kept once per signal."""
    logs, other, traces = (
        spool.scope("logs", b"x"),
        spool.scope("logs", b"y"),
        spool.scope("traces", b"x"),
    )
    assert len({logs, other, traces}) == 3
    assert spool.scope("logs", b"x") == logs
    spool.add("logs", logs, [b"a"], 1)
    spool.close()
    again = reopened(spool.path)
    assert again.scope("logs", b"x") == logs
    assert again.header(other) == b"y"
    with pytest.raises(SpoolError, match="no scope 99"):
        again.header(99)
    again.discard()


def test_held_items_are_kept_and_not_pending_until_they_are_released(spool: Spool) -> None:
    """What waits for somebody to act is counted, and says why."""
    ids = spool.add("logs", 1, [b"a", b"b", b"c"], 1)
    spool.hold(ids[:2], "401 Unauthorized")
    assert payloads(spool) == [b"c"]
    assert spool.held() == [Held("logs", "401 Unauthorized", 2)]
    assert spool.counts() == {"logs": 3}
    spool.release_held()
    assert payloads(spool) == [b"a", b"b", b"c"]
    assert spool.held() == []


def test_only_the_last_request_of_metrics_is_kept(spool: Spool) -> None:
    """Also where the one before was held."""
    spool.hold([spool.replace_metrics(b"first")], "why")
    number = spool.replace_metrics(b"second")
    assert spool.pending("metrics", 0, 9) == [Item(number, "metrics", 0, b"second")]
    assert spool.counts() == {"metrics": 1}


def test_at_the_bound_the_oldest_items_go_and_are_counted(directory: Path) -> None:
    """The bound counts bytes of items, what was removed makes room, and the next owner goes on counting."""
    spool = Spool.create(directory, 100, {})
    spool.remove(spool.add("logs", 1, [bytes(100)], 1))
    spool.add("logs", 1, [b"1" * 40], 1)
    spool.add("logs", 1, [b"2" * 40], 1)
    assert spool.dropped == 0
    spool.add("traces", 1, [b"3" * 40], 1)
    assert (spool.counts(), spool.drops) == ({"logs": 1, "traces": 1}, {"logs": 1})
    spool.close()
    again = reopened(spool.path)
    again.replace_metrics(b"4" * 70)
    assert (again.counts(), again.dropped) == ({"metrics": 1}, 3)
    again.add("logs", 1, [bytes(101)], 1)
    assert (again.counts(), again.dropped) == ({"metrics": 1}, 4)
    assert again.drops == {"": 1, "logs": 2, "traces": 1}
    again.remove([item.id for item in again.pending("metrics", 0, 9)])
    again.close()
    assert names(directory) == set()


def test_items_that_were_added_together_go_together(directory: Path) -> None:
    """Of a batch that is larger than the bound the last ones stay."""
    spool = Spool.create(directory, 100, {})
    ids = spool.add("logs", 1, [b"1" * 30, b"2" * 30], 1)
    spool.add("logs", 1, [b"3" * 30, b"4" * 30], 1)
    assert payloads(spool) == [b"3" * 30, b"4" * 30]
    assert [spool.has(number) for number in ids] == [False, False]
    ids += spool.add("logs", 1, [b"%d" % number * 30 for number in range(5, 10)], 1)
    assert payloads(spool) == [b"7" * 30, b"8" * 30, b"9" * 30]
    assert spool.dropped == 6
    assert spool.remove(ids) == 3
    spool.discard()


def test_a_batch_is_one_statement(spool: Spool) -> None:
    """SQLite gives the interpreter away with each, and beside busy threads it comes back late."""
    scope = spool.scope("logs", b"h")
    connection = spool._store.database._connection  # type: ignore[union-attr]  # it is on disk
    assert connection is not None
    told: list[str] = []
    connection.set_trace_callback(told.append)

    def statements() -> int:
        """Count those since the last time: a statement is told again for what a trigger does within it."""
        count = len(set(told))
        told.clear()
        return count

    ids = spool.add("logs", scope, [bytes(700)] * 100, 1)
    assert statements() == 1
    assert len(spool.load(ids)) == 100
    assert statements() == 0  # memory has them, too
    spool.remove(ids[:30])
    assert statements() == 1
    spool.remove(ids[30:])
    assert statements() == 1


def test_an_add_that_fails_leaves_nothing_behind(directory: Path) -> None:
    """Neither items, nor bytes that would count towards the bound."""
    spool = Spool.create(directory, 100, {})
    with pytest.raises(OverflowError):
        spool.add("logs", 1, [bytes(90)], 1 << 70)
    assert spool.counts() == {}
    spool.add("logs", 1, [b"a" * 90], 1)
    assert (payloads(spool), spool.dropped) == ([b"a" * 90], 0)
    spool.discard()


def test_two_threads_add_and_remove_at_once(spool: Spool) -> None:
    """Nothing is lost, doubled or left."""
    rounds = 200
    added: list[int] = []
    seen: list[bytes] = []
    ended = threading.Event()

    def add() -> None:
        for number in range(rounds):
            added.extend(spool.add("logs", spool.scope("logs", b"h"), [b"%d" % number] * 2, number))
        ended.set()

    def remove() -> None:
        while not ended.is_set() or spool.counts():
            items = spool.pending("logs", 0, 7)
            seen.extend(item.payload for item in items)
            spool.remove([item.id for item in items])

    threads = [threading.Thread(target=add), threading.Thread(target=remove)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(set(added)) == 2 * rounds
    assert seen == [b"%d" % number for number in range(rounds) for _ in range(2)]
    assert spool.counts() == {}


def test_a_store_in_memory_does_the_same_without_a_file() -> None:
    """It takes the place of one on disk."""
    spool = Spool.create_in_memory(10)
    assert spool.in_memory
    spool.add("logs", spool.scope("logs", b"h"), [b"a" * 8, b"b" * 8], 1)
    assert payloads(spool) == [b"b" * 8]
    assert spool.dropped == 1
    spool.close()
    assert not Path(":memory:").exists()
    with pytest.raises(SpoolError, match="closed"):
        spool.counts()


def test_spans_without_an_end_become_items_that_say_so(spool: Spool) -> None:
    """They end with the last that was recorded, not before they began, and each only once."""
    scope = spool.scope("traces", b"h")

    def begun(name: str, start_ns: int) -> bytes:
        return bytes(Span(name=name, start_time_unix_nano=start_ns).SerializeToString())

    spool.keep_open_span("1", scope, begun("replaced", 100))
    spool.keep_open_span("2", scope, begun("closed", 100))
    spool.keep_open_span("3", scope, begun("late", 900))
    spool.keep_open_span("1", scope, begun("early", 100))
    spool.forget_open_spans(["2"])
    spool.add("logs", scope, [b"a"], 500)
    spool.add("logs", scope, [b"b"], 400)
    assert spool.counts() == {"logs": 2}
    spool.close()

    again = reopened(spool.path)
    assert again.truncate_open_spans() == 2
    assert again.truncate_open_spans() == 0
    spans = {span.name: span for span in map(Span.FromString, payloads(again, "traces"))}
    assert {name: span.end_time_unix_nano for name, span in spans.items()} == {"early": 500, "late": 900}
    for span in spans.values():
        assert [(a.key, a.value.bool_value) for a in span.attributes] == [("torchelastic.truncated", True)]
    assert {item.scope_id for item in again.pending("traces", 0, 9)} == {scope}
    again.discard()


def test_an_open_span_alone_keeps_the_store(directory: Path) -> None:
    """It is something to deliver."""
    spool = Spool.create(directory, MANY_BYTES, {})
    spool.keep_open_span("1", 1, Span(name="a", start_time_unix_nano=7).SerializeToString())
    spool.close()
    (again,) = orphans(directory)
    assert again.truncate_open_spans() == 1
    assert Span.FromString(payloads(again, "traces")[0]).end_time_unix_nano == 7
    again.discard()


def test_closing_deletes_what_is_empty_and_keeps_what_is_not(directory: Path) -> None:
    """Twice is as good as once."""
    spool = Spool.create(directory, MANY_BYTES, {})
    number = spool.add("logs", 1, [b"a"], 1)
    spool.close()
    spool.close()
    again = reopened(spool.path)
    assert payloads(again) == [b"a"]
    again.remove(number)
    again.close()
    assert names(directory) == set()
    with pytest.raises(SpoolError, match="is not there"):
        open_store(spool.path)


def test_importing_the_spool_loads_neither_opentelemetry_nor_sqlite(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every torchrun imports it; few have something to deliver."""
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)  # coverage has a database of its own
    out = run_script(
        "print([name for name in ('opentelemetry', 'sqlite3', 'google.protobuf') if name in sys.modules])",
        ".",
    )
    assert out == "[]\n"
