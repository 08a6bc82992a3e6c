"""A job's history as its agent tells it, in torch's order: spans, outcomes, failures and restarts.

Facts and events are fed in with fixed times; what comes out is seen through the SDK's own objects, in memory.
"""

from __future__ import annotations

import gc
import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.trace import SpanContext, TraceFlags

from tests.support.job_world import (
    AGENT,
    ERROR,
    FAILED,
    GROUP,
    INFO,
    OK,
    RENDEZVOUS,
    STATUS,
    TRACEPARENT,
    UNSET,
    WARN,
    WORKER,
    Log,
    World,
    attributes,
    context,
    error_file,
    first_failure,
    ns,
    outcome,
    parent,
    running,
    status,
    times,
)
from torchelastic_otel._config.settings import Settings
from torchelastic_otel._job import facts as f
from torchelastic_otel._job.identity import hash_trace_id, identify

# --- a job that succeeds ----------------------------------------------------------------------------------


def test_spans_of_a_job_that_succeeds() -> None:
    """One agent, one rendezvous, one group with its workers: all Ok, each from its start to its end."""
    world = running()
    world.succeed(10)
    agent, rendezvous, group = world.one(AGENT), world.one(RENDEZVOUS), world.one(GROUP)
    workers = world.all(WORKER)
    assert Counter(span.name for span in world.spans.ended) == {AGENT: 1, RENDEZVOUS: 1, GROUP: 1, WORKER: 2}
    assert {status(span) for span in world.spans.ended} == {OK}
    assert {outcome(span) for span in world.spans.ended} == {"succeeded"}
    assert times(agent) == (0, 311)
    assert times(rendezvous) == (0, 1)  # until it had joined, not until next_rendezvous returned
    assert times(group) == (2, 10)
    assert [times(span) for span in workers] == [(2, 10), (2, 10)]  # not torch's event of 300 s later
    assert agent.parent is None
    assert parent(rendezvous) == parent(group) == context(agent).span_id
    assert {parent(span) for span in workers} == {context(group).span_id}
    assert {context(span).trace_id for span in world.spans.ended} == {hash_trace_id("r")}
    assert world.verdict() == ("succeeded", OK, "The launcher ends: succeeded")


def test_spans_say_who_they_are() -> None:
    """The job, the round and the ranks are on each span as far as they are known."""
    world = running()
    world.succeed(10)
    assert (
        attributes(world.one(RENDEZVOUS)).items()
        >= {
            "torchelastic.run_id": "r",
            "torchelastic.round": 0,
            "torchelastic.group_rank": 0,
            "torchelastic.group_world_size": 1,
            "torchelastic.rendezvous.waited": 1.0,
        }.items()
    )
    assert (
        attributes(world.one(GROUP)).items()
        >= {
            "torchelastic.run_id": "r",
            "torchelastic.round": 0,
            "torchelastic.generation": 1,
            "torchelastic.role": "default",
        }.items()
    )
    for rank, span in enumerate(
        sorted(world.all(WORKER), key=lambda s: str(attributes(s)["torchelastic.local_rank"]))
    ):
        assert (
            attributes(span).items()
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
        attributes(world.one(AGENT)).items()
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
    for span in world.spans.ended:
        for event in span.events:
            by_name[span.name].add(event.name)
        names = [(event.name, event.timestamp) for event in span.events]
        logged = [(r.name, r.time_ns) for r in world.logs.records if r.span_id == context(span).span_id]
        assert names == logged
    handler = "dynamic_rendezvous.py:DynamicRendezvousHandler.next_rendezvous"
    assert by_name[RENDEZVOUS] == {handler}
    assert by_name[WORKER] == {STATUS + "START", STATUS + "SUCCEEDED"}
    assert by_name[AGENT] == {
        *("torchelastic.agent.start", "torchelastic.agent.stop", handler),
        *(STATUS + state for state in ("RENDEZVOUS", "ASSIGN_WORKER_RANKS", "SUCCEEDED")),
    }
    assert {record.trace_id for record in world.logs.records} == {hash_trace_id("r")}
    assert {record.severity for record in world.logs.records} == {INFO}
    uids = [record.attributes["log.record.uid"] for record in world.logs.records]
    assert len(set(uids)) == len(uids)


def test_promised_span_ids_are_kept() -> None:
    """Workers were given the ids of their spans in their environment before the spans began."""
    world = World()
    world.start(0, agent_span_id=0xA, identity=identify("r", {}))
    world.join(0)
    world.workers(2, 2, ids=0x100)
    world.succeed(10)
    assert context(world.one(AGENT)).span_id == 0xA
    assert context(world.one(GROUP)).span_id == 0x100
    assert {context(span).span_id for span in world.all(WORKER)} == {0x101, 0x102}
    assert context(world.one(RENDEZVOUS)).span_id not in (0, 0xA, 0x100, 0x101, 0x102)


def test_ids_that_were_not_promised_are_all_different() -> None:
    """No chosen id is left over for the next span."""
    world = running()
    world.succeed(10)
    ids = [context(span).span_id for span in world.spans.ended]
    assert len(set(ids)) == len(ids)


def test_traceparent_is_the_agents_parent() -> None:
    """The launcher's own TRACEPARENT: its trace, its span above the agent's."""
    world = running(World(environ={"TRACEPARENT": TRACEPARENT}))
    world.succeed(10)
    agent = world.one(AGENT)
    assert parent(agent) == 0xB7AD6B7169203331
    assert agent.parent is not None
    assert agent.parent.is_remote
    assert {context(span).trace_id for span in world.spans.ended} == {0x0AF7651916CD43DD8448EB211C80319C}


def test_random_trace_is_marked() -> None:
    """Where nothing identifies the job, the agent's span says so."""
    world = World()
    world.start(0, run_id="none")
    world.end(1, "SUCCEEDED")
    assert attributes(world.one(AGENT))["torchelastic.trace.random"] is True


def test_static_rendezvous_has_no_events() -> None:
    """Facts alone tell of a rendezvous whose backend records nothing."""
    world = World()
    world.start(0)
    world.tell(f.RendezvousStarted, 0)
    world.tell(f.RendezvousEnded, 4, rank=1, world_size=2)
    world.workers(5)
    world.succeed(10)
    span = world.one(RENDEZVOUS)
    assert times(span) == (0, 4)
    assert status(span) is OK
    assert attributes(span)["torchelastic.group_rank"] == 1
    assert attributes(span)["torchelastic.group_world_size"] == 2
    assert "torchelastic.round" not in attributes(span)


def test_worker_that_ends_early_ends_its_span_early() -> None:
    """The agent saw the first worker end; the group goes on until the last one has."""
    world = running()
    world.tell(f.WorkersExited, 5, [world.exit(0, 0)])
    world.tell(f.Monitored, 5, "HEALTHY")
    world.die(9, {1: 0})
    world.end(10, "SUCCEEDED")
    assert sorted(times(span) for span in world.all(WORKER)) == [(2, 5), (2, 9)]
    assert times(world.one(GROUP)) == (2, 9)
    assert outcome(world.one(GROUP)) == "succeeded"


def test_last_event_after_the_span_has_ended() -> None:
    """Torch's SUCCEEDED can come minutes later: a log record of the worker's span, and not on the agent's."""
    world = running()
    world.die(10, {0: 0, 1: 0})
    world.settle()
    workers = {attributes(s)["torchelastic.local_rank"]: s for s in world.spans.ended if s.name == WORKER}
    assert set(workers) == {0, 1}
    world.worker_event(310, "SUCCEEDED", 0)
    (record,) = world.told(STATUS + "SUCCEEDED")
    assert record.span_id == context(workers[0]).span_id
    assert record.time_ns == ns(310)
    world.end(310, "SUCCEEDED")
    assert world.spans.count[WORKER] == 2
    assert times(workers[0]) == (2, 10)


def test_events_after_the_jobs_end_are_recorded() -> None:
    """Keep-alive threads and late callers: no new span, no error, the record in the job's trace."""
    world = running()
    world.succeed(10)
    world.rendezvous(400, "RendezvousConnectionError: gone", "FAILED")
    world.worker_event(401, "SUCCEEDED", 0)
    world.event(402, "SUCCEEDED")
    late = [record for record in world.logs.records if record.time_ns >= ns(400)]
    assert len(late) == 3
    assert {record.trace_id for record in late} == {hash_trace_id("r")}
    assert world.spans.count == {AGENT: 1, RENDEZVOUS: 1, GROUP: 1, WORKER: 2}


# --- failures and restarts --------------------------------------------------------------------------------


def test_failure_restart_success() -> None:
    """The generation that failed is an error itself; the job is not: its outcome is the final one."""
    world = running()
    world.die(10, {1: 3}, stopped={0: -15})
    world.tell(f.RestartStarted, 11, "FAILED", [], 2)
    world.join(11)
    world.workers(13)
    world.succeed(20)
    first, second = world.all(GROUP)
    assert (status(first), outcome(first)) == (FAILED, "failed")
    assert (status(second), outcome(second)) == (OK, "succeeded")
    assert world.verdict() == ("succeeded", OK, "The launcher ends: succeeded after 1 restart")
    assert attributes(world.one(AGENT))["torchelastic.restarts"] == 1
    assert [attributes(group)["torchelastic.generation"] for group in (first, second)] == [1, 2]
    assert [link.context.span_id for link in second.links] == [context(first).span_id]
    assert not first.links
    assert len(world.all(RENDEZVOUS)) == 2


def test_restart_record() -> None:
    """Why, from which generation to which, and how long it took: from seeing the failure to running again."""
    world = running()
    world.die(10, {1: 3}, stopped={0: -15})
    world.tell(f.RestartStarted, 11, "FAILED", [], 2)
    world.join(11)
    world.workers(14)
    (record,) = world.told("torchelastic.restart")
    assert (
        record.attributes.items()
        >= {
            "torchelastic.restart.cause": "worker_failure",
            "torchelastic.restart.from_generation": 1,
            "torchelastic.restart.to_generation": 2,
            "torchelastic.restart.duration": 4.0,
            "torchelastic.run_id": "r",
        }.items()
    )
    assert (record.severity, record.time_ns) == (WARN, ns(14))
    world.succeed(20)
    first, second = world.all(GROUP)
    assert attributes(second)["torchelastic.restart.cause"] == "worker_failure"
    others = [attributes(first), *(attributes(span) for span in world.all(WORKER))]
    assert all("torchelastic.restart.cause" not in other for other in others)
    assert record.span_id == context(world.one(AGENT)).span_id


def test_failure_record() -> None:
    """One for the culprit, at the time that its evidence tells: who, of what, where to read on."""
    world = running()
    exit_ = world.exit(
        1, 3, stdout="/logs/1/out", stderr="/logs/1/err", error=error_file("ValueError: x\ny", 9)
    )
    world.tell(f.WorkersExited, 10, [exit_])
    (record,) = world.told("torchelastic.failure")
    assert (
        record.attributes.items()
        >= {
            "torchelastic.run_id": "r",
            "torchelastic.round": 0,
            "torchelastic.generation": 1,
            "torchelastic.global_rank": 1,
            "torchelastic.local_rank": 1,
            "torchelastic.worker_id": str(world.pids[1]),
            "torchelastic.role": "default",
            "torchelastic.failure.cause": "exception",
            "torchelastic.failure.stdout": "/logs/1/out",
            "torchelastic.failure.stderr": "/logs/1/err",
            "torchelastic.failure.error_file": "/tmp/errors/0/error.json",
            "process.exit.code": 3,
            "error.type": "ValueError",
            "exception.type": "ValueError",
            "exception.message": "x\ny",
            "exception.stacktrace": "Traceback …",
        }.items()
    )
    assert "torchelastic.collateral" not in record.attributes
    assert "torchelastic.worker.signal" not in record.attributes
    assert "torchelastic.hostname" in record.attributes
    assert (record.severity, record.time_ns) == (ERROR, ns(9))
    assert first_failure(record.attributes)["global_rank"] == 1
    world.die(10, {})
    world.end(12, "FAILED")
    culprit = next(s for s in world.all(WORKER) if attributes(s)["torchelastic.local_rank"] == 1)
    assert record.span_id == context(culprit).span_id


def test_death_is_told_once() -> None:
    """What the agent sees again, when it closes what has failed, is no second death."""
    world = running()
    world.tell(f.WorkersExited, 10, [world.exit(1, 3)])
    world.tell(f.WorkersExited, 11, [world.exit(1, 3)])
    world.tell(f.WorkersStopped, 12, [world.exit(1, 3), world.exit(0, -15)])
    told = [record.attributes["torchelastic.global_rank"] for record in world.told("torchelastic.failure")]
    assert told == [1, 0]
    world.end(13, "FAILED")
    spans = {attributes(s)["torchelastic.local_rank"]: s for s in world.all(WORKER)}
    assert times(spans[1]) == (2, 10)


@pytest.mark.parametrize(
    ("code", "cause", "signal", "error_type"),
    [(7, "exit", None, "7"), (-11, "signal", "SIGSEGV", "SIGSEGV"), (-9, "signal", "SIGKILL", "SIGKILL")],
)
def test_cause_of_a_death(code: int, cause: str, signal: str | None, error_type: str) -> None:
    """Without an error file, the exit code or the signal is all that is known, and no more is said."""
    world = running()
    world.die(10, {0: code}, stopped={1: -15})
    record = world.told("torchelastic.failure")[0]
    assert record.attributes["torchelastic.failure.cause"] == cause
    assert record.attributes.get("torchelastic.worker.signal") == signal
    assert record.attributes["error.type"] == error_type
    assert not {key for key in record.attributes if key.startswith("exception.")}
    assert not {key for key in record.attributes if key.startswith("torchelastic.failure.std")}


@pytest.mark.parametrize(
    ("code", "oom_kills", "told"),
    [(-9, 2, True), (-9, 0, False), (-9, None, None), (-15, 2, None), (1, 2, None)],
)
def test_out_of_memory_kill(code: int, oom_kills: int | None, told: bool | None) -> None:
    """Told for SIGKILL alone, and only where the cgroup counts."""
    world = running()
    world.die(10, {0: code}, oom_kills=oom_kills)
    (record,) = world.told("torchelastic.failure")
    assert record.attributes.get("torchelastic.failure.oom_kill") is told
    assert ("out-of-memory" in record.body) is (told is True)


def test_devnull_is_no_place_to_read_on() -> None:
    """Output that goes nowhere is not named."""
    world = running()
    world.tell(f.WorkersExited, 10, [world.exit(0, 1, stdout="/dev/null", stderr="/dev/null")])
    (record,) = world.told("torchelastic.failure")
    assert not {key for key in record.attributes if key.startswith("torchelastic.failure.std")}


@pytest.mark.parametrize("code", [-15, -9, 1, 0])
def test_stopped_by_its_agent_is_collateral(code: int) -> None:
    """Whatever exit code torch reports for it: a warning, Unset, never the first failure."""
    world = running()
    world.die(10, {1: 3}, stopped={0: code})
    culprit, collateral = world.told("torchelastic.failure")
    assert culprit.attributes["torchelastic.global_rank"] == 1
    assert collateral.attributes["torchelastic.global_rank"] == 0
    assert collateral.attributes["torchelastic.collateral"] is True
    assert (culprit.severity, collateral.severity) == (ERROR, WARN)
    assert first_failure(collateral.attributes)["global_rank"] == 1
    world.worker_event(11, "FAILED", 0, code)
    world.worker_event(11, "FAILED", 1, 3)
    world.end(12, "FAILED")
    spans = {attributes(s)["torchelastic.local_rank"]: s for s in world.all(WORKER)}
    assert (status(spans[0]), outcome(spans[0])) == (UNSET, "terminated")
    assert (status(spans[1]), outcome(spans[1])) == (FAILED, "failed")
    assert attributes(spans[0])["torchelastic.collateral"] is True
    assert times(spans[0]) == (2, 11)
    assert times(spans[1]) == (2, 10)
    torchs = {r.attributes["torchelastic.local_rank"]: r for r in world.told(STATUS + "FAILED")}
    assert (torchs[0].severity, torchs[1].severity) == (WARN, ERROR)
    assert torchs[0].attributes["torchelastic.collateral"] is True
    assert "torchelastic.collateral" not in torchs[1].attributes


def test_first_failure_stands_on_group_worker_and_record() -> None:
    """The same answer in each place where it is looked for, on the agent as well."""
    world = running()
    world.die(10, {1: -11}, stopped={0: -15})
    world.end(12, "FAILED")
    expected = {
        "global_rank": 1,
        "local_rank": 1,
        "hostname": attributes(world.one(AGENT))["torchelastic.hostname"],
        "worker_id": str(world.pids[1]),
        "cause": "signal",
        "error_type": "SIGSEGV",
        "exit_code": -11,
    }
    holders = [attributes(world.one(GROUP)), attributes(world.one(AGENT))]
    holders += [attributes(span) for span in world.all(WORKER)]
    holders += [record.attributes for record in world.told("torchelastic.failure")]
    assert [first_failure(holder) for holder in holders] == [expected] * 6


def test_failed_job() -> None:
    """All restarts used up: one sentence that says who, of what, and that no restart was left."""
    world = World()
    world.start(0, max_restarts=1)
    for at in (0, 10):
        world.join(at)
        world.workers(at + 2)
        world.die(at + 8, {0: -9, 1: 0})
        if not at:
            world.tell(f.RestartStarted, 9, "FAILED", [], 0)
    world.end(19, "FAILED")
    result, code, sentence = world.verdict()
    assert (result, code) == ("failed", FAILED)
    assert "Worker 0" in sentence
    assert "SIGKILL" in sentence
    assert "1 restart used up" in sentence
    (stop,) = world.told("torchelastic.agent.stop")
    assert stop.severity == ERROR
    assert stop.attributes["torchelastic.outcome"] == "failed"
    assert stop.attributes["error.type"] == "SIGKILL"
    assert sentence.endswith(f": {world.one(AGENT).status.description}")
    assert [status(span) for span in world.all(GROUP)] == [FAILED, FAILED]
    assert world.all(GROUP)[0].status.description == world.told("torchelastic.failure")[0].body


def test_no_restarts_allowed() -> None:
    """The sentence does not speak of restarts that were used up."""
    world = running(max_restarts=0)
    world.die(10, {0: 1}, stopped={1: -15})
    world.end(12, "FAILED")
    assert "no restarts were allowed" in world.verdict()[2]


def test_worker_that_succeeded_beside_a_failure() -> None:
    """Its own outcome stands, and nothing is said to be collateral."""
    world = running()
    world.die(10, {0: 0, 1: 1})
    world.end(12, "FAILED")
    spans = {attributes(s)["torchelastic.local_rank"]: s for s in world.all(WORKER)}
    assert (status(spans[0]), outcome(spans[0])) == (OK, "succeeded")
    assert len(world.told("torchelastic.failure")) == 1


# --- who was first ----------------------------------------------------------------------------------------


def test_deaths_in_one_look_are_a_tie() -> None:
    """Nothing tells them apart: both are named, none is guessed."""
    world = running()
    world.die(10, {0: 1, 1: -11})
    world.end(12, "FAILED")
    records = world.told("torchelastic.failure")
    assert [record.attributes["torchelastic.global_rank"] for record in records] == [0, 1]
    holders = [record.attributes for record in records]
    holders += [attributes(world.one(name)) for name in (GROUP, AGENT)]
    holders += [attributes(span) for span in world.all(WORKER)]
    for holder in holders:
        assert {key: list(value) for key, value in first_failure(holder).items()} == {"ties": [0, 1]}
    assert "Worker 0" in world.verdict()[2]
    assert "Worker 1" in world.verdict()[2]
    assert "torchelastic.collateral" not in records[1].attributes
    assert "error.type" not in attributes(world.one(AGENT))


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ({0: 9, 1: 8}, {"global_rank": 1}),
        ({0: 8, 1: 9}, {"global_rank": 0}),
        ({0: 8, 1: 8}, {"ties": (0, 1)}),
        ({0: 8}, {"ties": (0, 1)}),
    ],
    ids=["second-first", "first-first", "same-moment", "one-unknown"],
)
def test_error_files_tell_who_was_first(when: dict[int, float], expected: dict[str, Any]) -> None:
    """Their times decide between deaths of one look, if they differ; a bare exit lies anywhere before it."""
    world = running()
    errors = {rank: error_file("RuntimeError: x", at) for rank, at in when.items()}
    world.die(10, {0: 1, 1: 1}, errors=errors)
    world.end(12, "FAILED")
    found = first_failure(attributes(world.one(GROUP)))
    assert found.items() >= expected.items()
    assert ("ties" in found) is ("ties" in expected)


def test_error_file_without_a_time_is_a_tie() -> None:
    """A file that says nothing of its time cannot have been first or last."""
    world = running()
    errors = {0: error_file("RuntimeError: x", 8), 1: f.WorkerError("/e", "{}", None)}
    world.die(10, {0: 1, 1: 1}, errors=errors)
    assert "torchelastic.first_failure.ties" in world.told("torchelastic.failure")[0].attributes


def test_second_generation_has_its_own_first_failure() -> None:
    """The first generation's culprit is not carried over."""
    world = running()
    world.die(10, {0: 1}, stopped={1: -15})
    world.tell(f.RestartStarted, 11, "FAILED", [], 2)
    world.join(11)
    world.workers(13)
    world.die(20, {1: 2}, stopped={0: -15})
    world.end(22, "FAILED")
    found = [first_failure(attributes(group))["global_rank"] for group in world.all(GROUP)]
    assert found == [0, 1]
    assert first_failure(attributes(world.one(AGENT)))["global_rank"] == 1


# --- watchdog and uninterruptible sleep -------------------------------------------------------------------


def watchdog(world: World, at: float, name: str = "kill worker process", **inner: str) -> None:
    """Torch's watchdog records an event."""
    metadata = {
        "run_id": world.run_id,
        "global_rank": None,
        "group_rank": 0,
        "worker_id": None,
        "role": "default",
        "hostname": "n",
        "state": "RUNNING",
        "total_run_time": 0,
        "rdzv_backend": "c10d",
        "raw_error": None,
        "metadata": json.dumps({"watchdog_event": name, **inner}),
        "agent_restarts": 0,
    }
    fields = {"name": name, "source": "AGENT", "timestamp": 0, "metadata": metadata}
    world.engine.text(json.dumps(fields), ns(at), "Watchdog", None)


def test_watchdog_kill_is_a_failure_at_once() -> None:
    """Torch kills its own agent a moment later: the record is there when the event has been taken."""
    world = running()
    pid = str(world.pids[1])
    watchdog(world, 9, worker_pid=pid, scope_id="step 7", expiration_time="8.5", signal="9")
    (record,) = world.told("torchelastic.failure")
    assert (
        record.attributes.items()
        >= {
            "torchelastic.failure.cause": "watchdog",
            "error.type": "SIGKILL",
            "torchelastic.global_rank": 1,
            "torchelastic.local_rank": 1,
            "torchelastic.worker_id": pid,
            "torchelastic.watchdog.scope_id": "step 7",
            "torchelastic.watchdog.signal": "9",
        }.items()
    )
    assert record.severity == ERROR
    assert "step 7" in record.body
    assert "process.exit.code" not in record.attributes


def test_watchdogs_victim_is_the_first_failure() -> None:
    """It died of the watchdog alone: the record that is all that is left names it as the first."""
    world = running()
    watchdog(world, 9, worker_pid=str(world.pids[1]), scope_id="s", signal="9")
    assert first_failure(world.told("torchelastic.failure")[0].attributes)["global_rank"] == 1


def test_watchdogs_victim_is_told_once() -> None:
    """Where the agent lives on, its victim's end is known; it is no second death."""
    world = running()
    watchdog(world, 9, worker_pid=str(world.pids[1]), scope_id="s", signal="10")
    watchdog(world, 9.1, worker_pid=str(world.pids[1]), scope_id="s", signal="10")
    world.die(10, {1: -10}, stopped={0: -15})
    world.end(12, "FAILED")
    told = [record.attributes["torchelastic.failure.cause"] for record in world.told("torchelastic.failure")]
    assert told == ["watchdog", "signal"]  # the second is collateral
    assert first_failure(attributes(world.one(GROUP)))["global_rank"] == 1
    assert first_failure(attributes(world.one(GROUP)))["cause"] == "watchdog"
    assert outcome(world.one(AGENT)) == "failed"


def test_watchdogs_signal_to_its_own_agent_is_no_preemption() -> None:
    """Torch sends itself the signal that it sent the worker: with SIGTERM that must not look like a stop."""
    world = running()
    watchdog(world, 9, worker_pid=str(world.pids[1]), scope_id="s", signal="15")
    world.signalled(9.1, exits=[world.exit(1, -15)])
    victim = next(s for s in world.all(WORKER) if attributes(s)["torchelastic.local_rank"] == 1)
    assert (status(victim), outcome(victim)) == (FAILED, "failed")
    assert world.verdict()[:2] == ("failed", FAILED)


@pytest.mark.parametrize("pid", ["999999", "", "no number", "-1", "\u0661"])
def test_watchdog_kill_of_an_unknown_process(pid: str) -> None:
    """No worker of this generation: the event is recorded, and no failure is made up."""
    world = running()
    watchdog(world, 9, worker_pid=pid, scope_id="s", signal="9")
    assert not world.told("torchelastic.failure")
    assert len(world.told("kill worker process")) == 1


@pytest.mark.parametrize("name", ["watchdog started", "timer expired", "watchdog stopped"])
def test_other_watchdog_events_are_no_failure(name: str) -> None:
    """Only the kill is."""
    world = running()
    watchdog(world, 9, name, worker_pid=str(world.pids[0]), scope_id="s", signal="0")
    assert not world.told("torchelastic.failure")


def test_uninterruptible_worker() -> None:
    """Torch calls it UNHEALTHY, restarts nothing and exits with 0: the job has failed all the same."""
    world = running()
    world.tell(f.Monitored, 9, "UNHEALTHY", [world.pids[0]])
    world.tell(f.WorkersStopping, 9)
    world.tell(f.WorkersStopped, 40, [world.exit(1, -15)])
    world.end(41, "UNHEALTHY")
    stuck, stopped = world.told("torchelastic.failure")
    assert (
        stuck.attributes["torchelastic.failure.cause"] == stuck.attributes["error.type"] == "uninterruptible"
    )
    assert stuck.attributes["torchelastic.global_rank"] == 0
    assert "uninterruptible" in stuck.body
    assert "process.exit.code" not in stuck.attributes
    assert stopped.attributes["torchelastic.collateral"] is True
    assert first_failure(attributes(world.one(GROUP)))["cause"] == "uninterruptible"
    result, code, sentence = world.verdict()
    assert (result, code) == ("failed", FAILED)
    assert "torchrun exits with 0" in sentence


# --- membership change ------------------------------------------------------------------------------------


def test_membership_change() -> None:
    """A restart without a failure: interrupted, Unset, and the restart says who asked to join."""
    world = running()
    world.tell(f.RestartStarted, 10, "HEALTHY", ["m_7_0"], 3)
    world.tell(f.WorkersStopping, 10)
    world.tell(f.WorkersStopped, 11, [world.exit(0, -15), world.exit(1, -15)])
    world.join(11, size=2)
    world.workers(15)
    world.succeed(20)
    first, second = world.all(GROUP)
    assert (status(first), outcome(first)) == (UNSET, "interrupted")
    assert {outcome(s) for s in world.all(WORKER) if times(s)[0] == 2} == {"interrupted"}
    assert {status(s) for s in world.all(WORKER) if times(s)[0] == 2} == {UNSET}
    assert not world.told("torchelastic.failure")
    assert attributes(second)["torchelastic.restart.cause"] == "membership_change"
    (record,) = world.told("torchelastic.restart")
    assert (
        record.attributes.items()
        >= {
            "torchelastic.restart.cause": "membership_change",
            "torchelastic.restart.duration": 5.0,
        }.items()
    )
    assert list(record.attributes["torchelastic.restart.nodes_waiting"]) == ["m_7_0"]
    assert world.verdict()[0] == "succeeded"
    assert attributes(world.one(AGENT))["torchelastic.restarts"] == 1


def test_death_just_before_a_membership_change() -> None:
    """A worker that ended by itself before the agent stopped the others is a culprit, whatever the cause."""
    world = running()
    world.tell(f.RestartStarted, 10, "HEALTHY", ["m_7_0"], 3)
    world.die(10, {0: 1}, stopped={1: -15})
    (culprit, _) = world.told("torchelastic.failure")
    assert culprit.attributes["torchelastic.global_rank"] == 0
    world.join(12)
    world.workers(14)
    world.succeed(20)
    assert outcome(world.all(GROUP)[0]) == "failed"


def test_causes_of_restarts_do_not_mix() -> None:
    """A failure, then a membership change: each restart has its own cause and its own duration."""
    world = running()
    world.die(10, {0: 1}, stopped={1: -15})
    world.tell(f.RestartStarted, 11, "FAILED", [], 2)
    world.join(11)
    world.workers(14)
    world.tell(f.RestartStarted, 20, "HEALTHY", [], 2)
    world.tell(f.WorkersStopped, 21, [world.exit(0, -15), world.exit(1, -15)])
    world.join(21)
    world.workers(27)
    told = world.told("torchelastic.restart")
    assert [r.attributes["torchelastic.restart.cause"] for r in told] == [
        "worker_failure",
        "membership_change",
    ]
    assert [r.attributes["torchelastic.restart.duration"] for r in told] == [4.0, 7.0]
    world.succeed(30)
    assert world.verdict()[2] == "The launcher ends: succeeded after 2 restarts"


# --- signals to the agent ---------------------------------------------------------------------------------


def test_signal_to_the_agent() -> None:
    """Preemption is no failure: terminated, Unset, a warning; it is over with torch's own last event."""
    world = running()
    world.signalled(10)
    assert {status(span) for span in world.all(WORKER)} == {UNSET}
    assert {outcome(span) for span in world.all(WORKER)} == {"terminated"}
    assert (status(world.one(GROUP)), outcome(world.one(GROUP))) == (UNSET, "terminated")
    result, code, sentence = world.verdict()
    assert (result, code) == ("terminated", UNSET)
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
    assert {outcome(span) for span in world.all(WORKER)} == {"terminated"}
    assert world.verdict()[:2] == ("terminated", UNSET)


def test_failure_before_a_signal_stays_a_failure() -> None:
    """The signal comes while the agent stops the others: the job is terminated, the culprit stays one."""
    world = running()
    world.tell(f.WorkersExited, 10, [world.exit(1, 3)])
    world.tell(f.WorkersStopping, 10)
    world.signalled(12)
    spans = {attributes(s)["torchelastic.local_rank"]: s for s in world.all(WORKER)}
    assert (status(spans[1]), outcome(spans[1])) == (FAILED, "failed")
    assert (status(spans[0]), outcome(spans[0])) == (UNSET, "terminated")
    assert outcome(world.one(GROUP)) == "failed"
    assert world.verdict()[2] == "The launcher ends: terminated by SIGTERM while stopping the workers"


def test_signal_at_the_exit_barrier() -> None:
    """The workers had succeeded; the launcher was stopped while it waited for the other nodes."""
    world = running()
    world.die(10, {0: 0, 1: 0})
    world.tell(f.ExitBarrier, 10, ns(40))
    world.signalled(40)
    assert {outcome(span) for span in world.all(WORKER)} == {"succeeded"}
    assert outcome(world.one(GROUP)) == "succeeded"
    assert world.verdict()[2] == "The launcher ends: terminated by SIGTERM at the exit barrier"


def test_signal_during_a_rendezvous() -> None:
    """Neither the rendezvous nor the job has failed."""
    world = World()
    world.start(0, min_nodes=2, max_nodes=2)
    world.attempt(0)
    error = f.Raised("SignalException", "Process 1 got signal: 15", "", "SIGTERM")
    world.rendezvous(8, "SignalException: Process 1 got signal: 15", "FAILED")
    world.tell(f.StopRequested, 8, "SIGTERM")
    world.tell(f.RendezvousEnded, 8, error, view=f.RendezvousView(0, ["n_1_0"], [], [], 2, 2, 600.0))
    world.event(8, "RENDEZVOUS", duration_ms=8000)
    world.tell(f.RunEnded, 8, "", error)
    world.event(8, "FAILED")
    span = world.one(RENDEZVOUS)
    assert (status(span), outcome(span), times(span)) == (UNSET, "terminated", (0, 8))
    result, code, sentence = world.verdict()
    assert (result, code) == ("terminated", UNSET)
    assert "SIGTERM" in sentence
    assert max(record.severity for record in world.logs.records) == WARN


def test_signal_before_torch_handles_it() -> None:
    """In the first rendezvous the default action ends the process: the bridge closes what is open."""
    world = World()
    world.start(0)
    world.attempt(0)
    world.tell(f.StopRequested, 5, "SIGTERM", "")
    world.engine.close(None)
    assert outcome(world.one(RENDEZVOUS)) == "terminated"
    assert world.verdict() == (
        "terminated",
        UNSET,
        "The launcher ends: terminated by SIGTERM during the rendezvous",
    )


# --- rendezvous that fail ---------------------------------------------------------------------------------


def refused(error: f.Raised, view: f.RendezvousView | None = None, *, state: str = "FAILED") -> World:
    """Return a world whose only attempt to join ended after 60 s with an error, and the launcher with it."""
    world = World()
    world.start(0, min_nodes=2, max_nodes=4)
    world.attempt(0)
    world.rendezvous(60, f"{error.type}: {error.message}", state)
    world.tell(f.RendezvousEnded, 60, error, view=view)
    world.event(60, "RENDEZVOUS", duration_ms=60_000)
    spare = error.type == "RendezvousGracefulExitError"
    world.end(61, "", None if spare else error)
    return world


def test_rendezvous_timeout_names_who_was_there() -> None:
    """One sentence: how long, who had joined, how many were needed. It is the job's verdict as well."""
    view = f.RendezvousView(0, ["n_1_0"], ["m_2_0"], [], 2, 4, 60.0)
    world = refused(f.Raised("RendezvousTimeoutError", "", "Traceback …"), view)
    span = world.one(RENDEZVOUS)
    assert (status(span), outcome(span), times(span)) == (FAILED, "failed", (0, 60))
    assert (
        attributes(span).items()
        >= {
            "error.type": "RendezvousTimeoutError",
            "exception.type": "RendezvousTimeoutError",
            "exception.stacktrace": "Traceback …",
            "torchelastic.min_nodes": 2,
            "torchelastic.max_nodes": 4,
            "torchelastic.rendezvous.nodes_joined": 1,
            "torchelastic.rendezvous.nodes": ("n_1_0",),
            "torchelastic.rendezvous.nodes_waiting": ("m_2_0",),
            "torchelastic.rendezvous.waited": 60.0,
            "torchelastic.rendezvous.timeout": 60.0,
        }.items()
    )
    result, code, sentence = world.verdict()
    assert (result, code) == ("failed", FAILED)
    for words in ("timed out after 60.0 s", "1 of the 2 to 4 nodes", "n_1_0"):
        assert words in sentence
        assert words in (span.status.description or "")
    (failed,) = [r for r in world.logs.records if r.attributes.get("torchelastic.node_state") == "FAILED"]
    assert failed.severity == ERROR
    assert failed.span_id == context(span).span_id
    assert world.told("torchelastic.agent.stop")[0].attributes["error.type"] == "RendezvousTimeoutError"


def test_rendezvous_that_shares_no_state() -> None:
    """Static rendezvous knows nobody: the exception's own text is the sentence, and nothing is made up."""
    world = refused(f.Raised("DistStoreError", "1/2 clients joined\nmore", "Traceback …"))
    assert "DistStoreError: 1/2 clients joined" in world.verdict()[2]
    assert not {
        key for key in attributes(world.one(RENDEZVOUS)) if key.startswith("torchelastic.rendezvous.nodes")
    }


def test_closed_rendezvous() -> None:
    """The job of this run id has ended: said in these words."""
    world = refused(f.Raised("RendezvousClosedError", ""), f.RendezvousView(3, [], [], [], 2, 4, 60.0))
    assert "closed" in world.verdict()[2]
    assert world.verdict()[:2] == ("failed", FAILED)


def test_spare_node_is_let_go() -> None:
    """Torch raises an AttributeError afterwards; the node was just not needed."""
    world = refused(f.Raised("RendezvousGracefulExitError", "not needed"))
    span = world.one(RENDEZVOUS)
    assert (status(span), outcome(span)) == (UNSET, "terminated")
    result, code, sentence = world.verdict()
    assert (result, code) == ("terminated", UNSET)
    assert "not needed" in sentence
    assert max(record.severity for record in world.logs.records) == WARN


def test_store_that_cannot_be_reached() -> None:
    """There is no agent and no event: the fact alone ends the job, and says where it failed."""
    world = World()
    world.start(0)
    world.tell(f.StoreFailed, 60, f.Raised("RendezvousConnectionError", "no route", "Traceback …"))
    span = world.one(AGENT)
    assert times(span) == (0, 60)
    result, code, sentence = world.verdict()
    assert (result, code) == ("failed", FAILED)
    assert "RendezvousConnectionError: no route" in sentence
    assert "store" in sentence
    assert attributes(span)["error.type"] == "RendezvousConnectionError"
    assert attributes(span)["exception.stacktrace"] == "Traceback …"


def test_interrupted_while_reaching_the_store() -> None:
    """Somebody presses Ctrl-C: no failure."""
    world = World()
    world.start(0)
    world.tell(f.StoreFailed, 3, f.Raised("KeyboardInterrupt", "", "", "SIGINT"))
    assert world.verdict()[:2] == ("terminated", UNSET)
    assert "SIGINT" in world.verdict()[2]


def test_error_between_the_join_and_the_start_of_workers() -> None:
    """The node had joined, so the rendezvous succeeded; what torch did next failed, and is named."""
    world = World()
    world.start(0)
    world.attempt(0)
    world.joined(1)
    error = f.Raised("DistStoreError", "wait timeout after 60000ms", "Traceback …")
    world.tell(f.RendezvousEnded, 61, error, view=f.RendezvousView(0, ["n_1_0"], [], [], 1, 1, 600.0))
    world.event(61, "RENDEZVOUS", duration_ms=61_000)
    world.end(62, "", error)
    span = world.one(RENDEZVOUS)
    assert (status(span), outcome(span), times(span)) == (OK, "succeeded", (0, 1))
    result, code, sentence = world.verdict()
    assert (result, code) == ("failed", FAILED)
    assert "DistStoreError" in sentence
    assert "between the joined rendezvous and the start of the workers" in sentence


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
    assert attributes(world.one(GROUP))["error.type"] == "FileNotFoundError"
    assert "while starting the workers" in world.verdict()[2]
    assert world.verdict()[:2] == ("failed", FAILED)


def test_failed_event_outside_of_a_join() -> None:
    """A heartbeat that failed once the store's node had left is no failed join: a warning."""
    world = running()
    world.rendezvous(5, "RendezvousConnectionError: gone", "FAILED", name="x.py:H._keep_alive")
    record = next(r for r in world.logs.records if r.attributes.get("torchelastic.node_state") == "FAILED")
    assert record.severity == WARN
    world.succeed(10)
    assert record.span_id == context(world.one(AGENT)).span_id


def test_attempt_that_never_ended() -> None:
    """A second attempt ends the first without an outcome: nothing is known of it."""
    world = World()
    world.start(0)
    world.attempt(0)
    world.join(5)
    world.end(10, "SUCCEEDED")
    first, second = world.all(RENDEZVOUS)
    assert (status(first), outcome(first), times(first)) == (UNSET, None, (0, 5))
    assert outcome(second) == "succeeded"


# --- the end of the launcher ------------------------------------------------------------------------------


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
    result, code, sentence = world.verdict()
    assert (result, code) == ("failed", FAILED)
    assert "while closing the rendezvous" in sentence
    assert outcome(world.one(GROUP)) == "succeeded"


@pytest.mark.parametrize("uncaught", [None, "SystemExit", "ValueError"])
def test_error_while_closing_that_is_only_logged(uncaught: str | None) -> None:
    """On others it is logged, and the job has succeeded."""
    assert closing(uncaught).verdict() == ("succeeded", OK, "The launcher ends: succeeded")


def test_launcher_raises_while_workers_run() -> None:
    """An error of torch's own in the monitoring loop: named with the step, the workers stopped by it."""
    world = running()
    error = f.Raised("RendezvousConnectionError", "the store is gone", "Traceback …")
    world.tell(f.RunRaising, 10)
    world.tell(f.WorkersStopping, 10)
    world.tell(f.WorkersStopped, 11, [world.exit(0, -15), world.exit(1, -15)])
    world.end(12, "", error)
    assert {outcome(span) for span in world.all(WORKER)} == {"terminated"}
    result, code, sentence = world.verdict()
    assert (result, code) == ("failed", FAILED)
    assert "RendezvousConnectionError: the store is gone while the workers ran" in sentence
    assert not world.told("torchelastic.failure")


def test_launcher_that_ends_before_its_agent_ran() -> None:
    """The exception that ends the process is all that is known, and it is told."""
    world = World()
    world.start(0)
    world.engine.close(f.Raised("ValueError", "no such backend"))
    result, code, sentence = world.verdict()
    assert (result, code) == ("failed", FAILED)
    assert "ValueError" in sentence


def test_process_that_ends_without_a_word() -> None:
    """Nothing is known of the outcome, and nothing is claimed; all spans end."""
    world = World()
    world.start(0)
    world.attempt(0)
    world.engine.close(None)
    assert (status(world.one(AGENT)), outcome(world.one(AGENT))) == (UNSET, None)
    assert (status(world.one(RENDEZVOUS)), outcome(world.one(RENDEZVOUS))) == (UNSET, None)


def test_events_after_the_close_are_no_error() -> None:
    """The keep-alive thread goes on while the process ends."""
    world = running()
    world.engine.close(None)
    world.rendezvous(20, "The node 'n_1_0' has sent a keep-alive heartbeat to the rendezvous 'r'.")
    world.event(20, "SUCCEEDED")
    world.tell(f.WorkersExited, 21, [world.exit(0, 0)])
    world.engine.close(None)
    assert [record.time_ns for record in world.logs.records[-2:]] == [ns(20), ns(20)]
    assert world.spans.count == {AGENT: 1, RENDEZVOUS: 1, GROUP: 1, WORKER: 2}


def test_agents_span_holds_its_last_event() -> None:
    """What is told of the end may be older than what torch recorded meanwhile."""
    world = running()
    world.die(10, {0: 0, 1: 0})
    world.tell(f.RunEnded, 11, "SUCCEEDED")
    world.event(20, "SUCCEEDED")
    world.tell(f.JobEnded, 12)
    assert times(world.one(AGENT)) == (0, 20)


# --- several jobs -----------------------------------------------------------------------------------------


def test_jobs_in_sequence_with_one_run_id() -> None:
    """Each has spans and a verdict of its own, in one trace; events go to the job that runs."""
    world = World()
    for at in (0, 1000):
        world.start(at)
        world.join(at)
        world.workers(at + 2)
        if at:
            world.die(at + 10, {0: 1}, stopped={1: -15})
            world.end(at + 12, "FAILED")
        else:
            world.succeed(at + 10)
    agents = world.all(AGENT)
    assert [outcome(span) for span in agents] == ["succeeded", "failed"]
    assert {context(span).trace_id for span in world.spans.ended} == {hash_trace_id("r")}
    assert [parent(span) for span in world.all(GROUP)] == [context(span).span_id for span in agents]
    assert not world.all(GROUP)[1].links
    for at, agent in zip((0, 1000), agents, strict=True):
        ends = [r for r in world.told(STATUS + "SUCCEEDED") if r.time_ns in (ns(at + 310), ns(at + 12))]
        last = [r for r in ends if r.attributes["torchelastic.source"] == "AGENT"]
        assert [record.span_id for record in last] == [context(agent).span_id]


def test_job_that_never_ended_ends_with_the_next_one() -> None:
    """A program that caught a signal launches again: the first job's spans do not stay open."""
    world = running()
    world.tell(f.StopRequested, 50, "SIGTERM")
    world.tell(f.RunEnded, 51, "", f.Raised("SignalException", "got signal", "", "SIGTERM"))
    world.start(100)
    assert len(world.all(AGENT)) == 1
    assert times(world.one(AGENT))[1] <= 100
    assert {status(span) for span in world.spans.ended if span.name == AGENT} == {UNSET}


def test_jobs_side_by_side() -> None:
    """Two launchers in threads of one process: each event and fact goes to its own job."""
    world = World()
    world.start(0, run_id="one")
    world.start(1, run_id="two")
    for number, run_id in ((1, "one"), (2, "two")):
        world.number, world.run_id, world.round = number, run_id, -1
        world.join(2 + number)
        world.workers(10 + number)
    world.number, world.run_id = 1, "one"
    world.die(20, {0: 1, 1: 0})
    world.end(21, "FAILED")
    world.number, world.run_id = 2, "two"
    world.succeed(30)
    outcomes = {attributes(s)["torchelastic.run_id"]: outcome(s) for s in world.all(AGENT)}
    assert outcomes == {"one": "failed", "two": "succeeded"}
    for span in world.spans.ended:
        assert context(span).trace_id == hash_trace_id(str(attributes(span)["torchelastic.run_id"]))
    for record in world.logs.records:
        assert record.trace_id == hash_trace_id(record.attributes["torchelastic.run_id"])


# --- span events ------------------------------------------------------------------------------------------


def test_span_events_are_capped_and_counted() -> None:
    """A span keeps the newest 128 events and says how many it dropped; the log has them all."""
    world = World()
    world.start(0)
    world.attempt(0)
    for number in range(300):
        world.rendezvous(1 + number / 1000, f"step {number}")
    world.joined(2)
    world.tell(f.RendezvousEnded, 2, rank=0, world_size=1)
    world.end(3, "SUCCEEDED")
    span = world.one(RENDEZVOUS)
    assert len(span.events) == 128
    assert span.dropped_events == 302 - 128
    assert span.events[-1].timestamp == ns(2)
    assert len([r for r in world.logs.records if r.span_id == context(span).span_id]) == 302


@pytest.mark.parametrize("limit", [0, 1, 5])
def test_cap_is_the_programs_own(limit: int) -> None:
    """The provider's limit counts."""
    world = World(max_events=limit)
    world.start(0)
    for number in range(10):
        world.rendezvous(1 + number, f"step {number}")
    world.end(30, "SUCCEEDED")
    span = world.one(AGENT)
    assert len(span.events) == limit
    assert len(span.events) + span.dropped_events == len(world.logs.records)


def test_span_events_can_be_switched_off() -> None:
    """No span has any then, none counts as dropped, and the log is complete all the same."""
    world = running(World(settings=Settings(span_events=False)))
    world.die(10, {0: 1}, stopped={1: -15})
    world.end(12, "FAILED")
    world.settle()
    assert [len(span.events) + span.dropped_events for span in world.spans.ended] == [0] * 5
    assert len(world.told("torchelastic.failure")) == 2
    assert len(world.told(STATUS + "START")) == 2


# --- clocks -----------------------------------------------------------------------------------------------


def test_clock_that_is_set_back() -> None:
    """No span ends before it began, and nothing lasted a negative time."""
    world = World()
    world.start(1000)
    world.attempt(900)
    world.joined(800)
    world.tell(f.RendezvousEnded, 750, rank=0, world_size=1)
    world.workers(700)
    world.die(600, {0: 1}, stopped={1: -15})
    world.tell(f.RestartStarted, 500, "FAILED", [], 2)
    world.join(400, took=-50)
    world.workers(300)
    world.succeed(-200)
    world.settle()
    assert world.spans.count == {AGENT: 1, RENDEZVOUS: 2, GROUP: 2, WORKER: 4}
    for span in world.spans.ended:
        assert times(span)[0] <= times(span)[1]
    for data in [attributes(s) for s in world.spans.ended] + [r.attributes for r in world.logs.records]:
        for key in ("torchelastic.rendezvous.waited", "torchelastic.restart.duration"):
            assert data.get(key, 0) >= 0


# --- bounds -----------------------------------------------------------------------------------------------


def kept_objects() -> Counter[str]:
    """Count the package's own live objects by their class."""
    gc.collect()
    kinds = (type(thing) for thing in gc.get_objects())
    return Counter(
        kind.__qualname__ for kind in kinds if str(kind.__module__).startswith("torchelastic_otel")
    )


def test_ten_thousand_restarts_leave_nothing_behind() -> None:
    """State does not grow with the number of generations."""
    world = World(keep=False)
    world.start(0, max_restarts=100_000)

    def restart(times_: int) -> None:
        for _ in range(times_):
            world.tell(f.RendezvousStarted, 1)
            world.tell(f.RendezvousEnded, 1, rank=0, world_size=1)
            world.workers(2, 1)
            world.die(3, {0: 1})
            world.tell(f.RestartStarted, 3, "FAILED", [], 1)

    restart(200)
    before = kept_objects()
    restart(9_800)
    assert kept_objects() == before
    world.end(4, "FAILED")
    assert world.spans.count == {AGENT: 1, RENDEZVOUS: 10_000, GROUP: 10_000, WORKER: 10_000}


@pytest.mark.parametrize("hooked", [True, False])
def test_a_thousand_run_ids_leave_nothing_behind(hooked: bool) -> None:
    """State is bounded however many jobs never end; those that make room end their spans."""
    world = World(keep=False)

    def launch(ids: Iterable[int]) -> None:
        for number in ids:
            if hooked:
                world.start(number, run_id=f"run-{number}")
                world.attempt(number)
            else:
                world.run_id = f"run-{number}"
                world.worker_event(number, "START", 0)

    launch(range(200))
    before = kept_objects()
    launch(range(200, 1000))
    after = kept_objects()
    assert after == before
    assert 800 <= world.spans.count[AGENT] < 1000
    world.engine.close(None)
    assert world.spans.count[AGENT] == 1000


# --- events alone -----------------------------------------------------------------------------------------


def test_events_alone_tell_a_job() -> None:
    """Another launcher, or a torch that the hooks do not fit: spans as far as events tell."""
    world = World()
    world.attempt(0)
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
    assert {outcome(span) for span in (rendezvous, group, *world.all(WORKER))} == {"succeeded"}
    assert parent(rendezvous) == parent(group) == context(agent).span_id
    assert {parent(span) for span in world.all(WORKER)} == {context(group).span_id}
    assert {context(span).trace_id for span in world.spans.ended} == {hash_trace_id("r")}
    assert attributes(world.all(WORKER)[0])["torchelastic.global_rank"] in (0, 1)


def test_events_after_the_agents_last_one_open_no_second_agent() -> None:
    """Torch closes the rendezvous after the agent's last event: that is the same launcher still."""
    world = World()
    world.attempt(0)
    world.joined(1)
    world.worker_event(2, "START", 0)
    world.worker_event(10, "SUCCEEDED", 0)
    world.event(11, "SUCCEEDED")
    world.rendezvous(11, "The node 'n_1_0' has closed the rendezvous 'r'.", "SUCCEEDED")
    world.engine.close(None)
    assert world.spans.count[AGENT] == 1


def test_events_alone_tell_of_a_restart() -> None:
    """A second START of a rank is a new generation, linked to the first; no failure is guessed."""
    world = World()
    world.attempt(0)
    world.joined(1)
    world.worker_event(2, "START", 0)
    world.attempt(10)
    world.joined(11)
    world.worker_event(12, "START", 0)
    world.worker_event(20, "SUCCEEDED", 0)
    world.event(21, "SUCCEEDED")
    first, second = world.all(GROUP)
    assert (times(first), status(first), outcome(first)) == ((2, 10), UNSET, None)
    assert [link.context.span_id for link in second.links] == [context(first).span_id]
    assert not world.told("torchelastic.failure")


def test_events_alone_tell_a_failed_worker() -> None:
    """Its span is an error, and so is its group."""
    world = World()
    world.worker_event(2, "START", 0)
    world.worker_event(2, "START", 1)
    world.worker_event(10, "FAILED", 0, 3)
    world.worker_event(10, "TERMINATED", 1)
    world.event(11, "SUCCEEDED")
    spans = {attributes(s)["torchelastic.local_rank"]: s for s in world.all(WORKER)}
    assert (status(spans[0]), outcome(spans[0])) == (FAILED, "failed")
    assert (status(spans[1]), outcome(spans[1])) == (UNSET, "terminated")
    assert (status(world.one(GROUP)), outcome(world.one(GROUP))) == (FAILED, "failed")


def test_events_alone_tell_a_failed_rendezvous_and_agent() -> None:
    """A join that failed, and the agent with it."""
    world = World()
    world.attempt(0)
    trace = "Traceback (most recent call last):\nValueError: x\n"
    world.rendezvous(5, "ValueError: x", "FAILED", error_trace=trace)
    world.event(6, "FAILED", raw_error=trace)
    span = world.one(RENDEZVOUS)
    assert (status(span), outcome(span), times(span)) == (FAILED, "failed", (0, 5))
    assert attributes(span)["error.type"] == "ValueError"
    assert (status(world.one(AGENT)), outcome(world.one(AGENT))) == (FAILED, "failed")


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
    assert world.spans.count == {AGENT: 1, RENDEZVOUS: 1, GROUP: 1, WORKER: 2}
    assert not world.told("torchelastic.restart")


# --- users' own events ------------------------------------------------------------------------------------


def users(world: World, span: SpanContext | None = None, **metadata: Any) -> Log:
    """A user's own event is recorded; return its record."""
    world.engine.event(("checkpoint.saved", "WORKER", 0, metadata), ns(5), span)
    return world.told("checkpoint.saved")[-1]


CALLERS = SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=TraceFlags(1))


def test_users_event_carries_the_callers_span() -> None:
    """Its current span goes before everything else."""
    environ = {"TRACEPARENT": TRACEPARENT, "LOCAL_RANK": "0", "TORCHELASTIC_RUN_ID": "r"}
    record = users(World(environ=environ), CALLERS, run_id="r")
    assert (record.trace_id, record.span_id) == (0xABC, 0xDEF)


def test_users_event_in_a_worker_belongs_to_the_workers_span() -> None:
    """It is the span that the agent put into the worker's environment."""
    environ = {"TRACEPARENT": TRACEPARENT, "LOCAL_RANK": "0", "TORCHELASTIC_RUN_ID": "r"}
    world = World(environ=environ)
    record = users(world, loss=0.5)
    assert (record.trace_id, record.span_id) == (0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331)
    assert record.attributes["loss"] == 0.5
    assert record.severity == INFO


def test_torchs_events_in_a_worker_open_no_agent() -> None:
    """A worker that records an event of torch's kind is no launcher."""
    environ = {"TRACEPARENT": TRACEPARENT, "LOCAL_RANK": "0", "TORCHELASTIC_RUN_ID": "r"}
    world = World(environ=environ)
    world.worker_event(2, "START", 0)
    world.engine.close(None)
    assert not world.spans.count
    (record,) = world.told(STATUS + "START")
    assert record.span_id == 0xB7AD6B7169203331


def test_users_event_in_the_launcher_belongs_to_the_agent() -> None:
    """Without a span of the caller's, the job's agent is what it belongs to."""
    world = running()
    record = users(world, run_id="r")
    world.succeed(10)
    assert record.span_id == context(world.one(AGENT)).span_id


def test_users_event_without_any_job_has_no_span() -> None:
    """Nothing is opened for it."""
    world = World()
    record = users(world)
    world.engine.close(None)
    assert (record.trace_id, record.span_id) == (0, 0)
    assert not world.spans.count


# --- heartbeats -------------------------------------------------------------------------------------------


def heartbeat(world: World, at: float, state: str = "RUNNING") -> None:
    """The keep-alive timer records an event."""
    world.rendezvous(
        at, "keep-alive", state, name="dynamic_rendezvous.py:DynamicRendezvousHandler._keep_alive"
    )


def test_heartbeats_are_counted() -> None:
    """They are no log records and no span events by default; one that failed is."""
    world = running()
    before = len(world.logs.records)
    for number in range(5):
        heartbeat(world, 3 + number)
    heartbeat(world, 9, "FAILED")
    assert [r.attributes["torchelastic.node_state"] for r in world.logs.records[before:]] == ["FAILED"]
    beats = world.points("torchelastic.rendezvous.heartbeats", "torchelastic.outcome")
    assert beats == {"succeeded": 5, "failed": 1}


def test_heartbeats_are_logged_on_demand() -> None:
    """As DEBUG records."""
    world = running(World(settings=Settings(heartbeats="log")))
    before = len(world.logs.records)
    heartbeat(world, 3)
    assert [record.severity for record in world.logs.records[before:]] == [5]
    assert world.metric("torchelastic.rendezvous.heartbeats") == 1


# --- hostile text -----------------------------------------------------------------------------------------

ODD = "\udcff\ud800 \0"


def encodes(world: World) -> None:
    """Assert that an encoder takes every span whole."""
    for span in world.spans.ended:
        (encoded,) = encode_spans([span]).resource_spans[0].scope_spans[0].spans
        assert {pair.key for pair in encoded.attributes} == set(attributes(span))
        for sent, kept in zip(encoded.events, span.events, strict=True):
            assert {pair.key for pair in sent.attributes} == set(kept.attributes or {})
    for record in world.logs.records:
        texts = [record.name, record.body, *record.attributes, *map(flat, record.attributes.values())]
        assert all(text.encode() is not None for text in texts)


def flat(value: object) -> str:
    """Return a value's text without escapes."""
    return "".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def test_odd_text_in_facts_is_sent() -> None:
    """File names, arguments and messages that are not UTF-8 cost no span and no record."""
    world = World()
    world.start(0, run_id=f"r{ODD}", backend=ODD, role=ODD, entry_point=ODD)
    world.tell(f.AgentCreated, 0, ODD, 3, 2, ODD)
    world.attempt(0)
    view = f.RendezvousView(0, [ODD], [ODD], [ODD], 1, 1, 60.0)
    world.tell(f.RendezvousEnded, 1, rank=0, world_size=1, view=view)
    world.workers(2)
    error = f.WorkerError(ODD, json.dumps({"message": f"E: {ODD}"}), 1)
    world.tell(f.WorkersExited, 3, [world.exit(0, 1, stdout=ODD, stderr=ODD, error=error)])
    world.tell(f.WorkersStopped, 4, [world.exit(1, -15, stdout=ODD)])
    world.tell(f.RestartStarted, 4, "HEALTHY", [ODD], 2)
    world.attempt(5)
    world.tell(f.RendezvousEnded, 6, f.Raised(ODD, ODD, ODD), view=view)
    world.end(7, "", f.Raised(ODD, ODD, ODD))
    world.settle()
    assert world.spans.count == {AGENT: 1, RENDEZVOUS: 2, GROUP: 1, WORKER: 2}
    encodes(world)


def test_odd_text_in_events_alone_is_sent() -> None:
    """Likewise where events open the spans."""
    world = World()
    world.run_id = f"r{ODD}"
    world.attempt(0)
    world.joined(1)
    world.worker_event(2, "START", 0, role=ODD, hostname=ODD)
    world.worker_event(3, "FAILED", 0, 1, raw_error=json.dumps({"message": f"E: {ODD}"}))
    world.event(4, "FAILED", raw_error=f"Traceback (most recent call last):\nE: {ODD}\n")
    world.settle()
    assert world.spans.count == {AGENT: 1, RENDEZVOUS: 1, GROUP: 1, WORKER: 1}
    encodes(world)


def test_long_text_in_facts_is_cut() -> None:
    """A message of megabytes does not travel whole, several times over."""
    world = World()
    world.start(0)
    world.tell(f.StoreFailed, 1, f.Raised("E", "x" * 5_000_000, "y" * 5_000_000))
    sizes = [len(flat(value)) for value in attributes(world.one(AGENT)).values()]
    sizes += [len(flat(value)) for record in world.logs.records for value in record.attributes.values()]
    assert max(sizes) < 100_000
