"""How severe each record is: the table, row by row, each reached by a job that is played."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.job_player import SIGTERM, STATUS, error_file, moment
from tests.support.job_world import World, running
from torchelastic_otel._config.settings import Settings
from torchelastic_otel._job import facts as f
from torchelastic_otel._job.event import DEBUG, ERROR, INFO, WARN, Kind
from torchelastic_otel._job.severity import TABLE, Known, severity_of

NEXT_RENDEZVOUS = "dynamic_rendezvous.py:DynamicRendezvousHandler.next_rendezvous"
KEEP_ALIVE = "dynamic_rendezvous.py:DynamicRendezvousHandler._keep_alive"
FAILURE, RESTART, STOP = "torchelastic.failure", "torchelastic.restart", "torchelastic.agent.stop"


def collateral(world: World) -> None:
    """Worker 1 dies, and worker 0 is stopped; torch calls it failed."""
    running(world)
    world.die(10, {1: 3}, stopped={0: -15})
    world.worker_event(11, "FAILED", 0, -15)


def culprit(world: World) -> None:
    """Worker 1 dies, the only one; torch calls it failed."""
    running(world)
    world.die(10, {1: 3, 0: 0})
    world.worker_event(11, "FAILED", 1, 3)


def stopped_after_it_raised(world: World) -> None:
    """Torch says that the agent stopped it; it had raised before."""
    running(world)
    error = error_file("ValueError: x", 9)
    world.tell(f.WorkersExited, 10, [world.exit(0, 1)], None, moment(9.9), {1: error})
    world.tell(f.WorkersStopped, 11, [world.exit(1, -15, error=error)])
    world.worker_event(12, "TERMINATED", 1, -15)


def terminated(world: World) -> None:
    """Torch says that it stopped a worker."""
    running(world)
    world.worker_event(11, "TERMINATED", 0)


def signalled(world: World) -> None:
    """A signal ends the launcher."""
    running(world)
    world.signalled(10)


def raised(world: World) -> None:
    """The agent's run raises."""
    running(world)
    world.end(10, "", f.Raised("ValueError", "x"))


def watchdog(world: World) -> None:
    """The watchdog kills a process."""
    world.start(0)
    world.watchdog(9, worker_pid="1")


def stopped_join(world: World) -> None:
    """A signal ends an attempt to join."""
    world.start(0)
    world.attempt(0)
    world.tell(f.StopRequested, 1, "SIGTERM")
    world.rendezvous(2, "RendezvousError: x", "FAILED")


def failed_join(world: World) -> None:
    """An attempt to join fails."""
    world.start(0)
    world.attempt(0)
    world.rendezvous(2, "RendezvousError: x", "FAILED")


def failed_besides(world: World) -> None:
    """The rendezvous fails while nobody joins."""
    world.start(0)
    world.rendezvous(2, "RendezvousError: x", "FAILED")


def heartbeat(world: World) -> None:
    """The keep-alive goes well."""
    world.heartbeat(1)


def unparsed(world: World) -> None:
    """Something is recorded that is no event."""
    world.record("no event")


def restarted(world: World) -> None:
    """A worker dies, and all are started again."""
    running(world)
    world.die(10, {1: 3}, stopped={0: -15})
    world.restart(11)


Row = tuple[Kind | str, str, Known]
REACHED: list[tuple[Row, Callable[[World], None], str, int]] = [
    ((Kind.WORKER, "FAILED", Known.COLLATERAL), collateral, STATUS + "FAILED", WARN),
    ((Kind.WORKER, "FAILED", Known.ANYWAY), culprit, STATUS + "FAILED", ERROR),
    ((Kind.WORKER, "TERMINATED", Known.OWN_DEATH), stopped_after_it_raised, STATUS + "TERMINATED", ERROR),
    ((Kind.WORKER, "TERMINATED", Known.ANYWAY), terminated, STATUS + "TERMINATED", WARN),
    ((Kind.AGENT, "FAILED", Known.STOPPED), signalled, STATUS + "FAILED", WARN),
    ((Kind.AGENT, "FAILED", Known.ANYWAY), raised, STATUS + "FAILED", ERROR),
    ((Kind.WATCHDOG, "kill worker process", Known.ANYWAY), watchdog, "kill worker process", ERROR),
    ((Kind.RENDEZVOUS, "FAILED", Known.STOPPED), stopped_join, NEXT_RENDEZVOUS, WARN),
    ((Kind.RENDEZVOUS, "FAILED", Known.JOINING), failed_join, NEXT_RENDEZVOUS, ERROR),
    ((Kind.RENDEZVOUS, "FAILED", Known.ANYWAY), failed_besides, NEXT_RENDEZVOUS, WARN),
    ((Kind.RENDEZVOUS, "RUNNING", Known.KEEP_ALIVE), heartbeat, KEEP_ALIVE, DEBUG),
    ((Kind.UNPARSED, "", Known.ANYWAY), unparsed, "torchelastic.unparsed", WARN),
    ((FAILURE, "", Known.COLLATERAL), collateral, FAILURE, WARN),
    ((FAILURE, "", Known.ANYWAY), culprit, FAILURE, ERROR),
    ((RESTART, "", Known.ANYWAY), restarted, RESTART, WARN),
    ((STOP, "failed", Known.ANYWAY), raised, STOP, ERROR),
    ((STOP, "terminated", Known.ANYWAY), signalled, STOP, WARN),
]
"""What reaches each row: the last record of that name has that severity."""


@pytest.mark.parametrize(
    ("row", "play", "name", "severity"), REACHED, ids=lambda value: getattr(value, "__name__", None)
)
def test_each_row_is_reached(row: Row, play: Callable[[World], None], name: str, severity: int) -> None:
    """By a job that really goes that way."""
    world = World(settings=Settings(heartbeats="log"))
    play(world)
    assert world.told(name)[-1].severity == severity
    assert (*row, severity) in TABLE


def test_the_rows_are_these() -> None:
    """No row is without something that reaches it, and no row hides behind one before it."""
    assert [row[:3] for row in TABLE] == [row for row, *_ in REACHED]
    for number, (what, state, known, severity) in enumerate(TABLE):
        before = {row[2] for row in TABLE[:number] if row[:2] == (what, state)}
        assert not before & {known, Known.ANYWAY}
        assert severity_of(what, state, known) == severity


def test_the_first_row_that_fits_holds() -> None:
    """A signal that ends an attempt to join is no failure, although the attempt has failed."""
    assert severity_of(Kind.RENDEZVOUS, "FAILED", Known.STOPPED, Known.JOINING) == WARN
    assert severity_of(Kind.RENDEZVOUS, "FAILED", Known.JOINING, Known.STOPPED) == WARN
    assert severity_of(Kind.WORKER, "FAILED", Known.COLLATERAL, Known.STOPPED) == WARN


@pytest.mark.parametrize(
    ("what", "state"),
    [
        (Kind.WORKER, "START"),
        (Kind.WORKER, "SUCCEEDED"),
        (Kind.WORKER, ""),
        (Kind.AGENT, "RENDEZVOUS"),
        (Kind.WATCHDOG, "timer expired"),
        (Kind.RENDEZVOUS, "RUNNING"),
        (Kind.RENDEZVOUS, "SUCCEEDED"),
        (Kind.USER, "FAILED"),
        ("torchelastic.agent.start", ""),
        (STOP, "succeeded"),
        (STOP, ""),
        ("a name of tomorrow", "FAILED"),
    ],
)
def test_what_no_row_fits_is_information(what: Kind | str, state: str) -> None:
    """Whatever is known of it."""
    assert severity_of(what, state) == INFO
    assert severity_of(what, state, Known.STOPPED, Known.JOINING, Known.COLLATERAL) == INFO


def test_a_job_that_goes_well_says_nothing_above_information() -> None:
    """Nobody is woken for it."""
    world = running()
    world.succeed(10)
    assert {record.severity for record in world.records} == {INFO}


def test_a_node_that_is_let_go_is_no_error() -> None:
    """A spare node's failed attempt, and what torch raises afterwards, are warnings."""
    world = World()
    world.start(0)
    world.attempt(0)
    world.rendezvous(9, "RendezvousGracefulExitError: not needed", "FAILED")
    world.tell(f.RendezvousEnded, 9, f.Raised("RendezvousGracefulExitError", "not needed"))
    world.tell(f.RunEnded, 9, "")
    world.event(9, "FAILED")
    world.tell(f.JobEnded, 10)
    assert {record.severity for record in world.records} == {INFO, WARN}


def test_a_join_that_a_signal_ended_is_no_error() -> None:
    """Torch's own words name the signal, before the fact is known."""
    world = World()
    world.start(0)
    world.attempt(0)
    world.rendezvous(8, f"{SIGTERM.type}: {SIGTERM.message}", "FAILED")
    assert world.records[-1].severity == WARN
