"""``export`` writes what a collector can read, and leaves the spool as it is."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from otlp_receiver import OtlpReceiver
from tests.support.backends import backend, tool
from tests.support.disks import own_mount
from tests.support.node import ALL, DEAD, MANY, TIMEOUT_S, Node, names
from torchelastic_otel._delivery.spool import orphans


def test_a_spool_is_written_as_otlp_json(node: Node, tmp_path: Path) -> None:
    """One request per line, a file per signal, ids in hex; the spool stays as it is."""
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    node.run(MANY, DEAD, TRACEPARENT=parent)
    code, said = node.command("export", "--output", str(tmp_path / "out"))
    assert code == 0, said
    lines = (tmp_path / "out" / "logs.jsonl").read_text().splitlines()
    records = [
        record
        for line in lines
        for resource in json.loads(line)["resourceLogs"]
        for scope in resource["scopeLogs"]
        for record in scope["logRecords"]
    ]
    assert [record["eventName"] for record in records] == list(ALL)
    assert {(record["traceId"], record["spanId"]) for record in records} == {tuple(parent.split("-")[1:3])}
    assert node.left() == {"logs": 300}


def test_what_is_written_is_for_this_user_alone(node: Node, tmp_path: Path) -> None:
    """Whatever the umask."""
    node.run(MANY, DEAD)
    before = os.umask(0)
    try:
        code, said = node.command("export", "--output", str(tmp_path / "out"))
    finally:
        os.umask(before)
    assert code == 0, said
    (path,) = (tmp_path / "out").iterdir()
    assert (path.name, stat.S_IMODE(path.stat().st_mode)) == ("logs.jsonl", 0o600)


def test_nothing_is_written_over_unless_that_is_said(node: Node, tmp_path: Path) -> None:
    """Nor is a link followed: with --force it is replaced."""
    node.run(MANY, DEAD)
    mine = tmp_path / "mine"
    mine.write_text("mine")
    link = tmp_path / "logs.jsonl"
    link.symlink_to(mine)
    code, said = node.command("export", "--output", str(tmp_path))
    assert (code, mine.read_text()) == (2, "mine")
    assert f"{link} is there already: give --force" in said
    code, said = node.command("export", "--output", str(tmp_path), "--force")
    assert (code, mine.read_text(), link.is_symlink()) == (0, "mine", False), said
    assert link.read_text().count("eventName") == 300
    assert {path.name for path in tmp_path.glob("*jsonl*")} == {"logs.jsonl"}


def test_a_place_that_cannot_be_written(node: Node, tmp_path: Path) -> None:
    """One line says why."""
    node.run(MANY, DEAD)
    (tmp_path / "file").touch()
    code, said = node.command("export", "--output", str(tmp_path / "file" / "below"))
    assert (code, said.count("\n")) == (2, 1)
    assert "cannot be written (Not a directory)" in said
    assert node.left() == {"logs": 300}


def test_a_full_disk_leaves_no_half_a_file(node: Node, tmp_path: Path) -> None:
    """The spool is elsewhere, and whole."""
    node.run(MANY, DEAD)
    place = tmp_path / "mount"
    place.mkdir()
    command = [sys.executable, "-m", "torchelastic_otel.cli", "export", "--output", str(place)]
    done = subprocess.run(
        [*own_mount(place, "8k"), "sh", "-c", '"$@"; echo $?; ls -A "$0"', str(place), *command],
        env=node.environment(DEAD),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.stdout == "2\n", done.stderr
    assert "cannot be written (No space left on device)" in done.stderr
    assert node.left() == {"logs": 300}


def test_what_cannot_be_read_is_told(node: Node, tmp_path: Path) -> None:
    """Not all of the spool was written: status 1."""
    node.run(MANY, DEAD)
    (store,) = orphans(node.spool)
    (item,) = store.pending("logs", 0, 1)
    store.add("logs", item.scope_id, [b"\xff\xff spoiled"], 1)
    store.replace_metrics(b"\xff\xff spoiled")
    store.close()
    code, said = node.command("export", "--output", str(tmp_path))
    assert code == 1, said
    assert "300 log records in" in said
    assert "2 could not be read" in said
    assert node.left() == {"logs": 301, "metrics": 1}


@pytest.mark.e2e
def test_a_real_collector_reads_what_was_exported(node: Node, receiver: OtlpReceiver, tmp_path: Path) -> None:
    """What ``export`` writes, the Collector's otlpjsonfile receiver reads, record for record."""
    node.run(MANY, DEAD)
    node.command("export", "--output", str(tmp_path / "out"))
    config = tmp_path / "collector.yaml"
    config.write_text(f"""
receivers:
  otlpjsonfile: {{include: ["{tmp_path}/out/*.jsonl"], start_at: beginning, poll_interval: 100ms}}
exporters:
  otlphttp: {{endpoint: "{receiver.http_endpoint}", sending_queue: {{enabled: false}}}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    logs: {{receivers: [otlpjsonfile], exporters: [otlphttp]}}
""")
    with backend([str(tool("otelcol")), "--config", str(config)], tmp_path):
        assert receiver.wait(lambda found: len(found.logs) >= 300, TIMEOUT_S)
    assert names(receiver) == ALL
