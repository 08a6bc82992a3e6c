"""What the spool keeps is there for whoever comes next, whatever became of the process that recorded it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs
from opentelemetry.proto.metrics.v1.metrics_pb2 import ResourceMetrics
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span

from torchelastic_otel._config.otlp import OtlpTarget
from torchelastic_otel._delivery.spool import (
    Destination,
    Held,
    Item,
    Spool,
    SpoolError,
    assemble,
    default_directory,
    destination_of,
    make_room,
    on_network_filesystem,
    orphans,
)
from torchelastic_otel._delivery.spool.files import StoreLock, _network_type

MANY_BYTES = 1 << 20
PLACES = {"logs": Destination("http://collector:4318/v1/logs", "f" * 64)}
OTHER_USER = 65534
PRELUDE = """
import os, sys
from pathlib import Path
from torchelastic_otel._delivery.spool import Spool, SpoolError, orphans
directory = Path(sys.argv[1])
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory that is not there yet."""
    return tmp_path / "spool"


@pytest.fixture
def spool(directory: Path) -> Iterator[Spool]:
    """This process's own store."""
    made = Spool.create(directory, MANY_BYTES, PLACES)
    yield made
    made.discard()


def start(script: str, *arguments: object, within: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """Run ``script`` in a process of its own."""
    return subprocess.Popen(
        [*within, sys.executable, "-c", PRELUDE + textwrap.dedent(script), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def run(script: str, *arguments: object, within: tuple[str, ...] = ()) -> str:
    """Run ``script`` to its end, which is 0 or its own SIGKILL; return what it printed."""
    process = start(script, *arguments, within=within)
    out, _ = process.communicate(timeout=60)
    assert process.returncode in (0, -9)
    return out


def left_behind(directory: Path, *payloads: bytes, max_bytes: int = MANY_BYTES) -> Path:
    """Make a store that has no owner; return its path."""
    spool = Spool.create(directory, max_bytes, PLACES)
    spool.add("logs", 1, payloads, 1)
    spool.close()
    return spool.path


def reopened(path: Path) -> Spool:
    """Take over a store that nobody has."""
    spool = Spool.open_existing(path)
    assert spool is not None
    return spool


def payloads(spool: Spool, signal: str = "logs") -> list[bytes]:
    """Return what is pending."""
    return [item.payload for item in spool.pending(signal, 0, 1_000_000)]


def names(directory: Path) -> set[str]:
    """Return what is in ``directory``."""
    return {path.name for path in directory.iterdir()}


def header(name: str, *, of: type[ResourceLogs] | type[ResourceSpans] = ResourceLogs) -> bytes:
    """Return a header with one attribute and one empty scope."""
    message = of()
    message.resource.attributes.add(key="name").value.string_value = name
    scopes = message.scope_logs if isinstance(message, ResourceLogs) else message.scope_spans
    scopes.add().scope.name = f"scope of {name}"
    return bytes(message.SerializeToString())


# What is kept


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
    spool.add("logs", 1, [b"1" * 40, b"2" * 40], 1)
    assert spool.dropped == 0
    spool.add("traces", 1, [b"3" * 40], 1)
    assert (spool.counts(), spool.dropped) == ({"logs": 1, "traces": 1}, 1)
    spool.close()
    again = reopened(spool.path)
    again.replace_metrics(b"4" * 70)
    assert (again.counts(), again.dropped) == ({"metrics": 1}, 3)
    again.add("logs", 1, [bytes(101)], 1)
    assert (again.counts(), again.dropped) == ({}, 5)
    again.close()
    assert names(directory) == set()


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


# Spans that never ended


def test_spans_without_an_end_become_items_that_say_so(spool: Spool) -> None:
    """They end with the last that was recorded, not before they began, and each only once."""
    scope = spool.scope("traces", b"h")

    def begun(name: str, start_ns: int) -> bytes:
        return bytes(Span(name=name, start_time_unix_nano=start_ns).SerializeToString())

    spool.open_span("1", scope, begun("replaced", 100))
    spool.open_span("2", scope, begun("closed", 100))
    spool.open_span("3", scope, begun("late", 900))
    spool.open_span("1", scope, begun("early", 100))
    spool.close_span("2")
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
    spool.open_span("1", 1, Span(name="a", start_time_unix_nano=7).SerializeToString())
    spool.close()
    (again,) = orphans(directory)
    assert again.truncate_open_spans() == 1
    assert Span.FromString(payloads(again, "traces")[0]).end_time_unix_nano == 7
    again.discard()


# Requests


def test_requests_group_items_by_their_header_in_order() -> None:
    """One resource for each header, and the records of each in the order of the items."""
    headers = {1: header("one"), 2: header("two")}
    items = [
        Item(number, "logs", scope, LogRecord(event_name=f"e{number}").SerializeToString())
        for number, scope in enumerate([2, 1, 2])
    ]
    request = ExportLogsServiceRequest.FromString(assemble("logs", items, headers.__getitem__))
    found = [
        (
            resource.resource.attributes[0].value.string_value,
            [scope.scope.name for scope in resource.scope_logs],
            [record.event_name for record in resource.scope_logs[0].log_records],
        )
        for resource in request.resource_logs
    ]
    assert found == [("two", ["scope of two"], ["e0", "e2"]), ("one", ["scope of one"], ["e1"])]


def test_requests_of_spans_are_theirs() -> None:
    """Spans go under resource and scope likewise."""
    items = [Item(number, "traces", 1, Span(name=f"s{number}").SerializeToString()) for number in range(2)]
    payload = assemble("traces", items, lambda _: header("one", of=ResourceSpans))
    (resource,) = ExportTraceServiceRequest.FromString(payload).resource_spans
    assert [span.name for span in resource.scope_spans[0].spans] == ["s0", "s1"]


def test_requests_of_metrics_are_the_items_themselves() -> None:
    """Several become one request."""
    requests = [
        ExportMetricsServiceRequest(resource_metrics=[ResourceMetrics(schema_url=url)]).SerializeToString()
        for url in ("a", "b")
    ]
    items = [Item(number, "metrics", 0, request) for number, request in enumerate(requests)]
    assert assemble("metrics", items[:1], header_of=lambda _: b"") == requests[0]
    both = ExportMetricsServiceRequest.FromString(assemble("metrics", items, header_of=lambda _: b""))
    assert [resource.schema_url for resource in both.resource_metrics] == ["a", "b"]


# Processes


def test_what_add_returned_from_survives_sigkill(directory: Path) -> None:
    """All of it, and where it was to go."""
    script = """
    from torchelastic_otel._delivery.spool import Destination
    spool = Spool.create(directory, 1 << 20, {"logs": Destination("http://here", "f")})
    for number in range(300):
        spool.add("logs", spool.scope("logs", b"h"), [b"%d" % number], number)
    os.kill(os.getpid(), 9)
    """
    run(script, directory)
    (spool,) = orphans(directory)
    assert payloads(spool) == [b"%d" % number for number in range(300)]
    assert spool.destinations == {"logs": Destination("http://here", "f")}
    spool.remove([item.id for item in spool.pending("logs", 0, 300)])
    spool.close()
    assert names(directory) == set()


def test_a_store_is_left_to_its_owner_until_that_ends(directory: Path) -> None:
    """However it ends."""
    script = """
    spool = Spool.create(directory, 1 << 20, {})
    spool.add("logs", 1, [b"a"], 1)
    print(spool.path, flush=True)
    sys.stdin.read()
    os.kill(os.getpid(), 9)
    """
    process = start(script, directory)
    assert process.stdout
    path = Path(process.stdout.readline().strip())
    assert list(orphans(directory)) == []
    assert Spool.open_existing(path) is None
    process.communicate(timeout=60)
    (spool,) = orphans(directory)
    assert spool.path == path
    assert payloads(spool) == [b"a"]
    spool.discard()


def test_a_process_does_not_take_its_own_store_for_a_dead_ones(spool: Spool) -> None:
    """Nor by another way to the directory."""
    spool.add("logs", 1, [b"a"], 1)
    assert list(orphans(spool.path.parent)) == []
    assert Spool.open_existing(spool.path) is None
    assert payloads(spool) == [b"a"]


def test_a_forked_child_leaves_the_store_to_its_parent(directory: Path) -> None:
    """It cannot use it, and neither its end nor its life makes a difference to the parent's store."""
    script = """
    spool = Spool.create(directory, 1 << 20, {})
    spool.add("logs", 1, [b"before"], 1)
    if os.fork() == 0:
        for _ in range(2):
            try:
                spool.add("logs", 1, [b"child's"], 1)
            except SpoolError as error:
                print(error, flush=True)
            spool.disown()
        spool.close()
        del spool
        sys.exit()
    os.wait()
    spool.add("logs", 1, [b"after"], 1)
    if os.fork() == 0:
        spool.disown()
        os.kill(os.getppid(), 9)
        sys.stdin.read()
        sys.exit()
    os.wait()
    """
    process = start(script, directory)
    assert process.wait(60) == -9
    # The second child still runs.
    (spool,) = orphans(directory)
    assert payloads(spool) == [b"before", b"after"]
    out, _ = process.communicate(timeout=60)
    assert out == f"{spool.path} belongs to the process that forked this one.\n" * 2
    spool.add("logs", 1, [b"new owner's"], 1)
    spool.close()
    again = reopened(spool.path)
    assert payloads(again) == [b"before", b"after", b"new owner's"]
    again.discard()


def test_the_parents_lock_outlives_its_child(directory: Path) -> None:
    """A child that disowned and ended leaves the store locked."""
    script = """
    spool = Spool.create(directory, 1 << 20, {})
    spool.add("logs", 1, [b"a"], 1)
    if os.fork() == 0:
        spool.disown()
        sys.exit()
    os.wait()
    print("ready", flush=True)
    sys.stdin.read()
    """
    process = start(script, directory)
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    assert list(orphans(directory)) == []
    process.communicate(timeout=60)
    (spool,) = orphans(directory)
    spool.discard()


def test_a_lock_has_one_owner_while_others_remove_its_file(tmp_path: Path) -> None:
    """Two processes never own different files of one name."""
    script = """
    from torchelastic_otel._delivery.spool.files import StoreLock
    marker, owned = directory / "owned", 0
    while owned < 100:
        lock = StoreLock.take(directory / "a.spool")
        if lock is not None:
            owned += 1
            os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
            os.unlink(marker)
            lock.release(remove=True)
    """
    processes = [start(script, tmp_path) for _ in range(3)]
    for process in processes:
        process.communicate(timeout=60)
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert names(tmp_path) == set()


# Files


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
        Spool.open_existing(spool.path)


def test_empty_leftovers_and_lone_locks_are_deleted(directory: Path) -> None:
    """As processes leave them that were killed early."""
    script = """
    Spool.create(directory, 1 << 20, {})
    (directory / "host-1-00000000.spool").touch()
    (directory / "host-1-00000001.spool.lock").touch()
    (directory / "other").touch()
    os.kill(os.getpid(), 9)
    """
    run(script, directory)
    assert list(orphans(directory)) == []
    assert names(directory) == {"other"}


def test_a_lock_that_is_held_is_not_taken_for_a_lone_one(directory: Path) -> None:
    """Its owner is about to make its store."""
    directory.mkdir(mode=0o700)
    lock = StoreLock.take(directory / "a.spool")
    assert lock is not None
    assert list(orphans(directory)) == []
    assert names(directory) == {"a.spool.lock"}
    lock.release(remove=True)


def test_orphans_come_oldest_first(directory: Path) -> None:
    """The one that was written longest ago is the first; no directory, no orphans."""
    assert list(orphans(directory)) == []
    paths = [left_behind(directory, b"%d" % number) for number in range(3)]
    for age, path in zip((20, 30, 10), paths, strict=True):
        os.utime(path, (1_000_000 - age, 1_000_000 - age))
    found = list(orphans(directory))
    assert [payloads(spool) for spool in found] == [[b"1"], [b"0"], [b"2"]]
    for spool in found:
        spool.discard()


def test_a_copy_from_another_machine_can_be_read(directory: Path, tmp_path: Path) -> None:
    """Without its lock file, and with what is only in SQLite's log yet."""
    script = """
    spool = Spool.create(directory, 1 << 20, {})
    spool.add("logs", 1, [b"a"], 1)
    os.kill(os.getpid(), 9)
    """
    run(script, directory)
    copy = tmp_path / "copy"
    shutil.copytree(directory, copy, ignore=shutil.ignore_patterns("*.lock"))
    (path,) = copy.glob("*.spool")
    spool = reopened(path)
    assert payloads(spool) == [b"a"]
    spool.discard()


def _overwrite(path: Path) -> None:
    path.write_bytes(b"no database" * 1000)


def _scratch(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size - 3 * 4096)
        file.write(b"\xff" * 2 * 4096)


def _scratch_index(path: Path) -> None:
    connection = sqlite3.connect(path)
    page = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'item_by_signal'").fetchone()[
        0
    ]
    connection.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _future(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()


@pytest.mark.parametrize("damage", [_overwrite, _scratch, _scratch_index, _cut, _future])
def test_a_damaged_store_is_set_aside_and_the_others_are_read(
    directory: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
) -> None:
    """It is said once with its path, and its bytes stay for whoever wants to look."""
    bad = left_behind(directory, *[bytes(600)] * 50)
    good = left_behind(directory, b"a")
    damage(bad)
    with pytest.raises(SpoolError, match=bad.name):
        Spool.open_existing(bad)
    content = bad.read_bytes()
    (spool,) = orphans(directory)
    assert spool.path == good
    spool.discard()
    aside = bad.with_name(bad.name + ".damaged")
    assert names(directory) == {aside.name}
    assert aside.read_bytes() == content
    (message,) = caplog.messages
    assert str(aside) in message
    assert list(orphans(directory)) == []


def test_what_sqlite_keeps_beside_a_damaged_store_goes_with_it(directory: Path) -> None:
    """Together they may still be mended."""
    path = left_behind(directory, b"a")
    path.write_bytes(b"no database")
    log = path.with_name(path.name + "-shm")
    log.write_bytes(b"log")
    assert list(orphans(directory)) == []
    assert names(directory) == {path.name + ".damaged", path.name + ".damaged-shm"}


def test_a_store_that_another_program_has_open_is_not_damaged(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is left alone this time."""
    path = left_behind(directory, b"a")
    reader = sqlite3.connect(path)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM item").fetchall()
    assert list(orphans(directory)) == []
    reader.close()
    assert "locked" in caplog.text
    (spool,) = orphans(directory)
    assert payloads(spool) == [b"a"]
    spool.discard()


def test_beyond_its_bound_the_directory_loses_its_oldest_stores(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Those of living processes stay, whatever their age; how much is lost is said."""
    living = Spool.create(directory, MANY_BYTES, {})
    living.add("logs", 1, [bytes(100)], 1)
    dead = [left_behind(directory, *[bytes(1000)] * 20) for _ in range(3)]
    damaged = directory / "host-1-00000000.spool.damaged"
    damaged.write_bytes(bytes(10_000))
    for age, path in zip((50, 40, 30, 20, 10), (living.path, damaged, *dead), strict=True):
        os.utime(path, (1_000_000 - age, 1_000_000 - age))
    total = sum(path.stat().st_size for path in directory.iterdir())
    enough = total - 10_000 - dead[0].stat().st_size - 1
    make_room(directory, enough)
    new = Spool.create(directory, enough, {})
    assert {path.name for path in directory.glob("*.spool*") if path.suffix in (".spool", ".damaged")} == {
        living.path.name,
        dead[2].name,
        new.path.name,
    }
    assert "40 items that 2 earlier processes" in caplog.text
    assert living.counts() == {"logs": 1}
    for spool in (living, new):
        spool.discard()


# Who may read and write it


def test_nobody_else_can_read_what_is_recorded(directory: Path) -> None:
    """Neither the directory nor a file of it, whatever the umask."""
    before = os.umask(0)
    try:
        spool = Spool.create(directory, MANY_BYTES, {})
        spool.add("logs", 1, [b"a"], 1)
    finally:
        os.umask(before)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}
    assert {path.suffix for path in directory.iterdir()} == {".spool", ".spool-wal", ".lock"}
    spool.discard()


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_a_directory_that_others_can_write_is_refused(directory: Path, mode: int) -> None:
    """With the command that mends it."""
    path = left_behind(directory, b"a")
    directory.chmod(mode)
    for attempt in (
        lambda: Spool.create(directory, MANY_BYTES, {}),
        lambda: Spool.open_existing(path),
        lambda: list(orphans(directory)),
    ):
        with pytest.raises(SpoolError, match=r"chmod go-w .* or name another directory"):
            attempt()


def test_a_directory_of_somebody_else_is_refused(directory: Path) -> None:
    """And it says whose it is."""
    if os.geteuid() == 0:
        directory.mkdir(mode=0o700)
        os.chown(directory, OTHER_USER, -1)
    else:
        directory = Path("/usr")
    with pytest.raises(SpoolError, match=rf"belongs to user {directory.stat().st_uid} and this is user"):
        Spool.create(directory, MANY_BYTES, {})


def test_a_link_to_a_directory_is_refused(directory: Path, tmp_path: Path) -> None:
    """Whoever made the link would choose where the data goes; above it links are the system's."""
    (tmp_path / "real").mkdir(mode=0o700)
    directory.symlink_to(tmp_path / "real")
    with pytest.raises(SpoolError, match="symbolic link"):
        Spool.create(directory, MANY_BYTES, {})
    Spool.create(directory / "below", MANY_BYTES, {}).close()
    assert names(tmp_path / "real" / "below") == set()


def test_a_file_in_place_of_the_directory_is_refused(directory: Path) -> None:
    """As is one above it."""
    directory.touch()
    with pytest.raises(SpoolError, match="is no directory"):
        Spool.create(directory, MANY_BYTES, {})
    with pytest.raises(SpoolError, match="cannot be made"):
        Spool.create(directory / "below", MANY_BYTES, {})


@pytest.mark.parametrize("part", ["", "-wal", "-journal", ".lock"])
def test_links_in_place_of_files_are_not_followed(directory: Path, tmp_path: Path, part: str) -> None:
    """What they point to stays as it is."""
    path = left_behind(directory, b"a")
    target = tmp_path / "target"
    target.write_bytes(path.read_bytes())
    link = path.with_name(path.name + part)
    link.unlink(missing_ok=True)
    link.symlink_to(target)
    content = target.read_bytes()
    with pytest.raises(SpoolError, match="symbolic link"):
        Spool.open_existing(path)
    assert list(orphans(directory)) == []
    assert target.read_bytes() == content
    assert link.is_symlink()


def test_a_file_of_somebody_else_is_refused(directory: Path) -> None:
    """Only root can make one here."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    path = left_behind(directory, b"a")
    os.chown(path, OTHER_USER, -1)
    with pytest.raises(SpoolError, match=f"belongs to user {OTHER_USER}"):
        Spool.open_existing(path)


# Disks


FILL = """
spool = Spool.create(directory / "spool", 1 << 30, {})
kept = []
try:
    while True:
        kept += spool.add("logs", 1, [bytes(600)] * 10, 1)
except SpoolError as error:
    print(error)
assert [item.id for item in spool.pending("logs", 0, 1 << 30)] == kept, "all or none"
print(len(kept), spool.counts()["logs"], flush=True)
"""
FILL_AND_DIE = FILL + "os.kill(os.getpid(), 9)\n"


def own_mount(place: Path, size: str, then: str = "") -> tuple[str, ...]:
    """Return what to put before a command for it to have a small disk of its own at ``place``."""
    mount = f'mount -t tmpfs -o size={size} tmpfs "{place}"'
    within = ("unshare", "--map-root-user", "--mount", "sh", "-c")
    tried = (
        subprocess.run([*within, mount], capture_output=True, check=False)
        if shutil.which("unshare")
        else None
    )
    if tried is None or tried.returncode:
        pytest.skip("cannot mount here")
    return (*within, f'{mount} && {then or ":"} && exec "$@"', "sh")


def test_on_a_full_disk_add_refuses_and_what_was_there_stays(tmp_path: Path) -> None:
    """All that was added is there, and for the next owner as well."""
    script = """
    import subprocess
    subprocess.run([sys.executable, "-c", sys.argv[2], directory], check=False)
    (spool,) = orphans(directory / "spool")
    print(len(spool.pending("logs", 0, 1 << 30)))
    """
    out = run(script, tmp_path, PRELUDE + FILL_AND_DIE, within=own_mount(tmp_path, "400k"))
    message, counts, left = out.splitlines()
    assert "full" in message
    assert "make room on its file system" in message
    added, counted = counts.split()
    assert int(added) > 100
    assert added == counted == left


def test_what_arrived_on_a_full_disk_is_not_kept_for_the_next_run(tmp_path: Path) -> None:
    """It cannot be removed one by one there, but its file can."""
    script = (
        FILL
        + """
try:
    spool.remove(kept[:-1])
except SpoolError:
    print("refused")
print(spool.left())
try:
    spool.remove(kept[-1:])
except SpoolError:
    print("refused")
spool.close()
print(os.listdir(directory / "spool"))
"""
    )
    out = run(script, tmp_path, within=own_mount(tmp_path, "400k"))
    assert out.splitlines()[2:] == ["refused", "1", "refused", "[]"]


def test_at_the_limit_of_file_sizes_add_refuses_and_what_was_there_stays(tmp_path: Path) -> None:
    """As on a full disk."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
    message, counts = run(limit + FILL_AND_DIE, tmp_path).splitlines()
    assert "limit of file sizes" in message
    added, counted = counts.split()
    assert int(added) > 50
    assert added == counted
    (spool,) = orphans(tmp_path / "spool")
    assert len(payloads(spool)) == int(added)
    spool.discard()


def test_a_read_only_directory_is_refused(tmp_path: Path) -> None:
    """Both to make a store there, and to take one over; nothing is made or renamed."""
    script = """
    import shutil, subprocess
    shutil.copytree(sys.argv[2], directory / "spool")
    subprocess.run(["mount", "-o", "remount,ro", directory], check=True)
    (path,) = (directory / "spool").glob("*.spool")
    for attempt in (
        lambda: Spool.create(directory / "new", 1 << 20, {}),
        lambda: Spool.create(directory / "spool", 1 << 20, {}),
        lambda: Spool.open_existing(path),
    ):
        try:
            attempt()
        except SpoolError as error:
            print(error)
    print(list(orphans(directory / "spool")))
    """
    (tmp_path / "mount").mkdir()
    before = left_behind(tmp_path / "spool", b"a").parent
    out = run(script, tmp_path / "mount", before, within=own_mount(tmp_path / "mount", "400k"))
    *messages, found = out.splitlines()
    assert len(messages) == 3
    assert all(
        "Read-only file system" in message and "name another directory" in message for message in messages
    )
    assert found == "[]"


# Where


def test_the_default_directory_is_the_users_own(tmp_path: Path) -> None:
    """In /var/tmp: schedulers give each job a TMPDIR that goes with it."""
    name = f"torchelastic-otel-{os.geteuid()}"
    assert default_directory({"TMPDIR": str(tmp_path)}) == Path("/var/tmp", name)
    assert default_directory({}) == Path("/var/tmp", name)


def test_network_file_systems_are_told_from_local_ones(tmp_path: Path) -> None:
    """By the innermost mount, of several in one place by the last."""
    mounts = textwrap.dedent(r"""
        20 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
        21 20 0:40 / /home rw,relatime - nfs4 server:/home rw
        22 21 0:41 / /home/a\040b rw - tmpfs tmpfs rw
        23 20 0:42 / /scratch rw master:2 - lustre mds:/x rw
        24 20 0:43 / /mnt rw - fuse.sshfs host: rw
        25 20 0:44 / /data rw - tmpfs tmpfs rw
        26 20 0:45 / /data rw - ceph host:/ rw
        27 20 0:46 / /nfsx rw - fuse.portal portal rw
    """)
    expected = {
        "/var/tmp/x": "",
        "/home": "nfs4",
        "/home/u/x": "nfs4",
        "/homes": "",
        "/home/a b/c": "",
        "/scratch/x": "lustre",
        "/mnt/x": "fuse.sshfs",
        "/data/x": "ceph",
        "/nfsx/y": "",
    }
    assert {path: _network_type(path, mounts) for path in expected} == expected
    assert on_network_filesystem(Path("/dev/shm/not/there")) == ""
    link = tmp_path / "link"
    link.symlink_to("/dev/shm")
    assert on_network_filesystem(link) == ""


@pytest.mark.parametrize(
    ("endpoint", "shown"),
    [
        ("http://user:secret@host:4318/v1/logs", "http://host:4318/v1/logs"),
        ("https://host/otlp/v1/logs?key=secret#secret", "https://host/otlp/v1/logs"),
        ("http://u:secret@[::1]:4318/a@b?to=c://d", "http://[::1]:4318/a@b"),
        ("secret@host:4317", "host:4317"),
        ("dns:///collector:4317", "dns:///collector:4317"),
        ("unix:/run/otel.sock", "unix:/run/otel.sock"),
    ],
)
def test_a_destination_shows_no_credentials(endpoint: str, shown: str) -> None:
    """Nor do its headers appear anywhere."""
    target = OtlpTarget("grpc", endpoint, headers=(("authorization", "secret"),))
    destination = destination_of(target)
    assert destination.endpoint == shown
    assert "secret" not in repr(destination)


def test_a_destination_is_the_same_for_the_same_protocol_endpoint_and_headers() -> None:
    """Whatever the order of headers; a user in the URL counts."""
    headers = (("a", "1"), ("b", "2"))
    base = destination_of(OtlpTarget("grpc", "http://host", headers=headers))
    assert destination_of(OtlpTarget("grpc", "http://host", headers=headers[::-1], timeout_s=1)) == base
    others = [
        OtlpTarget("http/protobuf", "http://host", headers=headers),
        OtlpTarget("grpc", "http://other", headers=headers),
        OtlpTarget("grpc", "http://user@host", headers=headers),
        OtlpTarget("grpc", "http://host", headers=(("a", "12"), ("b", ""))),
    ]
    assert len({base.fingerprint, *(destination_of(other).fingerprint for other in others)}) == 5


def test_importing_the_spool_loads_neither_opentelemetry_nor_sqlite() -> None:
    """Every torchrun imports it; few have something to deliver."""
    out = run(
        "print([name for name in ('opentelemetry', 'sqlite3', 'google.protobuf') if name in sys.modules])",
        ".",
    )
    assert out == "[]\n"
