"""Scenarios of real torchrun, each run once against a real OTLP receiver and then looked at from many sides.

What torch recorded is known from torch itself (see ``harness``), not from the bridge.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from otlp_receiver import LogRecord, MetricPoint, OtlpReceiver, Request, Span
from tests.support.backends import relay
from tests.support.harness import (
    OTEL,
    QUICK,
    Agent,
    Harness,
    Protocol,
    Recorded,
    Script,
    WorkerNote,
    c10d,
    free_port,
    otlp,
)

AGENT, RENDEZVOUS = "torchelastic.agent", "torchelastic.rendezvous"
GROUP, WORKER = "torchelastic.worker_group", "torchelastic.worker"
STATUS = "torchelastic.worker.status."
INFO, WARN, ERROR = 9, 13, 17


# --- scenarios --------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Job:
    """What a scenario launches with: the bridge's destination and exporter, or nothing of either."""

    harness: Harness
    env: dict[str, str]
    run_id: str
    bridge: bool = True

    def torchrun(
        self,
        options: Sequence[str],
        script: Script,
        *,
        env: dict[str, str] | None = None,
        handler: Sequence[str] = OTEL,
        under: Sequence[str] = (),
    ) -> Agent:
        """Start torchrun with ``handler``, which a run without the bridge goes without."""
        return self.harness.torchrun(
            [*(handler if self.bridge else ()), *options],
            script,
            env=self.env | (env or {}),
            bridge=self.bridge,
            under=under,
        )

    def program(self, source: str, *arguments: str) -> Agent:
        """Start a program that launches by itself; its first argument is the event log handler."""
        path = self.harness.program("launch.py", textwrap.dedent(source))
        handler = "otel" if self.bridge else "null"
        return self.harness.run(
            [sys.executable, str(path), handler, *arguments], env=self.env, bridge=self.bridge
        )


@dataclass(frozen=True, slots=True)
class Scenario:
    """How to run a scenario, and what must be true of it."""

    run: Callable[[Job], list[Agent]]
    exit_codes: tuple[int, ...] = (0,)
    outcome: str = "succeeded"
    per_node: int = 1
    generations: int = 1
    rendezvous: int = 1
    """Attempts of each node to join."""
    jobs: int = 1
    """Jobs of each launcher process."""
    protocol: Protocol = "grpc"
    collector: bool = False
    shared_trace: bool = True
    """Whether the run id is given, so that the trace id can be told beforehand."""
    users_resource: bool = False
    own_events: tuple[str, ...] = ()
    """Names of events that the workers record."""
    destination: str = "otel"

    @property
    def nodes(self) -> int:
        """Number of launchers."""
        return len(self.exit_codes)


SCENARIOS: dict[str, Scenario] = {}


def scenario(
    name: str, **facts: Any
) -> Callable[[Callable[[Job], list[Agent]]], Callable[[Job], list[Agent]]]:
    """Add a scenario."""

    def add(run: Callable[[Job], list[Agent]]) -> Callable[[Job], list[Agent]]:
        SCENARIOS[name] = Scenario(run, **facts)
        return run

    return add


def two_agents(job: Job, script: Script, *, restarts: int = 0) -> list[Agent]:
    """Run a job of two nodes with two workers each to its end."""
    options = c10d(free_port(), job.run_id, restarts=restarts)
    agents = [job.torchrun(options, script) for _ in range(2)]
    for agent in agents:
        agent.wait()
    return agents


def one_agent(job: Job, options: Sequence[str], script: Script, **how: Any) -> list[Agent]:
    """Run a job of one node to its end."""
    agent = job.torchrun([*QUICK, *options], script, **how)
    agent.wait()
    return [agent]


def alone(job: Job, *, per_node: int = 1, restarts: int = 0) -> list[str]:
    """Options of a job of one node."""
    return c10d(0, job.run_id, nodes=1, per_node=per_node, restarts=restarts)


TWO = {"exit_codes": (0, 0), "per_node": 2}


@scenario("clean, gRPC", **TWO)
@scenario("clean, HTTP", **TWO, protocol="http/protobuf")
def _clean(job: Job) -> list[Agent]:
    return two_agents(job, job.harness.worker(together=4))


RESTARTED = {**TWO, "generations": 2, "rendezvous": 2}


@scenario("crash and restart, gRPC", **RESTARTED)
@scenario("crash and restart, HTTP", **RESTARTED, protocol="http/protobuf")
@scenario("crash and restart, through a collector", **RESTARTED, collector=True)
def _crash_and_restart(job: Job) -> list[Agent]:
    return two_agents(job, job.harness.worker(together=4, fail=[0], rank=3), restarts=1)


@scenario(
    "crash until no restart is left",
    exit_codes=(1, 1),
    per_node=2,
    generations=2,
    rendezvous=2,
    outcome="failed",
)
def _crash_for_good(job: Job) -> list[Agent]:
    # One worker fails on each node, at once: a node whose peer alone gives up would wait for it.
    script = job.harness.worker(together=4, fail=[0, 1], which="LOCAL_RANK", rank=1)
    return two_agents(job, script, restarts=1)


@scenario("killed worker, no restart", exit_codes=(1,), per_node=2, outcome="failed")
def _killed(job: Job) -> list[Agent]:
    script = job.harness.worker(together=2, fail=[0], rank=1, by_signal=signal.SIGKILL)
    return one_agent(job, alone(job, per_node=2), script)


@scenario("static rendezvous", **TWO, protocol="http/protobuf")
def _static(job: Job) -> list[Agent]:
    port, script = free_port(), job.harness.worker(together=4)
    agents = [
        job.torchrun(
            [
                *QUICK,
                "--nnodes=2",
                "--nproc-per-node=2",
                f"--node-rank={rank}",
                "--master-addr=127.0.0.1",
                f"--master-port={port}",
                f"--rdzv-id={job.run_id}",
            ],
            script,
        )
        for rank in range(2)
    ]
    for agent in agents:
        agent.wait()
    return agents


@scenario("standalone", per_node=2, shared_trace=False)
def _standalone(job: Job) -> list[Agent]:
    return one_agent(job, ["--standalone", "--nproc-per-node=2"], job.harness.worker())


@scenario("one node, no options", shared_trace=False, protocol="http/protobuf")
def _no_options(job: Job) -> list[Agent]:
    agent = job.torchrun([], job.harness.worker())
    agent.wait()
    return [agent]


@scenario("LOGLEVEL=WARNING")
def _quiet(job: Job) -> list[Agent]:
    return one_agent(job, alone(job), job.harness.worker(), env={"LOGLEVEL": "WARNING"})


@scenario("PET_EVENT_LOG_HANDLER=otel", protocol="http/protobuf")
def _by_environment(job: Job) -> list[Agent]:
    return one_agent(job, alone(job), job.harness.worker(), handler=(), env={"PET_EVENT_LOG_HANDLER": "otel"})


INSTRUMENTED = {
    "OTEL_SERVICE_NAME": "the program's own",
    "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "process",
}


@scenario("opentelemetry-instrument, no flag", users_resource=True, destination="null")
def _instrumented(job: Job) -> list[Agent]:
    return one_agent(
        job,
        alone(job),
        job.harness.worker(),
        handler=(),
        under=["opentelemetry-instrument"],
        env=INSTRUMENTED,
    )


@scenario("opentelemetry-instrument, console", users_resource=True, destination="console")
def _instrumented_console(job: Job) -> list[Agent]:
    return one_agent(
        job,
        alone(job),
        job.harness.worker(),
        handler=["--event-log-handler", "console"],
        under=["opentelemetry-instrument"],
        env=INSTRUMENTED,
    )


@scenario("SIGTERM in the first rendezvous", exit_codes=(-15,), outcome="terminated", generations=0)
def _terminated_in_rendezvous(job: Job) -> list[Agent]:
    agent = job.torchrun(c10d(free_port(), job.run_id), job.harness.worker())
    # The other node never comes.
    agent.wait_for_rendezvous_event("has successfully synced its local changes")
    agent.send_signal(signal.SIGTERM)
    agent.wait()
    return [agent]


@scenario("SIGTERM in a call of the store", exit_codes=(-15,), outcome="terminated", generations=0)
def _terminated_in_store_call(job: Job) -> list[Agent]:
    # A store that takes the connection and never answers: the main thread sits in C++ code.
    with socket.create_server(("127.0.0.1", 0)) as store:
        port = store.getsockname()[1]
        agent = job.torchrun(
            [
                "--nnodes=2",
                "--node-rank=1",
                "--master-addr=127.0.0.1",
                f"--master-port={port}",
                f"--rdzv-id={job.run_id}",
            ],
            job.harness.worker(),
        )
        store.settimeout(60)
        connection, _ = store.accept()
        with connection:
            connection.settimeout(60)
            connection.recv(1)  # what it waits for an answer to
            agent.send_signal(signal.SIGTERM)
            agent.wait()
    return [agent]


@scenario("SIGTERM while workers run", exit_codes=(1,), outcome="terminated", per_node=2)
def _terminated(job: Job) -> list[Agent]:
    script = job.harness.worker(together=2, stay=[0])
    agent = job.torchrun(alone(job, per_node=2), script)
    job.harness.wait_for_gate()
    agent.wait_for_event(f"{STATUS}START", 2)
    agent.send_signal(signal.SIGTERM)
    agent.wait()
    return [agent]


@scenario("store out of reach", exit_codes=(1,), outcome="failed", generations=0, rendezvous=0)
def _no_store(job: Job) -> list[Agent]:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        options = c10d(nobody.getsockname()[1], job.run_id)
        return one_agent(job, [*options, "--rdzv-conf=is_host=false,read_timeout=2"], job.harness.worker())


LAUNCH = """
import sys
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

def train(name):
    import os
    return f"{name} {os.environ['RANK']} {os.environ.get('TRACEPARENT')}"

def launch(run_id, method="spawn"):
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=2, run_id=run_id, rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0", local_addr="127.0.0.1", event_log_handler=sys.argv[1],
        start_method=method, monitor_interval=0.1, max_restarts=0)
    print(elastic_launch(config, train)("hello"), flush=True)
"""


def launched(job: Job, main: str, *arguments: str) -> list[Agent]:
    """Run a program that launches functions by LaunchConfig."""
    source = LAUNCH + '\nif __name__ == "__main__":\n' + textwrap.indent(textwrap.dedent(main), "    ")
    agent = job.program(source, *arguments)
    agent.wait()
    return [agent]


@scenario("LaunchConfig, spawn", per_node=2)
def _spawn(job: Job) -> list[Agent]:
    return launched(job, "launch(sys.argv[2], 'spawn')", job.run_id)


@scenario("LaunchConfig, fork", per_node=2, protocol="http/protobuf")
def _fork(job: Job) -> list[Agent]:
    return launched(job, "launch(sys.argv[2], 'fork')", job.run_id)


@scenario("LaunchConfig, forkserver", per_node=2)
def _forkserver(job: Job) -> list[Agent]:
    return launched(job, "launch(sys.argv[2], 'forkserver')", job.run_id)


@scenario("LaunchConfig, from a thread", per_node=2)
def _from_a_thread(job: Job) -> list[Agent]:
    main = """
    import threading
    thread = threading.Thread(target=launch, args=(sys.argv[2], "fork"))
    thread.start()
    thread.join()
    """
    return launched(job, main, job.run_id)


@scenario("several jobs in one process", per_node=2, jobs=3)
def _several(job: Job) -> list[Agent]:
    main = """
    for name in ("", "-other", ""):
        launch(sys.argv[2] + name, "fork")
    """
    return launched(job, main, job.run_id)


@scenario("--run-path", per_node=2)
def _run_path(job: Job) -> list[Agent]:
    return one_agent(job, [*alone(job, per_node=2), "--run-path"], job.harness.worker(together=2))


@scenario("workers that import torch.distributed.checkpoint", per_node=2)
def _checkpoint(job: Job) -> list[Agent]:
    source = """
    import sys
    import torch.distributed.checkpoint
    from torch.distributed.elastic.rendezvous import registry
    assert "torchelastic_otel" in sys.modules or len(sys.argv) > 1, "torch's entry point does not run here"
    print("imported")
    """
    path = job.harness.program("checkpoint.py", textwrap.dedent(source))
    return one_agent(job, alone(job, per_node=2), Script(path, [] if job.bridge else ["without"]))


OWN_EVENT = """
import os, sys
if sys.argv[1] == "torch":
    import torchelastic_otel
    from torch.distributed.elastic import events
else:
    from torchelastic_otel import events
metadata = {"step": 7, "who": f"{sys.argv[1]} {os.environ['LOCAL_RANK']}", "pid": os.getpid()}
events.record(events.Event("checkpoint.saved", events.EventSource.WORKER, metadata=metadata), "otel")
"""


@scenario("own event by torch's events", per_node=2, own_events=("checkpoint.saved",) * 2)
def _own_event_by_torch(job: Job) -> list[Agent]:
    script = Script(job.harness.program("own.py", OWN_EVENT), ["torch"])
    return one_agent(job, alone(job, per_node=2), script)


@scenario("own event by ours", per_node=2, own_events=("checkpoint.saved",) * 2, protocol="http/protobuf")
def _own_event_by_ours(job: Job) -> list[Agent]:
    script = Script(job.harness.program("own.py", OWN_EVENT), ["ours"])
    return one_agent(job, alone(job, per_node=2), script)


# --- running them -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Node:
    """A launcher that has ended, and what torch recorded in it."""

    pid: int
    exit_code: int
    output: str
    recorded: list[Recorded]

    @property
    def events(self) -> list[Recorded]:
        """What is to be log records: all that reached a logger, heartbeats apart."""
        return [event for event in self.recorded if event.kind != "asked" and not event.heartbeat]


@dataclass(frozen=True, slots=True)
class Run:
    """A scenario that has run: what arrived, and what is true."""

    scenario: Scenario
    run_id: str
    nodes: list[Node]
    logs: list[LogRecord]
    spans: list[Span]
    metrics: list[MetricPoint]
    requests: list[Request]
    notes: list[WorkerNote]
    began_ns: int
    ended_ns: int

    def named(self, name: str) -> list[Span]:
        """Spans of that name in order of their start."""
        return sorted((span for span in self.spans if span.name == name), key=lambda span: span.start_ns)

    def children(self, parent: Span, name: str) -> list[Span]:
        """Children of that name in order of their start."""
        return [span for span in self.named(name) if span.parent_span_id == parent.span_id]

    def records(self, event_name: str) -> list[LogRecord]:
        """Log records of that name, in order of their time."""
        return sorted((r for r in self.logs if r.event_name == event_name), key=lambda record: record.time_ns)

    @property
    def sent(self) -> list[LogRecord | Span]:
        """All that has a resource and a scope."""
        return [*self.logs, *self.spans]

    @property
    def by_id(self) -> dict[str, Span]:
        """Spans by their id."""
        return {span.span_id: span for span in self.spans}

    @property
    def launchers(self) -> set[int]:
        """Process ids of the launchers."""
        return {node.pid for node in self.nodes}

    @property
    def from_launchers(self) -> list[LogRecord]:
        """Log records that launchers sent."""
        return [record for record in self.logs if record.resource.get("process.pid") in self.launchers]


def run_scenario(directory: Path, name: str, *, bridge: bool = True) -> Run:
    """Run a scenario to its end."""
    found = SCENARIOS[name]
    run_id = f"job-{os.getpid()}-{time.time_ns()}"
    with ExitStack() as stack:
        receiver = stack.enter_context(OtlpReceiver())
        harness = stack.enter_context(Harness(directory / "job"))
        env = otlp(receiver, found.protocol)
        if found.collector:
            endpoints = stack.enter_context(relay(receiver, directory / "collector"))
            env["OTEL_EXPORTER_OTLP_ENDPOINT"] = endpoints[found.protocol]
        began_ns = time.time_ns()
        agents = found.run(Job(harness, env, run_id, bridge))
        ended_ns = time.time_ns()
        nodes = [Node(agent.pid, agent.wait(), agent.output, agent.recorded) for agent in agents]
        return Run(
            found,
            run_id,
            nodes,
            receiver.logs,
            receiver.spans,
            receiver.metrics,
            receiver.requests,
            harness.worker_notes(),
            began_ns,
            ended_ns,
        )


class Runs:
    """Runs each scenario once, when it is first asked for."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._runs: dict[str, Run | BaseException] = {}

    def __getitem__(self, name: str) -> Run:
        if name not in self._runs:
            try:
                self._runs[name] = run_scenario(self._directory / str(len(self._runs)), name)
            except (Exception, pytest.skip.Exception, pytest.fail.Exception) as error:
                self._runs[name] = error
        run = self._runs[name]
        if isinstance(run, BaseException):
            raise run
        return run


every = pytest.mark.parametrize("name", list(SCENARIOS))


def where(condition: Callable[[Scenario], bool]) -> pytest.MarkDecorator:
    """Parametrize over the scenarios that ``condition`` holds for."""
    return pytest.mark.parametrize("name", [name for name, found in SCENARIOS.items() if condition(found)])
