"""Events that tests of the events module record."""

from __future__ import annotations

from typing import Any

from torchelastic_otel.events import Event, NodeState, RdzvEvent


class Unserializable(Event):
    """Fails when something asks for its JSON."""

    def serialize(self) -> str:
        """Fail."""
        raise AssertionError("asked for JSON")


class UnserializableRdzv(RdzvEvent):
    """Fails when something asks for its JSON."""

    def serialize(self) -> str:
        """Fail."""
        raise AssertionError("asked for JSON")


def rdzv_event(**changes: Any) -> RdzvEvent:
    """Make a rendezvous event with some fields changed."""
    fields: dict[str, Any] = {
        "name": "f.py:g",
        "run_id": "job",
        "message": "joined",
        "hostname": "n0",
        "pid": 7,
        "node_state": NodeState.RUNNING,
    }
    return RdzvEvent(**fields | changes)
