"""``replay`` sends what was left, from wherever it is, and loses nothing at a wrong address."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from otlp_receiver import OtlpReceiver
from tests.support.disks import own_mount
from tests.support.node import ALL, DEAD, MANY, TIMEOUT_S, Node, heard, names
from torchelastic_otel._delivery.spool import orphans
from torchelastic_otel.cli import main


def test_a_copied_spool_can_be_replayed_elsewhere(node: Node, receiver: OtlpReceiver, tmp_path: Path) -> None:
    """A directory that was copied, without its locks, is sent from where it is now."""
    import shutil

    node.run(MANY, DEAD)
    copy = tmp_path / "copy"
    shutil.copytree(node.spool, copy, ignore=shutil.ignore_patterns("*.lock"))
    copy.chmod(0o700)
    code, said = node.command("replay", "--spool", str(copy), "--endpoint", receiver.http_endpoint)
    assert (code, names(receiver)) == (0, ALL), said
    assert node.left() == {"logs": 300}


@pytest.mark.parametrize("status", [404, 400])
def test_a_replay_to_the_wrong_address_loses_nothing(node: Node, receiver: OtlpReceiver, status: int) -> None:
    """A mistyped endpoint takes nothing and refuses everything: all of it stays for the next attempt."""
    node.run(MANY, DEAD)
    receiver.respond(status=status)
    code, said = node.command("replay", "--endpoint", receiver.http_endpoint)
    assert (code, node.left()) == (1, {"logs": 300}), said
    receiver.respond()
    assert node.command("replay", "--endpoint", receiver.http_endpoint)[0] == 0
    assert names(receiver) == ALL


def test_an_item_that_cannot_be_read_keeps_back_no_other(node: Node, receiver: OtlpReceiver) -> None:
    """What a bad disk spoiled is told and stays; its neighbours, and the stores behind it, are sent."""
    node.run("record('first')", DEAD)
    (store,) = orphans(node.spool)
    (item,) = store.pending("logs", 0, 10)
    store.add("logs", item.scope_id, [b"\xff\xff spoiled"], 1)
    store.close()
    node.run("record('second')", DEAD)
    code, said = node.command("replay", "--endpoint", receiver.http_endpoint)
    assert (code, names(receiver)) == (1, {"first": 1, "second": 1}), said
    assert "could not be read" in said
    assert node.left() == {"logs": 1}
    assert node.command("replay", "--endpoint", receiver.http_endpoint)[0] == 1
    assert names(receiver) == {"first": 1, "second": 1}


def test_nothing_is_left(node: Node, receiver: OtlpReceiver) -> None:
    """Status 0, and no file of a store is there: it may be deleted."""
    node.run(MANY, DEAD)
    code, said = node.command("replay", "--endpoint", receiver.http_endpoint)
    assert (code, node.files()) == (0, []), said
    code, said = node.command("replay", "--endpoint", receiver.http_endpoint)
    assert (code, said) == (0, f"nothing is left in {node.spool}\n")


def test_a_spool_that_is_not_there(node: Node, tmp_path: Path) -> None:
    """Nothing is left where jobs would have left it; one that is given is a mistake."""
    for command in ("replay", "export"):
        code, said = node.command(command)
        assert (code, said) == (0, f"There is no spool at {node.spool}.\n")
        assert node.command(command, "--spool", str(tmp_path / "typo"))[0] == 2
        (tmp_path / "file").touch()
        assert node.command(command, "--spool", str(tmp_path / "file" / "below"))[0] == 2


def test_what_a_running_job_has_is_left(node: Node, receiver: OtlpReceiver) -> None:
    """Its store is its own to send, and to lose: status 1."""
    process = node.start(f"{MANY}\nhear()", DEAD)
    heard(process)
    for command in (
        ("replay", "--endpoint", receiver.http_endpoint),
        ("export", "--output", str(node.spool)),
    ):
        code, said = node.command(*command)
        assert (code, "in use" in said, "nothing is left" in said) == (1, True, False), said
    process.communicate("go on\n", timeout=TIMEOUT_S)
    assert node.left() == {"logs": 300}


def test_what_another_replay_is_sending_is_left(node: Node, receiver: OtlpReceiver) -> None:
    """Until it is sent nobody knows whether it will be."""
    node.run(MANY, DEAD)
    (spool,) = orphans(node.spool)
    code, said = node.command("replay", "--endpoint", receiver.http_endpoint)
    assert (code, names(receiver)) == (1, {}), said
    assert "1 store is in use" in said
    spool.close()
    assert node.command("replay", "--endpoint", receiver.http_endpoint)[0] == 0
    assert names(receiver) == ALL


@pytest.mark.parametrize("command", ["replay", "export"])
def test_a_disk_that_cannot_be_written(node: Node, tmp_path: Path, command: str) -> None:
    """What is sent could not be removed there: status 2, and what to do."""
    node.run(MANY, DEAD)
    place = tmp_path / "mount"
    place.mkdir()
    spool = place / "spool"
    read_only = f'cp -a "{node.spool}" "{spool}" && mount -o remount,bind,ro "{place}"'
    done = subprocess.run(
        [
            *own_mount(place, "2M", read_only),
            sys.executable,
            "-m",
            "torchelastic_otel.cli",
            command,
            "--spool",
            spool,
        ],
        env=node.environment(DEAD),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "Read-only file system" in done.stderr
    assert "give a copy of it as --spool" in done.stderr
    assert "nothing is left" not in done.stderr


def _damage(path: Path) -> None:
    path.write_bytes(b"no database" * 1000)


def _make_newer(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()


def _make_a_link(path: Path) -> None:
    path.rename(path.with_suffix(".moved"))
    path.symlink_to(path.with_suffix(".moved"))


@pytest.mark.parametrize("spoil", [_damage, _make_newer, _make_a_link])
@pytest.mark.parametrize("command", ["replay", "export"])
def test_a_store_that_cannot_be_looked_at_keeps_back_no_other(
    node: Node, receiver: OtlpReceiver, tmp_path: Path, spoil: Callable[[Path], None], command: str
) -> None:
    """Status 2, also the next time; what it is of is still there."""
    for name in ("first", "second", "third"):
        node.run(f"record('{name}')", DEAD)
    second = sorted(node.spool.glob("*.spool"), key=lambda path: path.stat().st_mtime)[1]
    spoil(second)
    content = second.read_bytes()
    options = {
        "replay": ("--endpoint", receiver.http_endpoint),
        "export": ("--output", str(tmp_path), "--force"),
    }
    for _ in range(2):
        code, said = node.command(command, *options[command])
        assert code == 2, said
        assert "Traceback" not in said
        assert "nothing is left" not in said
    if command == "replay":
        assert names(receiver) == {"first": 1, "third": 1}
    else:
        assert (tmp_path / "logs.jsonl").read_text().count("eventName") == 2
    there = [path.read_bytes() for path in node.spool.glob(f"{second.name}*")]
    assert [each for each in there if each] == [content]


def test_what_was_sent_of_a_damaged_store_is_not_sent_again(node: Node, receiver: OtlpReceiver) -> None:
    """Though it cannot be removed from it."""
    node.run(MANY, DEAD)
    (path,) = node.spool.glob("*.spool")
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2 // 4096 * 4096)
        file.write(b"\xff" * 4096)
    code, said = node.command("replay", "--endpoint", receiver.http_endpoint)
    arrived = names(receiver)
    assert code == 2, said
    assert set(arrived.values()) <= {1}
    node.command("replay", "--endpoint", receiver.http_endpoint)
    node.run("record('next')\nflush(5)", receiver.http_endpoint)
    assert names(receiver) == {**arrived, "next": 1}


PROVIDER = """
def broken():
    raise RuntimeError("no token today")
"""


def test_credentials_that_cannot_be_had(
    node: Node,
    receiver: OtlpReceiver,
    third_party: Callable[[str, str], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line says whose and why; status 2 while something is left, and all of that is there."""
    node.run(MANY, DEAD)
    third_party("[opentelemetry_otlp_credential_provider]\nbroken = vendor_stuff:broken\n", PROVIDER)
    for name in list(os.environ):
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    monkeypatch.setenv("OTEL_PYTHON_EXPORTER_OTLP_HTTP_LOGS_CREDENTIAL_PROVIDER", "broken")
    code = main(["replay", "--spool", str(node.spool), "--endpoint", receiver.http_endpoint])
    _, said = capsys.readouterr()
    assert code == 2
    assert said.splitlines()[0] == (
        "log records cannot be sent: OTEL_PYTHON_EXPORTER_OTLP_HTTP_LOGS_CREDENTIAL_PROVIDER='broken' cannot "
        "be used (RuntimeError: no token today); what would need it is not sent."
    )
    assert node.left() == {"logs": 300}


def test_an_endpoint_that_is_none(node: Node) -> None:
    """Status 2, and the reason."""
    node.run(MANY, DEAD)
    code, said = node.command("replay", "--endpoint", "http://[")
    assert code == 2
    assert "http://[" in said
    assert node.left() == {"logs": 300}


def test_all_is_sent_to_an_endpoint_that_is_given(node: Node, receiver: OtlpReceiver) -> None:
    """Also where jobs of this environment would send something else, or nothing."""
    node.run(MANY, DEAD)
    code, said = node.command(
        "replay",
        "--endpoint",
        receiver.http_endpoint,
        OTEL_LOGS_EXPORTER="none",
        OTEL_EXPORTER_OTLP_LOGS_ENDPOINT="http://127.0.0.1:9/other",
    )
    assert (code, names(receiver)) == (0, ALL), said


def test_an_interrupted_replay_leaves_what_is_not_sent(node: Node, receiver: OtlpReceiver) -> None:
    """One line, and the status of Ctrl-C."""
    node.run(MANY, DEAD)
    receiver.respond(delay=300)
    process = subprocess.Popen(
        [sys.executable, "-m", "torchelastic_otel.cli", "replay", "--endpoint", receiver.http_endpoint],
        env=node.environment(DEAD),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert receiver.wait(lambda found: len(found.requests) > 0, TIMEOUT_S)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, node.left()) == (130, {"logs": 300})
    assert "interrupted" in said
    assert "Traceback" not in said
