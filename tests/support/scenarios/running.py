"""Runs scenarios, and has for each what arrived and what is true."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from otlp_receiver import LogRecord, MetricPoint, OtlpReceiver, Request, Span
from tests.support.backends import relay
from tests.support.harness import TIMEOUT_S, Harness, WorkerNote, otlp
from tests.support.names import AGENT, WORKER
from tests.support.recorded import Recorded

# Each module adds its scenarios.
from tests.support.scenarios import deaths, ends, launches, rendezvous  # noqa: F401
from tests.support.scenarios.expected import Expected
from tests.support.scenarios.job import SCENARIOS, Job, Scenario

TORCH = tuple(int(part) for part in version("torch").split(".")[:2])


@dataclass(frozen=True, slots=True)
class Received:
    """Telemetry that arrived."""

    logs: list[LogRecord]
    spans: list[Span]

    def named(self, name: str) -> list[Span]:
        """Spans of that name in order of their start."""
        return sorted((span for span in self.spans if span.name == name), key=lambda span: span.start_ns)

    def children(self, parent: Span, name: str) -> list[Span]:
        """Children of that name in order of their start."""
        return [span for span in self.named(name) if span.parent_span_id == parent.span_id]

    def records(self, event_name: str) -> list[LogRecord]:
        """Log records of that name in order of their time."""
        return sorted((r for r in self.logs if r.event_name == event_name), key=lambda record: record.time_ns)

    @property
    def sent(self) -> list[LogRecord | Span]:
        """All that has a resource and a scope."""
        return [*self.logs, *self.spans]

    @property
    def by_id(self) -> dict[str, Span]:
        """Spans by their id."""
        return {span.span_id: span for span in self.spans}


@dataclass(frozen=True, slots=True)
class Node(Received):
    """A launcher that has ended, what arrived of it, and what torch recorded in it."""

    expected: Expected
    pid: int
    exit_code: int
    output: str
    recorded: list[Recorded]

    @property
    def events(self) -> list[Recorded]:
        """What is to be log records: all that reached a logger, heartbeats apart."""
        return [event for event in self.recorded if event.kind != "asked" and not event.heartbeat]

    @property
    def agent(self) -> Span:
        """The agent's span."""
        (span,) = self.named(AGENT)
        return span

    def workers(self, group: Span) -> list[Span]:
        """Workers of a generation in order of their local rank."""
        key = "torchelastic.local_rank"
        return sorted(self.children(group, WORKER), key=lambda span: int(span.attributes[key]))


@dataclass(frozen=True, slots=True)
class Run(Received):
    """A scenario that has run: what arrived of all of it, and what is true."""

    scenario: Scenario
    run_id: str
    nodes: list[Node]
    metrics: list[MetricPoint]
    requests: list[Request]
    notes: list[WorkerNote]
    facts: dict[str, Any]
    """What the scenario saw while it ran."""
    began_ns: int
    ended_ns: int

    @property
    def alive(self) -> list[Node]:
        """Nodes whose launcher lived to tell its end."""
        return [node for node in self.nodes if node.expected.outcome]

    @property
    def launchers(self) -> set[int]:
        """Process ids of the launchers."""
        return {node.pid for node in self.nodes}

    @property
    def from_launchers(self) -> list[LogRecord]:
        """Log records that launchers sent."""
        return [record for record in self.logs if record.resource.get("process.pid") in self.launchers]

    @property
    def notes_by_pid(self) -> dict[int, WorkerNote]:
        """What each worker process found in its environment."""
        return {note.pid: note for note in self.notes}


def run_scenario(directory: Path, name: str, *, bridge: bool = True, measured: bool = False) -> Run:
    """Run a scenario to its end; ``measured`` as in ``Harness``."""
    found = SCENARIOS[name]
    if found.needs > TORCH:
        pytest.skip(f"this torch cannot: it needs {'.'.join(map(str, found.needs))}")
    directory.mkdir(parents=True)
    with ExitStack() as stack:
        receiver = stack.enter_context(OtlpReceiver())
        harness = stack.enter_context(Harness(directory / "job", measured=measured))
        # All is there once a launcher has ended, however busy this machine is.
        env = {**otlp(receiver, found.protocol), "TORCHELASTIC_OTEL_EXIT_TIMEOUT": str(TIMEOUT_S)}
        if found.collector:
            endpoints = stack.enter_context(relay(receiver, directory / "collector"))
            env["OTEL_EXPORTER_OTLP_ENDPOINT"] = endpoints[found.protocol]
        job = Job(harness, env, stack, receiver, bridge=bridge)
        began_ns = time.time_ns()
        agents = found.run(job)
        ended_ns = time.time_ns()
        logs, spans = receiver.logs, receiver.spans
        nodes = [
            Node(
                [record for record in logs if record.resource["process.pid"] == agent.pid],
                [span for span in spans if span.resource["process.pid"] == agent.pid],
                expected,
                agent.pid,
                agent.wait(),
                agent.output,
                agent.recorded,
            )
            for expected, agent in zip(found.nodes, agents, strict=True)
        ]
        return Run(
            logs,
            spans,
            found,
            job.run_id,
            nodes,
            receiver.metrics,
            receiver.requests,
            harness.worker_notes(),
            job.facts,
            began_ns,
            ended_ns,
        )


class Runs:
    """Runs each scenario once, some at a time: they mostly wait.

    Args:
        directory: an empty one.
        wanted: scenarios, each with or without the bridge, that will be asked for; they begin to run at once.
    """

    def __init__(self, directory: Path, wanted: Sequence[tuple[str, bool]]) -> None:
        self._directory = directory
        self._pool = ThreadPoolExecutor((os.cpu_count() or 1) + 2, thread_name_prefix="scenario")
        self._runs: dict[tuple[str, bool], Future[Run]] = {}
        for name, bridge in sorted(dict.fromkeys(wanted), key=lambda key: not SCENARIOS[key[0]].waits):
            self._submit(name, bridge)

    def _submit(self, name: str, bridge: bool) -> Future[Run]:
        directory = self._directory / str(len(self._runs))
        future = self._pool.submit(run_scenario, directory, name, bridge=bridge)
        self._runs[name, bridge] = future
        return future

    def get(self, name: str, *, bridge: bool = True) -> Run:
        """Return a scenario that has run; raise what it raised."""
        future = self._runs.get((name, bridge)) or self._submit(name, bridge)
        return future.result()

    def stop(self) -> None:
        """Run no more of them."""
        self._pool.shutdown(cancel_futures=True)


def where(condition: Callable[[Scenario], bool]) -> pytest.MarkDecorator:
    """Parametrize over the scenarios that ``condition`` holds for."""
    return pytest.mark.parametrize("name", [name for name, found in SCENARIOS.items() if condition(found)])


def only(*names: str) -> pytest.MarkDecorator:
    """Parametrize over these scenarios."""
    assert set(names) <= set(SCENARIOS)
    return pytest.mark.parametrize("name", list(names))


every = where(lambda found: True)
whole = where(lambda found: found.whole)
"""Every scenario in which each launcher lives to tell its end."""
single = where(lambda found: found.jobs == 1)
"""Every scenario in which each launcher runs one job."""
