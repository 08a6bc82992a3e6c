"""Workers that die."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.support.gates import Lever
from tests.support.harness import DEAF, EXIT_3, STAY, Act, Agent, Script
from tests.support.names import FAILURE
from tests.support.processes import is_alive, wait_for_death
from tests.support.scenarios.expected import (
    FAILED_BY_EXIT,
    GOOD,
    INTERRUPTED,
    NO_RESTARTS,
    Death,
    Expected,
    Generation,
    exited,
    killed,
    raised,
    stopped,
)
from tests.support.scenarios.job import Job, end, has, scenario

KILLED: Act = {"do": "kill", "signal": int(signal.SIGKILL)}
CRASH = {"1.0": STAY, "1.1": EXIT_3, "2": STAY}
"""An attempt in which one worker of the first node dies; the others wait to be stopped."""


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
    script = job.worker(CRASH, {}, together=2)
    return end(job.torchrun(job.options(restarts=1), script))


@scenario(
    "no restarts allowed",
    Expected(
        generations=(FAILED_BY_EXIT,), says=("exit code 3", NO_RESTARTS), attributes={"error.type": "3"}
    ),
    what="A worker ends with exit code 3 under `--max-restarts 0`.",
)
def _no_restarts(job: Job) -> list[Agent]:
    return end(job.torchrun(job.options(), job.worker(CRASH, together=2)))


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
    return end(job.torchrun(job.options(restarts=1), job.worker(CRASH, together=2)))


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
        generations=(Generation("failed", ("terminated", "failed"), (raised(1), stopped(0))),),
        says=("ValueError: the loss is not a number", NO_RESTARTS),
        attributes={"error.type": "ValueError"},
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


CRASH_AND_RESTART = (
    Expected(
        "succeeded",
        (INTERRUPTED, replace(GOOD, restart="membership_change")),
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
)


@scenario(
    "crash and restart, gRPC",
    *CRASH_AND_RESTART,
    what="On one of two nodes a worker ends with exit code 3; the restart goes well.",
)
@scenario("crash and restart, HTTP", *CRASH_AND_RESTART, protocol="http/protobuf")
@scenario("crash and restart, through a collector", *CRASH_AND_RESTART, collector=True)
def _crash_and_restart(job: Job) -> list[Agent]:
    agents = job.two_agents(job.worker({"rank 3": EXIT_3, "*": STAY}, {}, together=4), restarts=1)
    return agents if job.node_of(rank=3) == 1 else agents[::-1]


@scenario(
    "crash until no restart is left",
    *[
        Expected(
            generations=(FAILED_BY_EXIT, replace(FAILED_BY_EXIT, restart="worker_failure")),
            rendezvous=("succeeded", "succeeded"),
            says=("exit code 3",),
            attributes={"torchelastic.restarts": 1},
        )
    ]
    * 2,
)
def _crash_for_good(job: Job) -> list[Agent]:
    # One worker fails on each node, at once: a node whose peer alone gives up would wait for it.
    return job.two_agents(job.worker({"local rank 1": EXIT_3, "*": STAY}, together=4), restarts=1)


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
    job.wait_for_workers(agent)
    with_agent_stopped(agent, lambda: die(job, lever, 0, 1))
    return end(agent)


@scenario(
    "two exceptions at once, one of them earlier",
    Expected(
        generations=(
            Generation("failed", ("failed", "failed"), (raised(1, first=True), raised(0, first=False))),
        ),
        says=("2 workers died of ValueError: the loss is not a number; first: worker 1",),
    ),
    what="Two workers raise exceptions between two looks of the agent, one after the other, with `@record`.",
)
def _two_exceptions(job: Job) -> list[Agent]:
    first, second = job.lever(), job.lever()
    script = job.worker(
        {"1.0": {"do": "record", "after": second.name}, "1.1": {"do": "record", "after": first.name}},
        together=2,
    )
    agent = job.torchrun(job.options(), script)
    job.wait_for_workers(agent)

    def one_after_the_other() -> None:
        die(job, first, 1)
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
