"""A process in which a whole job is told to the bridge, by the doors that torch, its hooks and programs use.

``python -m tests.support.bridged_job`` tells a job of two generations: one rendezvous each, a worker that
fails in the first, a heartbeat, and an event of the program's own. What a receiver sees of it is up to the
environment alone::

    with OtlpReceiver() as receiver:
        said = tell_job(otlp(receiver), OTEL_SPAN_EVENT_COUNT_LIMIT="2")
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from opentelemetry import trace

from tests.support import torch_texts
from tests.support.recording import words_of
from torchelastic_otel import attach_worker_context, events
from torchelastic_otel._intake.recording import otel_handler, submit_fact
from torchelastic_otel._job import facts as f
from torchelastic_otel._runtime.clock import now

RUN_ID = "told"
OWN_EVENT = "checkpoint saved"
OWN_METADATA = {f"key{number}": f"hunter{number}, a long value" for number in range(6)}


def tell_job(variables: Mapping[str, str] | None = None, /, **more: str) -> str:
    """Tell the job in a process with these variables, and no other that matters; return what it said."""
    return words_of("-m", "tests.support.bridged_job", variables={**(variables or {}), **more})


def _torchs(event: Mapping[str, Any]) -> None:
    """Hand over an event as torch's logger does."""
    text = json.dumps(event)
    otel_handler().handle(logging.LogRecord("torchelastic-events-otel", logging.INFO, "", 1, text, (), None))


def _tell(kind: type[f.Fact], /, *args: Any, **fields: Any) -> None:
    """Tell what the agent has just done, as the hooks do."""
    submit_fact(kind(1, now(), *args, **fields))


def _generation(number: int) -> None:
    """A rendezvous, and two workers that start after it."""
    _tell(f.RendezvousStarted)
    for message in (
        f"The node 'n_1_0' attempts to join the next round of the rendezvous '{RUN_ID}'.",
        f"The node 'n_1_0' has joined round {number} of the rendezvous '{RUN_ID}' as rank 0 in a world of "
        "size 1.",
    ):
        _torchs(torch_texts.rendezvous_event(run_id=RUN_ID, message=message))
    view = f.RendezvousView(number, ["n_1_0"], [], 1, 1, 600.0)
    _tell(f.RendezvousEnded, rank=0, world_size=1, view=view)
    slots = [f.WorkerSlot(rank, rank, rank, 2, 2) for rank in range(2)]
    _tell(f.WorkersStarting, slots, 0, 0, 1, number)
    _tell(f.WorkersStarted, {0: 100, 1: 101})
    for rank in range(2):
        inner = {"local_rank": [rank], "role_rank": [rank]}
        _torchs(torch_texts.status_event("START", "WORKER", inner, run_id=RUN_ID, global_rank=rank))


def begin() -> None:
    """Tell how the job begins: a rendezvous, whose span has ended, and five records, none of them urgent."""
    _tell(f.JobStarted, RUN_ID, backend="c10d", min_nodes=1, max_nodes=1, max_restarts=3, role="default")
    _tell(f.AgentCreated, "default", 3, 2, "train.py")
    _generation(0)


def main() -> None:
    """Tell the job."""
    begin()
    _torchs(torch_texts.rendezvous_event(run_id=RUN_ID, message="keep-alive", name=torch_texts.KEEP_ALIVE))
    _tell(f.WorkersExited, [f.WorkerExit(0, 3, 100)])
    _tell(f.WorkersStopping)
    _tell(f.WorkersStopped, [f.WorkerExit(1, -15, 101)])
    _tell(f.Monitored, "FAILED")
    _tell(f.RestartStarted, "FAILED", [])
    _generation(1)
    _tell(f.WorkersExited, [f.WorkerExit(0, 0, 100), f.WorkerExit(1, 0, 101)])
    _tell(f.WorkersStopped, [])
    _tell(f.Monitored, "SUCCEEDED")
    _tell(f.RunEnded, "SUCCEEDED")
    _tell(f.JobEnded)
    attach_worker_context()  # as a worker with this environment would
    parent = format(trace.get_current_span().get_span_context().span_id, "016x")
    own = events.Event(OWN_EVENT, events.EventSource.WORKER, metadata={**OWN_METADATA, "parent": parent})
    events.record(own, "otel")


if __name__ == "__main__":
    main()
