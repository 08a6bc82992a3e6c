"""Keep-alive events: counted, and logged on demand."""

from __future__ import annotations

from tests.support.job_world import World, running
from torchelastic_otel._config.settings import Settings


def test_heartbeats_are_counted() -> None:
    """They are no log records and no span events by default; one that failed is."""
    world = running()
    before = len(world.records)
    for number in range(5):
        world.heartbeat(3 + number)
    world.heartbeat(9, "FAILED")
    assert [r.attributes["torchelastic.node_state"] for r in world.records[before:]] == ["FAILED"]
    beats = world.points("torchelastic.rendezvous.heartbeats", "torchelastic.outcome")
    assert beats == {"succeeded": 5, "failed": 1}


def test_heartbeats_are_logged_on_demand() -> None:
    """As DEBUG records."""
    world = running(World(settings=Settings(heartbeats="log")))
    before = len(world.records)
    world.heartbeat(3)
    assert [record.severity for record in world.records[before:]] == [5]
    assert world.metric("torchelastic.rendezvous.heartbeats") == 1
