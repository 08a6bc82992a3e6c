"""``export`` writes what a collector can read, and leaves the spool as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from otlp_receiver import OtlpReceiver
from tests.support.backends import backend, tool
from tests.support.node import ALL, DEAD, MANY, TIMEOUT_S, Node, names


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
