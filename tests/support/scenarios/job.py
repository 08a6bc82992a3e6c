"""What a scenario runs in, and how one is added."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from otlp_receiver import OtlpReceiver
from tests.support.gates import Lever
from tests.support.harness import (
    OTEL,
    QUICK,
    TIMEOUT_S,
    Act,
    Agent,
    Harness,
    Protocol,
    Script,
    WorkerNote,
    c10d,
    free_port,
)
from tests.support.names import STATUS
from tests.support.scenarios.expected import Expected


class Job:
    """What a scenario launches with: the bridge's destination and exporter, or nothing of either.

    Args:
        harness: starts launchers.
        env: variables that say where to send.
        stack: ends with the scenario.
        receiver: what listens there; None where that changes while the job runs.
        bridge: False for a run without the bridge.
    """

    def __init__(
        self,
        harness: Harness,
        env: Mapping[str, str],
        stack: ExitStack,
        receiver: OtlpReceiver | None = None,
        *,
        bridge: bool = True,
    ) -> None:
        self.harness = harness
        self.bridge = bridge
        self.run_id = f"job-{os.urandom(6).hex()}"
        self.facts: dict[str, Any] = {}
        """What was true while it ran."""
        self._env = env
        self._stack = stack
        self._receiver = receiver
        self._agents: list[Agent] = []

    # Starting

    def options(self, *, nodes: int = 1, per_node: int = 2, restarts: int = 0, port: int = 0) -> list[str]:
        """Return torchrun's options for a c10d job."""
        return c10d(port, self.run_id, nodes=nodes, per_node=per_node, restarts=restarts)

    def static_options(self, node: int, port: int) -> list[str]:
        """Return the options of a node of a static rendezvous of two."""
        return [
            *QUICK,
            "--nnodes=2",
            "--nproc-per-node=2",
            f"--node-rank={node}",
            "--master-addr=127.0.0.1",
            f"--master-port={port}",
            "--max-restarts=0",
            f"--rdzv-id={self.run_id}",
        ]

    def worker(self, *acts: Mapping[str, Act], together: int = 0, by_world_size: bool = False) -> Script:
        """Return a worker script, as ``Harness.acting`` does."""
        return self.harness.acting(*acts, together=together, by_world_size=by_world_size)

    def torchrun(
        self,
        options: Sequence[str],
        script: Script,
        env: Mapping[str, str] | None = None,
        *,
        handler: Sequence[str] = OTEL,
        under: Sequence[str] = (),
    ) -> Agent:
        """Start the launcher of the next node, in a run without the bridge without its ``handler``."""
        node = {"TEST_NODE": str(len(self._agents) + 1)}
        agent = self.harness.torchrun(
            [*(handler if self.bridge else ()), *options],
            script,
            env={**self._env, **node, **(env or {})},
            bridge=self.bridge,
            under=under,
        )
        self._agents.append(agent)
        return agent

    def program(self, source: str, *arguments: str) -> Agent:
        """Start a program that launches by itself; its first argument is the event log handler."""
        path = self.harness.program("launch.py", textwrap.dedent(source))
        handler = "otel" if self.bridge else "null"
        command = [sys.executable, str(path), handler, *arguments]
        return self.harness.run(command, env=self._env, bridge=self.bridge)

    def store(self) -> int:
        """Run a rendezvous store in a process of its own; return its port."""
        lever = self.lever()
        source = f"""
        import signal, socket
        from torch.distributed import TCPStore
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        with socket.socket(socket.AF_UNIX) as test:
            test.connect("\\0{lever.name}")
            test.sendall(str(store.port).encode())
        signal.pause()
        """
        path = self.harness.program("store.py", textwrap.dedent(source))
        self.harness.run([sys.executable, str(path)], bridge=False)
        return int(lever.hear(TIMEOUT_S))

    def two_agents(self, script: Script, *, restarts: int = 0) -> list[Agent]:
        """Run a job of two nodes with two workers each to its end."""
        options = self.options(nodes=2, restarts=restarts, port=free_port())
        return end(*[self.torchrun(options, script) for _ in range(2)])

    # Waiting

    def lever(self) -> Lever:
        """Return a lever that is pulled when the scenario ends, if not before."""
        lever = Lever()
        self._stack.callback(lever.pull)
        return lever

    def wait_for_workers(self, *agents: Agent, per_node: int = 2) -> None:
        """Wait until all workers of the first attempt run, and until ``agents`` know of theirs."""
        self.harness.wait_for_gate()
        for agent in agents:
            agent.wait_for_event(f"{STATUS}START", per_node)

    def receive(self, what: str, predicate: Callable[[OtlpReceiver], bool]) -> None:
        """Wait for telemetry; without the bridge there is none to wait for."""
        assert self._receiver is not None
        if self.bridge and not self._receiver.wait(predicate, TIMEOUT_S):
            pytest.fail(f"not received: {what}; {[agent.output for agent in self._agents]}")

    # Looking

    def note(self, node: int, local_rank: int) -> WorkerNote:
        """Return the latest note of a worker."""
        found = [
            note
            for note in self.harness.worker_notes()
            if (note.env["TEST_NODE"], note.env["LOCAL_RANK"]) == (str(node), str(local_rank))
        ]
        return max(found, key=lambda note: int(note.env["TORCHELASTIC_RESTART_COUNT"]))

    def node_of(self, rank: int) -> int:
        """Return which launcher, from 0, had the worker with a global rank in the first attempt."""
        (note,) = [
            note
            for note in self.harness.worker_notes()
            if (note.env["RANK"], note.env["TORCHELASTIC_RESTART_COUNT"]) == (str(rank), "0")
        ]
        return int(note.env["TEST_NODE"]) - 1


def end(*agents: Agent) -> list[Agent]:
    """Wait for the ends of launchers."""
    for agent in agents:
        agent.wait()
    return list(agents)


def has(name: str, **attributes: Any) -> Callable[[OtlpReceiver], bool]:
    """Tell whether a log record of that name has arrived with these attributes of torchelastic."""
    wanted = {f"torchelastic.{key.replace('__', '.')}": value for key, value in attributes.items()}

    def found(receiver: OtlpReceiver) -> bool:
        return any(
            record.event_name == name and wanted.items() <= record.attributes.items()
            for record in receiver.logs
        )

    return found


Runner = Callable[[Job], list[Agent]]
"""Runs a job to its end; returns its launchers."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """How to run a job, and what must be true of it."""

    run: Runner
    nodes: tuple[Expected, ...]
    """Its launchers, in the order in which ``run`` returns them."""
    what: str = ""
    """What happened, for docs/failures.md; "" to leave it out."""
    waits: bool = False
    """Whether it waits for long, and had better be started early."""
    needs: tuple[int, int] = (2, 8)
    """Oldest torch that it is possible with."""
    jobs: int = 1
    """Jobs of each launcher process."""
    protocol: Protocol = "grpc"
    collector: bool = False
    """Whether a Collector is in between."""
    shared_trace: bool = True
    """Whether the run id is given, so that the trace id can be told beforehand."""
    users_resource: bool = False
    """Whether the program's own providers are used."""
    own_events: tuple[str, ...] = ()
    """Names of events that the workers record."""

    @property
    def whole(self) -> bool:
        """Whether every launcher lives to tell its end."""
        return all(node.outcome for node in self.nodes)


SCENARIOS: dict[str, Scenario] = {}


def scenario(name: str, *nodes: Expected, **more: Any) -> Callable[[Runner], Runner]:
    """Add a scenario."""

    def add(run: Runner) -> Runner:
        SCENARIOS[name] = Scenario(run, nodes, **more)
        return run

    return add
