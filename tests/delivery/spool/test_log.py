"""What a killed process left in SQLite's log is read, also where a bit of that log is wrong."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from tests.support.spools import names, reopened, run_script
from torchelastic_otel._delivery.spool import Item, Spool, orphans

BATCH = 5
ITEMS = 200
KILLED = f"""
spool = Spool.create(directory, 1 << 26, {{}})
scope = spool.scope("logs", b"header" * 50)
for first in range(0, {ITEMS}, {BATCH}):
    spool.add("logs", scope, [b"%06d" % number * 100 for number in range(first, first + {BATCH})], 1)
os.kill(os.getpid(), 9)
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a process left that recorded and was killed."""
    directory = tmp_path_factory.mktemp("killed") / "spool"
    run_script(KILLED, directory)
    return directory


@pytest.fixture
def store(killed: Path, tmp_path: Path) -> Path:
    """A copy of that."""
    shutil.copytree(killed, tmp_path / "spool")
    (path,) = (tmp_path / "spool").glob("*.spool")
    return path


def log_of(store: Path) -> Path:
    """Return SQLite's log."""
    return store.with_name(store.name + "-wal")


def flip(path: Path, bit: int) -> None:
    """Make one bit of a file wrong."""
    with path.open("r+b") as file:
        file.seek(bit // 8)
        (byte,) = file.read(1)
        file.seek(bit // 8)
        file.write(bytes([byte ^ (1 << bit % 8)]))


def whole(spool: Spool) -> list[int]:
    """Return the numbers of the records that can be read, which then are what was written."""
    items: list[Item] = [item for item in spool.pending("logs", 0, 9999) if not item.spoiled]
    assert all(item.payload == item.payload[:6] * 100 for item in items)
    return [int(item.payload[:6]) for item in items]


def test_a_log_that_is_well_is_read_as_it_is(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is said, copied or renamed; when the store is closed all is in the one file."""
    assert log_of(store).stat().st_size > 100_000
    (spool,) = orphans(store.parent)
    assert spool.path == store
    assert whole(spool) == list(range(ITEMS))
    spool.close()
    assert names(store.parent) == {store.name, store.name + ".lock"}
    assert caplog.messages == []


@pytest.mark.parametrize("frame", ["header", 0, 1, 20, -2, -1])
@pytest.mark.parametrize("byte", [2, 9, 13, 19, 1500])
def test_a_bit_that_is_wrong_costs_what_it_is_in(
    store: Path, caplog: pytest.LogCaptureFixture, frame: int | str, byte: int
) -> None:
    """SQLite would end there and say nothing. It is said, and what there was is kept as it is."""
    count = (log_of(store).stat().st_size - 32) // 4120
    place = byte % 32 if isinstance(frame, str) else 32 + 4120 * (frame % count) + byte
    flip(log_of(store), 8 * place + 3)
    content = log_of(store).read_bytes()
    (spool,) = orphans(store.parent)
    assert len(whole(spool)) >= ITEMS - BATCH
    spool.close()
    aside = store.with_name(store.name + ".damaged")
    assert log_of(aside).read_bytes() == content
    assert str(aside) in caplog.messages[0]
    (again,) = orphans(store.parent)
    assert len(whole(again)) >= ITEMS - BATCH
    again.discard()


def test_a_log_that_ends_amid_a_frame_is_well(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its process was killed while it wrote: ``add`` had not returned."""
    with log_of(store).open("r+b") as file:
        file.truncate(log_of(store).stat().st_size - 2000)
    (spool,) = orphans(store.parent)
    assert whole(spool) == list(range(ITEMS - BATCH))
    spool.close()
    assert caplog.messages == []


def test_what_stands_behind_the_end_of_a_log_is_not_of_it(directory: Path) -> None:
    """SQLite begins the log anew where all of it is in the file, and what was there before stays behind."""
    script = """
    spool = Spool.create(directory, 1 << 26, {})
    for number in range(400):
        spool.remove(spool.add("logs", 1, [b"%06d" % number * 500], 1))
    spool.add("logs", 1, [b"000007" * 100], 1)
    os.kill(os.getpid(), 9)
    """
    run_script(script, directory)
    (spool,) = orphans(directory)
    assert whole(spool) == [7]
    spool.discard()
    assert names(directory) == set()


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("part", ["", "-wal"])
def test_whatever_bit_is_wrong_the_neighbours_are_read(store: Path, part: str, seed: int) -> None:
    """Nothing is told that nobody said, and no store keeps back another one."""
    if not part:
        reopened(store).close()
    path = store.with_name(store.name + part)
    flip(path, random.Random(seed).randrange(8 * path.stat().st_size))
    neighbours = {store.with_name(f"{name}.spool") for name in ("a", "z")}
    for neighbour in neighbours:
        made = Spool.create(store.parent, 1 << 20, {})
        made.add("logs", 1, [b"000000" * 100], 1)
        made.close()
        made.path.rename(neighbour)
    read = {spool.path: whole(spool) for spool in orphans(store.parent)}
    assert [read.pop(neighbour) for neighbour in neighbours] == [[0], [0]]
    assert all(len(numbers) >= ITEMS - BATCH for numbers in read.values())
