"""What another version of the package left is read if it is older, and left alone if it is newer."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.support.spools import PLACES, left_behind, names, payloads, reopened
from torchelastic_otel._delivery.spool import (
    Closed,
    ForeignError,
    Held,
    SpoolError,
    make_room,
    open_store,
    orphans,
)

VERSION_1 = """
CREATE TABLE store (max_bytes INTEGER, last_ns INTEGER, dropped INTEGER);
CREATE TABLE destination (signal TEXT PRIMARY KEY, endpoint TEXT, fingerprint TEXT);
CREATE TABLE scope (id INTEGER PRIMARY KEY, signal TEXT, header BLOB);
CREATE TABLE item (id INTEGER PRIMARY KEY, signal TEXT, scope_id INTEGER, payload BLOB, held TEXT);
CREATE INDEX item_by_signal ON item (signal, held);
CREATE TABLE open_span (span_id TEXT PRIMARY KEY, scope_id INTEGER, payload BLOB);
PRAGMA user_version = 1;
INSERT INTO store VALUES (1048576, 700, 3);
INSERT INTO destination VALUES ('logs', 'http://collector:4318/v1/logs', '{fingerprint}');
INSERT INTO scope VALUES (1, 'logs', x'61'), (2, 'traces', x'62');
"""
"""As version 0.1.0 made them."""


def version_1(directory: Path) -> Path:
    """Make a store of version 1: records, some held and some gone, a span, and one that has not ended."""
    directory.mkdir(mode=0o700)
    path = directory / "host-1-00000000.spool"
    connection = sqlite3.connect(path)
    connection.executescript(VERSION_1.format(fingerprint=PLACES["logs"].fingerprint))
    items = [
        (number, "logs", 1, b"%d" % number, "why" if number in (3, 4) else None)
        for number in range(1, 11)
        if number != 7
    ]
    connection.executemany("INSERT INTO item VALUES (?, ?, ?, ?, ?)", items)
    connection.execute(
        "INSERT INTO item VALUES (11, 'traces', 2, ?, NULL)", (Span(name="s").SerializeToString(),)
    )
    begun = Span(name="open", start_time_unix_nano=5).SerializeToString()
    connection.execute("INSERT INTO open_span VALUES ('1', 2, ?)", (begun,))
    connection.commit()
    connection.close()
    return path


def test_an_older_store_is_read_and_goes_on(directory: Path) -> None:
    """All that was in it, with what is known of it; also by the owner after that."""
    path = version_1(directory)
    (spool,) = orphans(directory)
    assert spool.destinations == PLACES
    assert spool.counts() == {"logs": 9, "traces": 1}
    assert spool.held() == [Held("logs", "why", 2)]
    assert payloads(spool) == [b"1", b"2", b"5", b"6", b"8", b"9", b"10"]
    assert (spool.header(1), spool.header(2), spool.dropped) == (b"a", b"b", 3)
    assert spool.truncate_open_spans() == 1
    spool.remove([item.id for item in spool.pending("logs", 0, 3)])
    assert spool.add("logs", 1, [b"new"], 800)[0] > 11
    spool.close()
    again = reopened(path)
    again.release_held()
    assert payloads(again) == [b"3", b"4", b"6", b"8", b"9", b"10", b"new"]
    spans = [Span.FromString(payload) for payload in payloads(again, "traces")]
    assert [(span.name, span.end_time_unix_nano) for span in spans] == [("s", 0), ("open", 700)]
    again.discard()


def test_an_older_store_that_has_no_room_to_be_rewritten_stays(directory: Path) -> None:
    """It is not damaged: nothing of it is gone."""
    path = version_1(directory)
    reader = sqlite3.connect(path)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM item").fetchall()
    with pytest.raises(SpoolError, match="locked"):
        open_store(path)
    reader.close()
    assert len(payloads(reopened(path))) == 7


def _future(directory: Path) -> Path:
    path = left_behind(directory, *[bytes(1000)] * 20)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    return path


def test_a_newer_store_is_left_alone_and_told(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Neither renamed nor written; what is beside it is read."""
    newer = _future(directory)
    good = left_behind(directory, b"a")
    content = newer.read_bytes()
    with pytest.raises(ForeignError, match="newer"):
        open_store(newer)
    closed: list[Closed] = []
    (spool,) = orphans(directory, closed)
    assert spool.path == good
    spool.discard()
    assert [(each.path, each.why) for each in closed] == [(newer, "foreign")]
    assert str(newer) in caplog.text
    assert newer.read_bytes() == content
    assert names(directory) - {newer.name + ".lock"} == {newer.name}


def test_a_newer_store_neither_goes_for_room_nor_counts(directory: Path) -> None:
    """What this version cannot count it does not delete, and its own are not deleted in its place."""
    newer = _future(directory)
    own = left_behind(directory, b"a")
    assert make_room(directory, own.stat().st_size) == {}
    assert {newer.name, own.name} <= names(directory)


def test_a_version_that_never_was_is_damage(directory: Path) -> None:
    """Nobody is waited for who could read it."""
    path = left_behind(directory, b"a")
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 0")
    connection.close()
    assert list(orphans(directory)) == []
    assert names(directory) == {path.name + ".damaged"}
