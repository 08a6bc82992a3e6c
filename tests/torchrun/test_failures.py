"""How jobs end badly, on real torchrun: what the telemetry says of each way (contract, sections 4 to 6).

Each scenario runs a job of one or two launchers against a real OTLP receiver, several scenarios at a time,
and is then looked at from many sides. ``docs/failures.md`` has a table of what was observed; to renew it run
``pytest tests/torchrun/test_failures.py --write-failures``.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import select
import signal
import socket
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from otlp_receiver import LogRecord, OtlpReceiver, Span
from tests.support.harness import (
    OTEL,
    QUICK,
    TIMEOUT_S,
    Agent,
    Gate,
    Harness,
    Script,
    WorkerNote,
    c10d,
    free_port,
    otlp,
)

pytestmark = pytest.mark.e2e

AGENT, RENDEZVOUS = "torchelastic.agent", "torchelastic.rendezvous"
GROUP, WORKER = "torchelastic.worker_group", "torchelastic.worker"
STATUS = "torchelastic.worker.status."
FAILURE, RESTART = "torchelastic.failure", "torchelastic.restart"
FIRST = "torchelastic.first_failure."
INFO, WARN, ERROR = 9, 13, 17

DOCUMENT = Path(__file__).parents[2] / "docs" / "failures.md"
TABLE_START, TABLE_END = "<!-- table: failures -->\n", "\n<!-- end -->"
TABLE_TORCH = "2.13"
"""The torch whose words are in the document."""

TORCH = tuple(int(part) for part in version("torch").split(".")[:2])


# --- workers ----------------------------------------------------------------------------------------------

_WORKER = '''
import json, os, pathlib, signal, socket, sys

plan = json.loads(sys.argv[1])
node = os.environ.get("TEST_NODE", "1")


def wait(name):
    """Until the test lets go; what it says."""
    with socket.socket(socket.AF_UNIX) as waiting:
        try:
            waiting.connect("\\0" + name)
            return waiting.recv(64).decode()
        except OSError:
            return ""


def act_of(attempt):
    acts = plan["acts"][min(attempt, len(plan["acts"]) - 1)]
    return acts.get(f"{node}.{os.environ['LOCAL_RANK']}") or acts.get(node) or acts.get("*") or {"do": "end"}


if act_of(0).get("deaf"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
notes = pathlib.Path(plan["notes"])
keep = ("TRACEPARENT", "RANK", "LOCAL_RANK", "WORLD_SIZE", "TEST_NODE", "TORCHELASTIC_RESTART_COUNT")
found = {name: os.environ[name] for name in keep if name in os.environ}
partial = notes / f"{os.getpid()}.partial"
partial.write_text(json.dumps({"pid": os.getpid(), "argv": [], "env": found}))
partial.rename(notes / f"{os.getpid()}.json")

attempt = 0
if plan["gate"]:
    answer = wait(plan["gate"])
    if not answer:
        signal.pause()
    attempt = int(answer)
elif plan["by_world_size"]:
    attempt = int(os.environ["WORLD_SIZE"]) - 1
act = act_of(attempt)
what = act["do"]
if what == "record":
    from torch.distributed.elastic.multiprocessing.errors import record
elif what == "watchdog":
    import torch.distributed.elastic.timer as timer
if act.get("after"):
    wait(act["after"])


def fail():
    raise ValueError("the loss is not a number")


if what == "stay":
    while True:
        signal.pause()
elif what == "exit":
    sys.exit(act["code"])
elif what == "kill":
    os.kill(os.getpid(), act["signal"])
elif what == "raise":
    fail()
elif what == "record":
    record(fail)()
elif what == "watchdog":
    timer.configure(timer.FileTimerClient(os.environ["TORCHELASTIC_TIMER_FILE"]))
    with timer.expires(after=1, scope="training step"):
        signal.pause()
elif what == "stuck":
    import ctypes
    libc = ctypes.CDLL(None)
    if libc.vfork() == 0:  # the parent sleeps uninterruptibly for as long as the child is there
        libc.prctl(1, signal.SIGKILL)
        libc.sleep(600)
        libc._exit(0)
'''

Act = Mapping[str, Any]
STAY: Act = {"do": "stay"}
DEAF: Act = {"do": "stay", "deaf": True}
EXIT_3: Act = {"do": "exit", "code": 3}
KILLED: Act = {"do": "kill", "signal": int(signal.SIGKILL)}


class Lever:
    """Holds back workers until it is pulled, once for all."""

    def __init__(self) -> None:
        self.name = f"test-failures-{os.getpid()}-{os.urandom(8).hex()}"
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind("\0" + self.name)
        self._socket.listen(64)

    def pull(self) -> None:
        """Let go whoever waits, and whoever comes later."""
        self._socket.close()

    def hear(self) -> str:
        """Wait for a process that says something to the test."""
        self._socket.settimeout(TIMEOUT_S)
        connection, _ = self._socket.accept()
        with connection:
            connection.settimeout(TIMEOUT_S)
            return connection.recv(64).decode()


def is_alive(pid: int) -> bool:
    """Whether a process runs: neither gone nor a zombie."""
    try:
        found = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        return not select.select([found], [], [], 0)[0]
    finally:
        os.close(found)


def wait_for_death(pid: int) -> None:
    """Wait until a process has ended, whether or not its parent has noticed."""
    with suppress(ProcessLookupError):
        found = os.pidfd_open(pid)
        try:
            if not select.select([found], [], [], TIMEOUT_S)[0]:
                pytest.fail(f"the process {pid} has not ended in {TIMEOUT_S:g} s")
        finally:
            os.close(found)


# --- what to expect ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Death:
    """A worker's death, as ``torchelastic.failure`` is to tell it."""

    local_rank: int
    cause: str = "exit"
    exit_code: int | None = None
    signal: str | None = None
    exception: str | None = None
    message: str | None = None
    error_type: str = ""
    collateral: bool = False
    first: bool | None = None
    """Whether it is its node's first failure; None where several are tied."""


def exited(local_rank: int, code: int = 3, *, first: bool | None = True) -> Death:
    """Ended with an exit code."""
    return Death(local_rank, "exit", code, error_type=str(code), first=first)


def raised(local_rank: int, *, first: bool | None = True) -> Death:
    """Ended by an exception that ``@record`` wrote down."""
    text = "the loss is not a number"
    return Death(local_rank, "exception", 1, None, "ValueError", text, "ValueError", first=first)


def killed(local_rank: int, name: str = "SIGKILL", *, first: bool | None = True) -> Death:
    """Ended by a signal that was not its agent's."""
    return Death(local_rank, "signal", -signal.Signals[name], name, error_type=name, first=first)


def stopped(local_rank: int, name: str = "SIGTERM") -> Death:
    """Stopped by its agent because of another's death."""
    return replace(killed(local_rank, name, first=False), collateral=True)


@dataclass(frozen=True, slots=True)
class Generation:
    """A generation of local workers: how it ended, how each worker ended, who died."""

    outcome: str = "succeeded"
    workers: tuple[str, ...] = ("succeeded", "succeeded")
    deaths: tuple[Death, ...] = ()
    restart: str | None = None
    """Cause of the restart that led to it."""


GOOD = Generation()
TERMINATED = Generation("terminated", ("terminated", "terminated"))
FAILED_BY_EXIT = Generation("failed", ("terminated", "failed"), (exited(1), stopped(0)))


@dataclass(frozen=True, slots=True)
class Expected:
    """What must be told of one launcher."""

    outcome: str = "failed"
    """Of the agent's span; "" where the launcher was killed and cannot send it."""
    generations: tuple[Generation, ...] = (GOOD,)
    rendezvous: tuple[str, ...] = ("succeeded",)
    says: tuple[str, ...] = ()
    """What the verdict must say."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """What the agent's span must have."""
    exit_code: int = 1
    node: str = ""
    """Which node it is, for the document."""


class Job:
    """What a scenario runs in.

    Args:
        harness: starts launchers.
        receiver: where they send.
        stack: ends with the scenario.
        bridge: False for a run without the bridge.
    """

    def __init__(self, harness: Harness, receiver: OtlpReceiver, stack: ExitStack, bridge: bool) -> None:
        self.harness = harness
        self.receiver = receiver
        self.bridge = bridge
        self.run_id = f"job-{os.urandom(6).hex()}"
        self.facts: dict[str, Any] = {}
        """What was true while it ran."""
        self.gate: Gate | None = None
        self._stack = stack
        self._agents: list[Agent] = []

    def lever(self) -> Lever:
        """Return a lever that is pulled when the scenario ends, if not before."""
        lever = Lever()
        self._stack.callback(lever.pull)
        return lever

    def worker(self, *acts: Mapping[str, Act], together: int = 0, by_world_size: bool = False) -> Script:
        """Return a worker script.

        Args:
            acts: for each attempt, what is done by a worker ("node.local rank"), a node or all ("*"); the
                last one is for all attempts that follow. Who is not named ends well.
            together: number of all workers of an attempt, who wait for each other first.
            by_world_size: attempts are told apart by the number of workers.
        """
        if together:
            self.gate = Gate(together)
            self._stack.callback(self.gate.close)
        plan = {
            "notes": str(self.harness.notes),
            "gate": self.gate.name if self.gate is not None else "",
            "acts": list(acts) or [{}],
            "by_world_size": by_world_size,
        }
        return Script(self.harness.program("worker.py", _WORKER), [json.dumps(plan)])

    def options(self, *, nodes: int = 1, per_node: int = 2, restarts: int = 0, port: int = 0) -> list[str]:
        """Return torchrun's options for a c10d job."""
        return c10d(port, self.run_id, nodes=nodes, per_node=per_node, restarts=restarts)

    def torchrun(self, options: Sequence[str], script: Script, env: Mapping[str, str] | None = None) -> Agent:
        """Start the launcher of the next node."""
        node = {"TEST_NODE": str(len(self._agents) + 1)}
        env = {**otlp(self.receiver), **node, **(env or {})}
        handler = OTEL if self.bridge else []
        agent = self.harness.torchrun([*handler, *options], script, env=env, bridge=self.bridge)
        self._agents.append(agent)
        return agent

    def program(self, source: str, *arguments: str) -> Agent:
        """Start a program that launches by itself; its first argument is the event log handler."""
        path = self.harness.program("launch.py", textwrap.dedent(source))
        handler = "otel" if self.bridge else "null"
        command = [sys.executable, str(path), handler, *arguments]
        return self.harness.run(command, env=otlp(self.receiver), bridge=self.bridge)

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
        return int(lever.hear())

    def wait_for_workers(self, attempt: int = 0) -> None:
        """Wait until all workers of an attempt run, and their agents know it."""
        assert self.gate is not None
        if not self.gate.opened.wait_for_attempt(attempt, TIMEOUT_S):
            pytest.fail("not all workers have come:\n" + "\n".join(agent.output for agent in self._agents))

    def receive(self, what: str, predicate: Callable[[OtlpReceiver], bool]) -> None:
        """Wait for telemetry; without the bridge there is none to wait for."""
        if self.bridge and not self.receiver.wait(predicate, TIMEOUT_S):
            pytest.fail(f"not received: {what}; {[agent.output for agent in self._agents]}")

    def note(self, node: int, local_rank: int) -> WorkerNote:
        """Return the latest note of a worker."""
        found = [
            note
            for note in self.harness.worker_notes()
            if (note.env["TEST_NODE"], note.env["LOCAL_RANK"]) == (str(node), str(local_rank))
        ]
        return max(found, key=lambda note: int(note.env["TORCHELASTIC_RESTART_COUNT"]))


@dataclass(frozen=True, slots=True)
class Scenario:
    """How to run it, and what must be told of it."""

    run: Callable[[Job], list[Agent]]
    nodes: tuple[Expected, ...]
    what: str
    """What happened, for the document; "" to leave it out."""
    waits: bool = False
    """Whether it waits for long, and had better be started early."""
    needs: tuple[int, int] = (2, 8)
    """Oldest torch that it is possible with."""


SCENARIOS: dict[str, Scenario] = {}

_Runner = Callable[[Job], list[Agent]]


def scenario(name: str, *nodes: Expected, what: str = "", **more: Any) -> Callable[[_Runner], _Runner]:
    """Add a scenario."""

    def add(run: _Runner) -> _Runner:
        SCENARIOS[name] = Scenario(run, nodes, what, **more)
        return run

    return add


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


# --- scenarios: workers that die --------------------------------------------------------------------------


@scenario(
    "exit code, restarted",
    Expected(
        "succeeded",
        (FAILED_BY_EXIT, replace(GOOD, restart="worker_failure")),
        ("succeeded", "succeeded"),
        ("1 restart",),
        {"torchelastic.restarts": 1},
        exit_code=0,
    ),
    what="A worker ends with exit code 3; the restart goes well.",
)
def _exit_code(job: Job) -> list[Agent]:
    script = job.worker({"1.0": STAY, "1.1": EXIT_3}, {}, together=2)
    return end(job.torchrun(job.options(restarts=1), script))


NO_RESTARTS = "no restarts were allowed"


@scenario(
    "no restarts allowed",
    Expected(
        generations=(FAILED_BY_EXIT,), says=("exit code 3", NO_RESTARTS), attributes={"error.type": "3"}
    ),
    what="A worker ends with exit code 3 under `--max-restarts 0`.",
)
def _no_restarts(job: Job) -> list[Agent]:
    return end(job.torchrun(job.options(), job.worker({"1.0": STAY, "1.1": EXIT_3}, together=2)))


@scenario(
    "restarts used up",
    Expected(
        generations=(FAILED_BY_EXIT, replace(FAILED_BY_EXIT, restart="worker_failure")),
        rendezvous=("succeeded", "succeeded"),
        says=("exit code 3", "all 1 restart used up"),
        attributes={"torchelastic.restarts": 1, "torchelastic.max_restarts": 1},
    ),
    what="A worker ends with exit code 3, and again after the only restart.",
)
def _used_up(job: Job) -> list[Agent]:
    return end(job.torchrun(job.options(restarts=1), job.worker({"1.0": STAY, "1.1": EXIT_3}, together=2)))


@scenario(
    "exception with @record",
    Expected(
        generations=(Generation("failed", ("terminated", "failed"), (raised(1), stopped(0))),),
        says=("ValueError: the loss is not a number", NO_RESTARTS),
        attributes={"error.type": "ValueError"},
    ),
    what="A worker raises an exception; its `main` is decorated with `@record`.",
)
def _recorded(job: Job) -> list[Agent]:
    return end(job.torchrun(job.options(), job.worker({"1.0": STAY, "1.1": {"do": "record"}}, together=2)))


@scenario(
    "exception without @record",
    Expected(
        generations=(Generation("failed", ("terminated", "failed"), (exited(1, 1), stopped(0))),),
        says=("exit code 1", NO_RESTARTS),
        attributes={"error.type": "1"},
    ),
    what="A worker raises an exception, without `@record`.",
)
def _unrecorded(job: Job) -> list[Agent]:
    return end(job.torchrun(job.options(), job.worker({"1.0": STAY, "1.1": {"do": "raise"}}, together=2)))


@scenario(
    "SIGKILL",
    Expected(
        generations=(Generation("failed", ("terminated", "failed"), (killed(1), stopped(0))),),
        says=("killed by SIGKILL", NO_RESTARTS),
        attributes={"error.type": "SIGKILL"},
    ),
    what="A worker is killed with SIGKILL.",
)
def _sigkill(job: Job) -> list[Agent]:
    return end(job.torchrun(job.options(), job.worker({"1.0": STAY, "1.1": KILLED}, together=2)))


PEER = Generation("interrupted", ("interrupted", "interrupted"))


@scenario(
    "failure on the other node",
    Expected(
        "succeeded",
        (PEER, replace(GOOD, restart="membership_change")),
        ("succeeded", "succeeded"),
        ("1 restart",),
        exit_code=0,
        node="the peer",
    ),
    Expected(
        "succeeded",
        (FAILED_BY_EXIT, replace(GOOD, restart="worker_failure")),
        ("succeeded", "succeeded"),
        ("1 restart",),
        exit_code=0,
        node="the node of the worker",
    ),
    what="On one of two nodes a worker ends with exit code 3; the restart goes well.",
)
def _peer(job: Job) -> list[Agent]:
    script = job.worker({"1": STAY, "2.0": STAY, "2.1": EXIT_3}, {}, together=4)
    options = job.options(nodes=2, restarts=1, port=free_port())
    return end(*[job.torchrun(options, script) for _ in range(2)])


@scenario(
    "worker deaf to SIGTERM",
    Expected(
        generations=(Generation("failed", ("terminated", "failed"), (exited(1), stopped(0, "SIGKILL"))),),
        says=("exit code 3", NO_RESTARTS),
    ),
    what="A worker ends with exit code 3; another ignores SIGTERM, and is killed 30 s later.",
    waits=True,
)
def _deaf(job: Job) -> list[Agent]:
    agent = job.torchrun(job.options(), job.worker({"1.0": DEAF, "1.1": EXIT_3}, together=2))
    job.receive("the culprit's death", has(FAILURE, local_rank=1))
    if job.bridge:
        job.facts["the deaf one runs when the culprit's death has arrived"] = is_alive(job.note(1, 0).pid)
    return end(agent)


@scenario(
    "two at once",
    Expected(
        generations=(
            Generation("failed", ("failed", "failed"), (exited(0, 3, first=None), exited(1, 4, first=None))),
        ),
        says=("2 workers died between two looks of the agent, none known as the first", "code 3", "code 4"),
    ),
    what="Two workers die between two looks of the agent.",
)
def _two_at_once(job: Job) -> list[Agent]:
    lever = job.lever()
    acts: dict[str, Act] = {
        f"1.{rank}": {"do": "exit", "code": 3 + rank, "after": lever.name} for rank in (0, 1)
    }
    agent = job.torchrun(job.options(), job.worker(acts, together=2))
    job.wait_for_workers()
    agent.wait_for_event(f"{STATUS}START", 2)
    with_agent_stopped(agent, lambda: die(job, lever, 0, 1))
    return end(agent)


@scenario(
    "two exceptions at once, one of them earlier",
    Expected(
        generations=(
            Generation("failed", ("failed", "failed"), (raised(0, first=False), raised(1, first=True))),
        ),
        says=("Worker 1", "ValueError: the loss is not a number"),
    ),
    what="Two workers raise exceptions between two looks of the agent, a second apart, with `@record`.",
)
def _two_exceptions(job: Job) -> list[Agent]:
    first, second = job.lever(), job.lever()
    script = job.worker(
        {"1.0": {"do": "record", "after": second.name}, "1.1": {"do": "record", "after": first.name}},
        together=2,
    )
    agent = job.torchrun(job.options(), script)
    job.wait_for_workers()
    agent.wait_for_event(f"{STATUS}START", 2)

    def one_after_the_other() -> None:
        die(job, first, 1)
        time.sleep(1 - time.time() % 1)  # error files tell whole seconds
        die(job, second, 0)

    with_agent_stopped(agent, one_after_the_other)
    return end(agent)


def with_agent_stopped(agent: Agent, do: Callable[[], None]) -> None:
    """Do something that the agent then sees in one look."""
    agent.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, agent.pid, os.WSTOPPED | os.WNOWAIT)
    do()
    agent.send_signal(signal.SIGCONT)


def die(job: Job, lever: Lever, *local_ranks: int) -> None:
    """Let workers of a node die, and wait until they have."""
    pids = [job.note(1, rank).pid for rank in local_ranks]
    lever.pull()
    for pid in pids:
        wait_for_death(pid)


@scenario(
    "worker that is no program",
    Expected(
        generations=(Generation("failed", ("failed",), (exited(0, 2),)),), says=("exit code 2", NO_RESTARTS)
    ),
    what="The script does not exist.",
)
def _no_script(job: Job) -> list[Agent]:
    return end(job.torchrun(job.options(per_node=1), Script(job.harness.directory / "missing.py")))


@scenario(
    "worker that cannot be started",
    Expected(
        generations=(Generation("failed", ("failed",)),),
        says=("the launcher raised FileNotFoundError", "missing-program", "while starting the workers"),
        attributes={
            "error.type": "FileNotFoundError",
            "exception.type": "FileNotFoundError",
            "torchelastic.step": "while starting the workers",
        },
    ),
    what="The program does not exist (`--no-python`).",
)
def _no_program(job: Job) -> list[Agent]:
    script = Script(Path("missing-program"))
    return end(job.torchrun([*job.options(per_node=1), "--no-python"], script))


@scenario(
    "uninterruptible sleep",
    Expected(
        generations=(
            Generation(
                "failed",
                ("terminated", "failed"),
                (Death(1, "uninterruptible", error_type="uninterruptible", first=True), stopped(0)),
            ),
        ),
        says=("stuck in uninterruptible sleep", "torchrun exits with 0 all the same"),
        exit_code=0,
    ),
    what="A worker is in uninterruptible sleep for longer than "
    "`TORCHELASTIC_UNINTERRUPTIBLE_STATE_TIMEOUT`, with restarts left.",
    needs=(2, 13),
)
def _stuck(job: Job) -> list[Agent]:
    script = job.worker({"1.0": STAY, "1.1": {"do": "stuck"}}, together=2)
    env = {"TORCHELASTIC_UNINTERRUPTIBLE_STATE_TIMEOUT": "0.5"}
    return end(job.torchrun(job.options(restarts=2), script, env))


@scenario(
    "watchdog",
    Expected(
        "",
        (
            Generation(
                "failed",
                ("", "failed"),
                (Death(1, "watchdog", None, "SIGKILL", error_type="SIGKILL", first=True),),
            ),
        ),
        exit_code=-9,
    ),
    what="A worker's watchdog timer expires (`TORCHELASTIC_ENABLE_FILE_TIMER=1`): torch kills the worker, "
    "and its own launcher with it.",
)
def _watchdog(job: Job) -> list[Agent]:
    script = job.worker({"1.0": STAY, "1.1": {"do": "watchdog"}}, together=2)
    return end(job.torchrun(job.options(), script, {"TORCHELASTIC_ENABLE_FILE_TIMER": "1"}))


LAUNCH = """
import os, signal, sys
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

def train(how):
    if os.environ["LOCAL_RANK"] == "0":
        signal.pause()
    if how == "exception":
        raise ValueError("the loss is not a number")
    os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=2, run_id=sys.argv[2], rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0", local_addr="127.0.0.1", event_log_handler=sys.argv[1],
        start_method="spawn", monitor_interval=0.1, max_restarts=0)
    elastic_launch(config, train)(sys.argv[3])
"""


@scenario(
    "function, exception",
    Expected(
        generations=(Generation("failed", ("terminated", "failed"), (raised(1), stopped(0))),),
        says=("ValueError: the loss is not a number", NO_RESTARTS),
    ),
    what="A function that `elastic_launch` runs raises an exception.",
)
def _function_raises(job: Job) -> list[Agent]:
    return end(job.program(LAUNCH, job.run_id, "exception"))


@scenario(
    "function, SIGKILL",
    Expected(
        generations=(Generation("failed", ("terminated", "failed"), (killed(1), stopped(0))),),
        says=("killed by SIGKILL", NO_RESTARTS),
    ),
    what="The process of a function that `elastic_launch` runs is killed with SIGKILL.",
)
def _function_killed(job: Job) -> list[Agent]:
    return end(job.program(LAUNCH, job.run_id, "kill"))


# --- scenarios: launchers that are stopped ----------------------------------------------------------------


def signalled(job: Job, number: signal.Signals, act: Act, options: Sequence[str] = ()) -> list[Agent]:
    """Send a signal to an agent while its workers run."""
    agent = job.torchrun([*job.options(), *options], job.worker({"*": act}, together=2))
    job.wait_for_workers()
    agent.wait_for_event(f"{STATUS}START", 2)
    agent.send_signal(number)
    return end(agent)


def terminated(name: str, **more: Any) -> Expected:
    """What is told of an agent that a signal ended while its workers ran."""
    attributes = {"torchelastic.agent.signal": name, "torchelastic.step": "while the workers ran"}
    says = (f"terminated by {name} while the workers ran",)
    return Expected("terminated", (TERMINATED,), says=says, attributes=attributes, **more)


@scenario("SIGTERM", terminated("SIGTERM"), what="The launcher gets SIGTERM while its workers run.")
def _sigterm(job: Job) -> list[Agent]:
    return signalled(job, signal.SIGTERM, STAY)


@scenario("SIGINT", terminated("SIGINT"), what="The launcher gets SIGINT (Ctrl-C) while its workers run.")
def _sigint(job: Job) -> list[Agent]:
    return signalled(job, signal.SIGINT, STAY)


@scenario(
    "SIGTERM, deaf workers",
    terminated("SIGTERM"),
    what="The launcher gets SIGTERM; its workers ignore theirs, and are killed.",
    needs=(2, 13),
)
def _sigterm_deaf(job: Job) -> list[Agent]:
    return signalled(job, signal.SIGTERM, DEAF, ["--shutdown-timeout=1"])


@scenario(
    "SIGINT, deaf workers",
    terminated("SIGINT"),
    what="The launcher gets SIGINT; its workers ignore theirs, and are killed.",
    needs=(2, 13),
)
def _sigint_deaf(job: Job) -> list[Agent]:
    return signalled(job, signal.SIGINT, DEAF, ["--shutdown-timeout=1"])


def store_on(job: Job, *, host: bool, port: int) -> list[str]:
    """Options of one of two agents, of which one has the store."""
    return [*job.options(nodes=2, per_node=1, port=port), f"--rdzv-conf=is_host={str(host).lower()}"]


ONE_GOOD = Generation("succeeded", ("succeeded",))


@scenario(
    "an agent killed, the other has the store",
    Expected(
        "terminated",
        (ONE_GOOD,),
        says=("terminated by SIGTERM at the exit barrier",),
        attributes={"torchelastic.agent.signal": "SIGTERM"},
        node="the one left",
    ),
    Expected("", exit_code=-9, node="the one killed"),
    what="One of two launchers is killed with SIGKILL; the other has the rendezvous store, its workers end "
    "well, and it gets SIGTERM while it waits for the other at the exit barrier.",
)
def _killed_agent(job: Job) -> list[Agent]:
    port, lever = free_port(), job.lever()
    script = job.worker({"1": {"do": "end", "after": lever.name}, "2": STAY}, together=2)
    survivor = job.torchrun(store_on(job, host=True, port=port), script)
    other = job.torchrun(store_on(job, host=False, port=port), script)
    job.wait_for_workers()
    for agent in (survivor, other):
        agent.wait_for_event(f"{STATUS}START")
    other.send_signal(signal.SIGKILL)
    other.wait()
    barrier = AtBarrier(job, port)
    lever.pull()
    barrier.wait()

    def worker_ended(receiver: OtlpReceiver) -> bool:
        return {WORKER, GROUP} <= {
            span.name for span in receiver.spans if span.resource["process.pid"] == survivor.pid
        }

    job.receive("the spans of the survivor's workers, while it waits at the barrier", worker_ended)
    job.facts["torch has told of the survivor's worker"] = any(
        event.kind == "event" and event.name == f"{STATUS}SUCCEEDED" for event in survivor.recorded
    )
    survivor.send_signal(signal.SIGTERM)
    barrier.open()
    return end(survivor, other)


class AtBarrier:
    """Stands in for a node that is gone: without it the call of the store would return after 300 s.

    Args:
        job: a job in its first round.
        port: of its store.
    """

    def __init__(self, job: Job, port: int) -> None:
        self._said, self._go = job.lever(), job.lever()
        source = f"""
        import socket
        from torch.distributed import PrefixStore, TCPStore
        store = PrefixStore("torch.rendezvous.{job.run_id}.0", TCPStore("127.0.0.1", {port}, is_master=False))
        barrier = "torchelastic/agent/terminal_state"
        store.wait([barrier + "/num_members"])
        for name in ("{self._said.name}", "{self._go.name}"):
            with socket.socket(socket.AF_UNIX) as test:
                test.connect("\\0" + name)
                test.sendall(b"one waits")
                test.recv(1)
        store.set(barrier + "/last_member", "")
        """
        path = job.harness.program("barrier.py", textwrap.dedent(source))
        job.harness.run([sys.executable, str(path)], bridge=False)

    def wait(self) -> None:
        """Wait until an agent waits there."""
        self._said.hear()

    def open(self) -> None:
        """Let it go on."""
        self._go.hear()


@scenario(
    "the agent with the store killed",
    Expected(
        generations=(Generation("terminated", ("terminated",)),),
        says=("the launcher raised RendezvousConnectionError", "while the workers ran"),
        attributes={
            "error.type": "RendezvousConnectionError",
            "torchelastic.step": "while the workers ran",
        },
        node="the one left",
    ),
    Expected("", exit_code=-9, node="the one killed"),
    what="One of two launchers, the one with the rendezvous store, is killed with SIGKILL.",
)
def _killed_host(job: Job) -> list[Agent]:
    port = free_port()
    script = job.worker({"*": STAY}, together=2)
    host = job.torchrun(store_on(job, host=True, port=port), script)
    survivor = job.torchrun(store_on(job, host=False, port=port), script)
    job.wait_for_workers()
    for agent in (survivor, host):
        agent.wait_for_event(f"{STATUS}START")
    host.send_signal(signal.SIGKILL)
    return end(survivor, host)


# --- scenarios: rendezvous --------------------------------------------------------------------------------


def membership(job: Job) -> tuple[list[str], Script]:
    """Return the options of a job of one or two nodes, and a worker that stays until there are two."""
    options = [*job.options(nodes=2, per_node=1, port=free_port()), "--nnodes=1:2"]
    script = job.worker({"*": STAY}, {}, by_world_size=True)
    return [*options, "--rdzv-conf=last_call_timeout=1,read_timeout=4"], script


@scenario(
    "late node",
    Expected(
        "succeeded",
        (Generation("interrupted", ("interrupted",)), replace(ONE_GOOD, restart="membership_change")),
        ("succeeded", "succeeded"),
        ("1 restart",),
        {"torchelastic.min_nodes": 1, "torchelastic.max_nodes": 2},
        exit_code=0,
        node="the first",
    ),
    Expected("succeeded", (ONE_GOOD,), exit_code=0, node="the late one"),
    what="A second node joins while the first runs (`--nnodes 1:2`, `TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1`).",
)
def _late(job: Job) -> list[Agent]:
    options, script = membership(job)
    env = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    first = job.torchrun(options, script, env)
    first.wait_for_event(f"{STATUS}START")
    return end(first, job.torchrun(options, script, env))


JOINED_AND_FAILED = Expected(
    generations=(),
    says=("the launcher raised DistStoreError", "between the joined rendezvous and the start of the workers"),
    attributes={
        "error.type": "DistStoreError",
        "torchelastic.step": "between the joined rendezvous and the start of the workers",
    },
)


@scenario(
    "late node, shared store",
    replace(
        JOINED_AND_FAILED,
        generations=(Generation("interrupted", ("interrupted",)),),
        rendezvous=("succeeded", "succeeded"),
        node="the first",
    ),
    replace(JOINED_AND_FAILED, node="the late one"),
    what="The same without that variable, which torch does not get along with.",
    waits=True,
    needs=(2, 13),
)
def _late_shared(job: Job) -> list[Agent]:
    options, script = membership(job)
    first = job.torchrun(options, script)
    first.wait_for_event(f"{STATUS}START")
    return end(first, job.torchrun(options, script))


@scenario(
    "spare node",
    Expected("succeeded", (ONE_GOOD,), says=("succeeded",), exit_code=0, node="the one that runs"),
    Expected(
        "terminated",
        (),
        ("terminated",),
        says=("this spare node was not needed and was let go",),
        node="the spare one",
    ),
    what="A node is more than `--nnodes` allows; it waits in reserve until the job has ended.",
)
def _spare(job: Job) -> list[Agent]:
    lever = job.lever()
    options = [*job.options(per_node=1, port=job.store()), "--rdzv-conf=is_host=false"]
    script = job.worker({"1": {"do": "end", "after": lever.name}})
    first = job.torchrun(options, script)
    first.wait_for_event(f"{STATUS}START")
    spare = job.torchrun(options, script)
    spare.wait_for_rendezvous_event("added itself to the redundancy list")
    spare.wait_for_rendezvous_event("has successfully synced its local changes")
    lever.pull()
    return end(first, spare)


def rendezvous_failed(error: str, *says: str, **attributes: Any) -> Expected:
    """What is told of a node that never joined."""
    known = {f"torchelastic.{key.replace('__', '.')}": value for key, value in attributes.items()}
    return Expected(
        generations=(),
        rendezvous=("failed",),
        says=says,
        attributes={"error.type": error, "exception.type": error, **known},
    )


@scenario(
    "rendezvous timeout",
    rendezvous_failed(
        "RendezvousTimeoutError",
        "the rendezvous timed out after",
        "1 of the 2 nodes needed had joined (",
        min_nodes=2,
        max_nodes=2,
        rendezvous__nodes_joined=1,
        rendezvous__timeout=2.0,
        step="during the rendezvous",
    ),
    what="Two nodes are needed, and one comes (`--rdzv-conf join_timeout=…`).",
)
def _timeout(job: Job) -> list[Agent]:
    options = [*job.options(nodes=2, port=free_port()), "--rdzv-conf=join_timeout=2"]
    return end(job.torchrun(options, job.worker()))


@scenario(
    "rendezvous timeout, two of three",
    replace(
        rendezvous_failed(
            "RendezvousTimeoutError",
            "2 of the 3 nodes needed had joined (",
            min_nodes=3,
            max_nodes=3,
            rendezvous__nodes_joined=2,
            rendezvous__timeout=12.0,
        ),
        node="the one that times out",
    ),
    replace(rendezvous_failed("RendezvousClosedError", "the rendezvous is closed"), node="the other"),
    what="Three nodes are needed, and two come.",
    waits=True,
)
def _timeout_of_three(job: Job) -> list[Agent]:
    options, script = job.options(nodes=3, port=job.store()), job.worker()
    first = job.torchrun([*options, "--rdzv-conf=is_host=false,join_timeout=12"], script)
    return end(first, job.torchrun([*options, "--rdzv-conf=is_host=false"], script))


@scenario(
    "closed rendezvous",
    Expected("succeeded", (ONE_GOOD,), exit_code=0, node="the first job"),
    replace(
        rendezvous_failed("RendezvousClosedError", "the rendezvous is closed", step="during the rendezvous"),
        node="the second",
    ),
    what="A job is started with the `--rdzv-id` of one that has ended.",
)
def _closed(job: Job) -> list[Agent]:
    options = [*job.options(per_node=1, port=job.store()), "--rdzv-conf=is_host=false"]
    return [*end(job.torchrun(options, job.worker())), *end(job.torchrun(options, job.worker()))]


def static(job: Job, node: int, port: int) -> list[str]:
    """Options of a node of a static rendezvous."""
    return [
        *QUICK,
        "--nnodes=2",
        "--nproc-per-node=2",
        f"--node-rank={node}",
        "--master-addr=127.0.0.1",
        f"--master-port={port}",
        "--max-restarts=0",
        f"--rdzv-id={job.run_id}",
    ]


@scenario(
    "static, failure of a worker",
    Expected(
        generations=(FAILED_BY_EXIT,),
        says=("exit code 3", NO_RESTARTS),
        attributes={"torchelastic.rdzv_backend": "static"},
        node="the node of the worker",
    ),
    Expected("succeeded", exit_code=0, node="the other, whose workers end well"),
    what="Static rendezvous: on one of two nodes a worker ends with exit code 3.",
)
def _static(job: Job) -> list[Agent]:
    port, lever = free_port(), job.lever()
    go: Act = {"do": "end", "after": lever.name}
    script = job.worker({"1.0": STAY, "1.1": EXIT_3, "2": go}, together=4)
    failing, other = (job.torchrun(static(job, node, port), script) for node in range(2))
    job.wait_for_workers()
    failing.wait()
    lever.pull()
    return end(failing, other)


@scenario(
    "static, the peer never comes",
    rendezvous_failed(
        "DistStoreError", "the rendezvous failed after", "1/2 clients joined", step="during the rendezvous"
    ),
    what="Static rendezvous: the other node never comes (`--rdzv-conf timeout=…`).",
)
def _static_alone(job: Job) -> list[Agent]:
    options = [*static(job, 0, free_port()), "--rdzv-conf=timeout=2"]
    return end(job.torchrun(options, job.worker()))


# --- running them -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Node:
    """A launcher that has ended, and what arrived of it."""

    expected: Expected
    pid: int
    exit_code: int
    output: str
    logs: list[LogRecord]
    spans: list[Span]

    def named(self, name: str) -> list[Span]:
        """Spans of that name in order of their start."""
        return sorted((span for span in self.spans if span.name == name), key=lambda span: span.start_ns)

    def workers(self, group: Span) -> list[Span]:
        """Workers of a generation in order of their local rank."""
        found = [span for span in self.named(WORKER) if span.parent_span_id == group.span_id]
        return sorted(found, key=lambda span: int(span.attributes["torchelastic.local_rank"]))

    def records(self, event_name: str) -> list[LogRecord]:
        """Log records of that name in order of their time."""
        return sorted((r for r in self.logs if r.event_name == event_name), key=lambda record: record.time_ns)

    @property
    def agent(self) -> Span:
        """The agent's span."""
        (span,) = self.named(AGENT)
        return span

    @property
    def by_id(self) -> dict[str, Span]:
        """Spans by their id."""
        return {span.span_id: span for span in self.spans}


@dataclass(frozen=True, slots=True)
class Run:
    """A scenario that has run."""

    nodes: list[Node]
    notes: dict[int, WorkerNote]
    facts: dict[str, Any]
    requests: int
    run_id: str

    @property
    def alive(self) -> list[Node]:
        """Nodes whose launcher lived to tell its end."""
        return [node for node in self.nodes if node.expected.outcome]


def run_scenario(directory: Path, name: str, *, bridge: bool = True) -> Run:
    """Run a scenario to its end."""
    found = SCENARIOS[name]
    if found.needs > TORCH:
        pytest.skip(f"this torch cannot: it needs {'.'.join(map(str, found.needs))}")
    directory.mkdir(parents=True)
    with ExitStack() as stack:
        receiver = stack.enter_context(OtlpReceiver())
        harness = stack.enter_context(Harness(directory / "job"))
        job = Job(harness, receiver, stack, bridge)
        agents = found.run(job)
        logs, spans = receiver.logs, receiver.spans
        nodes = [
            Node(
                expected,
                agent.pid,
                agent.wait(),
                agent.output,
                [record for record in logs if record.resource["process.pid"] == agent.pid],
                [span for span in spans if span.resource["process.pid"] == agent.pid],
            )
            for expected, agent in zip(found.nodes, agents, strict=True)
        ]
        notes = {note.pid: note for note in harness.worker_notes()}
        assert sum(len(node.logs) for node in nodes) == len(logs), "somebody else has sent something"
        return Run(nodes, notes, job.facts, len(receiver.requests), job.run_id)


class Runs:
    """Runs scenarios, some at a time: they mostly wait.

    Args:
        directory: an empty one.
        wanted: scenarios, each with or without the bridge, that will be asked for.
    """

    def __init__(self, directory: Path, wanted: Sequence[tuple[str, bool]]) -> None:
        self._pool = ThreadPoolExecutor((os.cpu_count() or 1) + 2, thread_name_prefix="scenario")
        early = sorted(dict.fromkeys(wanted), key=lambda key: not SCENARIOS[key[0]].waits)
        self._runs: dict[tuple[str, bool], Future[Run]] = {
            (name, bridge): self._pool.submit(run_scenario, directory / str(number), name, bridge=bridge)
            for number, (name, bridge) in enumerate(early)
        }

    def get(self, name: str, *, bridge: bool = True) -> Run:
        """Return a scenario that has run; raise what it raised."""
        return self._runs[name, bridge].result()

    def stop(self) -> None:
        """Run no more of them."""
        self._pool.shutdown(cancel_futures=True)


PARITY = "test_exit_codes_are_those_of_the_same_job_without_the_bridge"
TABLE = "test_the_table_in_the_document_is_what_was_observed"


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """All scenarios that the chosen tests are about; they begin to run when the first is looked at."""
    wanted: list[tuple[str, bool]] = []
    for item in request.session.items:
        if item.path == request.path and isinstance(item, pytest.Function):
            if hasattr(item, "callspec"):
                name = str(item.callspec.params.get("name"))
                wanted += [(name, True)] + [(name, False)] * (item.originalname == PARITY)
            elif item.originalname == TABLE:
                wanted += [(name, True) for name in SCENARIOS]
    found = Runs(tmp_path_factory.mktemp("failures"), [key for key in wanted if key[0] in SCENARIOS])
    yield found
    found.stop()


@pytest.fixture
def run(runs: Runs, name: str) -> Run:
    """Return the scenario that the test is about."""
    return runs.get(name)


every = pytest.mark.parametrize("name", list(SCENARIOS))


def only(*names: str) -> pytest.MarkDecorator:
    """Parametrize over these scenarios."""
    assert set(names) <= set(SCENARIOS)
    return pytest.mark.parametrize("name", list(names))


# --- every scenario ---------------------------------------------------------------------------------------


@every
def test_exit_codes_are_those_of_the_same_job_without_the_bridge(runs: Runs, name: str) -> None:
    """The telemetry changes nothing in how launchers end, and nothing goes wrong inside of it."""
    run, without = runs.get(name), runs.get(name, bridge=False)
    assert without.requests == 0
    assert run.requests > 0
    expected = [node.expected.exit_code for node in run.nodes]
    assert [node.exit_code for node in without.nodes] == expected
    assert [node.exit_code for node in run.nodes] == expected
    for node in run.nodes:
        assert "internal error" not in node.output
        assert "not known to torchelastic-otel" not in node.output


@every
def test_the_agents_span_tells_the_outcome(run: Run) -> None:
    """Outcome, status, verdict and what goes with it stand on the agent's span and its stop record."""
    for node in run.nodes:
        expected = node.expected
        if not expected.outcome:
            assert node.named(AGENT) == []
            assert node.records("torchelastic.agent.stop") == []
            continue
        agent = node.agent
        assert agent.attributes["torchelastic.outcome"] == expected.outcome
        (stop,) = node.records("torchelastic.agent.stop")
        assert stop.attributes["torchelastic.outcome"] == expected.outcome
        verdict = agent.attributes["torchelastic.verdict"]
        assert stop.attributes["torchelastic.verdict"] == verdict
        assert verdict in stop.body
        for text in expected.says:
            assert text in verdict
        wanted = dict(expected.attributes)
        assert {key: agent.attributes.get(key) for key in wanted} == wanted
        assert agent.attributes["torchelastic.restarts"] == max(0, len(expected.generations) - 1)
        severity = {"succeeded": INFO, "failed": ERROR, "terminated": WARN}[expected.outcome]
        assert stop.severity_number == severity


@every
def test_status_follows_from_the_outcome(run: Run) -> None:
    """Failed is Error with a sentence, succeeded is Ok, anything else is Unset."""
    for node in run.nodes:
        for span in node.spans:
            outcome = span.attributes.get("torchelastic.outcome")
            assert span.status_code == {"succeeded": "OK", "failed": "ERROR"}.get(str(outcome), "UNSET")
            assert bool(span.status_message) == (outcome == "failed")
            if outcome == "failed" and span.name == AGENT:
                assert span.status_message == span.attributes["torchelastic.verdict"]


@every
def test_each_generation_ends_as_it_did(run: Run) -> None:
    """Worker groups and workers have the outcome of their own; each worker is the process that ran."""
    for node in run.nodes:
        ended = node.expected.generations if node.expected.outcome else ()
        groups = node.named(GROUP)
        outcomes = [group.attributes.get("torchelastic.outcome", "") for group in groups]
        assert outcomes == [generation.outcome for generation in ended]
        for number, (group, generation) in enumerate(zip(groups, ended, strict=True), 1):
            assert group.attributes["torchelastic.generation"] == number
            workers = node.workers(group)
            found = tuple(worker.attributes.get("torchelastic.outcome", "") for worker in workers)
            assert found == generation.workers
            for worker in workers:
                note = run.notes.get(int(worker.attributes.get("torchelastic.worker_id", "0")))
                if note is not None:
                    assert worker.attributes["torchelastic.global_rank"] == int(note.env["RANK"])
                    assert worker.attributes["torchelastic.local_rank"] == int(note.env["LOCAL_RANK"])
                    assert note.env["TRACEPARENT"] == f"00-{worker.trace_id}-{worker.span_id}-01"


@every
def test_each_rendezvous_ends_as_it_did(run: Run) -> None:
    """Each attempt to join has its outcome."""
    for node in run.alive:
        found = tuple(span.attributes.get("torchelastic.outcome", "") for span in node.named(RENDEZVOUS))
        assert found == node.expected.rendezvous


def death_of(record: LogRecord) -> Death:
    """Return what a failure record tells."""
    attributes = record.attributes
    rank = attributes["torchelastic.global_rank"]
    return Death(
        attributes["torchelastic.local_rank"],
        attributes["torchelastic.failure.cause"],
        attributes.get("process.exit.code"),
        attributes.get("torchelastic.worker.signal"),
        attributes.get("exception.type"),
        attributes.get("exception.message"),
        attributes["error.type"],
        attributes.get("torchelastic.collateral", False),
        None if f"{FIRST}ties" in attributes else attributes[f"{FIRST}global_rank"] == rank,
    )


@every
def test_each_death_is_one_failure_record(run: Run) -> None:
    """Who died, of what, with what exit code or exception, as culprit or stopped by the agent: all of it."""
    for node in run.nodes:
        records = node.records(FAILURE)
        by_generation = itertools.groupby(records, key=lambda r: r.attributes["torchelastic.generation"])
        found = {number: [death_of(record) for record in group] for number, group in by_generation}
        expected = {
            number: list(generation.deaths)
            for number, generation in enumerate(node.expected.generations, 1)
            if generation.deaths
        }
        assert found == expected
        for record in records:
            collateral = record.attributes.get("torchelastic.collateral", False)
            assert record.severity_number == (WARN if collateral else ERROR)
            assert record.attributes["torchelastic.hostname"] == socket.getfqdn()
            assert record.attributes["torchelastic.run_id"]
            note = run.notes.get(int(record.attributes["torchelastic.worker_id"]))
            if note is not None:
                assert record.attributes["torchelastic.global_rank"] == int(note.env["RANK"])
                assert record.attributes["torchelastic.local_rank"] == int(note.env["LOCAL_RANK"])


@every
def test_deaths_stand_on_their_spans(run: Run) -> None:
    """A failure record is in its worker's span, which has the same attributes; the group names the first."""
    for node in run.alive:
        for record in node.records(FAILURE):
            worker = node.by_id[record.span_id]
            assert worker.name == WORKER
            own = {"torchelastic.event", "log.record.uid"}
            told = {key: value for key, value in record.attributes.items() if key not in own}
            assert {key: worker.attributes.get(key) for key in told} == told
            first = {key: value for key, value in told.items() if key.startswith(FIRST)}
            assert first
            group = node.by_id[worker.parent_span_id]
            assert {k: v for k, v in group.attributes.items() if k.startswith(FIRST)} == first
            if "torchelastic.collateral" not in record.attributes:
                assert worker.status_message == record.body
        generations = node.expected.generations
        if node.expected.outcome == "failed" and generations and generations[-1].deaths:
            group = node.named(GROUP)[-1]
            first = {key: value for key, value in group.attributes.items() if key.startswith(FIRST)}
            assert {k: v for k, v in node.agent.attributes.items() if k.startswith(FIRST)} == first
            assert group.status_message in node.agent.status_message


@every
def test_each_restart_is_told_with_its_cause(run: Run) -> None:
    """A restart is a record, and stands on the generation that follows."""
    for node in run.nodes:
        causes = [generation.restart for generation in node.expected.generations]
        if node.expected.outcome:
            spans = [group.attributes.get("torchelastic.restart.cause") for group in node.named(GROUP)]
            assert spans == causes
        records = node.records(RESTART)
        assert [r.attributes["torchelastic.restart.cause"] for r in records] == list(filter(None, causes))
        for number, record in enumerate(records, 1):
            attributes = record.attributes
            assert attributes["torchelastic.restart.from_generation"] == number
            assert attributes["torchelastic.restart.to_generation"] == number + 1
            assert record.severity_number == WARN
            before, after = node.named(GROUP)[number - 1 : number + 1]
            longest = (record.time_ns - before.start_ns) / 1e9
            shortest = max(0, (after.start_ns - before.end_ns) / 1e9)
            assert shortest - 0.001 <= attributes["torchelastic.restart.duration"] <= longest + 0.001


@every
def test_torchs_own_events_are_weighed(run: Run) -> None:
    """Torch's FAILED of a worker that the agent stopped is a warning and says so; a culprit's is an error."""
    for node in run.nodes:
        failures = node.records(FAILURE)
        collateral = {
            record.attributes["torchelastic.worker_id"]
            for record in failures
            if record.attributes.get("torchelastic.collateral")
        }
        for record in node.records(f"{STATUS}FAILED"):
            if record.attributes["torchelastic.source"] == "AGENT":
                stopped_ = node.expected.outcome == "terminated"
                assert record.severity_number == (WARN if stopped_ else ERROR)
                continue
            spared = record.attributes["torchelastic.worker_id"] in collateral
            assert record.severity_number == (WARN if spared else ERROR)
            assert record.attributes.get("torchelastic.collateral", False) is spared


@every
def test_no_span_is_an_orphan_and_times_are_sane(run: Run) -> None:
    """Each parent was received, starts before its children, and does not end before them."""
    for node in run.alive:
        assert len(node.by_id) == len(node.spans)
        for span in node.spans:
            assert span.start_ns <= span.end_ns
            if span.name == AGENT:
                assert span.parent_span_id == ""
                continue
            parent = node.by_id[span.parent_span_id]
            assert parent.trace_id == span.trace_id
            assert parent.name == (GROUP if span.name == WORKER else AGENT)
            assert parent.start_ns <= span.start_ns <= span.end_ns <= parent.end_ns
        for record in node.logs:
            span = node.by_id[record.span_id]
            assert record.trace_id == span.trace_id
            assert record.observed_ns >= record.time_ns - 1_000_000


@every
def test_the_trace_is_said_at_the_start_and_beside_a_failure(run: Run) -> None:
    """The launcher's standard error has the trace id once at the start, and once more if the job failed."""
    for node in run.alive:  # one that is killed at once may have sent nothing
        # The line is whole; but a traceback may be half-way through one of its own.
        said = re.findall(r"torchelastic-otel: .*", node.output)
        trace_ids = {record.trace_id for record in node.logs}
        (trace_id,) = trace_ids
        assert said[0] == f"torchelastic-otel: trace {trace_id}"
        if node.expected.outcome == "failed":
            verdict = node.agent.attributes["torchelastic.verdict"]
            assert said[1:] == [f"torchelastic-otel: {verdict} (trace {trace_id})"]
        else:
            assert said[1:] == []


# --- what is particular -----------------------------------------------------------------------------------


@only("exception with @record", "function, exception", "two exceptions at once, one of them earlier")
def test_an_exception_is_told_in_full(run: Run) -> None:
    """Its traceback is on the record, and the error file that is named has it, too."""
    (node,) = run.nodes
    culprits = [r for r in node.records(FAILURE) if "exception.type" in r.attributes]
    assert culprits
    for record in culprits:
        assert "the loss is not a number" in record.attributes["exception.stacktrace"]
        assert "Traceback" in record.attributes["exception.stacktrace"]
        assert record.attributes["torchelastic.failure.error_file"]


@every
def test_only_what_wrote_an_error_file_has_one(run: Run) -> None:
    """Without ``@record`` there is no error file to name, and no exception to tell."""
    for node in run.nodes:
        for record in node.records(FAILURE):
            has_file = "torchelastic.failure.error_file" in record.attributes
            assert has_file == ("exception.type" in record.attributes)


def cgroup_counts_oom_kills() -> bool:
    """Whether this process's cgroup has a counter of out-of-memory kills (cgroup v2, or v1's memory)."""
    with open("/proc/self/cgroup") as file:
        lines = [line.rstrip("\n").split(":", 2) for line in file]
    mounts = []
    for _, controllers, path in lines:
        if controllers == "":
            mounts += [f"/sys/fs/cgroup{path}/memory.events", "/sys/fs/cgroup/memory.events"]
        elif "memory" in controllers.split(","):
            mounts += [f"/sys/fs/cgroup/memory{path}/memory.oom_control"]
            mounts += ["/sys/fs/cgroup/memory/memory.oom_control"]
    return any(
        re.search(r"^oom_kill \d", Path(name).read_text(), re.MULTILINE)
        for name in mounts
        if Path(name).is_file()
    )


@every
def test_out_of_memory_is_told_apart_for_sigkill_alone(run: Run) -> None:
    """Who was killed with SIGKILL was not out of memory here; where nothing counts that, nothing is said."""
    for node in run.nodes:
        for record in node.records(FAILURE):
            attributes = record.attributes
            asked = attributes["process.exit.code"] == -9 if "process.exit.code" in attributes else False
            expected = asked and "torchelastic.collateral" not in attributes and cgroup_counts_oom_kills()
            found = attributes.get("torchelastic.failure.oom_kill")
            assert found is (False if expected else None)


@only("worker deaf to SIGTERM")
def test_a_death_is_told_before_its_agent_has_stopped_the_others(run: Run) -> None:
    """The culprit's record arrives while the agent still waits for a worker that ignores its signal."""
    assert run.facts["the deaf one runs when the culprit's death has arrived"] is True


@only("an agent killed, the other has the store")
def test_workers_end_when_they_end_and_not_after_the_exit_barrier(run: Run) -> None:
    """The spans of workers that ended have arrived before torch tells of them, which the barrier delays."""
    assert run.facts["torch has told of the survivor's worker"] is False


@only("failure on the other node")
def test_two_nodes_share_a_trace_and_agree_on_the_rounds(run: Run) -> None:
    """One trace; groups of one round have the same number; the culprit stands on its own node alone."""
    assert len({span.trace_id for node in run.nodes for span in node.spans}) == 1
    rounds = [[group.attributes["torchelastic.round"] for group in node.named(GROUP)] for node in run.nodes]
    assert rounds[0] == rounds[1]
    peer, _ = run.nodes
    assert not any(key.startswith(FIRST) for span in peer.spans for key in span.attributes)


@only("late node")
def test_who_asked_to_join_is_named(run: Run) -> None:
    """The restart for a membership change names the node that waited."""
    first, late = run.nodes
    (restart,) = first.records(RESTART)
    (waiting,) = restart.attributes["torchelastic.restart.nodes_waiting"]
    assert f"_{late.pid}_" in waiting
    assert waiting in restart.body


@only("rendezvous timeout", "rendezvous timeout, two of three")
def test_a_rendezvous_timeout_names_who_had_joined(run: Run) -> None:
    """The rendezvous' span and the verdict name the agents that had come, this one among them."""
    node = run.nodes[0]
    (rendezvous,) = node.named(RENDEZVOUS)
    names = rendezvous.attributes["torchelastic.rendezvous.nodes"]
    assert len(names) == len(run.nodes)
    for name, pid in zip(sorted(names), sorted(node.pid for node in run.nodes), strict=True):
        assert f"_{pid}_" in name
    for name in names:
        assert name in node.agent.attributes["torchelastic.verdict"]
    for span in (rendezvous, node.agent):
        assert span.attributes["torchelastic.rendezvous.nodes"] == names
        waited = span.attributes["torchelastic.rendezvous.waited"]
        assert waited >= span.attributes["torchelastic.rendezvous.timeout"]


@only("late node, shared store")
def test_a_node_that_joined_and_then_failed_did_join(run: Run) -> None:
    """The rendezvous of both succeeded; what failed is what the launchers did next."""
    for node in run.nodes:
        rendezvous = node.named(RENDEZVOUS)[-1]
        assert rendezvous.status_code == "OK"
        assert rendezvous.attributes["torchelastic.group_world_size"] == 2
        assert "exception.stacktrace" in node.agent.attributes


@only("watchdog")
def test_a_watchdog_kill_is_told_before_it_ends_the_launcher(run: Run) -> None:
    """The failure record has the scope, although the launcher was killed a millisecond later."""
    (node,) = run.nodes
    (record,) = node.records(FAILURE)
    assert record.attributes["torchelastic.watchdog.scope_id"] == "training step"
    assert record.attributes["torchelastic.watchdog.signal"] == "9"
    assert "training step" in record.body


# --- the document -----------------------------------------------------------------------------------------

TABLE_HEAD = (
    "What happened",
    "Launcher",
    "Outcome",
    "Failure records of its workers",
    "Verdict",
    "Cause of the restart",
)
VOLATILE = (
    (r"\b\S+?_\d+_\d+\b", "NODE"),
    (r"\b127\.0\.0\.1\b", "HOST"),
    (r"\bpid \d+", "pid PID"),
    (r"\bport:? \d+", "port PORT"),
    (r"\b(HOST|localhost):\d+", r"\1:PORT"),
    (r"(?<![\w`.])/[\w./-]+", "PATH"),
    (r"(?<=DistStoreError: ).*?(?= between the joined)", "MESSAGE"),  # which one is a matter of who is first
    (r"\b\d+(\.\d+)? ?(s|seconds|ms)\b", r"N \2"),
)
"""What differs from run to run, and what stands for it in the document; after the host and the run id."""


def steady(text: str, run_id: str) -> str:
    """Return a sentence as the document has it: the same for each run, and in one cell of a table."""
    text = text.replace(run_id, "RUN-ID")
    text = re.sub(rf"\bon {re.escape(socket.getfqdn())}(?!\w)", "on HOST", text)
    for pattern, placeholder in VOLATILE:
        text = re.sub(pattern, placeholder, text)
    text = text.replace(socket.getfqdn(), "HOST").replace(socket.gethostname(), "HOST")
    for character in "\\|<>*":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())


def row(name: str, node: Node, run_id: str) -> str:
    """Return the row of a launcher: what was observed of it."""
    generations = {record.attributes["torchelastic.generation"] for record in node.records(FAILURE)}
    failures = [
        f"generation {record.attributes['torchelastic.generation']}: " * (len(generations) > 1)
        + steady(record.body, run_id)
        for record in node.records(FAILURE)
    ]
    agents = node.named(AGENT)
    outcome = str(agents[0].attributes["torchelastic.outcome"]) if agents else "none: it was killed"
    verdict = steady(str(agents[0].attributes["torchelastic.verdict"]), run_id) if agents else ""
    causes = [str(record.attributes["torchelastic.restart.cause"]) for record in node.records(RESTART)]
    what, which = SCENARIOS[name].what, node.expected.node
    cells = [what, which, outcome, "<br>".join(failures), verdict, "<br>".join(causes)]
    return f"| {' | '.join(cell or '-' for cell in cells)} |"


def rows_in_document() -> dict[str, list[str]]:
    """Return the document's rows by what happened, in the order in which they stand there."""
    _, _, rest = DOCUMENT.read_text().partition(TABLE_START)
    table, _, _ = rest.partition(TABLE_END)
    found: dict[str, list[str]] = {}
    for line in table.splitlines()[2:]:
        found.setdefault(line.removeprefix("| ").partition(" | ")[0], []).append(line)
    return found


def test_the_table_in_the_document_is_what_was_observed(runs: Runs, request: pytest.FixtureRequest) -> None:
    """Sentence for sentence; ``--write-failures`` renews it. What this machine cannot do stays as it is."""
    if ".".join(map(str, TORCH)) != TABLE_TORCH:
        pytest.skip(f"the document has the words of torch {TABLE_TORCH}")
    written = rows_in_document()
    table: dict[str, list[str]] = {}
    for name, found in SCENARIOS.items():
        if not found.what:
            continue
        try:
            run = runs.get(name)
        except pytest.skip.Exception:
            table[found.what] = written.get(found.what, [])
        else:
            table[found.what] = [row(name, node, run.run_id) for node in run.nodes]
    if request.config.getoption("--write-failures"):
        head = f"| {' | '.join(TABLE_HEAD)} |\n|{' --- |' * len(TABLE_HEAD)}"
        rows = "\n".join(line for lines in table.values() for line in lines)
        before, _, rest = DOCUMENT.read_text().partition(TABLE_START)
        _, _, after = rest.partition(TABLE_END)
        DOCUMENT.write_text(f"{before}{TABLE_START}{head}\n{rows}{TABLE_END}{after}")
    else:
        assert written == table
        assert list(written) == list(table)
