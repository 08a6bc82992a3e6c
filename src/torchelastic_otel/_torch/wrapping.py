"""Where an agent does something: methods of one agent, one rendezvous handler, one process context, wrapped.

Whatever is told on the way is guarded; the wrapped call, its result and its exceptions stay what they were.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .._runtime.clock import Moment, now
from .._runtime.guard import guarded
from .._runtime.imports import importing
from . import reading
from .agent import JobHooks
from .current import current
from .fit import say_unknown
from .operations import Operations

if TYPE_CHECKING:
    from .surface import Agent, ProcessContext, RendezvousHandler

Before = Callable[[], None]
After = Callable[[Moment, Any, BaseException | None], None]
"""Gets the start, the result, and the exception if one was raised."""


def wrap(owner: object, name: str, *, before: Before | None = None, after: After | None = None) -> bool:
    """Wrap the method ``name`` of one object; False if it has none, or takes none."""
    original = getattr(owner, name, None)
    if original is None:
        return False

    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        start = now()
        if before is not None:
            guarded(before)
        try:
            result = original(*args, **kwargs)
        except BaseException as error:
            if after is not None:
                guarded(after, start, None, error)
            raise
        if after is not None:
            guarded(after, start, result, None)
        return result

    try:
        setattr(owner, name, wrapper)
    except AttributeError:
        return False
    return True


def hook_rendezvous_handler(handler: RendezvousHandler, job: JobHooks, ended: Callable[[], None]) -> None:
    """Follow a rendezvous handler; ``ended`` is called when the launcher has shut it down."""

    def joined(_start: Moment, result: Any, error: BaseException | None) -> None:
        job.rendezvous_ended(handler, result, error)

    def closed(_start: Moment, _result: Any, error: BaseException | None) -> None:
        job.job_ended(error)
        ended()

    wrap(handler, "next_rendezvous", before=job.rendezvous_started, after=joined)
    wrap(handler, "shutdown", after=closed)


_TELLS = {
    "_monitor_workers": "workers that end early, or cannot be ended",
    "_restart_workers": "why workers are restarted",
    "_shutdown": "signals, as they come",
    "_exit_barrier": "how long nodes wait for each other at the end",
}
"""What is left out where an agent has no such method; nothing else is."""


def hook_agent(agent: Agent, job: JobHooks) -> bool:
    """Follow an agent; ``current`` tells whose workers are started, and who hears what is measured.

    Returns False, having changed nothing, where it has no ``run``.
    """

    def running() -> None:
        current.job, current.operations = job, Operations(job.number)

    def ran(_start: Moment, result: Any, error: BaseException | None) -> None:
        current.job = current.operations = None
        job.run_ended(result, error)

    def monitored(start: Moment, result: Any, error: BaseException | None) -> None:
        if error is None:
            job.monitored(agent, result, start)

    def restarting() -> None:
        job.restarting(agent)

    def left_barrier(start: Moment, _result: Any, _error: BaseException | None) -> None:
        job.left_barrier(start)

    if not wrap(agent, "run", before=running, after=ran):
        return False
    methods: dict[str, tuple[Before | None, After | None]] = {
        "_monitor_workers": (None, monitored),
        "_restart_workers": (restarting, None),
        "_shutdown": (job.shutting_down, None),
        "_exit_barrier": (None, left_barrier),
    }
    for name, (before, after) in methods.items():
        if not wrap(agent, name, before=before, after=after):
            say_unknown(f"agent, {name}", f"it has none, so nothing tells {_TELLS[name]}")
    return True


def start_processes(
    original: Callable[..., ProcessContext], job: JobHooks, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> ProcessContext:
    """Call torch's ``start_processes``, each worker's environment with its span's context and recorder."""
    guarded(job.stop_watching)
    if not job.fits:
        return original(*args, **kwargs)
    if kwargs.get("start_method") == "fork" and not isinstance(kwargs.get("entrypoint"), str):
        guarded(importing.wait)
    guarded(job.workers_starting)
    changed: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    guarded(_add_contexts, job, args, kwargs, changed)
    if changed:
        args, kwargs = changed[0]
    try:
        context = original(*args, **kwargs)
    except BaseException as error:
        guarded(job.workers_not_started, error)
        raise
    guarded(_hook_context, context, job)
    return context


def _add_contexts(
    job: JobHooks,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    changed: list[tuple[tuple[Any, ...], dict[str, Any]]],
) -> None:
    """Put into ``changed`` the arguments with copies of the workers' environments, if anything is added."""
    named = dict(zip(("name", "entrypoint", "args", "envs"), args, strict=False)) | kwargs
    envs = named.get("envs")
    if not isinstance(envs, dict):
        return
    contexts = job.worker_environments()
    recorders: list[dict[int, dict[str, str]]] = []
    guarded(_add_recorders, job, named, envs, recorders)
    added = [contexts, *recorders]
    if not any(added):
        return
    envs = {
        rank: {**env, **{name: value for more in added for name, value in more.get(rank, {}).items()}}
        for rank, env in envs.items()
    }
    if "envs" in kwargs:
        changed.append((args, {**kwargs, "envs": envs}))
    else:
        changed.append(((*args[:3], envs, *args[4:]), kwargs))


def _add_recorders(
    job: JobHooks,
    named: dict[str, Any],
    envs: dict[int, dict[str, str]],
    recorders: list[dict[int, dict[str, str]]],
) -> None:
    recorders.append(job.recorders.environments(named["entrypoint"], named["args"], envs))


def _hook_context(context: ProcessContext, job: JobHooks) -> None:
    """Follow the processes that were started: torch closes their context when it is done with them."""
    if not reading.knows_exits(context):
        job.does_not_fit("its workers' processes are kept otherwise")
        return
    original = context.close

    @functools.wraps(original)
    def close(*args: Any, **kwargs: Any) -> Any:
        guarded(_closing, context, job, sys.exc_info()[1])
        result = original(*args, **kwargs)
        guarded(job.closed_context, context)
        return result

    context.close = close
    job.workers_started(context)


def _closing(context: ProcessContext, job: JobHooks, handled: BaseException | None) -> None:
    job.closing(context, reading.named_culprit(handled))
