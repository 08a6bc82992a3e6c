"""Texts of megabytes, and of bytes that are no text."""

from __future__ import annotations

from collections.abc import Iterable

from tests.support.job_player import AGENT, GROUP, RENDEZVOUS, WORKER
from tests.support.job_world import World
from tests.support.odd_values import odd_events, odd_facts
from torchelastic_otel._job import facts as f
from torchelastic_otel._values import MAX_TEXT


def texts(world: World) -> Iterable[str]:
    """Return every text of the records."""
    for record in world.records:
        yield from (record.name, record.body, *record.attributes)
        for value in record.attributes.values():
            yield from map(str, value if isinstance(value, list) else [value])


def test_odd_text_in_facts_costs_nothing() -> None:
    """File names, arguments and messages that are not UTF-8 cost no span and no record."""
    world = World()
    odd_facts(world)
    assert world.output.counts == {AGENT: 1, RENDEZVOUS: 2, GROUP: 1, WORKER: 2}
    assert len(world.told("torchelastic.failure")) == 2
    assert len(world.told("torchelastic.agent.stop")) == 1
    assert all(text.encode() is not None for text in texts(world))


def test_odd_text_in_events_alone_costs_nothing() -> None:
    """Likewise where events open the spans."""
    world = World()
    odd_events(world)
    assert world.output.counts == {AGENT: 1, RENDEZVOUS: 1, GROUP: 1, WORKER: 1}
    assert len(world.records) == 5
    assert all(text.encode() is not None for text in texts(world))


def test_long_text_in_facts_is_cut() -> None:
    """A message of megabytes does not travel whole, several times over."""
    world = World()
    world.start(0)
    world.tell(f.StoreFailed, 1, f.Raised("E", "x" * 5_000_000, "y" * 5_000_000))
    assert MAX_TEXT < max(map(len, texts(world))) < MAX_TEXT + 100
