"""The spans of a job that succeeds, and what is known on each."""

from __future__ import annotations

from collections import Counter

from tests.support.job_player import AGENT, GROUP, RENDEZVOUS, STATUS, TRACEPARENT, WORKER, ns
from tests.support.job_world import World, running, times
from torchelastic_otel._config.settings import Settings
from torchelastic_otel._job import facts as f
from torchelastic_otel._job.event import INFO
from torchelastic_otel._job.identity import hash_trace_id, identify


def test_spans_of_a_job_that_succeeds() -> None:
    """One agent, one rendezvous, one group with its workers: all succeed, each from its start to its end."""
    world = running()
    world.succeed(10)
    agent, rendezvous, group = world.one(AGENT), world.one(RENDEZVOUS), world.one(GROUP)
    workers = world.all(WORKER)
    assert Counter(span.name for span in world.ended) == {AGENT: 1, RENDEZVOUS: 1, GROUP: 1, WORKER: 2}
    assert {span.outcome for span in world.ended} == {"succeeded"}
    assert times(agent) == (0, 311)
    assert times(rendezvous) == (0, 1)  # until it had joined, not until next_rendezvous returned
    assert times(group) == (2, 10)
    assert [times(span) for span in workers] == [(2, 10), (2, 10)]  # not torch's event of 300 s later
    assert agent.parent is None
    assert rendezvous.parent_id == group.parent_id == agent.context.span_id
    assert {span.parent_id for span in workers} == {group.context.span_id}
    assert {span.context.trace_id for span in world.ended} == {hash_trace_id("r")}
    assert world.verdict() == ("succeeded", "The launcher ends: succeeded")


def test_spans_say_who_they_are() -> None:
    """The job, the round and the ranks are on each span as far as they are known."""
    world = running()
    world.succeed(10)
    assert (
        world.one(RENDEZVOUS).attributes.items()
        >= {
            "torchelastic.run_id": "r",
            "torchelastic.round": 0,
            "torchelastic.group_rank": 0,
            "torchelastic.group_world_size": 1,
            "torchelastic.rendezvous.waited": 1.0,
        }.items()
    )
    assert (
        world.one(GROUP).attributes.items()
        >= {
            "torchelastic.run_id": "r",
            "torchelastic.round": 0,
            "torchelastic.generation": 1,
            "torchelastic.role": "default",
        }.items()
    )
    workers = world.by_rank()
    assert set(workers) == {0, 1}
    for rank, span in workers.items():
        assert (
            span.attributes.items()
            >= {
                "torchelastic.run_id": "r",
                "torchelastic.local_rank": rank,
                "torchelastic.global_rank": rank,
                "torchelastic.role_rank": rank,
                "torchelastic.role_world_size": 2,
                "torchelastic.world_size": 2,
                "torchelastic.worker_id": str(world.pids[rank]),
                "torchelastic.generation": 1,
            }.items()
        )
    assert (
        world.one(AGENT).attributes.items()
        >= {
            "torchelastic.run_id": "r",
            "torchelastic.rdzv_backend": "c10d",
            "torchelastic.max_restarts": 3,
            "torchelastic.entry_point": "train.py",
            "torchelastic.restarts": 0,
            "torchelastic.exit_barrier.duration": 300.0,
            "torchelastic.verdict": "succeeded",
        }.items()
    )


def test_events_go_to_the_span_that_they_belong_to() -> None:
    """Each event is a log record with its span's ids, and an event on that span."""
    world = running()
    world.succeed(10)
    by_name: dict[str, set[str]] = {AGENT: set(), RENDEZVOUS: set(), GROUP: set(), WORKER: set()}
    for span in world.ended:
        for event in span.events:
            by_name[span.name].add(event.name)
        names = [(event.name, event.time_ns) for event in span.events]
        logged = [(r.name, r.time_ns) for r in world.records if r.span_id == span.context.span_id]
        assert names == logged
    handler = "dynamic_rendezvous.py:DynamicRendezvousHandler.next_rendezvous"
    assert by_name[RENDEZVOUS] == {handler}
    assert by_name[WORKER] == {STATUS + "START", STATUS + "SUCCEEDED"}
    assert by_name[AGENT] == {
        *("torchelastic.agent.start", "torchelastic.agent.stop", handler),
        *(STATUS + state for state in ("RENDEZVOUS", "ASSIGN_WORKER_RANKS", "SUCCEEDED")),
    }
    assert {record.trace_id for record in world.records} == {hash_trace_id("r")}
    assert {record.severity for record in world.records} == {INFO}


def test_promised_span_ids_are_kept() -> None:
    """Workers were given the ids of their spans in their environment before the spans began."""
    world = World()
    world.start(0, agent_span_id=0xA, identity=identify("r", {}))
    world.join(0)
    world.workers(2, 2, ids=0x100)
    world.succeed(10)
    assert world.one(AGENT).context.span_id == 0xA
    assert world.one(GROUP).context.span_id == 0x100
    assert {span.context.span_id for span in world.all(WORKER)} == {0x101, 0x102}
    assert world.one(RENDEZVOUS).context.span_id not in (0, 0xA, 0x100, 0x101, 0x102)


def test_traceparent_is_the_agents_parent() -> None:
    """The launcher's own TRACEPARENT: its trace, its span above the agent's."""
    world = running(World(environ={"TRACEPARENT": TRACEPARENT}))
    world.succeed(10)
    agent = world.one(AGENT)
    assert agent.parent_id == 0xB7AD6B7169203331
    assert agent.parent is not None
    assert agent.parent.is_remote
    assert {span.context.trace_id for span in world.ended} == {0x0AF7651916CD43DD8448EB211C80319C}


def test_random_trace_is_marked() -> None:
    """Where nothing identifies the job, the agent's span says so."""
    world = World()
    world.start(0, run_id="none")
    world.end(1, "SUCCEEDED")
    assert world.one(AGENT).attributes["torchelastic.trace.random"] is True


def test_worker_that_ends_early_ends_its_span_early() -> None:
    """The agent saw the first worker end; the group goes on until the last one has."""
    world = running()
    world.tell(f.WorkersExited, 5, [world.exit(0, 0)])
    world.tell(f.Monitored, 5, "HEALTHY")
    world.die(9, {1: 0})
    world.end(10, "SUCCEEDED")
    assert sorted(times(span) for span in world.all(WORKER)) == [(2, 5), (2, 9)]
    assert times(world.one(GROUP)) == (2, 9)
    assert world.one(GROUP).outcome == "succeeded"


def test_last_event_after_the_span_has_ended() -> None:
    """Torch's SUCCEEDED can come minutes later: a log record of the worker's span, and not on the agent's."""
    world = running()
    world.die(10, {0: 0, 1: 0})
    world.settle()
    workers = {s.attributes["torchelastic.local_rank"]: s for s in world.ended if s.name == WORKER}
    assert set(workers) == {0, 1}
    world.worker_event(310, "SUCCEEDED", 0)
    (record,) = world.told(STATUS + "SUCCEEDED")
    assert record.span_id == workers[0].context.span_id
    assert record.time_ns == ns(310)
    world.end(310, "SUCCEEDED")
    assert world.output.counts[WORKER] == 2
    assert times(workers[0]) == (2, 10)


def test_events_after_the_jobs_end_are_recorded() -> None:
    """Keep-alive threads and late callers: no new span, no error, the record in the job's trace."""
    world = running()
    world.succeed(10)
    world.rendezvous(400, "RendezvousConnectionError: gone", "FAILED")
    world.worker_event(401, "SUCCEEDED", 0)
    world.event(402, "SUCCEEDED")
    late = [record for record in world.records if record.time_ns >= ns(400)]
    assert len(late) == 3
    assert {record.trace_id for record in late} == {hash_trace_id("r")}
    assert world.output.counts == {AGENT: 1, RENDEZVOUS: 1, GROUP: 1, WORKER: 2}


def test_agents_span_holds_its_last_event() -> None:
    """What is told of the end may be older than what torch recorded meanwhile."""
    world = running()
    world.die(10, {0: 0, 1: 0})
    world.tell(f.RunEnded, 11, "SUCCEEDED")
    world.event(20, "SUCCEEDED")
    world.tell(f.JobEnded, 12)
    assert times(world.one(AGENT)) == (0, 20)


def test_span_events_can_be_switched_off() -> None:
    """No span has any then, and the log is complete all the same."""
    world = running(World(settings=Settings(span_events=False)))
    world.die(10, {0: 1}, stopped={1: -15})
    world.end(12, "FAILED")
    world.settle()
    assert [len(span.events) for span in world.ended] == [0] * 5
    assert len(world.told("torchelastic.failure")) == 2
    assert len(world.told(STATUS + "START")) == 2
