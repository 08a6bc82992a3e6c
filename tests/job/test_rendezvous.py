"""Attempts to join a round: joined, failed, let go, or never heard of again."""

from __future__ import annotations

from tests.support.job_player import AGENT, RENDEZVOUS
from tests.support.job_world import World, running, times
from torchelastic_otel._job import facts as f
from torchelastic_otel._job.event import ERROR, WARN


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
    assert span.outcome == "succeeded"
    assert span.attributes["torchelastic.group_rank"] == 1
    assert span.attributes["torchelastic.group_world_size"] == 2
    assert "torchelastic.round" not in span.attributes


def test_rendezvous_timeout_names_who_was_there() -> None:
    """One sentence: how long, who had joined, how many were needed. It is the job's verdict as well."""
    view = f.RendezvousView(0, ["n_1_0"], ["m_2_0"], 2, 4, 60.0)
    world = refused(f.Raised("RendezvousTimeoutError", "", "Traceback …"), view)
    span = world.one(RENDEZVOUS)
    assert (span.outcome, times(span)) == ("failed", (0, 60))
    assert (
        span.attributes.items()
        >= {
            "error.type": "RendezvousTimeoutError",
            "exception.type": "RendezvousTimeoutError",
            "exception.stacktrace": "Traceback …",
            "torchelastic.min_nodes": 2,
            "torchelastic.max_nodes": 4,
            "torchelastic.rendezvous.nodes_joined": 1,
            "torchelastic.rendezvous.nodes": ["n_1_0"],
            "torchelastic.rendezvous.nodes_waiting": ["m_2_0"],
            "torchelastic.rendezvous.waited": 60.0,
            "torchelastic.rendezvous.timeout": 60.0,
        }.items()
    )
    outcome, sentence = world.verdict()
    assert outcome == "failed"
    for words in ("timed out after 60.0 s", "1 of the 2 to 4 nodes", "n_1_0"):
        assert words in sentence
        assert words in span.description
    (failed,) = [r for r in world.records if r.attributes.get("torchelastic.node_state") == "FAILED"]
    assert failed.severity == ERROR
    assert failed.span_id == span.context.span_id
    assert world.told("torchelastic.agent.stop")[0].attributes["error.type"] == "RendezvousTimeoutError"


def test_rendezvous_that_shares_no_state() -> None:
    """Static rendezvous knows nobody: the exception's own text is the sentence, and nothing is made up."""
    world = refused(f.Raised("DistStoreError", "1/2 clients joined\nmore", "Traceback …"))
    assert "DistStoreError: 1/2 clients joined" in world.verdict()[1]
    assert not {
        key for key in world.one(RENDEZVOUS).attributes if key.startswith("torchelastic.rendezvous.nodes")
    }


def test_closed_rendezvous() -> None:
    """The job of this run id has ended: said in these words."""
    world = refused(f.Raised("RendezvousClosedError", ""), f.RendezvousView(3, [], [], 2, 4, 60.0))
    assert "closed" in world.verdict()[1]
    assert world.verdict()[0] == "failed"


def test_spare_node_is_let_go() -> None:
    """Torch raises an AttributeError afterwards; the node was just not needed."""
    world = refused(f.Raised("RendezvousGracefulExitError", "not needed"))
    span = world.one(RENDEZVOUS)
    assert span.outcome == "terminated"
    outcome, sentence = world.verdict()
    assert outcome == "terminated"
    assert "not needed" in sentence
    assert max(record.severity for record in world.records) == WARN


def test_failed_event_outside_of_a_join() -> None:
    """A heartbeat that failed once the store's node had left is no failed join: a warning."""
    world = running()
    world.rendezvous(5, "RendezvousConnectionError: gone", "FAILED", name="x.py:H._keep_alive")
    record = next(r for r in world.records if r.attributes.get("torchelastic.node_state") == "FAILED")
    assert record.severity == WARN
    world.succeed(10)
    assert record.span_id == world.one(AGENT).context.span_id


def test_attempt_that_never_ended() -> None:
    """A second attempt ends the first without an outcome: nothing is known of it."""
    world = World()
    world.start(0)
    world.attempt(0)
    world.join(5)
    world.end(10, "SUCCEEDED")
    first, second = world.all(RENDEZVOUS)
    assert (first.outcome, times(first)) == (None, (0, 5))
    assert second.outcome == "succeeded"


def test_error_between_the_join_and_the_start_of_workers() -> None:
    """The node had joined, so the rendezvous succeeded; what torch did next failed, and is named."""
    world = World()
    world.start(0)
    world.attempt(0)
    world.joined(1)
    error = f.Raised("DistStoreError", "wait timeout after 60000ms", "Traceback …")
    world.tell(f.RendezvousEnded, 61, error, view=f.RendezvousView(0, ["n_1_0"], [], 1, 1, 600.0))
    world.event(61, "RENDEZVOUS", duration_ms=61_000)
    world.end(62, "", error)
    span = world.one(RENDEZVOUS)
    assert (span.outcome, times(span)) == ("succeeded", (0, 1))
    outcome, sentence = world.verdict()
    assert outcome == "failed"
    assert "DistStoreError" in sentence
    assert "between the joined rendezvous and the start of the workers" in sentence
