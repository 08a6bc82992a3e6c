"""What goes through the engine besides spans, records and metrics: words, haste, contexts, what is broken."""

from __future__ import annotations

import json

import pytest

from tests.support.job_player import AGENT, IN_WORKER, SIGTERM, WORKER, moment, ns
from tests.support.job_world import World, recorded, running
from tests.support.plain_output import PlainSpan
from tests.support.said import Said
from tests.support.torch_texts import rendezvous_event
from torchelastic_otel._config.settings import Settings
from torchelastic_otel._job import facts as f
from torchelastic_otel._job.event import WARN
from torchelastic_otel._job.identity import hash_trace_id

# --- what a person at the terminal reads ------------------------------------------------------------------


def test_the_trace_is_said_at_the_start() -> None:
    """Once, and nothing else in a job that goes well."""
    world = running()
    world.succeed(10)
    assert world.output.said == [f"trace {hash_trace_id('r'):032x}"]


def test_a_failure_is_said_with_the_trace_and_the_link() -> None:
    """The verdict, as it stands on the agent's span."""
    world = running(World(settings=Settings(trace_url="https://traces.example/{trace_id}")))
    world.die(10, {0: 1}, stopped={1: -15})
    world.end(12, "FAILED")
    trace = f"{hash_trace_id('r'):032x}"
    link = f"{trace} https://traces.example/{trace}"
    verdict = world.one(AGENT).attributes["torchelastic.verdict"]
    assert world.output.said == [f"trace {link}", f"{verdict} (trace {link})"]


def test_a_job_that_was_stopped_says_no_more() -> None:
    """Whoever stopped it knows."""
    world = running()
    world.signalled(10)
    assert len(world.output.said) == 1


@pytest.mark.parametrize(
    "nodes",
    [
        pytest.param({"min_nodes": 2, "max_nodes": 2}, id="two nodes"),
        pytest.param({"min_nodes": 1, "max_nodes": 2}, id="one node or two"),
        pytest.param({"min_nodes": None, "max_nodes": None}, id="nobody knows how many"),
    ],
)
def test_a_run_id_that_names_nothing_is_said(nodes: dict[str, int | None]) -> None:
    """With what to do about it, wherever the job may have another node."""
    world = World()
    world.start(0, run_id="none", **nodes)
    trace, warning = world.output.said
    assert trace.startswith("trace ")
    assert "identifies no job" in warning


def test_a_job_of_one_node_needs_no_run_id() -> None:
    """Torch calls it "none" unless told otherwise, and it shares its trace with nobody."""
    world = World()
    world.start(0, run_id="none", min_nodes=1, max_nodes=1)
    world.succeed(10)
    (trace,) = world.output.said
    assert trace.startswith("trace ")


def test_a_job_that_events_alone_tell_of_says_nothing() -> None:
    """It may be one of many that a controller records."""
    world = World()
    world.worker_event(2, "START", 0)
    world.worker_event(3, "FAILED", 0, 1)
    world.event(4, "FAILED")
    assert world.output.said == []


# --- haste ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "arguments", "hurries"),
    [
        (f.WorkersExited, ([],), 1),
        (f.StopRequested, ("SIGTERM",), 1),
        (f.StoreFailed, (SIGTERM,), 1),
        (f.RunEnded, ("SUCCEEDED",), 1),
        (f.RendezvousStarted, (), 0),
        (f.WorkersStopping, (), 0),
        (f.JobEnded, (), 0),
    ],
)
def test_what_may_be_the_last_word_is_sent_at_once(
    kind: type[f.Fact], arguments: tuple[object, ...], hurries: int
) -> None:
    """A death that somebody waits to hear of, and what comes before the process ends."""
    world = running()
    world.tell(kind, 10, *arguments)
    assert world.output.hurries == hurries


# --- contexts ---------------------------------------------------------------------------------------------


def test_each_worker_is_given_its_own_spans_context() -> None:
    """By local rank, while the generation is about to start; nothing for a launcher that nobody knows."""
    world = World()
    world.start(0)
    assert world.engine.worker_contexts(1) == {}
    world.join(0)
    world.workers(2, ids=0x100)
    trace = f"{hash_trace_id('r'):032x}"
    assert world.engine.worker_contexts(1) == {
        0: {"TRACEPARENT": f"00-{trace}-0000000000000101-01"},
        1: {"TRACEPARENT": f"00-{trace}-0000000000000102-01"},
    }
    assert world.engine.worker_contexts(2) == {}


def test_no_worker_is_given_a_parent_that_nobody_exports() -> None:
    """It would be shown as a defect."""
    world = running()
    world.output.exports_spans = False
    assert world.engine.worker_contexts(1) == {}


def test_the_process_belongs_to_its_job() -> None:
    """The bridge's own metrics are found by its run id, in a worker as well, while there is one alone."""
    assert World(environ=IN_WORKER).output.run_id == "r"
    world = running()
    assert world.output.run_id == "r"
    world.start(100, run_id="s")
    assert world.output.run_id == ""


# --- what is broken ---------------------------------------------------------------------------------------


def test_a_rendezvous_event_is_the_same_by_its_fields() -> None:
    """As torch's hooks hand it over."""
    fields = rendezvous_event(rank=1, node_state="FAILED", error_trace="ValueError: x\n")
    assert recorded(fields) == recorded(json.dumps(fields))


@pytest.mark.internal_errors("translating an event: ValueError: wrong")
def test_what_cannot_be_read_is_a_raw_record() -> None:
    """It is counted and kept as it is, and the bridge says that it is its own fault."""
    world = running()
    world.engine.broken("the text", moment(5), ValueError("wrong"))
    (record,) = world.told("torchelastic.unparsed")
    assert (record.body, record.severity, record.time_ns) == ("the text", WARN, ns(5))
    assert world.points("torchelastic.events", "torchelastic.event")["torchelastic.unparsed"] == 1


@pytest.mark.internal_errors("ending a job: ValueError: no end")
def test_a_job_that_cannot_be_ended_costs_no_other(said: Said) -> None:
    """The process ends, and each job for itself."""
    world = World()
    world.start(0, run_id="one")
    world.start(1, run_id="two")

    def refuses(_span: PlainSpan) -> None:
        raise ValueError("no end")

    one, two = (span for span in world.output.started if span.name == AGENT)
    one.at_end = refuses  # as a program's own span processor may do
    world.engine.close(None)
    assert two.ended
    assert len(said.having("ending a job: ValueError: no end")) == 1


def test_spans_of_workers_wait_for_torchs_last_event() -> None:
    """Two seconds, then they end at the time they were seen ended; until then the engine is to look again."""
    world = running()
    world.tell(f.WorkersExited, 10, [world.exit(0, 0)])
    assert not world.engine.tick(moment(11))
    assert not ended_workers(world)
    assert world.engine.tick(moment(13))
    assert len(ended_workers(world)) == 1


def ended_workers(world: World) -> list[PlainSpan]:
    """Return the spans of workers that have ended."""
    return [span for span in world.ended if span.name == WORKER]
