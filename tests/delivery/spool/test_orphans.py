"""Stores that nobody owns are found, set aside where they are damaged, and go where there is no room."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.spools import MANY_BYTES, PLACES, left_behind, names, payloads, run_script
from torchelastic_otel._delivery.spool import Closed, DamagedError, Spool, make_room, open_store, orphans


def test_empty_leftovers_and_lone_locks_are_deleted(directory: Path) -> None:
    """As processes leave them that were killed early."""
    script = """
    Spool.create(directory, 1 << 20, {})
    (directory / "host-1-00000000.spool").touch()
    (directory / "host-1-00000001.spool.lock").touch()
    (directory / "other").touch()
    os.kill(os.getpid(), 9)
    """
    run_script(script, directory)
    assert list(orphans(directory)) == []
    assert names(directory) == {"other"}


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


def _overwrite(path: Path) -> None:
    path.write_bytes(b"no database" * 1000)


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("damage", [_overwrite, _cut])
def test_a_store_of_which_nothing_can_be_read_is_set_aside_and_the_others_are_read(
    directory: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
) -> None:
    """It is said once with its path, and its bytes stay for whoever wants to look."""
    bad = left_behind(directory, *[bytes(600)] * 50)
    good = left_behind(directory, b"a")
    damage(bad)
    with pytest.raises(DamagedError, match=bad.name):
        open_store(bad)
    content = bad.read_bytes()
    closed: list[Closed] = []
    (spool,) = orphans(directory, closed)
    assert spool.path == good
    spool.discard()
    aside = bad.with_name(bad.name + ".damaged")
    assert names(directory) == {aside.name}
    assert aside.read_bytes() == content
    (message,) = caplog.messages
    assert str(aside) in message
    assert [(each.path, each.why) for each in closed] == [(bad, "damaged")]
    assert list(orphans(directory)) == []


def _left_in_batches(directory: Path) -> Path:
    """Make a store with ten batches of five records each; return its path."""
    spool = Spool.create(directory, MANY_BYTES, PLACES)
    for batch in range(10):
        spool.add("logs", 1, [b"%d" % (5 * batch + number) * 600 for number in range(5)], batch)
    spool.close()
    return spool.path


@pytest.mark.parametrize("place", [0.3, 0.5, 0.7, 0.9])
def test_of_a_damaged_store_all_is_sent_that_can_be_read(
    directory: Path, caplog: pytest.LogCaptureFixture, place: float
) -> None:
    """What is not sent at once goes on in a new store, and the damaged one is set aside as it is."""
    bad = _left_in_batches(directory)
    good = left_behind(directory, b"a")
    with bad.open("r+b") as file:
        file.seek(int(bad.stat().st_size * place) // 4096 * 4096)
        file.write(b"\xff" * 4096)
    os.utime(bad, (1, 1))
    damaged, other = orphans(directory)
    assert other.path == good
    whole = [item for item in damaged.pending("logs", 0, 99) if not item.spoiled]
    assert 40 <= len(whole) <= 50
    assert all(item.payload == b"%d" % (item.id - 1) * 600 for item in whole)
    sent, left = whole[:20], [item.payload for item in whole[20:]]
    damaged.remove([item.id for item in sent])
    damaged.close()
    other.discard()
    (again,) = orphans(directory)
    assert payloads(again) == left
    assert again.destinations == PLACES
    again.discard()
    assert names(directory) == {bad.name + ".damaged"}
    (message,) = caplog.messages
    assert bad.name + ".damaged" in message
    assert str(again.path) in message


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
    reader.execute("SELECT * FROM run").fetchall()
    assert list(orphans(directory)) == []
    reader.close()
    assert "locked" in caplog.text
    (spool,) = orphans(directory)
    assert payloads(spool) == [b"a"]
    spool.discard()


def test_beyond_its_bound_the_directory_loses_its_oldest_stores(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Damaged ones first; those of living processes stay, whatever their age; what is lost is told."""
    living = Spool.create(directory, MANY_BYTES, {})
    living.add("logs", 1, [bytes(100)], 1)
    dead = [left_behind(directory, *[bytes(1000)] * 20) for _ in range(3)]
    damaged = directory / "host-1-00000000.spool.damaged"
    damaged.write_bytes(bytes(10_000))
    for age, path in zip((50, 10, 40, 30, 20), (living.path, damaged, *dead), strict=True):
        os.utime(path, (1_000_000 - age, 1_000_000 - age))
    total = sum(path.stat().st_size for path in directory.iterdir())
    enough = total - 10_000 - dead[0].stat().st_size - 1
    assert make_room(directory, enough) == {"logs": 40}
    assert {path.name for path in directory.glob("*.spool*") if path.suffix in (".spool", ".damaged")} == {
        living.path.name,
        dead[2].name,
    }
    assert "40 items that 2 earlier processes" in caplog.text
    assert "1 damaged stores" in caplog.text
    assert living.counts() == {"logs": 1}
    living.discard()


def test_what_is_found_damaged_while_room_is_made_goes_as_well(directory: Path) -> None:
    """A new name frees no room."""
    bad = left_behind(directory, *[bytes(1000)] * 20)
    bad.write_bytes(b"no database" * 2000)
    good = left_behind(directory, b"a")
    os.utime(bad, (1, 1))
    assert make_room(directory, good.stat().st_size) == {}
    assert names(directory) == {good.name, good.name + ".lock"}


def test_open_spans_that_go_for_room_are_counted(directory: Path) -> None:
    """They would have been spans."""
    spool = Spool.create(directory, MANY_BYTES, {})
    spool.keep_open_span("1", 1, b"a")
    spool.add("logs", 1, [b"a"], 1)
    spool.close()
    assert make_room(directory, 0) == {"logs": 1, "traces": 1}
    assert names(directory) == set()
