"""What a process kept is there for whoever comes next, whatever became of that process."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.support.spools import names, payloads, reopened, run_script, start_script
from torchelastic_otel._delivery.spool import Destination, Spool, open_store, orphans


def test_what_add_returned_from_survives_sigkill(directory: Path) -> None:
    """All of it, and where it was to go."""
    script = """
    from torchelastic_otel._delivery.spool import Destination
    spool = Spool.create(directory, 1 << 20, {"logs": Destination("http://here", "f")})
    for number in range(300):
        spool.add("logs", spool.scope("logs", b"h"), [b"%d" % number], number)
    os.kill(os.getpid(), 9)
    """
    run_script(script, directory)
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
    process = start_script(script, directory)
    assert process.stdout
    path = Path(process.stdout.readline().strip())
    assert list(orphans(directory)) == []
    assert open_store(path) is None
    process.communicate(timeout=60)
    (spool,) = orphans(directory)
    assert spool.path == path
    assert payloads(spool) == [b"a"]
    spool.discard()


def test_a_process_does_not_take_its_own_store_for_a_dead_ones(spool: Spool) -> None:
    """Nor by another way to the directory."""
    spool.add("logs", 1, [b"a"], 1)
    assert list(orphans(spool.path.parent)) == []
    assert open_store(spool.path) is None
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
    process = start_script(script, directory)
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
    process = start_script(script, directory)
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    assert list(orphans(directory)) == []
    process.communicate(timeout=60)
    (spool,) = orphans(directory)
    spool.discard()


def test_a_copy_from_another_machine_can_be_read(directory: Path, tmp_path: Path) -> None:
    """Without its lock file, and with what is only in SQLite's log yet."""
    script = """
    spool = Spool.create(directory, 1 << 20, {})
    spool.add("logs", 1, [b"a"], 1)
    os.kill(os.getpid(), 9)
    """
    run_script(script, directory)
    copy = tmp_path / "copy"
    shutil.copytree(directory, copy, ignore=shutil.ignore_patterns("*.lock"))
    (path,) = copy.glob("*.spool")
    spool = reopened(path)
    assert payloads(spool) == [b"a"]
    spool.discard()
