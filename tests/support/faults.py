"""Faults of a backend, a disk or an agent, each in the way of a real job that crashes once and recovers.

An oracle, which wraps torch's own functions above the bridge, says what was recorded; receivers say what
arrived, by the wire; the spool is replayed at the end. ``chaos`` makes the table of docs/chaos.md of them.
"""

from __future__ import annotations

import contextlib
import random
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import trustme

from otlp_receiver import LogRecord, OtlpReceiver, TlsFiles
from tests.support.harness import OTEL, STAY, Agent, Harness, Script, c10d, free_port
from tests.support.names import STATUS
from tests.support.recorded import Recorded, match
from tests.support.scenarios.deaths import CRASH
from tests.support.scenarios.job import Job
from torchelastic_otel._delivery.spool import orphans

TIMEOUT_S = 120.0
SAFE_NS = 100_000_000
"""What was recorded that long before a SIGKILL must not be lost."""


@dataclass(slots=True)
class Result:
    """What one case came to."""

    name: str
    exit_codes: list[int]
    expected_codes: list[int]
    seconds: float
    recorded: int
    at_once: int
    """Of those, delivered before the launchers had ended."""
    spooled: int
    lost: list[str] = field(default_factory=list)
    """Recorded, and neither delivered nor in the spool."""
    twice: int = 0
    said: str = ""


class Case:
    """A job under way, and what it sends to."""

    def __init__(self, directory: Path) -> None:
        self.harness = Harness(directory)
        self._stack = contextlib.ExitStack()
        self.spool = directory / "spool"
        self.port = free_port()
        self.receivers: list[OtlpReceiver] = []
        self.killed_ns = 1 << 62
        self.environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.port}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "TORCHELASTIC_OTEL_SPOOL_DIR": str(self.spool),
        }
        self.agents: list[Agent] = []
        self.own: Counter[str] = Counter()
        """Events that workers record by themselves, by name."""

    def __enter__(self) -> Case:
        self._stack.enter_context(self.harness)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self, *options: str, nodes: int = 1, stay: bool = False, handler: Sequence[str] = OTEL) -> None:
        """Start a job that crashes once and recovers, or with ``stay`` then runs on until it is ended."""
        job = Job(self.harness, self.environment, self._stack)
        script = job.worker(CRASH, {"*": STAY} if stay else {}, together=2 * nodes)
        options = (*job.options(nodes=nodes, restarts=1, port=free_port()), *options)
        for _ in range(nodes):
            self.agents.append(job.torchrun(options, script, handler=handler))

    def has_recovered(self) -> bool:
        """Tell whether the agent of one node knows that the workers run which replace those that crashed."""
        return sum(event.name == f"{STATUS}START" for event in self.recorded()) == 4

    @contextlib.contextmanager
    def receiver(self) -> Iterator[OtlpReceiver]:
        """Listen where the job sends to."""
        with OtlpReceiver(http_port=self.port) as receiver:
            self.receivers.append(receiver)
            yield receiver

    def end(self) -> list[int]:
        """Wait for the launchers to end."""
        return [agent.wait(TIMEOUT_S) for agent in self.agents]

    def recorded(self) -> list[Recorded]:
        """Return what torch recorded, and had time to get out of the process."""
        own = {agent.pid for agent in self.agents}
        return [
            event
            for event in self.harness.recorded()
            if event.pid in own
            and event.kind != "asked"
            and not event.heartbeat
            and event.end_ns < self.killed_ns - SAFE_NS
        ]

    def arrived(self) -> list[LogRecord]:
        """Return the log records that arrived so far, by the wire."""
        return [record for receiver in self.receivers for record in receiver.logs]

    def left(self) -> int:
        """Count the log records in the spool."""
        count = 0
        if self.spool.exists():
            for store in orphans(self.spool):
                count += store.counts().get("logs", 0)
                store.close()
        return count

    def replay(self) -> str:
        """Send what is in the spool to a receiver that is well; return what was said."""
        with OtlpReceiver() as receiver:
            self.receivers.append(receiver)
            command = [sys.executable, "-m", "torchelastic_otel.cli", "replay", "--spool", str(self.spool)]
            done = subprocess.run(
                [*command, "--endpoint", receiver.http_endpoint],
                env=self.harness.environment(self.environment),
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
            )
        return done.stdout + done.stderr


Act = Callable[[Case], list[int]]
CASES: dict[str, Act] = {}
"""Each runs a job under a fault and returns the exit codes that it must have."""


def case(name: str) -> Callable[[Act], Act]:
    """Name a case."""

    def add(act: Act) -> Act:
        CASES[name] = act
        return act

    return add


@case("a backend that is well")
def _well(job: Case) -> list[int]:
    with job.receiver():
        job.start()
        job.end()
    return [0]


@case("dead from the start")
def _dead(job: Case) -> list[int]:
    job.start()
    job.end()
    return [0]


@case("dies midway and comes back")
def _comes_back(job: Case) -> list[int]:
    with job.receiver() as receiver:
        job.start(stay=True)
        assert receiver.wait(lambda found: len(found.logs) > 0, TIMEOUT_S)
    (agent,) = job.agents
    job.harness.wait_for_gate(1)
    with job.receiver() as receiver:
        assert receiver.wait(lambda found: "torchelastic.restart" in names(found), TIMEOUT_S)
        agent.send_signal(signal.SIGTERM)
        job.end()
    return [1]


def names(receiver: OtlpReceiver) -> set[str]:
    """Return the names of the records that arrived."""
    return {record.event_name for record in receiver.logs}


@case("accepts and never answers")
def _silent(job: Case) -> list[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", job.port))
        listener.listen(64)
        job.start()
        job.end()
    return [0]


@case("cuts connections")
def _cuts(job: Case) -> list[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", job.port))
        listener.listen(64)

        def cut() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    connection.recv(64)
                    connection.close()

        threading.Thread(target=cut, daemon=True).start()
        job.start()
        job.end()
        listener.shutdown(socket.SHUT_RDWR)
    return [0]


def answering(name: str, **answer: object) -> None:
    """Add a case of a backend that answers so."""

    @case(name)
    def act(job: Case) -> list[int]:
        with job.receiver() as receiver:
            receiver.respond(**answer)  # type: ignore[arg-type]  # as the callers below give them
            job.start()
            job.end()
        return [0]


answering("answers 429 with Retry-After", status=429, headers={"Retry-After": "30"})
answering("answers 500", status=500)
answering("answers 503", status=503)
answering("answers 302", status=302, headers={"Location": "http://127.0.0.1:9/"})
answering("answers after 5 s", delay=5.0)
answering("answers with a partial success", rejected=1, message="one was refused")


@case("a certificate that nobody trusts")
def _certificate(job: Case) -> list[int]:
    files = [job.spool.parent / name for name in ("certificate.pem", "key.pem")]
    issued = trustme.CA().issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(files[0])
    issued.private_key_pem.write_to_path(files[1])
    with OtlpReceiver(tls=TlsFiles(*files), http_port=job.port) as receiver:
        job.receivers.append(receiver)
        job.environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = receiver.http_endpoint
        job.start()
        job.end()
    return [0]


@case("the agent gets SIGKILL, at a random moment")
def _killed(job: Case) -> list[int]:
    job.start(stay=True)
    (agent,) = job.agents

    def hit() -> bool:
        return bool(job.recorded()) and (random.random() < 0.03 or job.has_recovered())

    # The dice are thrown whenever torch says something to the oracle.
    assert job.harness.wait(hit, TIMEOUT_S)
    job.killed_ns = time.time_ns()
    agent.send_signal(signal.SIGKILL)
    job.end()
    return [-signal.SIGKILL]


@case("two agents and one spool, dead from the start")
def _two(job: Case) -> list[int]:
    job.start(nodes=2)
    job.end()
    return [0, 0]


@case("workers that record and fork, and one spool, dead from the start")
def _workers(job: Case) -> list[int]:
    source = """
    import os
    from torchelastic_otel import events
    def record(name):
        events.record(events.Event(name, events.EventSource.WORKER), "otel")
    for _ in range(20):
        record("step")
    child = os.fork()
    record("of the child" if not child else "of the parent")
    if child:
        os.waitpid(child, 0)
    """
    program = job.harness.program("train.py", textwrap.dedent(source))
    options = [*c10d(free_port(), "chaos", nodes=2), *OTEL]
    for _ in range(2):
        job.agents.append(job.harness.torchrun(options, Script(program), env=job.environment))
    job.end()
    job.own = Counter({"step": 80, "of the parent": 4, "of the child": 4})
    return [0, 0]


@case("a full disk")
def _full(job: Case) -> list[int]:
    job.spool.mkdir(mode=0o700)
    command = ["mount", "-t", "tmpfs", "-o", "size=64k,mode=0700", "tmpfs", str(job.spool)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        raise UnavailableError("a file system cannot be mounted here")
    try:
        (job.spool / "ballast").write_bytes(b"x" * 48 * 1024)
        with job.receiver():
            job.start()
            job.end()
    finally:
        subprocess.run(["umount", "-l", str(job.spool)], check=True)
    return [0]


class UnavailableError(Exception):
    """A case cannot be tried on this machine."""


def run(name: str) -> Result:
    """Run a case; what is in the result is for the caller to judge."""
    with tempfile.TemporaryDirectory() as directory, Case(Path(directory) / "job") as job:
        began = time.monotonic()
        expected = CASES[name](job)
        seconds = time.monotonic() - began
        codes = job.end()
        recorded = job.recorded()
        lost_at_once, _ = match(recorded, job.arrived())
        spooled = job.left()
        said = job.replay() if spooled else ""
        arrived = job.arrived()
        once = list({record.attributes["log.record.uid"]: record for record in arrived}.values())
        lost, _ = match(recorded, once)
        missing = job.own - Counter(record.event_name for record in once)
        return Result(
            name,
            codes,
            expected,
            seconds,
            recorded=len(recorded) + job.own.total(),
            at_once=len(recorded) - len(lost_at_once),
            spooled=spooled,
            lost=[*(event.name for event in lost), *missing.elements()],
            twice=len(arrived) - len(once),
            said=said,
        )
