"""Events as torch writes them: their fields, with values that a test may replace."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

STATUS = "torchelastic.worker.status."
INNER: dict[str, Any] = {
    "group_world_size": 2,
    "entry_point": "python",
    "local_rank": [1],
    "role_rank": [3],
    "role_world_size": [4],
    "exit_code": [None],
    "worker_pid": [None],
}
"""Metadata inside of an agent's or a worker's metadata."""

OUTER: dict[str, Any] = {
    "run_id": "r",
    "global_rank": 3,
    "group_rank": 1,
    "worker_id": "4711",
    "role": "default",
    "hostname": "node-2",
    "state": "START",
    "total_run_time": 0,
    "rdzv_backend": "c10d",
    "raw_error": None,
    "metadata": json.dumps(INNER),
    "agent_restarts": 1,
    "duration_ms": None,
}
"""Metadata of an agent's or a worker's event."""

KEEP_ALIVE = "dynamic_rendezvous.py:DynamicRendezvousHandler._keep_alive"
NEXT_RENDEZVOUS = "dynamic_rendezvous.py:DynamicRendezvousHandler.next_rendezvous"


def status_event(
    state: str, source: str = "WORKER", inner: Mapping[str, Any] | None = None, /, **metadata: Any
) -> dict[str, Any]:
    """Return the fields of an agent's or a worker's event."""
    full = {**OUTER, "state": state, "metadata": json.dumps({**INNER, **(inner or {})}), **metadata}
    return {"name": STATUS + state, "source": source, "timestamp": 0, "metadata": full}


def watchdog_event(name: str, /, *, run_id: str = "r", **inner: str) -> dict[str, Any]:
    """Return the fields of an event of the watchdog."""
    full = {**OUTER, "run_id": run_id, "global_rank": None, "worker_id": None, "state": "RUNNING"}
    full["metadata"] = json.dumps({"watchdog_event": name, **inner})
    del full["duration_ms"]
    return {"name": name, "source": "AGENT", "timestamp": 0, "metadata": full}


def rendezvous_event(**fields: Any) -> dict[str, Any]:
    """Return the fields of a rendezvous event."""
    return {
        "name": NEXT_RENDEZVOUS,
        "run_id": "r",
        "message": "The node 'node-2_17_0' does something.",
        "hostname": "node-2",
        "pid": 17,
        "node_state": "RUNNING",
        "master_endpoint": "",
        "rank": None,
        "local_id": None,
        "error_trace": "",
        **fields,
    }


def error_file(message: str, stack: str = "Traceback …\n") -> str:
    """Return the text of a worker's error file, as ``@record`` writes it."""
    extra = {"py_callstack": stack, "timestamp": "1700000000"}
    return json.dumps({"message": {"message": message, "extraInfo": extra}})
