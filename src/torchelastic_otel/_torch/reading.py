"""What torch's objects say, as plain values: exceptions, exit codes, error files, the rendezvous' state."""

from __future__ import annotations

import itertools
import os
import traceback
from typing import Any

from .._job import facts as f

_LONGEST_ERROR_FILE = 1 << 20


def raised(error: BaseException) -> f.Raised:
    """Return an exception as a fact."""
    signal = None
    if type(error).__name__ == "SignalException":
        signal = getattr(getattr(error, "sigval", None), "name", None)
    elif isinstance(error, KeyboardInterrupt):
        signal = "SIGINT"
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return f.Raised(type(error).__name__, str(error), text, signal)


def exit_codes(context: Any, skip: Any = ()) -> dict[int, int | None]:
    """Return each local worker's exit code, None while it runs."""
    handlers = getattr(context, "subprocess_handlers", None)
    if handlers is not None:
        return {rank: handler.proc.poll() for rank, handler in handlers.items() if rank not in skip}
    processes = getattr(getattr(context, "_pc", None), "processes", [])
    return {rank: process.exitcode for rank, process in enumerate(processes) if rank not in skip}


def worker_exit(context: Any, rank: int, code: int) -> f.WorkerExit:
    return f.WorkerExit(
        rank,
        code,
        context.pids().get(rank),
        context.stdouts.get(rank, ""),
        context.stderrs.get(rank, ""),
        worker_error(context.error_files.get(rank, "")) if code else None,
    )


def worker_error(path: str) -> f.WorkerError | None:
    """Read a worker's error file, which its ``@record`` wrote."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read(_LONGEST_ERROR_FILE)
            written_ns = os.fstat(file.fileno()).st_mtime_ns
    except OSError:
        return None
    return f.WorkerError(path, text, written_ns) if text else None


def view(handler: Any, *, joined: bool) -> f.RendezvousView | None:
    """Return the rendezvous as this node last saw it; None for backends that share no state."""
    state = getattr(getattr(handler, "_state_holder", None), "state", None)
    if state is None:
        return None
    settings = handler.settings
    participants = [str(node) for node in itertools.islice(state.participants, 256)]
    this = str(handler._this_node)
    if not joined and not state.complete and this not in participants:
        # On a timeout it has taken itself out already.
        participants.append(this)
    return f.RendezvousView(
        state.round,
        participants,
        [str(node) for node in itertools.islice(state.wait_list, 256)],
        [str(node) for node in itertools.islice(state.redundancy_list, 256)],
        settings.min_nodes,
        settings.max_nodes,
        settings.timeout.join.total_seconds(),
    )
