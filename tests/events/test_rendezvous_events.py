"""Rendezvous events that are constructed where they happen."""

from __future__ import annotations

import _thread
import json
import os
import socket
import traceback
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests.support.event_sinks import captured
from tests.support.own_events import rdzv_event
from torchelastic_otel import events
from torchelastic_otel.events import NodeState, RdzvEvent

HERE = Path(__file__).name


def test_rendezvous_events_are_dropped_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is computed for a rendezvous event while nobody listens: no host name, no traceback."""
    monkeypatch.setattr(socket, "getfqdn", mock.Mock(side_effect=AssertionError("looked up")))
    monkeypatch.setattr(traceback, "format_exc", mock.Mock(side_effect=AssertionError("formatted")))
    for destination in ("dynamic_rendezvous", "null"):
        events.construct_and_record_rdzv_event("job", "m", NodeState.FAILED, destination=destination)
    events.construct_and_record_rdzv_event("job", "m", NodeState.FAILED)
    events.record_rdzv_event(rdzv_event())


def test_construct_fills_in_what_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name, host, pid come from the caller and its process, and no traceback unless the node failed."""
    monkeypatch.setattr(socket, "getfqdn", lambda: "n0.cluster")
    with captured(events) as records:
        events.construct_and_record_rdzv_event("job", "m", NodeState.RUNNING)
        events.construct_and_record_rdzv_event("job", "m", NodeState.RUNNING, pid=0)
    for record in records:
        assert RdzvEvent.deserialize(record.getMessage()) == RdzvEvent(
            f"{HERE}:test_construct_fills_in_what_is_not_given",
            "job",
            "m",
            "n0.cluster",
            os.getpid(),
            NodeState.RUNNING,
        )
        assert record.funcName == "record_rdzv_event"
    assert len(records) == 2


def test_construct_keeps_what_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values given are kept, and then no host name is looked up."""
    monkeypatch.setattr(socket, "getfqdn", mock.Mock(side_effect=AssertionError("looked up")))
    with captured(events) as records:
        events.construct_and_record_rdzv_event(
            "job", "m", NodeState.INIT, "step", "n1", 9, "n0:29400", local_id=0, rank=0
        )
    assert RdzvEvent.deserialize(records[0].getMessage()) == RdzvEvent(
        f"{HERE}:step", "job", "m", "n1", 9, NodeState.INIT, "n0:29400", 0, 0
    )


@pytest.mark.parametrize("failed", [NodeState.FAILED, "FAILED"])
def test_construct_takes_the_traceback_of_a_failure(failed: Any) -> None:
    """A failed node's event has the traceback of the exception being handled."""
    with captured(events) as records:
        try:
            raise RuntimeError("store is gone")
        except RuntimeError:
            expected = traceback.format_exc()
            events.construct_and_record_rdzv_event("job", "m", failed, hostname="n0")
    assert json.loads(records[0].getMessage())["error_trace"] == expected
    assert "store is gone" in expected


def test_construct_without_a_caller() -> None:
    """Called by the interpreter itself, the event's file is no_file."""
    with captured(events) as records:
        _thread.start_new_thread(
            events.construct_and_record_rdzv_event, ("job", "m", NodeState.INIT), {"hostname": "n0"}
        )
        records.wait()
    assert json.loads(records[0].getMessage())["name"] == "no_file:"
