"""What torch's objects say, as plain values: a launch, exceptions, exit codes, the rendezvous' state."""

from __future__ import annotations

import itertools
import os
import time
import traceback
from collections.abc import Container, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any, cast

from .._job import facts as f
from .._job.identity import new_span_id
from .._runtime.clock import now
from .._runtime.guard import from_signal_handler
from .fit import say_unknown
from .launcher_signals import signal_behind

if TYPE_CHECKING:
    from .surface import (
        Agent,
        DynamicRendezvousHandler,
        ProcessContext,
        RendezvousHandler,
        RendezvousState,
        WorkerSpec,
    )

_LONGEST_ERROR_FILE = 1 << 20
_MOST_NODES = 256


# A launch


@dataclass(frozen=True, slots=True)
class Launch:
    """What a job is launched with, as far as torch says."""

    run_id: str
    backend: str
    min_nodes: int | None
    max_nodes: int | None
    max_restarts: int | None
    nproc_per_node: int | None
    role: str | None
    entry_point: str | None


def launch_of(frame: FrameType, params: object) -> Launch:
    """Read ``launch_agent``'s frame, and the parameters that it gives the rendezvous."""
    config = frame.f_locals.get("config")
    return Launch(
        run_id=str(getattr(params, "run_id", "")),
        backend=str(getattr(params, "backend", "")),
        min_nodes=getattr(params, "min_nodes", None),
        max_nodes=getattr(params, "max_nodes", None),
        max_restarts=getattr(config, "max_restarts", None),
        nproc_per_node=getattr(config, "nproc_per_node", None),
        role=getattr(config, "role", None),
        entry_point=frame.f_locals.get("entrypoint_name"),
    )


def launch_by_hand(spec: WorkerSpec) -> Launch:
    """Read the specification of an agent that no launcher of torch's made."""
    handler = spec.rdzv_handler
    settings = getattr(handler, "settings", None)
    return Launch(
        run_id=str(handler.get_run_id()),
        backend=str(handler.get_backend()),
        min_nodes=getattr(settings, "min_nodes", None),
        max_nodes=getattr(settings, "max_nodes", None),
        max_restarts=spec.max_restarts,
        nproc_per_node=spec.local_world_size,
        role=spec.role,
        entry_point=spec.get_entrypoint_name(),
    )


# Exceptions


def raised(error: BaseException) -> f.Raised:
    """Return an exception as a fact."""
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return f.Raised(type(error).__name__, str(error), text, signal_behind(error))


# The rendezvous


def _state(handler: RendezvousHandler) -> RendezvousState | None:
    """Return what the nodes share, as last seen; None for backends that share nothing."""
    return getattr(getattr(handler, "_state_holder", None), "state", None)


def current_round(handler: RendezvousHandler) -> int | None:
    """Return the number that all nodes give this round, None where there is none."""
    return getattr(_state(handler), "round", None)


def view(handler: RendezvousHandler, *, joined: bool) -> f.RendezvousView | None:
    """Return the rendezvous as this node last saw it; None for backends that share no state.

    None as well, after a word about it, where torch keeps it otherwise: the rest is told without it.
    """
    try:
        return _view(handler, joined=joined)
    except Exception as error:
        if from_signal_handler(error):
            raise
        say_unknown("the rendezvous' state", error)
        return None


def _view(handler: RendezvousHandler, *, joined: bool) -> f.RendezvousView | None:
    state = _state(handler)
    if state is None:
        if hasattr(handler, "settings"):  # which no other backend has
            raise LookupError("_state_holder is not where the nodes' state is")
        return None
    dynamic = cast("DynamicRendezvousHandler", handler)
    settings = dynamic.settings
    participants = [str(node) for node in itertools.islice(state.participants, _MOST_NODES)]
    this = str(dynamic._this_node)
    if not joined and not state.complete and this not in participants:
        # On a timeout it has taken itself out already.
        participants.append(this)
    return f.RendezvousView(
        state.round,
        participants,
        [str(node) for node in itertools.islice(state.wait_list, _MOST_NODES)],
        settings.min_nodes,
        settings.max_nodes,
        settings.timeout.join.total_seconds(),
    )


# Workers


def workers_starting(agent: Agent, job: int) -> f.WorkersStarting:
    """Return the generation whose processes are about to start, with ids for its spans."""
    group = agent.get_worker_group()
    slots = [
        f.WorkerSlot(
            worker.local_rank,
            worker.global_rank,
            worker.role_rank,
            worker.role_world_size,
            worker.world_size,
            new_span_id(),
        )
        for worker in group.workers
    ]
    return f.WorkersStarting(
        job,
        now(),
        slots,
        new_span_id(),
        group.group_rank,
        group.group_world_size,
        current_round(group.spec.rdzv_handler),
    )


def knows_exits(context: ProcessContext) -> bool:
    """Tell whether this context's processes are where ``exit_codes`` looks for them."""
    return hasattr(context, "subprocess_handlers") or hasattr(getattr(context, "_pc", None), "processes")


def exit_codes(context: ProcessContext, skip: Container[int] = ()) -> dict[int, int | None]:
    """Return each local worker's exit code, None while it runs."""
    handlers: Mapping[int, Any] | None = getattr(context, "subprocess_handlers", None)
    if handlers is not None:
        return {rank: handler.proc.poll() for rank, handler in handlers.items() if rank not in skip}
    processes = getattr(getattr(context, "_pc", None), "processes", [])
    return {rank: process.exitcode for rank, process in enumerate(processes) if rank not in skip}


def succeeded_early(context: ProcessContext) -> list[int]:
    """Return the local ranks that have ended with 0 while others run, where torch keeps count of them."""
    running: Container[int] | None = getattr(context, "_running_local_ranks", None)
    if running is None:
        if hasattr(context, "subprocess_handlers"):  # of those of functions nobody keeps count
            say_unknown("workers that end early", "a process context without _running_local_ranks")
        return []
    codes = exit_codes(context, skip=running)
    return [rank for rank, code in codes.items() if code == 0]


def stuck_pids(agent: Agent) -> list[int]:
    """Return the workers that have been in uninterruptible sleep for longer than torch waits."""
    limit_s: float = getattr(agent, "_uninterruptible_state_timeout", 0)
    first_seen: Mapping[int, float] = getattr(agent, "_uninterruptible_state_first_seen", {})
    return [pid for pid, since in first_seen.items() if time.monotonic() - since >= limit_s]


def named_culprit(handled: BaseException | None) -> int | None:
    """Return the local rank whose end torch's multiprocessing is handling; None if it handles none's."""
    rank = getattr(handled, "error_index", None)
    return rank if isinstance(rank, int) else None


def worker_exit(context: ProcessContext, rank: int, code: int) -> f.WorkerExit:
    """Return how a local worker ended."""
    return f.WorkerExit(
        rank,
        code,
        context.pids().get(rank),
        _file_of(context, "stdouts", rank),
        _file_of(context, "stderrs", rank),
        _worker_error(_file_of(context, "error_files", rank)) if code else None,
    )


def errors_of_running(context: ProcessContext, codes: Mapping[int, int | None]) -> dict[int, f.WorkerError]:
    """Return, by local rank, the error files of workers that have raised and still run."""
    files = {rank: _file_of(context, "error_files", rank) for rank, code in codes.items() if code is None}
    errors = {rank: _worker_error(path) for rank, path in files.items()}
    return {rank: error for rank, error in errors.items() if error is not None}


def _file_of(context: ProcessContext, what: str, rank: int) -> str:
    """Return the path of a worker's file; "" where it has none, and where torch keeps them otherwise."""
    paths: Mapping[int, str] | None = getattr(context, what, None)
    if paths is None:
        say_unknown("files of workers", f"a process context without {what}")
        return ""
    return paths.get(rank, "")


def _worker_error(path: str) -> f.WorkerError | None:
    """Read a worker's error file, which its ``@record`` wrote."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read(_LONGEST_ERROR_FILE)
            written_ns = os.fstat(file.fileno()).st_mtime_ns
    except OSError:
        return None
    return f.WorkerError(path, text, written_ns) if text else None
