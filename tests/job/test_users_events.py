"""A user's own events: which span they belong to."""

from __future__ import annotations

from typing import Any

from opentelemetry.trace import SpanContext, TraceFlags

from tests.support.job_player import AGENT, IN_WORKER, STATUS, ns
from tests.support.job_world import World, running
from tests.support.plain_output import Record
from torchelastic_otel._job.event import INFO


def users(world: World, span: SpanContext | None = None, **metadata: Any) -> Record:
    """A user's own event is recorded; return its record."""
    world.engine.event(("checkpoint.saved", "WORKER", 0, metadata), ns(5), span)
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


def test_users_event_without_any_job_has_no_span() -> None:
    """Nothing is opened for it."""
    world = World()
    record = users(world)
    world.engine.close(None)
    assert (record.trace_id, record.span_id) == (0, 0)
    assert not world.output.counts
