"""Checks an installed wheel by itself, where torch is not installed: the events API, and what it exports.

PYTHON tests/wheel_check.py
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent
PROGRAM = """
import torchelastic_otel
from torchelastic_otel.events import Event, EventSource, record

event = Event("checkpoint.saved", EventSource.WORKER, metadata={"step": 7, "path": "/c", "best": True})
for destination in ("null", "console", "otel"):
    record(event, destination)
"""


def main() -> None:
    """Record an event in a process of its own, and look at what arrives."""
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != TESTS]  # tests/torch is not torch
    assert importlib.util.find_spec("torch") is None, "torch is installed here"
    package = importlib.util.find_spec("torchelastic_otel")
    assert package is not None
    assert package.origin is not None
    assert Path(package.origin).is_relative_to(sys.prefix), package.origin

    sys.path.insert(0, str(TESTS.parent / "examples"))
    from otlp_receiver import OtlpReceiver

    bare = {name: value for name, value in os.environ.items() if not name.upper().endswith("_PROXY")}
    for protocol in ("grpc", "http/protobuf"):
        with OtlpReceiver() as receiver:
            endpoint = receiver.grpc_endpoint if protocol == "grpc" else receiver.http_endpoint
            env = {**bare, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
            command = [sys.executable, "-W", "error", "-c", PROGRAM]
            result = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
            assert result.returncode == 0, result.stderr
            assert result.stderr.startswith('{"name": "checkpoint.saved", "source": "WORKER"'), result.stderr
            [record] = receiver.logs
        assert record.event_name == "checkpoint.saved"
        facts = {"step": 7, "path": "/c", "best": True}
        assert facts.items() <= record.attributes.items(), record.attributes
        assert record.resource["service.name"] == "torchelastic"
        sys.stdout.write(f"{protocol}: the event arrived\n")

    tool = Path(sys.executable).parent / "torchelastic-otel"
    trace_id = subprocess.run(
        [tool, "trace-id", "job"], capture_output=True, text=True, timeout=60, check=True
    )
    assert re.fullmatch(r"[0-9a-f]{32}\n", trace_id.stdout), trace_id.stdout
    sys.stdout.write("torchelastic-otel trace-id: works\n")


if __name__ == "__main__":
    main()
