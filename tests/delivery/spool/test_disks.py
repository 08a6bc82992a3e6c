"""A disk that is full, or cannot be written, costs nothing of what was there before."""

from __future__ import annotations

from pathlib import Path

from tests.support.disks import own_mount
from tests.support.spools import PRELUDE, left_behind, payloads, run_script
from torchelastic_otel._delivery.spool import orphans

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


def test_on_a_full_disk_add_refuses_and_what_was_there_stays(tmp_path: Path) -> None:
    """All that was added is there, and for the next owner as well."""
    script = """
    import subprocess
    subprocess.run([sys.executable, "-c", sys.argv[2], directory], check=False)
    (spool,) = orphans(directory / "spool")
    print(len(spool.pending("logs", 0, 1 << 30)))
    """
    out = run_script(script, tmp_path, PRELUDE + FILL_AND_DIE, within=own_mount(tmp_path, "400k"))
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
    out = run_script(script, tmp_path, within=own_mount(tmp_path, "400k"))
    assert out.splitlines()[2:] == ["refused", "1", "refused", "[]"]


def test_at_the_limit_of_file_sizes_add_refuses_and_what_was_there_stays(tmp_path: Path) -> None:
    """As on a full disk."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
    message, counts = run_script(limit + FILL_AND_DIE, tmp_path).splitlines()
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
    subprocess.run(["mount", "-o", "remount,bind,ro", directory], check=True)
    (path,) = (directory / "spool").glob("*.spool")
    for attempt in (
        lambda: Spool.create(directory / "new", 1 << 20, {}),
        lambda: Spool.create(directory / "spool", 1 << 20, {}),
        lambda: open_store(path),
    ):
        try:
            attempt()
        except SpoolError as error:
            print(error)
    print(list(orphans(directory / "spool")))
    """
    (tmp_path / "mount").mkdir()
    before = left_behind(tmp_path / "spool", b"a").parent
    out = run_script(script, tmp_path / "mount", before, within=own_mount(tmp_path / "mount", "400k"))
    *messages, found = out.splitlines()
    assert len(messages) == 3
    assert all(
        "Read-only file system" in message and "name another directory" in message for message in messages
    )
    assert found == "[]"
