"""What is recorded goes to memory while the disk refuses, and from there to the disk once it takes again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.disks import own_mount
from tests.support.said import Said
from tests.support.spools import (
    MANY_BYTES,
    PRELUDE,
    left_behind,
    names,
    payloads,
    run_script,
    start_script,
)
from torchelastic_otel._delivery import disk_or_memory
from torchelastic_otel._delivery.disk_or_memory import DiskOrMemory, Kept
from torchelastic_otel._delivery.encoding import Encoded
from torchelastic_otel._delivery.spool import Spool, make_room, orphans


def keeper_in(directory: Path, max_bytes: int = MANY_BYTES, memory_bytes: int = MANY_BYTES) -> DiskOrMemory:
    """Return what keeps things in ``directory``, which need not be there."""

    def opened() -> Spool:
        return Spool.create(directory, max_bytes, {}, make_room(directory, max_bytes))

    return DiskOrMemory(opened, memory_bytes)


@pytest.fixture
def shut(directory: Path) -> Path:
    """A directory in which no spool can be: others can write there, until its mode is 0700."""
    directory.mkdir()
    directory.chmod(0o777)
    return directory


@pytest.fixture
def keeper(shut: Path) -> Iterator[DiskOrMemory]:
    """What keeps things in memory until ``shut`` is opened."""
    made = keeper_in(shut)
    yield made
    made.retire()


def keep(
    keeper: DiskOrMemory, *records: bytes, header: bytes = b"h", ended: tuple[str, ...] = ()
) -> list[Kept]:
    """Keep some records."""
    return keeper.keep("logs", Encoded(header, list(records)), 1, ended)


def read(kept: list[Kept]) -> list[bytes]:
    """Return what is where it is said to be kept."""
    return [item.payload for each in kept for item in each.store.load([each.id])]


def test_what_went_to_memory_is_on_the_disk_once_that_takes_again(
    shut: Path, keeper: DiskOrMemory, said: Said
) -> None:
    """And who knew where it was still finds it: gone, held or neither."""
    first = keep(keeper, b"a", b"b", b"c", b"d", header=b"one")
    keeper.keep_open_span("traces", "1", Encoded(b"two", [b"span"]))
    spool = first[0].store
    assert spool.in_memory
    spool.remove([first[0].id])
    spool.hold([first[1].id], "why")
    shut.chmod(0o700)
    keeper.settle()
    assert not spool.in_memory
    second = keep(keeper, b"e", header=b"two")
    assert second[0].store is spool
    assert read([*first, *second]) == [b"b", b"c", b"d", b"e"]
    assert [each.there for each in first] == [False, True, True, True]
    assert "kept in memory" in said.texts[0]
    assert str(spool.path) in said.texts[1]
    keeper.retire()
    (left,) = orphans(shut)
    assert payloads(left) == [b"c", b"d", b"e"]
    assert [each.why for each in left.held()] == ["why"]
    assert [left.header(item.scope_id) for item in left.pending("logs", 0, 9)] == [b"one", b"one", b"two"]
    assert left.left() == 5
    left.discard()


def test_the_disk_is_tried_again_though_nothing_is_recorded(
    shut: Path, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that says nothing more may be killed as well."""
    monkeypatch.setattr(disk_or_memory, "_DISK_AGAIN_S", 0.01)
    keeper = keeper_in(shut)
    kept = keep(keeper, b"a")
    assert kept[0].in_memory
    shut.chmod(0o700)
    assert said.wait("can be written again")
    assert not kept[0].in_memory
    kept[0].store.remove([kept[0].id])
    keeper.retire()
    assert names(shut) == set()


KEEPS_AND_DIES = (
    PRELUDE
    + """
from torchelastic_otel._delivery.disk_or_memory import DiskOrMemory
from torchelastic_otel._delivery.encoding import Encoded
keeper = DiskOrMemory(
    lambda: Spool.create(directory / "spool", 1 << 30, {}), 1 << 20
)
def keep(number):
    return keeper.keep("logs", Encoded(b"h", [b"%06d" % number * 200]), 1, ())[0]
number = 0
(directory / "ballast").write_bytes(bytes(600_000))
while not keep(number).in_memory:
    number += 1
for number in range(number + 1, number + 20):
    keep(number)
os.unlink(directory / "ballast")
keeper.settle()
assert not keep(number + 1).in_memory
print(number + 2, flush=True)
os.kill(os.getpid(), 9)
"""
)


def test_a_full_disk_that_is_freed_has_what_was_recorded_meanwhile(tmp_path: Path) -> None:
    """Also of a process that is then killed."""
    script = """
    import subprocess
    subprocess.run([sys.executable, "-c", sys.argv[2], directory], check=False)
    found = []
    for spool in orphans(directory / "spool"):
        found += [int(item.payload[:6]) for item in spool.pending("logs", 0, 9999)]
    print(sorted(found) == list(range(len(found))), len(found))
    """
    out = run_script(script, tmp_path, KEEPS_AND_DIES, within=own_mount(tmp_path, "1M"))
    recorded, found = out.splitlines()
    assert int(recorded) > 50
    assert found == f"True {recorded}"


def test_what_goes_at_a_bound_is_counted_once_and_by_signal(shut: Path, said: Said) -> None:
    """In memory, on the disk, and what was left by others and went for it; nobody says that it is there."""
    keeper = keeper_in(shut, max_bytes=50_000, memory_bytes=100)
    kept = [*keep(keeper, bytes(60)), *keep(keeper, bytes(60)), *keep(keeper, bytes(101))]
    assert [each.there for each in kept] == [False, True, False]
    assert keeper.drops == {"logs": 2}
    assert len(said.having("in memory is at its bound")) == 1
    shut.chmod(0o700)
    left_behind(shut, *[b"a"] * 7, max_bytes=1000)
    left_behind(shut, *[b"a"] * 8, max_bytes=1000)
    keeper.settle()
    assert keeper.drops == {"logs": 9}
    keeper.keep("traces", Encoded(b"h", [bytes(50_000)]), 1, ())
    keeper.keep_last_metrics(bytes(10))
    assert keeper.drops == {"logs": 10, "traces": 1}
    keeper.retire()
    assert keeper.drops == {"logs": 10, "traces": 1}
    assert keeper.dropped == 11


def test_a_spool_that_is_empty_goes_when_another_takes_its_place(directory: Path) -> None:
    """Who still looks for something in it finds nothing."""
    script = """
    import resource
    from torchelastic_otel._delivery.disk_or_memory import DiskOrMemory
    from torchelastic_otel._delivery.encoding import Encoded
    def may_write(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    keeper = DiskOrMemory(
        lambda: Spool.create(directory, 1 << 20, {}), 1 << 20
    )
    def keep():
        return keeper.keep("logs", Encoded(b"h", [bytes(5000)]), 1, ())[0]
    kept = keep()
    first = kept.store.path
    may_write(1000)
    other = keep()
    assert other.in_memory and not kept.in_memory
    may_write(resource.RLIM_INFINITY)
    kept.store.remove([kept.id])
    keeper.settle()
    assert not other.in_memory and other.there
    print([path.name for path in directory.glob("*.spool")] == [other.store.path.name], first.exists())
    print(kept.store.load([kept.id]), kept.store.remove([kept.id]), kept.there)
    """
    assert run_script(script, directory) == "True False\n[] 0 False\n"


def test_settling_puts_all_in_one_file(directory: Path) -> None:
    """What SQLite's log holds is lost with a bit of it."""
    keeper = keeper_in(directory)
    (kept,) = keep(keeper, bytes(5000))
    log = kept.store.path.with_name(kept.store.path.name + "-wal")
    assert log.stat().st_size > 5000
    keeper.settle()
    assert log.stat().st_size == 0
    assert kept.store.path.stat().st_size > 5000
    keeper.retire()


def test_without_a_disk_memory_is_all_there_is() -> None:
    """Nothing is tried."""
    keeper = DiskOrMemory(None, MANY_BYTES)
    (kept,) = keep(keeper, b"a")
    keeper.settle()
    assert kept.in_memory
    keeper.retire()
    assert read(keep(keeper, b"b")) == [b"b"]


def test_a_forked_child_gives_up_the_locks_of_all_stores(directory: Path) -> None:
    """Those of its parent's dead predecessors as well, which the parent was about to send."""
    left_behind(directory, b"old")
    script = """
    from torchelastic_otel._delivery.disk_or_memory import DiskOrMemory
    from torchelastic_otel._delivery.encoding import Encoded
    keeper = DiskOrMemory(lambda: Spool.create(directory, 1 << 20, {}), 1 << 20)
    keeper.keep("logs", Encoded(b"h", [b"new"]), 1, ())
    recovering = list(orphans(directory))
    if os.fork() == 0:
        keeper.disown()
        os.kill(os.getppid(), 9)
        sys.stdin.read()
        os._exit(0)
    os.wait()
    """
    process = start_script(script, directory)
    assert process.wait(60) == -9
    found = list(orphans(directory))
    assert sorted(payloads(spool)[0] for spool in found) == [b"new", b"old"]
    process.communicate(timeout=60)
    for spool in found:
        spool.discard()
