"""Programs that record events with the package's own API, and what of them arrives."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections import Counter

from otlp_receiver import OtlpReceiver
from tests.support.fresh_python import SOURCES
from tests.support.guard import assert_none_in
from tests.support.harness import MEASURED
from tests.support.waiting import LONG_S

PROTOCOLS = ["http/protobuf", "grpc"]


def run(script: str, endpoint: str, protocol: str = "http/protobuf", **env: str) -> tuple[int, str]:
    """Run a script with the package's API at hand; return its exit code and standard error."""
    names = ("HOME", "LANG", "PATH", "TMPDIR", *MEASURED)
    kept = {name: os.environ[name] for name in names if name in os.environ}
    settings = {
        "PYTHONPATH": SOURCES,
        "PYTHONWARNINGS": "ignore::DeprecationWarning",  # Python's, about fork in a process with threads
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_METRICS_EXPORTER": "none",
        "TORCHELASTIC_OTEL_EXIT_TIMEOUT": str(LONG_S),
        "TORCHELASTIC_OTEL_SPOOL_DIR": "off",
    }
    head = """
        import os, sys
        from torchelastic_otel import events, flush

        def record(name, **metadata):
            events.record(events.Event(name, events.EventSource.WORKER, metadata=metadata), "otel")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(head) + textwrap.dedent(script)],
        env={**kept, **settings, **env},
        capture_output=True,
        text=True,
        timeout=2 * LONG_S,
        check=False,
    )
    assert_none_in(done.stderr)
    return done.returncode, done.stderr


def endpoint_of(receiver: OtlpReceiver, protocol: str) -> str:
    """Return the receiver's endpoint for a protocol."""
    return receiver.grpc_endpoint if protocol == "grpc" else receiver.http_endpoint


def received(receiver: OtlpReceiver) -> Counter[str]:
    """Count the records that arrived by their names."""
    return Counter(record.event_name for record in receiver.logs)
