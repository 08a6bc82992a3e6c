"""Nodes that come late, in vain, or not at all."""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import Any

from tests.support.harness import EXIT_3, STAY, Act, Agent, Script, free_port
from tests.support.names import STATUS
from tests.support.scenarios.expected import (
    FAILED_BY_EXIT,
    NO_RESTARTS,
    ONE_GOOD,
    Expected,
    Generation,
)
from tests.support.scenarios.job import Job, end, scenario


def membership(job: Job) -> tuple[list[str], Script]:
    """Return the options of a job of one or two nodes, and a worker that stays until there are two."""
    options = [*job.options(nodes=2, per_node=1, port=free_port()), "--nnodes=1:2"]
    script = job.worker({"*": STAY}, {}, by_world_size=True)
    # The first node joins again at once; the late one sees that only when it looks, up to a second later.
    return [*options, "--rdzv-conf=last_call_timeout=5,read_timeout=4"], script


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
    # Torch raises a DistNetworkError instead where the store's connection breaks before its answer.
    says=("the launcher raised Dist", "between the joined rendezvous and the start of the workers"),
    attributes={
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
    waits=True,  # the other at the exit barrier, for a store that is gone
)
def _static(job: Job) -> list[Agent]:
    port, lever = free_port(), job.lever()
    go: Act = {"do": "end", "after": lever.name}
    script = job.worker({"1.0": STAY, "1.1": EXIT_3, "2": go}, together=4)
    failing, other = (job.torchrun(job.static_options(node, port), script) for node in range(2))
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
    options = [*job.static_options(0, free_port()), "--rdzv-conf=timeout=2"]
    return end(job.torchrun(options, job.worker()))


@scenario(
    "store out of reach",
    Expected(
        generations=(),
        rendezvous=(),
        says=("the launcher raised RendezvousConnectionError",),
        attributes={"error.type": "RendezvousConnectionError"},
    ),
)
def _no_store(job: Job) -> list[Agent]:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        options = job.options(nodes=2, port=nobody.getsockname()[1])
        return end(job.torchrun([*options, "--rdzv-conf=is_host=false,read_timeout=2"], job.worker()))
