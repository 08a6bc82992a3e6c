"""Whose the spool's files are: who may read and write them, who holds their locks, and where they are."""

from __future__ import annotations

import os
import stat
import textwrap
from pathlib import Path

import pytest

from tests.support.spools import MANY_BYTES, left_behind, names, start_script
from torchelastic_otel._delivery.spool import (
    Spool,
    SpoolError,
    default_directory,
    on_network_filesystem,
    open_store,
    orphans,
)
from torchelastic_otel._delivery.spool.files import StoreLock, network_type

OTHER_USER = 65534


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
    processes = [start_script(script, tmp_path) for _ in range(3)]
    for process in processes:
        process.communicate(timeout=60)
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert names(tmp_path) == set()


def test_a_lock_that_is_held_is_not_taken_for_a_lone_one(directory: Path) -> None:
    """Its owner is about to make its store."""
    directory.mkdir(mode=0o700)
    lock = StoreLock.take(directory / "a.spool")
    assert lock is not None
    assert list(orphans(directory)) == []
    assert names(directory) == {"a.spool.lock"}
    lock.release(remove=True)


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
        lambda: open_store(path),
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
        open_store(path)
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
        open_store(path)


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
    assert {path: network_type(path, mounts) for path in expected} == expected
    assert on_network_filesystem(Path("/dev/shm/not/there")) == ""
    link = tmp_path / "link"
    link.symlink_to("/dev/shm")
    assert on_network_filesystem(link) == ""
