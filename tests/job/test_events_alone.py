"""Jobs of which only torch's events are heard."""

from __future__ import annotations

from tests.support.job_player import AGENT, GROUP, RENDEZVOUS, WORKER
from tests.support.job_world import World, times
from torchelastic_otel._job import facts as f
from torchelastic_otel._job.event import ERROR, INFO, WARN
from torchelastic_otel._job.identity import hash_trace_id


def test_events_alone_tell_a_job() -> None:
    """Another launcher, or a torch that the hooks do not fit: spans as far as events tell."""
    world = World()
    world.asks(0)
    world.joined(1)
    for rank in (0, 1):
        world.worker_event(2, "START", rank)
    for rank in (0, 1):
        world.worker_event(10, "SUCCEEDED", rank)
    world.event(11, "SUCCEEDED")
    agent, rendezvous, group = world.one(AGENT), world.one(RENDEZVOUS), world.one(GROUP)
    assert times(agent) == (0, 11)
    assert times(rendezvous) == (0, 1)
    assert times(group) == (2, 10)
    assert [times(span) for span in world.all(WORKER)] == [(2, 10), (2, 10)]
    assert {span.outcome for span in (rendezvous, group, *world.all(WORKER))} == {"succeeded"}
    assert rendezvous.parent_id == group.parent_id == agent.context.span_id
    assert {span.parent_id for span in world.all(WORKER)} == {group.context.span_id}
    assert {span.context.trace_id for span in world.ended} == {hash_trace_id("r")}
    assert world.all(WORKER)[0].attributes["torchelastic.global_rank"] in (0, 1)


def test_events_after_the_agents_last_one_open_no_second_agent() -> None:
    """Torch closes the rendezvous after the agent's last event: that is the same launcher still."""
    world = World()
    world.asks(0)
    world.joined(1)
    world.worker_event(2, "START", 0)
    world.worker_event(10, "SUCCEEDED", 0)
    world.event(11, "SUCCEEDED")
    world.rendezvous(11, "The node 'n_1_0' has closed the rendezvous 'r'.", "SUCCEEDED")
    world.engine.close(None)
    assert world.output.counts[AGENT] == 1


def test_events_alone_tell_of_a_restart() -> None:
    """A second START of a rank is a new generation, linked to the first; no failure is guessed."""
    world = World()
    world.asks(0)
    world.joined(1)
    world.worker_event(2, "START", 0)
    world.asks(10)
    world.joined(11)
    world.worker_event(12, "START", 0)
    world.worker_event(20, "SUCCEEDED", 0)
    world.event(21, "SUCCEEDED")
    first, second = world.all(GROUP)
    assert (times(first), first.outcome) == ((2, 10), None)
    assert second.link == first.context
    assert not world.told("torchelastic.failure")


def test_events_alone_tell_a_failed_worker() -> None:
    """It has failed, and so has its group."""
    world = World()
    world.worker_event(2, "START", 0)
    world.worker_event(2, "START", 1)
    world.worker_event(10, "FAILED", 0, 3)
    world.worker_event(10, "TERMINATED", 1)
    world.event(11, "SUCCEEDED")
    spans = world.by_rank()
    assert spans[0].outcome == "failed"
    assert spans[1].outcome == "terminated"
    assert world.one(GROUP).outcome == "failed"


def test_events_alone_tell_a_failed_rendezvous_and_agent() -> None:
    """A join that failed, and the agent with it."""
    world = World()
    world.asks(0)
    trace = "Traceback (most recent call last):\nValueError: x\n"
    world.rendezvous(5, "ValueError: x", "FAILED", error_trace=trace)
    world.event(6, "FAILED", raw_error=trace)
    span = world.one(RENDEZVOUS)
    assert (span.outcome, times(span)) == ("failed", (0, 5))
    assert span.attributes["error.type"] == "ValueError"
    assert world.one(AGENT).outcome == "failed"


def test_events_alone_tell_of_a_signal_to_the_agent() -> None:
    """Torch's exception is known by its class: preemption is no failure, in a join or later."""
    trace = "Traceback (most recent call last):\ntorch.x.SignalException: Process 1 got signal: 15\n"
    world = World()
    world.asks(0)
    world.rendezvous(5, "SignalException: Process 1 got signal: 15", "FAILED", error_trace=trace)
    world.event(6, "FAILED", raw_error=trace)
    assert world.one(RENDEZVOUS).outcome == world.one(AGENT).outcome == "terminated"
    assert {record.severity for record in world.records} == {INFO, WARN}


def test_events_alone_tell_of_a_spare_node() -> None:
    """It was not needed, and nothing has failed."""
    world = World()
    world.asks(0)
    world.rendezvous(5, "RendezvousGracefulExitError: not needed", "FAILED")
    world.event(6, "SUCCEEDED")
    assert (world.one(RENDEZVOUS).outcome, world.one(AGENT).outcome) == ("terminated", None)
    assert {record.severity for record in world.records} == {INFO, WARN}


def test_watchdogs_signal_is_no_preemption_by_events_alone() -> None:
    """Torch sends itself what it sent the worker."""
    trace = "Traceback (most recent call last):\nSignalException: Process 1 got signal: 15\n"
    world = World()
    world.pids = {0: 17}
    world.worker_event(2, "START", 0)
    world.watchdog(5, worker_pid="17", scope_id="s", signal="15")
    world.event(6, "FAILED", raw_error=trace)
    assert world.one(AGENT).outcome == "failed"
    assert len(world.told("torchelastic.failure")) == 1
    assert world.records[-1].severity == ERROR


def test_hooks_that_do_not_fit_do_not_double_anything() -> None:
    """Facts that come all the same are left alone: one group, as the events tell it."""
    world = World()
    world.start(0)
    world.tell(f.HooksMissing, 0)
    world.join(0)
    world.workers(2)
    for rank in (0, 1):
        world.worker_event(10, "SUCCEEDED", rank)
    world.event(11, "SUCCEEDED")
    world.tell(f.JobEnded, 12)
    world.engine.close(None)
    assert world.output.counts == {AGENT: 1, RENDEZVOUS: 1, GROUP: 1, WORKER: 2}
    assert not world.told("torchelastic.restart")


def test_hooks_that_do_not_fit_once_workers_begin() -> None:
    """The spans that were begun go on, with what torch's events say of the workers."""
    world = World()
    world.start(0)
    world.join(0)
    slots = [f.WorkerSlot(rank, rank, rank, 2, 2, 7 + rank) for rank in range(2)]
    world.tell(f.WorkersStarting, 1, slots, 6, 0, 1, 0)
    world.tell(f.HooksMissing, 1)
    world.pids = {0: 70, 1: 71}
    for rank in (0, 1):
        world.worker_event(2, "START", rank)
    for rank in (0, 1):
        world.worker_event(10, "SUCCEEDED", rank)
    world.event(11, "SUCCEEDED")
    world.engine.close(None)
    assert world.output.counts == {AGENT: 1, RENDEZVOUS: 1, GROUP: 1, WORKER: 2}
    workers = world.by_rank()
    assert [workers[rank].attributes["torchelastic.worker_id"] for rank in (0, 1)] == ["70", "71"]
    assert {span.outcome for span in workers.values()} == {"succeeded"}
    assert not world.told("torchelastic.restart")
