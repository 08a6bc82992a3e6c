"""Drives real torchrun for tests, and knows from torch itself what torch recorded.

``Harness`` starts launchers in an environment of their own and ends them with the test. An oracle that is put
into each launcher tells what torch's own code recorded, by wrapping torch's functions above all logging, so
that a test can hold what arrived at a receiver against it::

    with Harness(directory) as harness, OtlpReceiver() as receiver:
        agent = harness.torchrun(["--standalone", *OTEL], harness.worker(), env=otlp(receiver, "grpc"))
        assert agent.wait() == 0
        assert missing(agent.recorded, receiver.logs) == []
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

from otlp_receiver import LogRecord, OtlpReceiver

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

_ORACLE = '''
"""Tells the tests what torch records, whatever becomes of it. Runs in every Python process of the job."""

import json
import os
import socket
import sys
import threading
import time


def install():
    name = os.environ.get("TORCHRUN_HARNESS_SOCKET")
    if not name or install.done:
        return
    install.done = True
    if os.environ.get("TORCHRUN_HARNESS_HIDE_BRIDGE"):
        sys.meta_path.insert(0, _Hidden())
    if os.environ.get("LOCAL_RANK"):
        return  # launchers are what it is about
    install.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    install.socket.connect("\\0" + name)
    from wrapt import register_post_import_hook

    # Rendezvous events are built by a function that others import by name: it is replaced at once. Agents'
    # events are caught where they are recorded, so that what the bridge wraps is called from here.
    register_post_import_hook(_wrap_rendezvous, "torch.distributed.elastic.events")
    register_post_import_hook(_wrap_record, "torch.distributed.elastic.agent.server.api")
    register_post_import_hook(lambda module: _wrap_record(module.events), "torch.distributed.launcher.api")


install.done = False


class _Hidden:
    """The bridge as if it were not installed."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torchelastic_otel":
            raise ModuleNotFoundError(name)


def _tell(kind, number, **more):
    note = {"kind": kind, "number": number, "pid": os.getpid(), "time_ns": time.time_ns(), **more}
    install.socket.send(json.dumps({**note, "thread": threading.current_thread().name}).encode())


numbers = iter(range(1 << 60))


def _told(kind, original, **more):
    number = next(numbers)
    _tell(kind, number, **more)
    try:
        return original()
    finally:
        _tell("done", number)


def _wrap_record(module):
    record = module.record

    def tell_record(event, destination="null"):
        told = {"text": event.serialize(), "destination": destination}
        return _told("event", lambda: record(event, destination), **told)

    module.record = tell_record


def _wrap_rendezvous(events):
    record_rdzv_event = events.record_rdzv_event

    def tell_record_rdzv_event(event):
        return _told("rdzv", lambda: record_rdzv_event(event), text=event.serialize(), destination="")

    events.record_rdzv_event = tell_record_rdzv_event

    def asked(arguments):
        _tell("asked", -1, text=str(arguments.get("message", "")), destination="")

    # Torch names the event after the file of the function that calls: this wrapper is to be it.
    namespace = {"original": events.construct_and_record_rdzv_event, "asked": asked}
    name = "construct_and_record_rdzv_event"
    source = f"def {name}(**arguments):\\n asked(arguments)\\n return original(**arguments)"
    exec(compile(source, "dynamic_rendezvous.py", "exec"), namespace)
    events.construct_and_record_rdzv_event = namespace[name]


install()
'''

_WORKER = """
import json, os, pathlib, signal, socket, sys

plan = json.loads(sys.argv[1])
notes = pathlib.Path(plan["notes"])
keep = ("TRACEPARENT", "RANK", "LOCAL_RANK", "TORCHELASTIC_RESTART_COUNT", "TORCHELASTIC_RUN_ID")
found = {name: os.environ[name] for name in keep if name in os.environ}
note = {"pid": os.getpid(), "argv": sys.argv[2:], "env": found}
partial = notes / f"{os.getpid()}.partial"
partial.write_text(json.dumps(note))
partial.rename(notes / f"{os.getpid()}.json")
attempt = 0
if plan["gate"]:
    # All workers of an attempt leave the gate at once, and are told its number.
    with socket.socket(socket.AF_UNIX) as gate:
        gate.connect("\\0" + plan["gate"])
        answer = gate.recv(16)
        if not answer:
            signal.pause()
        attempt = int(answer)
if attempt in plan["stay"]:
    signal.pause()
if attempt in plan["fail"]:
    if int(os.environ[plan["which"]]) != plan["rank"]:
        signal.pause()  # until the agent stops it
    if plan["signal"]:
        os.kill(os.getpid(), plan["signal"])
    sys.exit(plan["exit"])
"""


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event as torch's own code recorded it."""

    kind: Literal["event", "rdzv", "asked"]
    """``asked``: torch was about to build a rendezvous event, which it drops where nobody listens."""
    pid: int
    thread: str
    destination: str
    text: str
    start_ns: int
    end_ns: int
    """When torch's function had returned."""

    @property
    def data(self) -> dict[str, Any]:
        """The event's JSON, parsed."""
        data: dict[str, Any] = json.loads(self.text)
        return data

    @property
    def name(self) -> str:
        """The event's name."""
        return str(self.data["name"])

    @property
    def heartbeat(self) -> bool:
        """Whether it is one of the keep-alive's, by the facts about torch."""
        if self.kind != "rdzv" or self.data["node_state"] != "RUNNING":
            return False
        return self.name.endswith("._keep_alive") or self.thread.startswith("RendezvousKeepAliveTimer")

    @property
    def attributes(self) -> dict[str, Any]:
        """The attributes that the contract (section 2) promises for it."""
        data = self.data
        if self.kind == "rdzv":
            found = {
                "torchelastic.run_id": data["run_id"],
                "torchelastic.hostname": data["hostname"],
                "torchelastic.pid": data["pid"],
                "torchelastic.node_state": data["node_state"],
                "torchelastic.master_endpoint": data["master_endpoint"],
                "torchelastic.local_id": data["local_id"],
                "torchelastic.group_rank": data["rank"],
            }
            return {key: value for key, value in found.items() if value is not None and value != ""}
        metadata = dict(data["metadata"])
        inner = json.loads(metadata.pop("metadata", None) or "{}")
        for key, value in inner.items():
            metadata[key] = value[0] if isinstance(value, list) and len(value) == 1 else value
        if metadata.get("raw_error") in ("null", "NoneType: None\n"):
            del metadata["raw_error"]
        renamed = {"exit_code": "process.exit.code"}
        attributes = {
            renamed.get(key, f"torchelastic.{key}"): value
            for key, value in metadata.items()
            if value is not None
        }
        return {**attributes, "torchelastic.source": data["source"]}

    def is_of(self, record: LogRecord) -> bool:
        """Tell whether ``record`` is this event: name, time, and every attribute torch gave it."""
        # A float holds the time of a logging record, to some hundred nanoseconds.
        in_time = self.start_ns - 10_000 <= record.time_ns <= self.end_ns + 10_000
        if record.event_name != self.name or not in_time:
            return False
        if self.kind == "rdzv" and record.body != self.data["message"]:
            return False
        missing = object()
        return all(record.attributes.get(key, missing) == value for key, value in self.attributes.items())


BRIDGES_OWN = frozenset(
    {"torchelastic.agent.start", "torchelastic.agent.stop", "torchelastic.failure", "torchelastic.restart"}
)


def match(
    recorded: Sequence[Recorded], records: Sequence[LogRecord]
) -> tuple[list[Recorded], list[LogRecord]]:
    """Pair events with log records one to one; return what is left on either side.

    Heartbeats are left out on torch's side, the bridge's own events on the other.
    """
    left = [record for record in records if record.event_name not in BRIDGES_OWN]
    lost = []
    for event in recorded:
        if event.kind == "asked" or event.heartbeat:
            continue
        found = next((record for record in left if event.is_of(record)), None)
        if found is None:
            lost.append(event)
        else:
            left.remove(found)
    return lost, left


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
    argv: list[str]
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
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.notes = directory / "notes"
        self._changed = threading.Condition()
        self._told: list[dict[str, Any]] = []
        self._agents: list[Agent] = []
        self._gates: list[Gate] = []
        self._name = f"torchrun-harness-{uuid.uuid4().hex}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def __enter__(self) -> Harness:
        self.notes.mkdir(parents=True)
        site = self.directory / "site"
        (site / "torchrun_harness-1.dist-info").mkdir(parents=True)
        (site / "sitecustomize.py").write_text(_ORACLE)
        # opentelemetry-instrument puts a sitecustomize of its own before ours, and has this hook instead.
        (site / "torchrun_harness_oracle.py").write_text(_ORACLE)
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

    def worker(
        self,
        *,
        together: int = 0,
        fail: Sequence[int] = (),
        stay: Sequence[int] = (),
        rank: int = 0,
        which: str = "RANK",
        exit_code: int = 3,
        by_signal: int = 0,
    ) -> Script:
        """Return a worker script that starts in milliseconds and notes what it found in its environment.

        Args:
            together: number of all workers of an attempt, if they are to wait for each other; else 0.
            fail: attempts, from 0, in which the worker with ``rank`` fails; the others wait to be stopped.
            stay: attempts in which all workers wait to be stopped.
            rank: who fails.
            which: variable that ``rank`` is compared with.
            exit_code: of the one who fails.
            by_signal: number of the signal that it kills itself with, in place of an exit code.
        """
        gate = ""
        if together:
            self._gates.append(Gate(together))
            gate = self._gates[-1].name
        plan = {
            "notes": str(self.notes),
            "gate": gate,
            "fail": list(fail),
            "stay": list(stay),
            "rank": rank,
            "which": which,
            "exit": exit_code,
            "signal": by_signal,
        }
        return Script(self.program("worker.py", _WORKER), [json.dumps(plan)])

    def wait_for_gate(self, attempt: int = 0, timeout: float = TIMEOUT_S) -> None:
        """Wait until all workers of an attempt run and have left the gate."""
        if not self._gates[-1].opened.wait_for_attempt(attempt, timeout):
            outputs = "\n".join(agent.output for agent in self._agents)
            pytest.fail(f"the workers of attempt {attempt} did not all start in {timeout:g} s:\n{outputs}")


TORCHRUN = "torch.distributed.run"
"""The module that the torchrun script runs."""


class _Attempts:
    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._count = 0

    def add(self) -> None:
        with self._changed:
            self._count += 1
            self._changed.notify_all()

    def wait_for_attempt(self, attempt: int, timeout: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._count > attempt, timeout)


class Gate:
    """Holds back the workers of an attempt until all are there."""

    def __init__(self, count: int) -> None:
        self.name = f"torchrun-gate-{uuid.uuid4().hex}"
        self.opened = _Attempts()
        self._count = count
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind("\0" + self.name)
        self._listener.listen()
        threading.Thread(target=self._serve, name="gate", daemon=True).start()

    def _serve(self) -> None:
        attempt = 0
        while True:
            waiting = []
            for _ in range(self._count):
                try:
                    waiting.append(self._listener.accept()[0])
                except OSError:
                    return
            for worker in waiting:
                with contextlib.suppress(OSError):
                    worker.sendall(str(attempt).encode())
                worker.close()
            attempt += 1
            self.opened.add()

    def close(self) -> None:
        """Let nobody in any more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


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
