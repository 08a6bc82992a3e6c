"""What a job's history comes to in numbers: the metrics, from facts and events with fixed times."""

from __future__ import annotations

import pytest

from tests.support.job_player import AGENT, error_file, moment
from tests.support.job_world import World, running, times
from torchelastic_otel import _contract as c
from torchelastic_otel._job import facts as f

CAUSE = "torchelastic.restart.cause"


def test_every_counter_begins_at_zero() -> None:
    """Before anything has happened all are there, so that the first failure is an increase."""
    world = World()
    world.start(0)
    counters = {name for name, known in c.INSTRUMENTS.items() if known.kind == c.COUNTER}
    begun = [series for series in world.output.series.values() if series.name in counters]
    own = set(c.DELIVERY_METRICS.values())
    assert {series.name for series in begun} == counters - own
    assert world.output.counts_begun  # those of the bridge's own
    assert {series.value for series in begun} == {0}
    causes = set(world.points(c.METRIC_WORKER_FAILURES, c.FAILURE_CAUSE))
    assert causes == {"exit", "signal", "exception", "watchdog", "uninterruptible"}
    assert set(world.points(c.METRIC_RESTARTS, CAUSE)) == {"worker_failure", "membership_change"}
    assert world.points(c.METRIC_LAUNCHERS_ENDED, c.OUTCOME) == {"succeeded": 0, "failed": 0, "terminated": 0}


def test_each_measurement_says_its_run_id_and_nothing_of_rank_or_host() -> None:
    """The attributes are those of the contract."""
    world = running()
    world.die(10, {0: 3})
    world.restart(10)
    world.succeed(20)
    assert len(world.output.series) > 20
    for series in world.output.series.values():
        assert series.attributes["torchelastic.run_id"] == "r"
        assert set(series.attributes) <= {"torchelastic.run_id", *c.INSTRUMENTS[series.name].attributes}


def test_a_job_that_succeeds() -> None:
    """All time from the first rendezvous to the end is up or down, and what comes after the work is told."""
    world = running()
    world.succeed(10)  # the exit barrier takes 300 s, and the launcher ends a second later
    assert world.points(c.METRIC_UPTIME) == {None: 8}
    down = world.points(c.METRIC_DOWNTIME, CAUSE)
    assert down == {"startup": 2, "worker_failure": 0, "membership_change": 0, "shutdown": 301}
    assert world.points(c.METRIC_EXIT_BARRIER_DURATION) == {None: 300}
    assert world.points(c.METRIC_RENDEZVOUS_DURATION, c.RDZV_BACKEND) == {"c10d": 1}
    assert world.points(c.METRIC_WORKER_ACTIVE, c.ROLE) == {"default": 0}
    assert world.points(c.METRIC_WORLD_SIZE, c.ROLE) == {"default": 1}
    assert world.metric(c.METRIC_RESTARTS) == world.metric(c.METRIC_WORKER_FAILURES) == 0


def test_a_restart_after_a_failure() -> None:
    """Downtime begins when the failure is seen, not when the others are stopped; collateral is no failure."""
    world = running()
    world.die(10, {0: 3}, stopped={1: -15})
    world.restart(12)
    assert world.points(c.METRIC_WORKER_ACTIVE) == {None: 2}
    world.succeed(20)
    assert world.points(c.METRIC_WORKER_FAILURES, c.ERROR_TYPE) == {None: 0, "3": 1}
    assert world.points(c.METRIC_RESTARTS, CAUSE) == {"worker_failure": 1, "membership_change": 0}
    assert world.points(c.METRIC_RESTART_DURATION, CAUSE) == {"worker_failure": 5}
    assert world.points(c.METRIC_UPTIME) == {None: 8 + 5}
    assert world.points(c.METRIC_DOWNTIME, CAUSE)["worker_failure"] == 5


def test_a_membership_change() -> None:
    """It is a restart of its own cause, and no failure."""
    world = running()
    world.restart(10, "HEALTHY")
    world.succeed(20)
    assert world.points(c.METRIC_RESTARTS, CAUSE) == {"worker_failure": 0, "membership_change": 1}
    assert world.points(c.METRIC_DOWNTIME, CAUSE)["membership_change"] == 3
    assert world.metric(c.METRIC_WORKER_FAILURES) == 0


def test_a_job_that_fails_for_good() -> None:
    """The time after the last failure is its downtime."""
    world = running(max_restarts=0)
    world.die(10, {0: -9}, stopped={1: -15})
    world.end(12, "FAILED")
    failures = {
        (series.attributes["torchelastic.failure.cause"], series.attributes.get("error.type")): series.value
        for series in world.series(c.METRIC_WORKER_FAILURES)
    }
    assert failures[("signal", "SIGKILL")] == 1
    assert sum(failures.values()) == 1
    assert world.points(c.METRIC_DOWNTIME, CAUSE)["worker_failure"] == 3
    assert world.points(c.METRIC_WORKER_ACTIVE) == {None: 0}


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "terminated"])
def test_a_launcher_that_ends_says_so_once(outcome: str) -> None:
    """By its outcome, in its span's context, and not before it ends."""
    world = running(max_restarts=0)
    assert world.metric(c.METRIC_LAUNCHERS_ENDED) == 0
    if outcome == "terminated":
        world.signalled(10)
    elif outcome == "failed":
        world.die(10, {0: 3}, stopped={1: -15})
        assert world.metric(c.METRIC_LAUNCHERS_ENDED) == 0
        world.end(12, "FAILED")
    else:
        world.succeed(10)
    world.engine.close(None)
    counted = world.points(c.METRIC_LAUNCHERS_ENDED, c.OUTCOME)
    assert {value: count for value, count in counted.items() if count} == {outcome: 1}
    agent = world.one(AGENT).context
    (series,) = [found for found in world.series(c.METRIC_LAUNCHERS_ENDED) if found.value]
    assert [span for span in series.spans if span is not None] == [agent]


def test_an_end_of_which_nobody_knows_how_it_came_has_no_outcome() -> None:
    """The launcher has ended all the same."""
    world = running()
    world.engine.close(None)
    counted = world.points(c.METRIC_LAUNCHERS_ENDED, c.OUTCOME)
    assert {value: count for value, count in counted.items() if count} == {None: 1}


def test_a_launcher_that_is_told_to_stop() -> None:
    """Nobody failed: workers are up until they are stopped, and none is active in the end."""
    world = running()
    world.signalled(10)
    world.engine.close(None)
    assert world.metric(c.METRIC_WORKER_FAILURES) == 0
    assert world.points(c.METRIC_UPTIME) == {None: 9}
    assert world.points(c.METRIC_WORKER_ACTIVE) == {None: 0}


def test_time_is_counted_while_it_passes() -> None:
    """What lasts for days is to be seen while it lasts; nothing is counted twice."""
    world = World()
    world.start(0)
    world.attempt(0)
    for at in range(5):
        world.engine.tick(moment(at))
    assert world.points(c.METRIC_RENDEZVOUS_WAITING) == {None: 4}
    assert world.points(c.METRIC_DOWNTIME, CAUSE)["startup"] == 3
    world.joined(5)
    world.tell(f.RendezvousEnded, 5.5, rank=0, world_size=1)
    assert world.points(c.METRIC_RENDEZVOUS_WAITING) == {None: 0}
    world.workers(6)
    for at in range(6, 100):
        world.engine.tick(moment(at))
    assert world.points(c.METRIC_UPTIME) == {None: 92}
    world.succeed(100)
    world.engine.tick(moment(10_000))
    assert world.points(c.METRIC_UPTIME) == {None: 94}
    assert sum(world.points(c.METRIC_DOWNTIME, CAUSE).values()) == 6 + 301


def test_a_rendezvous_that_fails() -> None:
    """Its duration says how it ended and with what error; no time of it is uptime."""
    world = World()
    world.start(0)
    world.attempt(0)
    error = f.Raised("RendezvousTimeoutError", "", "", None)
    world.tell(f.RendezvousEnded, 600, error=error)
    world.end(600, "", error)
    (series,) = world.series(c.METRIC_RENDEZVOUS_DURATION)
    assert series.amounts == [600]
    assert series.attributes["torchelastic.outcome"] == "failed"
    assert series.attributes["error.type"] == "RendezvousTimeoutError"
    assert world.points(c.METRIC_DOWNTIME, CAUSE)["startup"] == 601


def test_workers_that_could_not_be_started() -> None:
    """They were never active, and all is downtime."""
    world = World()
    world.start(0)
    world.join(0)
    world.tell(f.WorkersStarting, 2, [f.WorkerSlot(0, 0, 0, 1, 1)], 0, 0, 1, 0)
    error = f.Raised("FileNotFoundError", "no such program")
    world.tell(f.WorkersStarted, 3, error=error)
    world.end(4, "", error)
    assert world.points(c.METRIC_UPTIME) == {None: 0}
    assert world.points(c.METRIC_WORKER_ACTIVE) == {None: 0}
    assert sum(world.points(c.METRIC_DOWNTIME, CAUSE).values()) == 5


def test_jobs_of_one_process_have_series_of_their_own() -> None:
    """Each by its run id; the bridge's own have none of it then."""
    world = World()
    for at, run_id in ((0, "a"), (100, "b")):
        world.start(at, run_id)
        world.join(at)
        world.workers(at + 2, 1)
        if run_id == "b":
            world.die(at + 5, {0: 1})
        world.end(at + 5, "SUCCEEDED" if run_id == "a" else "FAILED")
    assert world.points(c.METRIC_WORKER_FAILURES, c.RUN_ID) == {"a": 0, "b": 1}
    assert world.points(c.METRIC_UPTIME, c.RUN_ID) == {"a": 3, "b": 3}


def test_an_empty_run_id_is_left_out() -> None:
    """No placeholder stands for it."""
    world = World()
    world.start(0, "")
    assert set(world.points(c.METRIC_RESTARTS, c.RUN_ID)) == {None}


def test_what_torch_measures() -> None:
    """Each step of the agent by its name and outcome, in seconds."""
    world = running()
    world.tell(f.Operation, 5, "_monitor_workers", 0.25, "succeeded")
    world.tell(f.Operation, 6, "_monitor_workers", 0.5, "failed")
    world.tell(f.Operation, 7, "run", 2.0)
    series = world.series(c.METRIC_OPERATION_DURATION)
    found = {(s.attributes[c.OPERATION], s.attributes.get(c.OUTCOME)): s.value for s in series}
    assert found == {
        ("_monitor_workers", "succeeded"): 0.25,
        ("_monitor_workers", "failed"): 0.5,
        ("run", None): 2.0,
    }


def test_measurements_are_taken_in_the_context_of_their_spans() -> None:
    """A rendezvous' duration in its span's, a failure in the worker's, a restart in the new generation's."""
    world = running()
    world.die(10, {0: 3}, stopped={1: -15})
    world.restart(12)
    world.tell(f.ExitBarrier, 20, moment(21))
    world.succeed(30)
    spans = {span.context.span_id: f"{span.name} {times(span)[0]:g}" for span in world.ended}

    def led_to(name: str) -> set[str]:
        contexts = [context for series in world.series(name) for context in series.spans]
        return {spans[context.span_id] for context in contexts if context is not None}

    assert led_to(c.METRIC_WORKER_FAILURES) == {"torchelastic.worker 2"}
    assert led_to(c.METRIC_RESTARTS) == {"torchelastic.worker_group 15"}
    assert led_to(c.METRIC_RESTART_DURATION) == {"torchelastic.worker_group 15"}
    assert led_to(c.METRIC_RENDEZVOUS_DURATION) == {"torchelastic.rendezvous 0", "torchelastic.rendezvous 13"}
    assert led_to(c.METRIC_EXIT_BARRIER_DURATION) == {"torchelastic.agent 0"}


def test_events_are_counted_by_torchs_names_and_a_users_as_other() -> None:
    """A user's names would be a series each; heartbeats have a metric of their own."""
    world = running()
    for name in ("saved", "loaded"):
        world.engine.event((name, "WORKER", 0, {"run_id": "r"}), moment(3), None)
    events = world.points(c.METRIC_EVENTS, c.EVENT)
    assert events["other"] == 2
    assert events["torchelastic.worker.status.START"] == 2
    assert events["torchelastic.worker.status.FAILED"] == 0
    assert {"saved", "loaded"} & set(events) == set()


def test_names_that_are_made_up_by_the_thousand_do_not_make_as_many_series() -> None:
    """They are counted as other ones."""
    world = running()
    for number in range(500):
        world.rendezvous(3, "x", name=f"name {number}")
    assert len(world.points(c.METRIC_EVENTS, c.EVENT)) < 100
    assert world.metric(c.METRIC_EVENTS) >= 500


@pytest.mark.parametrize("first", ["a.b", ""])
def test_a_clock_that_is_set_back_takes_nothing_from_a_counter(first: str) -> None:
    """Time goes on being counted from where it was."""
    world = World()
    world.start(1000, first)
    world.join(1000)
    world.workers(1003)
    world.die(500, {0: 1}, stopped={1: -15})
    world.end(501, "FAILED")
    values = [*world.points(c.METRIC_UPTIME).values(), *world.points(c.METRIC_DOWNTIME, CAUSE).values()]
    assert min(values) >= 0


def told_by_events() -> World:
    """Return a world with a job of which only events are heard: two rounds, then the end."""
    world = World()
    for at in (0, 10):
        world.asks(at)
        world.joined(at + 1, 2)
        world.pids = {0: 100 + at, 1: 101 + at}
        for rank in range(2):
            world.worker_event(at + 2, "START", rank)
    for rank in range(2):
        world.worker_event(20, "SUCCEEDED", rank)
    world.event(21, "SUCCEEDED")
    return world


def test_a_job_that_only_events_tell_of() -> None:
    """Its restart has no cause, and the time of it neither: nothing is guessed."""
    world = told_by_events()
    assert world.points(c.METRIC_UPTIME) == {None: 8 + 8}
    down = world.points(c.METRIC_DOWNTIME, CAUSE)
    assert {cause: value for cause, value in down.items() if value} == {"startup": 2, None: 2, "shutdown": 1}
    restarts = world.points(c.METRIC_RESTARTS, CAUSE)
    assert {cause: value for cause, value in restarts.items() if value} == {None: 1}
    assert world.points(c.METRIC_WORKER_ACTIVE) == {None: 0}
    assert world.points(c.METRIC_WORLD_SIZE, c.ROLE) == {"default": 2}


def test_workers_without_an_id_are_counted() -> None:
    """Whoever recorded that they started need not have said with which process id."""
    world = World()
    world.worker_event(1, "START", 0)
    world.event(2, "START", "WORKER", {"local_rank": [1]}, worker_id=None)
    assert world.points(c.METRIC_WORKER_ACTIVE) == {None: 2}


def test_a_program_that_lives_on_counts_no_more() -> None:
    """A job whose run is over takes no more time, although nobody has closed its rendezvous."""
    world = running()
    world.die(10, {0: 0, 1: 0})
    world.tell(f.RunEnded, 11, "SUCCEEDED")
    for at in range(11, 500):
        world.engine.tick(moment(at))
    world.engine.close(None)
    assert world.points(c.METRIC_UPTIME) == {None: 8}
    assert sum(world.points(c.METRIC_DOWNTIME, CAUSE).values()) == 3


def test_a_launcher_that_ends_without_a_word_ends_where_its_time_was_counted() -> None:
    """Its span, its uptime and its downtime agree."""
    world = running()
    world.engine.tick(moment(100))
    world.engine.close(None)
    assert world.points(c.METRIC_UPTIME) == {None: 97}
    assert times(world.one(AGENT)) == (0, 99)


def test_a_run_id_in_a_users_own_event_makes_no_series() -> None:
    """It is one of another kind: an experiment's, of which there may be thousands."""
    world = running()
    for number in range(100):
        world.engine.event(("saved", "WORKER", 0, {"run_id": f"mlflow-{number}"}), moment(3), None)
    assert set(world.points(c.METRIC_EVENTS, c.RUN_ID)) == {"r"}


def test_error_types_are_few() -> None:
    """The first 20 of the process have series; a program that makes up classes has one for all others."""
    world = World()
    for number in range(25):
        running(world, run_id=f"job {number % 2}")
        error = error_file(f"Error{number}: x", 9.5)
        world.die(10, {0: 1}, stopped={1: -15}, errors={0: error})
        world.end(12, "FAILED")
    failures = {kind: n for kind, n in world.points(c.METRIC_WORKER_FAILURES, c.ERROR_TYPE).items() if kind}
    assert failures == {**{f"Error{number}": 1 for number in range(20)}, "_OTHER": 5}
    told = [record.attributes[c.ERROR_TYPE] for record in world.told("torchelastic.failure")]
    assert "Error24" in told  # records have them all


def test_error_types_of_rendezvous_count_with_them() -> None:
    """One bound for all metrics of the process."""
    world = World()
    world.start(0)
    for number in range(21):
        world.attempt(number)
        world.tell(f.RendezvousEnded, number + 0.5, f.Raised(f"Error{number}", ""))
    running(world)
    world.die(50, {0: 3}, stopped={1: -15})
    assert "_OTHER" in world.points(c.METRIC_RENDEZVOUS_DURATION, c.ERROR_TYPE)
    assert world.points(c.METRIC_WORKER_FAILURES, c.ERROR_TYPE)["_OTHER"] == 1
