"""What torch recorded, by its own account, and how a log record is to tell it (contract, section 2)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from otlp_receiver import LogRecord


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event as torch's own code recorded it."""

    kind: Literal["event", "rdzv", "asked"]
    """``asked``: torch was about to build a rendezvous event, which it drops where nobody listens."""
    pid: int
    thread: str
    destination: str
    text: str
    start_ns: int
    end_ns: int
    """When torch's function had returned."""

    @property
    def data(self) -> dict[str, Any]:
        """The event's JSON, parsed."""
        data: dict[str, Any] = json.loads(self.text)
        return data

    @property
    def name(self) -> str:
        """The event's name."""
        return str(self.data["name"])

    @property
    def heartbeat(self) -> bool:
        """Whether it is one of the keep-alive's, by the facts about torch."""
        if self.kind != "rdzv" or self.data["node_state"] != "RUNNING":
            return False
        return self.name.endswith("._keep_alive") or self.thread.startswith("RendezvousKeepAliveTimer")

    @property
    def attributes(self) -> dict[str, Any]:
        """The attributes that the contract (section 2) promises for it."""
        data = self.data
        if self.kind == "rdzv":
            found = {
                "torchelastic.run_id": data["run_id"],
                "torchelastic.hostname": data["hostname"],
                "torchelastic.pid": data["pid"],
                "torchelastic.node_state": data["node_state"],
                "torchelastic.master_endpoint": data["master_endpoint"],
                "torchelastic.local_id": data["local_id"],
                "torchelastic.group_rank": data["rank"],
            }
            return {key: value for key, value in found.items() if value is not None and value != ""}
        metadata = dict(data["metadata"])
        inner = json.loads(metadata.pop("metadata", None) or "{}")
        for key, value in inner.items():
            metadata[key] = value[0] if isinstance(value, list) and len(value) == 1 else value
        if metadata.get("raw_error") in ("null", "NoneType: None\n"):
            del metadata["raw_error"]
        renamed = {"exit_code": "process.exit.code"}
        attributes = {
            renamed.get(key, f"torchelastic.{key}"): value
            for key, value in metadata.items()
            if value is not None
        }
        return {**attributes, "torchelastic.source": data["source"]}

    def is_of(self, record: LogRecord) -> bool:
        """Tell whether ``record`` is this event: name, time, and every attribute torch gave it."""
        # A float holds the time of a logging record, to some hundred nanoseconds.
        in_time = self.start_ns - 10_000 <= record.time_ns <= self.end_ns + 10_000
        if record.event_name != self.name or not in_time:
            return False
        if self.kind == "rdzv" and record.body != self.data["message"]:
            return False
        missing = object()
        return all(record.attributes.get(key, missing) == value for key, value in self.attributes.items())


BRIDGES_OWN = frozenset(
    {"torchelastic.agent.start", "torchelastic.agent.stop", "torchelastic.failure", "torchelastic.restart"}
)


def match(
    recorded: Sequence[Recorded], records: Sequence[LogRecord]
) -> tuple[list[Recorded], list[LogRecord]]:
    """Pair events with log records one to one; return what is left on either side.

    Heartbeats are left out on torch's side, the bridge's own events on the other.
    """
    left = [record for record in records if record.event_name not in BRIDGES_OWN]
    lost = []
    for event in recorded:
        if event.kind == "asked" or event.heartbeat:
            continue
        found = next((record for record in left if event.is_of(record)), None)
        if found is None:
            lost.append(event)
        else:
            left.remove(found)
    return lost, left
