"""The ``otel`` destination: events as they are, at any level, and rendezvous events only where asked for."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.own_events import Unserializable, UnserializableRdzv, rdzv_event
from torchelastic_otel import events
from torchelastic_otel._intake import recording
from torchelastic_otel.events import EventSource, NodeState


def test_otel_takes_the_event_itself(
    submitted: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With otel the exporter gets the event object: no JSON is made and no logging switch can silence it."""
    monkeypatch.setenv("LOGLEVEL", "CRITICAL")
    event = Unserializable("e", EventSource.AGENT, metadata={"k": object()})  # type: ignore[dict-item]
    rdzv = UnserializableRdzv(**vars(rdzv_event()))
    logging.disable(logging.CRITICAL)
    try:
        events.record(event, "otel")
        events.record_rdzv_event(rdzv, destination="otel")
    finally:
        logging.disable(logging.NOTSET)
    assert [kind for kind, _ in submitted] == ["event", "rendezvous"]
    assert submitted[0][1] is event
    assert submitted[1][1] is rdzv
    assert "otel" not in events._events_loggers


def test_otel_takes_constructed_rendezvous_events(submitted: list[tuple[str, Any]]) -> None:
    """A rendezvous event made for otel is complete, and its name is the caller's."""
    try:
        raise RuntimeError("store is gone")
    except RuntimeError:
        events.construct_and_record_rdzv_event(
            "job", "m", NodeState.FAILED, hostname="n0", rank=3, destination="otel"
        )
    ((kind, event),) = submitted
    assert kind == "rendezvous"
    assert event.name == f"{Path(__file__).name}:test_otel_takes_constructed_rendezvous_events"
    assert (event.node_state, event.rank, event.pid) == (NodeState.FAILED, 3, os.getpid())
    assert "store is gone" in event.error_trace


def test_rendezvous_events_do_not_reach_otel_unasked(submitted: list[tuple[str, Any]]) -> None:
    """Without destination="otel" a rendezvous event is not exported."""
    events.record_rdzv_event(rdzv_event())
    events.construct_and_record_rdzv_event("job", "m", NodeState.RUNNING)
    assert submitted == []


def test_otel_handler() -> None:
    """get_logging_handler("otel") is the exporter's one handler."""
    handler = events.get_logging_handler("otel")
    assert handler is recording.otel_handler()
    assert isinstance(handler, logging.Handler)
    assert not isinstance(handler, logging.NullHandler)
