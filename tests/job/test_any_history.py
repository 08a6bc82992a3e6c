"""Whatever is heard of jobs, in whatever order: the model tells it in good order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.support.job_player import SIGTERM, WORKER, moment, ns
from tests.support.job_world import World, running
from torchelastic_otel import _contract as c
from torchelastic_otel._config.settings import Settings
from torchelastic_otel._job import facts as f
from torchelastic_otel._job.event import INFO
from torchelastic_otel._job.severity import TABLE

Step = Callable[[World], object]
"""Something that is heard of a job."""

SECONDS = st.integers(-5, 60)
RANKS = st.integers(0, 2)
CODES = st.sampled_from([0, 1, 3, -9, -15])
NAMES = st.lists(st.sampled_from(["n_1_0", "m_2_0", ""]), max_size=2)
RUN_IDS = st.sampled_from(["r", "s", ""])
ERRORS = st.sampled_from(
    [
        SIGTERM,
        f.Raised("RendezvousTimeoutError", ""),
        f.Raised("RendezvousClosedError", "closed", "Traceback …"),
        f.Raised("RendezvousGracefulExitError", "not needed"),
        f.Raised("ValueError", "wrong"),
    ]
)
VIEWS = st.none() | st.builds(
    f.RendezvousView, st.none() | st.integers(0, 3), NAMES, NAMES, NAMES, st.none() | st.just(1)
)
WORKER_ERRORS = st.builds(
    f.WorkerError,
    st.just("/e"),
    st.sampled_from(['{"message": "ValueError: x"}', "no JSON"]),
    st.none() | SECONDS.map(ns),
)
PIDS = st.integers(120, 122)
EXITS = st.lists(st.builds(f.WorkerExit, RANKS, CODES, PIDS, error=st.none() | WORKER_ERRORS), max_size=3)
SLOTS = st.lists(
    st.builds(f.WorkerSlot, RANKS, st.none() | RANKS), max_size=3, unique_by=lambda slot: slot.local_rank
)
FACTS: dict[type[f.Fact], dict[str, SearchStrategy[Any]]] = {
    f.JobStarted: {"run_id": RUN_IDS, "role": st.none() | st.just("w"), "max_restarts": RANKS},
    f.StoreFailed: {"error": ERRORS},
    f.AgentCreated: {"role": st.none() | st.just("w"), "max_restarts": st.none() | RANKS},
    f.HooksMissing: {},
    f.RendezvousStarted: {},
    f.RendezvousEnded: {"error": st.none() | ERRORS, "rank": st.none() | RANKS, "view": VIEWS},
    f.WorkersStarting: {"workers": SLOTS, "round": st.none() | RANKS},
    f.WorkersStarted: {"pids": st.dictionaries(RANKS, PIDS), "error": st.none() | ERRORS},
    f.WorkersExited: {
        "exits": EXITS,
        "oom_kills": st.none() | RANKS,
        "alive": st.none() | SECONDS.map(moment),
        "raised": st.dictionaries(RANKS, WORKER_ERRORS),
    },
    f.WorkersStopping: {},
    f.WorkersStopped: {"exits": EXITS},
    f.Monitored: {
        "state": st.sampled_from(["SUCCEEDED", "FAILED", "UNHEALTHY"]),
        "stuck_pids": st.lists(PIDS),
    },
    f.RestartStarted: {"state": st.sampled_from(["FAILED", "HEALTHY", "UNHEALTHY"]), "waiting": NAMES},
    f.ExitBarrier: {"left": SECONDS.map(moment)},
    f.Operation: {"name": st.just("run"), "took_s": st.floats(0, 9)},
    f.StopRequested: {"signal": st.just("SIGTERM")},
    f.RunRaising: {},
    f.RunEnded: {
        "state": st.sampled_from(["SUCCEEDED", "FAILED", "UNHEALTHY", ""]),
        "error": st.none() | ERRORS,
    },
    f.JobEnded: {"error": st.none() | ERRORS},
}


def fact_of(kind: type[f.Fact]) -> SearchStrategy[Step]:
    """Return facts of a kind, most of them of one job."""
    facts = st.builds(kind, st.sampled_from([1, 1, 1, 2]), SECONDS.map(moment), **FACTS[kind])
    return facts.map(lambda fact: lambda world: world.engine.fact(fact))


def event_of(tell: Callable[..., object], *arguments: SearchStrategy[Any]) -> SearchStrategy[Step]:
    """Return calls of a method of ``World``."""
    return st.tuples(*arguments).map(lambda given: lambda world: tell(world, *given))


STATES = st.sampled_from(["START", "SUCCEEDED", "FAILED", "TERMINATED", "RENDEZVOUS", "NEW"])
NODE_STATES = st.sampled_from(["RUNNING", "FAILED", "SUCCEEDED", "INIT"])
TEXTS = st.sampled_from(["no event", '{"name": "mine", "source": "WORKER", "metadata": {"run_id": "r"}}'])
WHILE_WORKERS_RUN: SearchStrategy[Step] = st.one_of(
    fact_of(f.WorkersExited),
    fact_of(f.WorkersStopping),
    fact_of(f.WorkersStopped),
    fact_of(f.Monitored),
    fact_of(f.RestartStarted),
    event_of(World.worker_event, SECONDS, STATES, RANKS, st.none() | CODES),
    event_of(lambda world, at, pid: world.watchdog(at, worker_pid=str(pid), signal="9"), SECONDS, PIDS),
    event_of(lambda world, at: world.engine.tick(moment(at)), SECONDS),
)
"""What ends no generation by itself."""

ANYTHING: SearchStrategy[Step] = st.one_of(
    WHILE_WORKERS_RUN,
    *map(fact_of, FACTS),
    event_of(World.event, SECONDS, STATES),
    event_of(World.asks, SECONDS),
    event_of(World.joined, SECONDS),
    event_of(World.heartbeat, SECONDS, NODE_STATES),
    event_of(World.rendezvous, SECONDS, st.just("x"), NODE_STATES),
    event_of(World.record, TEXTS),
    event_of(lambda world, run_id: setattr(world, "run_id", run_id), RUN_IDS),
    event_of(lambda world, number: world.engine.worker_contexts(number), st.integers(1, 3)),
)


def by_facts(world: World) -> None:
    """A job whose workers run."""
    running(world)


def by_events(world: World) -> None:
    """Likewise, of which only events are heard."""
    world.asks(0)
    world.joined(1)
    for rank in range(2):
        world.worker_event(2, "START", rank)


def restarted(world: World) -> None:
    """A job in its second generation."""
    running(world)
    world.die(10, {1: 3}, stopped={0: -15})
    world.restart(11)
    world.pids = {0: 120, 1: 121}


BEGINNINGS: list[list[Step]] = [[], [by_facts], [by_events], [restarted]]
HISTORIES: SearchStrategy[list[Step]] = st.tuples(
    st.sampled_from(BEGINNINGS), st.lists(WHILE_WORKERS_RUN, max_size=8), st.lists(ANYTHING, max_size=20)
).map(lambda parts: [*parts[0], *parts[1], *parts[2]])


def happened(
    steps: list[Step], *, after_close: list[Step] | None = None, settings: Settings | None = None
) -> World:
    """Let all of it happen, and then let the process end."""
    world = World(settings=settings)
    world.pids = {rank: 120 + rank for rank in range(3)}
    for step in steps:
        step(world)
    world.engine.close(None)
    for step in after_close or []:
        step(world)
    return world


def test_every_fact_may_happen() -> None:
    """None is forgotten above."""
    assert {kind.__name__ for kind in FACTS} == {kind.__name__ for kind in f.Fact.__subclasses__()}


@settings(max_examples=150)
@given(HISTORIES)
def test_each_span_ends_once(steps: list[Step]) -> None:
    """None is left open when the process ends, none is ended a second time, all in time."""
    world = happened(steps)
    assert [span.ends for span in world.output.started] == [1] * len(world.output.started)
    assert all(span.start_ns <= span.end_ns for span in world.ended)


@settings(max_examples=150)
@given(HISTORIES)
def test_each_record_has_a_severity_of_the_table_and_a_span(steps: list[Step]) -> None:
    """Whatever it tells."""
    world = happened(steps, settings=Settings(heartbeats="log"))
    known = {severity for *_, severity in TABLE} | {INFO}
    assert {record.severity for record in world.records} <= known
    spans = {(span.context.trace_id, span.context.span_id) for span in world.output.started} | {(0, 0)}
    assert {(record.trace_id, record.span_id) for record in world.records} <= spans


@settings(max_examples=150)
@given(HISTORIES)
def test_counters_only_count_up(steps: list[Step]) -> None:
    """Uptime and downtime, too, whatever the clocks do; and no worker is active in the end."""
    world = happened(steps)
    for series in world.output.series.values():
        if c.INSTRUMENTS[series.name].kind in (c.COUNTER, c.HISTOGRAM):
            assert min(series.amounts) >= 0, series
    assert set(world.points(c.METRIC_WORKER_ACTIVE, c.RUN_ID).values()) <= {0}


@settings(max_examples=150)
@given(HISTORIES)
def test_a_worker_dies_once(steps: list[Step]) -> None:
    """No span of a worker has two deaths, and no two records of one death contradict each other."""
    world = happened(steps)
    deaths = Counter(record.span_id for record in world.told("torchelastic.failure"))
    workers = {span.context.span_id for span in world.output.started if span.name == WORKER}
    assert set(deaths) <= workers
    assert set(deaths.values()) <= {1}


@settings(max_examples=50)
@given(HISTORIES, HISTORIES)
def test_nothing_is_an_error_after_the_end(steps: list[Step], late: list[Step]) -> None:
    """The keep-alive's thread, and callers in other threads, go on."""
    happened(steps, after_close=late)
