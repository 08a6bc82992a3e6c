"""Signals that reach the launcher: preemption is no failure."""

from __future__ import annotations

from tests.support.job_player import AGENT, GROUP, RENDEZVOUS, SIGTERM, STATUS, WORKER, moment
from tests.support.job_world import World, running, times
from torchelastic_otel._job import facts as f
from torchelastic_otel._job.event import WARN


def test_signal_to_the_agent() -> None:
    """Preemption is no failure: terminated, a warning; it is over with torch's own last event."""
    world = running()
    world.signalled(10)
    assert {span.outcome for span in world.all(WORKER)} == {"terminated"}
    assert world.one(GROUP).outcome == "terminated"
    outcome, sentence = world.verdict()
    assert outcome == "terminated"
    assert sentence == "The launcher ends: terminated by SIGTERM while the workers ran"
    assert not world.told("torchelastic.failure")
    (stop,) = world.told("torchelastic.agent.stop")
    assert stop.severity == WARN
    assert stop.attributes["torchelastic.agent.signal"] == "SIGTERM"
    (torchs,) = world.told(STATUS + "FAILED")
    assert torchs.severity == WARN
    assert times(world.one(AGENT)) == (0, 11)


def test_workers_that_die_of_the_same_signal() -> None:
    """A signal to the whole process group reaches the workers as well: they are no culprits."""
    world = running()
    world.signalled(10, exits=[world.exit(0, -15), world.exit(1, -15)])
    assert not world.told("torchelastic.failure")
    assert {span.outcome for span in world.all(WORKER)} == {"terminated"}
    assert world.verdict()[0] == "terminated"


def test_failure_before_a_signal_stays_a_failure() -> None:
    """The signal comes while the agent stops the others: the job is terminated, the culprit stays one."""
    world = running()
    world.tell(f.WorkersExited, 10, [world.exit(1, 3)])
    world.tell(f.WorkersStopping, 10)
    world.signalled(12)
    spans = world.by_rank()
    assert spans[1].outcome == "failed"
    assert spans[0].outcome == "terminated"
    assert world.one(GROUP).outcome == "failed"
    assert world.verdict()[1] == "The launcher ends: terminated by SIGTERM while stopping the workers"


def test_signal_at_the_exit_barrier() -> None:
    """The workers had succeeded; the launcher was stopped while it waited for the other nodes."""
    world = running()
    world.die(10, {0: 0, 1: 0})
    world.tell(f.ExitBarrier, 10, moment(40))
    world.signalled(40)
    assert {span.outcome for span in world.all(WORKER)} == {"succeeded"}
    assert world.one(GROUP).outcome == "succeeded"
    assert world.verdict()[1] == "The launcher ends: terminated by SIGTERM at the exit barrier"


def test_signal_during_a_rendezvous() -> None:
    """Neither the rendezvous nor the job has failed."""
    world = World()
    world.start(0, min_nodes=2, max_nodes=2)
    world.attempt(0)
    world.rendezvous(8, "SignalException: Process 1 got signal: 15", "FAILED")
    world.tell(f.StopRequested, 8, "SIGTERM")
    world.tell(f.RendezvousEnded, 8, SIGTERM, view=f.RendezvousView(0, ["n_1_0"], [], 2, 2, 600.0))
    world.event(8, "RENDEZVOUS", duration_ms=8000)
    world.tell(f.RunEnded, 8, "", SIGTERM)
    world.event(8, "FAILED")
    span = world.one(RENDEZVOUS)
    assert (span.outcome, times(span)) == ("terminated", (0, 8))
    outcome, sentence = world.verdict()
    assert outcome == "terminated"
    assert "SIGTERM" in sentence
    assert max(record.severity for record in world.records) == WARN


def test_signal_before_torch_handles_it() -> None:
    """In the first rendezvous the default action ends the process: the bridge closes what is open."""
    world = World()
    world.start(0)
    world.attempt(0)
    world.tell(f.StopRequested, 5, "SIGTERM")
    world.engine.close(None)
    assert world.one(RENDEZVOUS).outcome == "terminated"
    assert world.verdict() == (
        "terminated",
        "The launcher ends: terminated by SIGTERM during the rendezvous",
    )


def test_interrupted_while_reaching_the_store() -> None:
    """Somebody presses Ctrl-C: no failure."""
    world = World()
    world.start(0)
    world.tell(f.StoreFailed, 3, f.Raised("KeyboardInterrupt", "", "", "SIGINT"))
    assert world.verdict()[0] == "terminated"
    assert "SIGINT" in world.verdict()[1]
