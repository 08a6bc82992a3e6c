"""A launcher as its agent plays it, and what the job's model makes of that, in plain objects."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.support import torch_texts
from tests.support.job_player import AGENT, T0, WORKER, Player, S
from tests.support.plain_output import PlainOutput, PlainSpan, Record, Series
from torchelastic_otel._config.settings import Settings


class World(Player):
    """One launcher, the engine that watches it, and what came out of that."""

    def __init__(
        self,
        *,
        environ: Mapping[str, str] | None = None,
        settings: Settings | None = None,
        keep: bool = True,
    ) -> None:
        self.output = PlainOutput(keep=keep)
        super().__init__(self.output, settings, environ)

    @property
    def records(self) -> list[Record]:
        """All log records."""
        return self.output.records

    @property
    def ended(self) -> list[PlainSpan]:
        """The spans that have ended."""
        return self.output.ended

    def told(self, name: str) -> list[Record]:
        """Return the log records of a name."""
        return [record for record in self.records if record.name == name]

    def all(self, name: str) -> list[PlainSpan]:
        """Return the ended spans of a name, in the order of their starts."""
        self.settle()
        return sorted((s for s in self.ended if s.name == name), key=lambda span: span.start_ns)

    def one(self, name: str) -> PlainSpan:
        """Return the only ended span of a name."""
        (span,) = self.all(name)
        return span

    def by_rank(self) -> dict[Any, PlainSpan]:
        """Return the ended spans of workers by local rank, of several the last."""
        return {span.attributes["torchelastic.local_rank"]: span for span in self.all(WORKER)}

    def verdict(self) -> tuple[str | None, str]:
        """Return the agent's outcome, and its last record's sentence."""
        stops = self.told("torchelastic.agent.stop")
        return self.one(AGENT).outcome, stops[-1].body if stops else ""

    def series(self, name: str) -> list[Series]:
        """Return the series of a metric."""
        return [series for (metric, _), series in self.output.series.items() if metric == name]

    def points(self, name: str, attribute: str = "") -> dict[Any, float]:
        """Return the values of a metric by one of its attributes; of a histogram, the sums."""
        found: dict[Any, float] = {}
        for series in self.series(name):
            key = series.attributes.get(attribute)
            found[key] = found.get(key, 0) + series.value
        return found

    def metric(self, name: str) -> float:
        """Return the sum of a metric's series."""
        return sum(self.points(name).values())


def times(span: PlainSpan) -> tuple[float, float]:
    """Return when an ended span began and ended, in seconds of the test's world."""
    assert span.ended
    return (span.start_ns - T0) / S, (span.end_ns - T0) / S


def first_failure(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what attributes say of the first failure."""
    prefix = "torchelastic.first_failure."
    return {key.removeprefix(prefix): value for key, value in data.items() if key.startswith(prefix)}


def running(world: World | None = None, *, count: int = 2, **known: Any) -> World:
    """Return a world with one job whose workers run since second 2."""
    world = world or World()
    world.start(0, **known)
    world.join(0)
    world.workers(2, count)
    return world


def recorded(event: str | Mapping[str, Any], thread: str | None = None) -> Record:
    """Return the record of an event that is recorded at ``NOW``, in a world that knows no job yet."""
    world = World(settings=Settings(heartbeats="log"))
    world.record(event, thread)
    (record,) = world.records
    return record


def status_record(
    state: str, source: str = "WORKER", /, *, inner: Mapping[str, Any] | None = None, **metadata: Any
) -> Record:
    """Return the record of an agent's or a worker's event, recorded as torch writes it."""
    return recorded(json.dumps(torch_texts.status_event(state, source, inner, **metadata)))


def rendezvous_record(thread: str | None = None, /, **fields: Any) -> Record:
    """Return the record of a rendezvous event, recorded as torch writes it."""
    return recorded(json.dumps(torch_texts.rendezvous_event(**fields)), thread)
