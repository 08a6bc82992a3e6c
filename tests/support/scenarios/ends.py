"""Launchers that are stopped, or killed."""

from __future__ import annotations

import signal
import socket
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

from otlp_receiver import OtlpReceiver
from tests.support.harness import DEAF, STAY, TIMEOUT_S, Act, Agent, free_port
from tests.support.names import GROUP, STATUS, WORKER
from tests.support.scenarios.expected import ONE_GOOD, TERMINATED, Expected, Generation
from tests.support.scenarios.job import Job, end, has, scenario


def signalled(job: Job, number: signal.Signals, act: Act, options: Sequence[str] = ()) -> list[Agent]:
    """Send a signal to an agent while its workers run."""
    agent = job.torchrun([*job.options(), *options], job.worker({"*": act}, together=2))
    job.wait_for_workers(agent)
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
    job.wait_for_workers(survivor, other, per_node=1)
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
        self._said.hear(TIMEOUT_S)

    def open(self) -> None:
        """Let it go on."""
        self._go.hear(TIMEOUT_S)


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
    job.wait_for_workers(survivor, host, per_node=1)
    host.send_signal(signal.SIGKILL)
    return end(survivor, host)


TERMINATED_IN_RENDEZVOUS = Expected(
    "terminated",
    (),
    ("terminated",),
    attributes={"torchelastic.agent.signal": "SIGTERM"},
    exit_code=-signal.SIGTERM,
)


@scenario("SIGTERM in the first rendezvous", TERMINATED_IN_RENDEZVOUS)
def _terminated_in_rendezvous(job: Job) -> list[Agent]:
    agent = job.torchrun(job.options(nodes=2, port=free_port()), job.worker())
    # The other node never comes.
    agent.wait_for_rendezvous_event("has successfully synced its local changes")
    agent.send_signal(signal.SIGTERM)
    return end(agent)


@scenario("SIGTERM in a call of the store", TERMINATED_IN_RENDEZVOUS)
def _terminated_in_store_call(job: Job) -> list[Agent]:
    # A store that takes the connection and never answers: the main thread sits in C++ code.
    with socket.create_server(("127.0.0.1", 0)) as store:
        port = store.getsockname()[1]
        options = ["--nnodes=2", "--node-rank=1", "--master-addr=127.0.0.1", f"--master-port={port}"]
        agent = job.torchrun([*options, f"--rdzv-id={job.run_id}"], job.worker())
        store.settimeout(TIMEOUT_S)
        connection, _ = store.accept()
        with connection:
            connection.settimeout(TIMEOUT_S)
            connection.recv(1)  # what it waits for an answer to
            job.receive("the launcher's first record", has("torchelastic.agent.start"))
            agent.send_signal(signal.SIGTERM)
            return end(agent)
