"""Drives real torchrun for tests, and knows from torch itself what torch recorded.

``Harness`` starts launchers in an environment of their own and ends them with the test. An oracle that is put
into each launcher tells what torch's own code recorded, by wrapping torch's functions above all logging, so
that a test can hold what arrived at a receiver against it::

    with Harness(directory) as harness, OtlpReceiver() as receiver:
        agent = harness.torchrun(["--standalone", *OTEL], harness.worker(), env=otlp(receiver, "grpc"))
        assert agent.wait() == 0
        lost, made_up = match(agent.recorded, receiver.logs)
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import pytest

from otlp_receiver import OtlpReceiver
from tests.support.gates import Gate
from tests.support.guard import assert_none_in
from tests.support.recorded import Recorded

Protocol = Literal["grpc", "http/protobuf"]

TIMEOUT_S = 60.0
"""Longest time that any one thing may take on a busy machine."""

OTEL = ["--event-log-handler", "otel"]
QUICK = ["--monitor-interval", "0.1"]

_DROPPED = re.compile(
    r"(OTEL|TORCHELASTIC|PET|SLURM|PBS|LSB|FLUX|AWS_BATCH|KUBERNETES|K8S|POD|GRPC|TORCHRUN_HARNESS|PYTEST)_?.*"
    r"|TRACEPARENT|TRACESTATE|BAGGAGE|LOGLEVEL|.*_PROXY|PYTHON(PATH|STARTUP|WARNINGS)"
    r"|(GLOBAL_|LOCAL_|GROUP_|ROLE_)?(RANK|WORLD_SIZE)|MASTER_(ADDR|PORT)",
    re.IGNORECASE,
)
MEASURED = ("COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START")
"""Variables by which coverage measures a process, where it measures this one."""
_IN_JOB = Path(__file__).with_name("in_job")
"""Programs that run in the processes of a job."""

Act = Mapping[str, Any]
"""What a worker does; see ``in_job/worker.py``."""
STAY: Act = {"do": "stay"}
DEAF: Act = {"do": "stay", "deaf": True}
"""Stays, and ignores what asks it to end."""
EXIT_3: Act = {"do": "exit", "code": 3}


class Agent:
    """A launcher that runs, or has ended."""

    def __init__(self, harness: Harness, process: subprocess.Popen[bytes], output: Path) -> None:
        self._harness = harness
        self._process = process
        self._output = output
        self.pid = process.pid

    def wait(self, timeout: float = TIMEOUT_S) -> int:
        """Wait for the end; return the exit code as subprocess gives it."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            pytest.fail(f"the launcher has not ended in {timeout:g} s; its output:\n{self.output}")

    def send_signal(self, number: int) -> None:
        """Send a signal to the launcher alone."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """End the launcher, and workers of its session that are left over."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    @property
    def output(self) -> str:
        """Standard output and error so far."""
        return self._output.read_text(errors="replace")

    @property
    def recorded(self) -> list[Recorded]:
        """What torch recorded in the launcher process so far, by its own account."""
        return [event for event in self._harness.recorded() if event.pid == self.pid]

    def wait_for_event(self, name: str, count: int = 1, timeout: float = TIMEOUT_S) -> None:
        """Wait until torch has recorded ``count`` agent or worker events of that name."""

        def said() -> bool:
            return sum(event.kind == "event" and event.name == name for event in self.recorded) >= count

        if not self._harness.wait(said, timeout):
            pytest.fail(
                f"torch has not recorded {count} {name!r} in {timeout:g} s; its output:\n{self.output}"
            )

    def wait_for_rendezvous_event(self, part: str, timeout: float = TIMEOUT_S) -> None:
        """Wait until torch speaks of a rendezvous step whose message contains ``part``."""

        def said() -> bool:
            return any(event.kind == "asked" and part in event.text for event in self.recorded)

        if not self._harness.wait(said, timeout):
            pytest.fail(f"torch has not said {part!r} in {timeout:g} s; its output:\n{self.output}")


@dataclass(frozen=True, slots=True)
class WorkerNote:
    """What a worker process found in its environment."""

    pid: int
    env: dict[str, str]


@dataclass(frozen=True, slots=True)
class Script:
    """A program for torchrun with its arguments."""

    path: Path
    arguments: list[str] = field(default_factory=list)


class Harness:
    """A context manager: what it started is gone when it is left.

    Args:
        directory: an empty directory of the test's.
        measured: True to have coverage measure launchers, if it measures this process. They take longer then,
            and end otherwise.
    """

    def __init__(self, directory: Path, *, measured: bool = False) -> None:
        self.directory = directory
        self._unmeasured = () if measured else MEASURED
        self.notes = directory / "notes"
        self._changed = threading.Condition()
        self._told: list[dict[str, Any]] = []
        self._agents: list[Agent] = []
        self.announced: list[str] = []
        self._gates: list[Gate] = []
        self._name = f"torchrun-harness-{uuid.uuid4().hex}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def __enter__(self) -> Harness:
        self.notes.mkdir(parents=True)
        site = self.directory / "site"
        (site / "torchrun_harness-1.dist-info").mkdir(parents=True)
        oracle = (_IN_JOB / "oracle.py").read_text()
        (site / "sitecustomize.py").write_text(oracle)
        # opentelemetry-instrument puts a sitecustomize of its own before ours, and has this hook instead.
        (site / "torchrun_harness_oracle.py").write_text(oracle)
        info = site / "torchrun_harness-1.dist-info"
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: torchrun-harness\nVersion: 1\n")
        (info / "entry_points.txt").write_text(
            "[opentelemetry_pre_instrument]\noracle = torchrun_harness_oracle:install\n"
        )
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self._socket.bind("\0" + self._name)
        threading.Thread(target=self._listen, name="harness", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for agent in self._agents:
            agent.kill()
        for note in self.worker_notes():
            self._end_leftover(note.pid)
        for gate in self._gates:
            gate.close()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        if error is None:
            for agent in self._agents:
                assert_none_in(agent.output, self.announced)

    def _end_leftover(self, pid: int) -> None:
        # Workers have sessions of their own, and outlive a killed launcher.
        with contextlib.suppress(OSError):
            if str(self.notes) in Path(f"/proc/{pid}/cmdline").read_text():
                os.kill(pid, signal.SIGKILL)

    def _listen(self) -> None:
        while True:
            try:
                data = self._socket.recv(1 << 20)
            except OSError:
                return
            if not data:
                return
            with self._changed:
                self._told.append(json.loads(data))
                self._changed.notify_all()

    def wait(self, predicate: Callable[[], bool], timeout: float = TIMEOUT_S) -> bool:
        """Wait until ``predicate()`` holds, looking whenever torch records something."""
        with self._changed:
            return self._changed.wait_for(predicate, timeout)

    def recorded(self) -> list[Recorded]:
        """All that torch recorded so far, in any launcher."""
        with self._changed:
            told = list(self._told)
        ends = {(note["pid"], note["number"]): note["time_ns"] for note in told if note["kind"] == "done"}
        return [
            Recorded(
                kind=note["kind"],
                pid=note["pid"],
                thread=note["thread"],
                destination=note["destination"],
                text=note["text"],
                start_ns=note["time_ns"],
                end_ns=ends.get((note["pid"], note["number"]), 1 << 62),
            )
            for note in told
            if note["kind"] != "done"
        ]

    def worker_notes(self) -> list[WorkerNote]:
        """What the workers of ``worker()`` scripts found so far."""
        return [WorkerNote(**json.loads(path.read_text())) for path in sorted(self.notes.glob("*.json"))]

    def environment(self, more: Mapping[str, str] | None = None, *, bridge: bool = True) -> dict[str, str]:
        """Return an environment in which nothing of this one has a say in telemetry or torchrun.

        Args:
            more: variables to add.
            bridge: False to hide the bridge, as if it were not installed.
        """
        environment = clean_environment() | {
            "NO_PROXY": "*",
            "no_proxy": "*",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(self.directory / "site"),
            "PYTHONUNBUFFERED": "1",
            "TORCHRUN_HARNESS_SOCKET": self._name,
            "TORCHELASTIC_OTEL_SPOOL_DIR": str(self.directory / "spool"),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        }
        for name in self._unmeasured:
            environment.pop(name, None)
        if not bridge:
            environment["TORCHRUN_HARNESS_HIDE_BRIDGE"] = "1"
        return environment | dict(more or {})

    def run(
        self, command: Sequence[str], *, env: Mapping[str, str] | None = None, bridge: bool = True
    ) -> Agent:
        """Start a command as a launcher, in a session of its own."""
        number = len(self._agents)
        output = self.directory / f"output-{number}.txt"
        with output.open("wb") as file:
            process = subprocess.Popen(
                command,
                env=self.environment(env, bridge=bridge),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        agent = Agent(self, process, output)
        self._agents.append(agent)
        return agent

    def torchrun(
        self,
        options: Sequence[str],
        script: Script,
        *,
        env: Mapping[str, str] | None = None,
        bridge: bool = True,
        under: Sequence[str] = (),
    ) -> Agent:
        """Start torchrun.

        Args:
            options: of torchrun.
            script: what it runs.
            env: variables to add.
            bridge: False to hide the bridge.
            under: a command to start it with, such as opentelemetry-instrument.
        """
        torchrun = (
            [str(Path(sys.executable).parent / "torchrun")] if under else [sys.executable, "-m", TORCHRUN]
        )
        command = [*under, *torchrun, *options, str(script.path), *script.arguments]
        return self.run(command, env=env, bridge=bridge)

    def program(self, name: str, source: str) -> Path:
        """Write a Python program."""
        path = self.directory / name
        path.write_text(source)
        return path

    def acting(self, *acts: Mapping[str, Act], together: int = 0, by_world_size: bool = False) -> Script:
        """Return a worker script that starts in milliseconds and notes what it found in its environment.

        Args:
            acts: for each attempt, who does what: a worker ("node.local rank", "rank 3", "local rank 1"), all
                workers of a node ("2") or all ("*"). The last one is for all attempts that follow. Who is not
                named ends well.
            together: number of all workers of an attempt, if they are to wait for each other first; else 0.
            by_world_size: attempts are told apart by the number of workers.
        """
        gate = ""
        if together:
            self._gates.append(Gate(together))
            gate = self._gates[-1].name
        plan = {
            "notes": str(self.notes),
            "gate": gate,
            "acts": list(acts) or [{}],
            "by_world_size": by_world_size,
        }
        return Script(self.program("worker.py", (_IN_JOB / "worker.py").read_text()), [json.dumps(plan)])

    def worker(
        self,
        *,
        together: int = 0,
        fail: Sequence[int] = (),
        stay: Sequence[int] = (),
        rank: int = 0,
        which: Literal["rank", "local rank"] = "rank",
    ) -> Script:
        """Return a script of workers one of which ends with exit code 3 in some attempts.

        Args:
            together: as in ``acting``.
            fail: attempts, from 0, in which the worker with ``rank`` fails; the others wait to be stopped.
            stay: attempts in which all workers wait to be stopped.
            rank: who fails.
            which: rank that is meant.
        """
        acts: list[dict[str, Act]] = [{} for _ in range(max([*fail, *stay], default=-1) + 2)]
        for attempt in {*fail, *stay}:
            acts[attempt]["*"] = STAY
        for attempt in fail:
            acts[attempt][f"{which} {rank}"] = EXIT_3
        return self.acting(*acts, together=together)

    def wait_for_gate(self, attempt: int = 0, timeout: float = TIMEOUT_S) -> None:
        """Wait until all workers of an attempt run and have left the gate."""
        if not self._gates[-1].wait(attempt, timeout):
            outputs = "\n".join(agent.output for agent in self._agents)
            pytest.fail(f"the workers of attempt {attempt} did not all start in {timeout:g} s:\n{outputs}")


TORCHRUN = "torch.distributed.run"
"""The module that the torchrun script runs."""


def clean_environment() -> dict[str, str]:
    """Return this environment without what has a say in telemetry or torchrun."""
    return {key: value for key, value in os.environ.items() if not _DROPPED.fullmatch(key)}


def free_port() -> int:
    """Return a port that was free a moment ago, and that the system gives to nobody by itself."""
    while True:
        port = secrets.choice(range(10_000, 32_000))
        with socket.socket() as found, contextlib.suppress(OSError):
            found.bind(("127.0.0.1", port))
            return port


def otlp(receiver: OtlpReceiver, protocol: Protocol = "grpc") -> dict[str, str]:
    """Return the variables that send everything to ``receiver``."""
    endpoint = receiver.grpc_endpoint if protocol == "grpc" else receiver.http_endpoint
    return {"OTEL_EXPORTER_OTLP_PROTOCOL": protocol, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}


def c10d(port: int, run_id: str, *, nodes: int = 2, per_node: int = 2, restarts: int = 0) -> list[str]:
    """Return torchrun's options for a job on this machine, its store hosted by the first that comes."""
    return [
        *QUICK,
        f"--nnodes={nodes}",
        f"--nproc-per-node={per_node}",
        f"--max-restarts={restarts}",
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint=127.0.0.1:{port}",
        "--local-addr=127.0.0.1",
        f"--rdzv-id={run_id}",
    ]
