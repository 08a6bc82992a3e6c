"""Whole jobs, from facts and events to the SDK's own objects, in memory."""

from __future__ import annotations

import gc
from collections import Counter

from opentelemetry.trace import StatusCode

from tests.support.job_player import AGENT, GROUP, RENDEZVOUS, STATUS, TRACEPARENT, WORKER, ns
from tests.support.sdk_world import SdkWorld, attributes, context
from torchelastic_otel._config.settings import Settings
from torchelastic_otel._job import facts as f
from torchelastic_otel._job.identity import hash_trace_id

UNSET, OK, ERROR = StatusCode.UNSET, StatusCode.OK, StatusCode.ERROR


def running(world: SdkWorld) -> SdkWorld:
    """Let the workers run since second 2."""
    world.start(0)
    world.join(0)
    world.workers(2)
    return world


def statuses(world: SdkWorld) -> Counter[tuple[str, StatusCode]]:
    """Count the ended spans by name and status."""
    world.settle()
    return Counter((span.name, span.status.status_code) for span in world.out.ended)


def test_a_job_that_succeeds() -> None:
    """All spans are Ok, in one trace, each under its parent; each record has its span's ids."""
    world = running(SdkWorld())
    world.succeed(10)
    assert statuses(world) == {(AGENT, OK): 1, (RENDEZVOUS, OK): 1, (GROUP, OK): 1, (WORKER, OK): 2}
    agent, group = world.one(AGENT), world.one(GROUP)
    assert {context(span).trace_id for span in world.out.ended} == {hash_trace_id("r")}
    parents = {span.name: span.parent and span.parent.span_id for span in world.out.ended}
    assert parents == {
        AGENT: None,
        RENDEZVOUS: context(agent).span_id,
        GROUP: context(agent).span_id,
        WORKER: context(group).span_id,
    }
    for span in world.out.ended:
        drawn = [(event.name, event.timestamp) for event in span.events]
        logged = [(r.name, r.time_ns) for r in world.out.records if r.span_id == context(span).span_id]
        assert drawn == logged
    assert {record.trace_id for record in world.out.records} == {hash_trace_id("r")}


def test_each_record_has_an_id_of_its_own() -> None:
    """For those who need each record exactly once."""
    world = running(SdkWorld())
    world.succeed(10)
    uids = [record.attributes["log.record.uid"] for record in world.out.records]
    assert len(set(uids)) == len(uids) > 10


def test_a_restart_and_a_failure() -> None:
    """What failed is Error with its sentence, what was stopped Unset; generations are linked."""
    world = running(SdkWorld())
    world.die(10, {1: 3}, stopped={0: -15})
    world.restart(11)
    world.die(20, {1: 3}, stopped={0: -15})
    world.end(22, "FAILED")
    assert statuses(world) == {
        (AGENT, ERROR): 1,
        (RENDEZVOUS, OK): 2,
        (GROUP, ERROR): 2,
        (WORKER, ERROR): 2,
        (WORKER, UNSET): 2,
    }
    first, second = world.all(GROUP)
    assert [link.context.span_id for link in second.links] == [context(first).span_id]
    assert not first.links
    stop = next(record for record in world.out.records if record.name == "torchelastic.agent.stop")
    assert stop.body == f"The launcher ends: {world.one(AGENT).status.description}"
    assert first.status.description == next(
        record.body for record in world.out.records if record.name == "torchelastic.failure"
    )


def test_preemption_and_membership_change_are_no_errors() -> None:
    """Terminated and interrupted are Unset."""
    world = running(SdkWorld())
    world.restart(10, "HEALTHY")
    world.signalled(20)
    assert statuses(world) == {
        (AGENT, UNSET): 1,
        (RENDEZVOUS, OK): 2,
        (GROUP, UNSET): 2,
        (WORKER, UNSET): 4,
    }
    outcomes = [attributes(group)["torchelastic.outcome"] for group in world.all(GROUP)]
    assert outcomes == ["interrupted", "terminated"]


def test_a_join_that_failed() -> None:
    """Lists are the SDK's tuples, the sentence is the status's."""
    world = SdkWorld()
    world.start(0, min_nodes=2, max_nodes=4)
    world.attempt(0)
    view = f.RendezvousView(0, ["n_1_0"], ["m_2_0"], 2, 4, 60.0)
    error = f.Raised("RendezvousTimeoutError", "", "Traceback …")
    world.tell(f.RendezvousEnded, 60, error, view=view)
    world.end(61, "", error)
    span = world.one(RENDEZVOUS)
    assert span.status.status_code is ERROR
    assert "timed out after 60.0 s" in (span.status.description or "")
    assert attributes(span)["torchelastic.rendezvous.nodes"] == ("n_1_0",)
    assert attributes(span)["torchelastic.rendezvous.nodes_waiting"] == ("m_2_0",)


def test_traceparent_is_the_agents_parent() -> None:
    """The launcher's own TRACEPARENT: its trace, its span above the agent's."""
    world = running(SdkWorld(environ={"TRACEPARENT": TRACEPARENT}))
    world.succeed(10)
    parent = world.one(AGENT).parent
    assert parent is not None
    assert (parent.span_id, parent.is_remote) == (0xB7AD6B7169203331, True)
    assert {context(span).trace_id for span in world.out.ended} == {0x0AF7651916CD43DD8448EB211C80319C}


def test_promised_span_ids_are_kept() -> None:
    """Workers were given the ids of their spans in their environment before the spans began."""
    world = SdkWorld()
    world.start(0, agent_span_id=0xA)
    world.join(0)
    world.workers(2, 2, ids=0x100)
    world.succeed(10)
    assert context(world.one(AGENT)).span_id == 0xA
    assert context(world.one(GROUP)).span_id == 0x100
    assert {context(span).span_id for span in world.all(WORKER)} == {0x101, 0x102}
    assert context(world.one(RENDEZVOUS)).span_id not in (0, 0xA, 0x100, 0x101, 0x102)


def test_the_log_has_what_a_span_drops() -> None:
    """A span keeps the newest 128 events and says how many it dropped; the log has them all."""
    world = SdkWorld()
    world.start(0)
    world.attempt(0)
    for number in range(300):
        world.rendezvous(1 + number / 1000, f"step {number}")
    world.joined(2)
    world.tell(f.RendezvousEnded, 2, rank=0, world_size=1)
    world.end(3, "SUCCEEDED")
    span = world.one(RENDEZVOUS)
    assert (len(span.events), span.dropped_events) == (128, 302 - 128)
    assert span.events[-1].timestamp == ns(2)
    assert len([r for r in world.out.records if r.span_id == context(span).span_id]) == 302


def test_no_span_event_is_none_dropped() -> None:
    """Switched off, none counts as dropped."""
    world = running(SdkWorld(settings=Settings(span_events=False)))
    world.die(10, {0: 1}, stopped={1: -15})
    world.end(12, "FAILED")
    world.settle()
    assert [len(span.events) + span.dropped_events for span in world.out.ended] == [0] * 5


def test_clocks_that_are_set_back_make_no_span_end_before_it_began() -> None:
    """Whatever the order of times."""
    world = SdkWorld()
    world.start(1000)
    world.join(900, took=-50)
    world.workers(700)
    world.die(600, {0: 1}, stopped={1: -15})
    world.restart(500)
    world.succeed(-200)
    world.settle()
    assert world.out.counts == {AGENT: 1, RENDEZVOUS: 2, GROUP: 2, WORKER: 4}
    for span in world.out.ended:
        assert span.start_time is not None
        assert span.end_time is not None
        assert span.start_time <= span.end_time


def test_secrets_are_in_no_record_and_on_no_span() -> None:
    """Wherever it is told: names and bodies, attributes, span events, descriptions."""
    secret = "password=hunter2"
    world = running(SdkWorld(settings=Settings(redact=r"password=\S+")))
    error = f.WorkerError("/e", f'{{"message": "ValueError: {secret}"}}', 9)
    world.tell(f.WorkersExited, 10, [world.exit(0, 1, error=error), world.exit(1, 0)])
    world.worker_event(10, "FAILED", 0, 1, raw_error=f'{{"message": "ValueError: {secret}"}}')
    world.record({"name": f"saved {secret}", "source": "WORKER", "timestamp": 0, "metadata": {"k": secret}})
    world.end(11, "FAILED")
    world.settle()
    said = [str((span.attributes, span.status.description)) for span in world.out.ended]
    said += [str((event.name, event.attributes)) for span in world.out.ended for event in span.events]
    said += [str(record) for record in world.out.records]
    assert not [text for text in said if secret in text]
    assert len([text for text in said if "[redacted]" in text]) >= 5
    assert len([r for r in world.out.records if r.name == STATUS + "FAILED"]) == 1


def test_thousands_of_restarts_leave_nothing_behind() -> None:
    """What the SDK's side keeps does not grow with the number of generations."""
    world = SdkWorld(keep=False)
    world.start(0, max_restarts=100_000)

    def restart(times: int) -> None:
        for _ in range(times):
            world.tell(f.RendezvousStarted, 1)
            world.tell(f.RendezvousEnded, 1, rank=0, world_size=1)
            world.workers(2, 1)
            world.die(3, {0: 1})
            world.tell(f.RestartStarted, 3, "FAILED", [])

    def kept() -> Counter[str]:
        gc.collect()
        kinds = (type(thing) for thing in gc.get_objects())
        return Counter(k.__qualname__ for k in kinds if str(k.__module__).startswith("torchelastic_otel"))

    restart(1000)  # as many measurements wait until the SDK takes them
    before = kept()
    restart(1000)
    assert kept() == before
    world.end(4, "FAILED")
    assert world.out.counts == {AGENT: 1, RENDEZVOUS: 2000, GROUP: 2000, WORKER: 2000}
