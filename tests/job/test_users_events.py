"""A user's own events: their keys, their time, and which span they belong to."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace import SpanContext, TraceFlags

from tests.support.job_player import AGENT, IN_WORKER, NOW, STATUS, TRACEPARENT, moment
from tests.support.job_world import World, recorded, running
from tests.support.odd_values import scalars, short
from tests.support.plain_output import Record
from torchelastic_otel._job.event import INFO


def users(world: World, span: SpanContext | None = None, **metadata: Any) -> Record:
    """A user's own event is recorded; return its record."""
    world.engine.event(("checkpoint.saved", "WORKER", 0, metadata), moment(5), span)
    return world.told("checkpoint.saved")[-1]


CALLERS = SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=TraceFlags(1))


def test_users_event_carries_the_callers_span() -> None:
    """Its current span goes before everything else."""
    record = users(World(environ=IN_WORKER), CALLERS, run_id="r")
    assert (record.trace_id, record.span_id) == (0xABC, 0xDEF)


def test_users_event_in_a_worker_belongs_to_the_workers_span() -> None:
    """It is the span that the agent put into the worker's environment."""
    world = World(environ=IN_WORKER)
    record = users(world, loss=0.5)
    assert (record.trace_id, record.span_id) == (0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331)
    assert record.attributes["loss"] == 0.5
    assert record.severity == INFO


def test_torchs_events_in_a_worker_open_no_agent() -> None:
    """A worker that records an event of torch's kind is no launcher."""
    world = World(environ=IN_WORKER)
    world.worker_event(2, "START", 0)
    world.engine.close(None)
    assert not world.output.counts
    (record,) = world.told(STATUS + "START")
    assert record.span_id == 0xB7AD6B7169203331


def test_users_event_in_the_launcher_belongs_to_the_agent() -> None:
    """Without a span of the caller's, the job's agent is what it belongs to."""
    world = running()
    record = users(world, run_id="r")
    world.succeed(10)
    assert record.span_id == world.one(AGENT).context.span_id


def test_users_event_in_a_launcher_with_a_parent_belongs_to_the_agent() -> None:
    """The launcher's own TRACEPARENT is the agent's parent, not the event's."""
    world = running(World(environ={"TRACEPARENT": TRACEPARENT}))
    record = users(world)
    world.succeed(10)
    assert record.span_id == world.one(AGENT).context.span_id


def test_users_event_without_any_job_has_no_span() -> None:
    """Nothing is opened for it."""
    world = World()
    record = users(world)
    world.engine.close(None)
    assert (record.trace_id, record.span_id) == (0, 0)
    assert not world.output.counts


# --- what they say ----------------------------------------------------------------------------------------

MINE = {"name": "mine", "source": "AGENT", "timestamp": 0, "metadata": {}}


def test_users_event_keeps_its_keys() -> None:
    """No prefix, no unwrapping, no reading of what torch's keys would mean."""
    metadata = {"loss": 1.5, "run_id": "r", "state": "FAILED", "exit_code": -9, "note": "x", "none": None}
    text = json.dumps({"name": "checkpoint.saved", "source": "WORKER", "timestamp": 0, "metadata": metadata})
    event = recorded(text)
    assert event.attributes == {
        "torchelastic.event": "checkpoint.saved",
        "torchelastic.source": "WORKER",
        **{key: value for key, value in metadata.items() if value is not None},
    }
    assert (event.severity, event.body, event.name) == (INFO, "checkpoint.saved", "checkpoint.saved")
    assert event.span_id == 0  # no job is opened for it, whatever its keys say


@given(st.dictionaries(short, scalars, max_size=10))
def test_users_metadata_is_untouched(metadata: dict[str, Any]) -> None:
    """Key by key and value by value, beside the two attributes that every event has."""
    event = recorded({**MINE, "metadata": metadata})
    assert {k: v for k, v in event.attributes.items() if k in metadata} == metadata
    assert set(event.attributes) == {"torchelastic.event", "torchelastic.source", *metadata}


@pytest.mark.parametrize("metadata", [[1, 2], "text", 7])
def test_metadata_that_is_no_mapping_is_kept(metadata: object) -> None:
    """It has no keys, so it has one."""
    event = recorded({**MINE, "metadata": metadata})
    assert event.attributes["torchelastic.metadata"] in (metadata, json.dumps(metadata))


@pytest.mark.parametrize(
    ("timestamp", "time_ns"),
    [
        (1_600_000_000_123, 1_600_000_000_123_000_000),
        (1, 1_000_000),
        (0, NOW),
        (-5, NOW),
        (None, NOW),
        ("1600000000123", NOW),
        (1.5e12, NOW),
        (True, NOW),
        (10**15, NOW),
        (10**400, NOW),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_timestamp_is_milliseconds(timestamp: object, time_ns: int) -> None:
    """An event's own time counts if it is set; else the time of recording. Both are within OTLP's 64 bits."""
    event = recorded({**MINE, "timestamp": timestamp})
    assert (event.time_ns, event.observed_ns) == (time_ns, NOW)
