"""A process that records a job's event by the public functions alone: the shortest way to all three signals.

with OtlpReceiver() as receiver:
    assert record_job(otlp(receiver)) == ""
    (span,), (record,), metrics = receiver.spans, receiver.logs, receiver.metrics
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

from tests.support.harness import TIMEOUT_S, clean_environment

RECORD = """
import json
from torchelastic_otel import events, flush

def record(count):
    inner = {"group_world_size": 1, "entry_point": "train.py", "local_rank": [0], "role_rank": [0]}
    for number in range(count):
        fields = {"run_id": f"job{number}", "global_rank": None, "group_rank": 0, "worker_id": None,
                  "role": "default", "hostname": "node", "state": "SUCCEEDED", "total_run_time": 1,
                  "rdzv_backend": "static", "raw_error": None, "metadata": json.dumps(inner),
                  "agent_restarts": 0}
        events.record(events.Event("SUCCEEDED", events.EventSource.AGENT, metadata=fields), "otel")
"""
"""``record(count)`` gives as many agents' spans and log records, and metrics."""


def environment_of(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a process with these variables and no other that matters.

    It has no spool, and ends when all is delivered, unless they say otherwise.
    """
    return {
        **clean_environment(),
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
        "TORCHELASTIC_OTEL_SPOOL_DIR": "off",
        "TORCHELASTIC_OTEL_EXIT_TIMEOUT": "300",
        **variables,
    }


def record_job(variables: Mapping[str, str] | None = None, /, **more: str) -> str:
    """Record in a process with these variables, and no other that matters; return its standard error.

    It flushes: Python 3.12 asks no resource detectors and makes no exporters any more once it is ending.
    """
    return words_of("-c", f"{RECORD}\nrecord(1)\nflush(60)", variables={**(variables or {}), **more})


def words_of(*arguments: str, variables: Mapping[str, str]) -> str:
    """Run Python in a process with these variables, and no other that matters; return its standard error."""
    done = subprocess.run(
        [sys.executable, *arguments],
        env=environment_of(variables),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    return done.stderr
