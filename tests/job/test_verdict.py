"""How a job ended, in one sentence, and in which step of its launcher."""

from __future__ import annotations

import pytest

from tests.support.job_player import AGENT, GROUP, RENDEZVOUS, WORKER, ns
from tests.support.job_world import World, running, times
from torchelastic_otel._job import facts as f
from torchelastic_otel._job.event import ERROR


def test_failed_job() -> None:
    """All restarts used up: one sentence that says who, of what, and that no restart was left."""
    world = World()
    world.start(0, max_restarts=1)
    for at in (0, 10):
        world.join(at)
        world.workers(at + 2)
        world.die(at + 8, {0: -9, 1: 0})
        if not at:
            world.tell(f.RestartStarted, 9, "FAILED", [])
    world.end(19, "FAILED")
    outcome, sentence = world.verdict()
    assert outcome == "failed"
    assert "Worker 0" in sentence
    assert "SIGKILL" in sentence
    assert "1 restart used up" in sentence
    (stop,) = world.told("torchelastic.agent.stop")
    assert stop.severity == ERROR
    assert stop.attributes["torchelastic.outcome"] == "failed"
    assert stop.attributes["error.type"] == "SIGKILL"
    assert sentence.endswith(f": {world.one(AGENT).description}")
    assert [span.outcome for span in world.all(GROUP)] == ["failed", "failed"]
    assert world.all(GROUP)[0].description == world.told("torchelastic.failure")[0].body


def test_no_restarts_allowed() -> None:
    """The sentence does not speak of restarts that were used up."""
    world = running(max_restarts=0)
    world.die(10, {0: 1}, stopped={1: -15})
    world.end(12, "FAILED")
    assert "no restarts were allowed" in world.verdict()[1]


def test_agent_that_does_not_know_the_number_of_restarts() -> None:
    """What the launcher said stands."""
    world = running(max_restarts=0)
    world.tell(f.AgentCreated, 3)
    world.die(10, {0: 1}, stopped={1: -15})
    world.end(12, "FAILED")
    assert "no restarts were allowed" in world.verdict()[1]


def test_attempt_that_failed_before_one_that_joined_explains_no_later_end() -> None:
    """A program may try again: what ends it then is what is said."""
    world = World()
    world.start(0)
    world.attempt(0)
    world.tell(f.RendezvousEnded, 1, f.Raised("RendezvousTimeoutError", ""))
    world.join(2)
    world.workers(4)
    world.end(10, "", f.Raised("ValueError", "wrong"))
    outcome, sentence = world.verdict()
    assert outcome == "failed"
    assert "ValueError: wrong while the workers ran" in sentence


def test_store_that_cannot_be_reached() -> None:
    """There is no agent and no event: the fact alone ends the job, and says where it failed."""
    world = World()
    world.start(0)
    world.tell(f.StoreFailed, 60, f.Raised("RendezvousConnectionError", "no route", "Traceback …"))
    span = world.one(AGENT)
    assert times(span) == (0, 60)
    outcome, sentence = world.verdict()
    assert outcome == "failed"
    assert "RendezvousConnectionError: no route" in sentence
    assert "store" in sentence
    assert span.attributes["error.type"] == "RendezvousConnectionError"
    assert span.attributes["exception.stacktrace"] == "Traceback …"


def test_workers_that_cannot_be_started() -> None:
    """``start_processes`` raises: the group ends with it, and the launcher says in which step."""
    world = World()
    world.start(0)
    world.join(0)
    slots = [f.WorkerSlot(0, 0, 0, 1, 1)]
    world.tell(f.WorkersStarting, 2, slots, 0, 0, 1, 0)
    error = f.Raised("FileNotFoundError", "no such file: 'train'", "Traceback …")
    world.tell(f.WorkersStarted, 3, error=error)
    world.end(4, "", error)
    assert times(world.one(GROUP)) == (2, 3)
    assert world.one(GROUP).attributes["error.type"] == "FileNotFoundError"
    assert "while starting the workers" in world.verdict()[1]
    assert world.verdict()[0] == "failed"


def closing(uncaught: str | None) -> World:
    """Return a world whose job succeeded and whose closing raised, in a process that ended so."""
    world = running()
    world.die(10, {0: 0, 1: 0})
    world.tell(f.RunEnded, 11, "SUCCEEDED")
    world.tell(f.JobEnded, 12, f.Raised("RendezvousConnectionError", "gone", "Traceback …"))
    world.engine.close(None if uncaught is None else f.Raised(uncaught, "gone"))
    return world


def test_error_while_closing_that_ends_the_launcher() -> None:
    """After success, an exception of the closing makes torchrun fail on some versions."""
    world = closing("RendezvousConnectionError")
    outcome, sentence = world.verdict()
    assert outcome == "failed"
    assert "while closing the rendezvous" in sentence
    assert world.one(GROUP).outcome == "succeeded"


@pytest.mark.parametrize("uncaught", [None, "SystemExit", "ValueError"])
def test_error_while_closing_that_is_only_logged(uncaught: str | None) -> None:
    """On others it is logged, and the job has succeeded."""
    assert closing(uncaught).verdict() == ("succeeded", "The launcher ends: succeeded")


def test_launcher_raises_while_workers_run() -> None:
    """An error of torch's own in the monitoring loop: named with the step, the workers stopped by it."""
    world = running()
    error = f.Raised("RendezvousConnectionError", "the store is gone", "Traceback …")
    world.tell(f.RunRaising, 10)
    world.tell(f.WorkersStopping, 10)
    world.tell(f.WorkersStopped, 11, [world.exit(0, -15), world.exit(1, -15)])
    world.end(12, "", error)
    assert {span.outcome for span in world.all(WORKER)} == {"terminated"}
    outcome, sentence = world.verdict()
    assert outcome == "failed"
    assert "RendezvousConnectionError: the store is gone while the workers ran" in sentence
    assert not world.told("torchelastic.failure")


def test_launcher_that_ends_before_its_agent_ran() -> None:
    """The exception that ends the process is all that is known, and it is told."""
    world = World()
    world.start(0)
    world.engine.close(f.Raised("ValueError", "no such backend"))
    outcome, sentence = world.verdict()
    assert outcome == "failed"
    assert "ValueError" in sentence


def test_process_that_ends_without_a_word() -> None:
    """Nothing is known of the outcome, and nothing is claimed; all spans end."""
    world = World()
    world.start(0)
    world.attempt(0)
    world.engine.close(None)
    assert world.one(AGENT).outcome is None
    assert world.one(RENDEZVOUS).outcome is None


def test_events_after_the_close_are_no_error() -> None:
    """The keep-alive thread goes on while the process ends."""
    world = running()
    world.engine.close(None)
    world.rendezvous(20, "The node 'n_1_0' has sent a keep-alive heartbeat to the rendezvous 'r'.")
    world.event(20, "SUCCEEDED")
    world.tell(f.WorkersExited, 21, [world.exit(0, 0)])
    world.engine.close(None)
    assert [record.time_ns for record in world.records[-2:]] == [ns(20), ns(20)]
    assert world.output.counts == {AGENT: 1, RENDEZVOUS: 1, GROUP: 1, WORKER: 2}


def test_a_run_without_a_result_is_no_failure_of_workers() -> None:
    """Torch returns none where it lets a node go, also if nobody saw the rendezvous end."""
    world = running()
    world.end(10, "")
    assert world.verdict() == (
        "terminated",
        "The launcher ends: torch let this node go: its run returned no result",
    )
