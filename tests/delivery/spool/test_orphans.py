"""Stores that nobody owns are found, set aside where they are damaged, and go where there is no room."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.spools import MANY_BYTES, left_behind, names, payloads, run_script
from torchelastic_otel._delivery.spool import Spool, SpoolError, make_room, orphans


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
