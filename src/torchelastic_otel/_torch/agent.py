"""What an agent does, read where it does it, and passed on as facts.

Every hook wraps a method of one agent, one rendezvous handler or one process context. Reading is guarded; the
wrapped call, its result and its exceptions stay what they were.
"""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from .._intake.lifecycle import bridge
from .._intake.recording import submit_fact
from .._job import facts as f
from .._job.identity import TraceIdentity, identify, new_span_id
from .._runtime.guard import guarded, say_once
from .._runtime.loading import wait_until_loaded
from . import propagation
from .launcher_signals import SignalWatch
from .oom import oom_kill_count
from .operations import Operations
from .reading import (
    exit_codes,
    raised,
    view,
    worker_exit,
)

_SECURE_S = 0.25
"""Longest time that the agent waits for its node's disk, in seconds."""


class JobHooks:
    """Tells the bridge what one job's agent does."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._identity: TraceIdentity | None = None
        self._watch: SignalWatch | None = None
        self._generation: f.WorkersStarting | None = None
        self._told: set[int] = set()
        self._oom_kills: int | None = None
        self._agent: Any = None
        self.fits = True

    def tell(self, fact: f.Fact, *, urgent: bool = False, secure: bool = False) -> None:
        """Pass a fact on; ``secure`` waits, with a bound, until it would outlive the process."""
        submit_fact(fact, urgent=urgent or secure)
        if secure:
            bridge().secure(_SECURE_S)

    def tell_end(self, fact: f.Fact) -> None:
        """Pass on the end of something, secured unless telemetry is still being loaded."""
        submit_fact(fact, urgent=True)
        bridge().secure(_SECURE_S, loading=False)

    def begin(self, **known: Any) -> None:
        """The job begins; ``known`` are fields of ``JobStarted``."""
        run_id = known["run_id"]
        self._identity = identify(run_id, os.environ, os.environ.get("TORCHELASTIC_OTEL_TRACE_SEED", ""))
        self.tell(
            f.JobStarted(
                self.number, time.time_ns(), **known, identity=self._identity, agent_span_id=new_span_id()
            )
        )
        self._watch = SignalWatch(self._dying)
        self._watch.install()

    def _dying(self, signal_name: str) -> None:
        self.tell(f.StopRequested(self.number, time.time_ns(), signal_name), urgent=True)
        if bridge().finish(min(bridge().exit_timeout_s, 2.0)):
            bridge().clear_spool(_SECURE_S)

    def _stop_watching(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.remove()

    def store_failed(self, error: BaseException) -> None:
        """No rendezvous handler could be made."""
        self._stop_watching()
        self.tell(f.StoreFailed(self.number, time.time_ns(), raised(error)), urgent=True)

    # Rendezvous

    def rendezvous_started(self) -> None:
        """This node asks to join."""
        self.tell(f.RendezvousStarted(self.number, time.time_ns()))

    def rendezvous_ended(self, handler: Any, result: Any, error: BaseException | None) -> None:
        """``next_rendezvous`` returned or raised."""
        fact = f.RendezvousEnded(self.number, time.time_ns(), view=view(handler, joined=error is None))
        if error is not None:
            fact.error = raised(error)
            if fact.error.signal is not None:
                self.tell(f.StopRequested(self.number, fact.time_ns, fact.error.signal))
        elif result is not None:
            fact.rank, fact.world_size = getattr(result, "rank", None), getattr(result, "world_size", None)
        self.tell_end(fact)

    # Workers

    def start_processes(
        self, original: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Call torch's ``start_processes``, each worker's environment with the context of its own span."""
        guarded(self._stop_watching)
        if not self.fits:
            return original(*args, **kwargs)
        if kwargs.get("start_method") == "fork" and not isinstance(kwargs.get("entrypoint"), str):
            guarded(wait_until_loaded)
        guarded(self._workers_starting)
        changed: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        guarded(self._with_context, args, kwargs, changed)
        if changed:
            args, kwargs = changed[0]
        try:
            context = original(*args, **kwargs)
        except BaseException as error:
            guarded(self.tell, f.WorkersStarted(self.number, time.time_ns(), error=raised(error)))
            raise
        guarded(self._workers_started, context)
        return context

    def _workers_starting(self) -> None:
        group = self._agent._worker_group
        self._told = set()
        self._oom_kills = oom_kill_count()
        state = getattr(getattr(group.spec.rdzv_handler, "_state_holder", None), "state", None)
        self._generation = f.WorkersStarting(
            self.number,
            time.time_ns(),
            [
                f.WorkerSlot(
                    worker.local_rank,
                    worker.global_rank,
                    worker.role_rank,
                    worker.role_world_size,
                    worker.world_size,
                    new_span_id(),
                )
                for worker in group.workers
            ],
            new_span_id(),
            group.group_rank,
            group.group_world_size,
            getattr(state, "round", None),
        )
        self.tell(self._generation)

    def _with_context(self, args: tuple[Any, ...], kwargs: dict[str, Any], changed: list[Any]) -> None:
        generation = self._generation
        if generation is None or self._identity is None:
            return
        contexts = propagation.worker_environments(self.number, generation, self._identity)
        envs = kwargs.get("envs", args[3] if len(args) > 3 else None)
        if not contexts or not isinstance(envs, dict):
            return
        envs = {rank: {**env, **contexts.get(rank, {})} for rank, env in envs.items()}
        if "envs" in kwargs:
            changed.append((args, {**kwargs, "envs": envs}))
        else:
            changed.append(((*args[:3], envs, *args[4:]), kwargs))

    def _workers_started(self, context: Any) -> None:
        pids = dict(context.pids())
        original = context.close

        @functools.wraps(original)
        def close(*args: Any, **kwargs: Any) -> Any:
            by_poll = sys._getframe(1).f_code.co_name == "_poll"
            guarded(self._before_close, context, by_poll)
            result = original(*args, **kwargs)
            guarded(self._after_close, context)
            return result

        context.close = close
        self.tell(f.WorkersStarted(self.number, time.time_ns(), pids))

    def _before_close(self, context: Any, by_poll: bool) -> None:
        """Torch closes the context: first of all, who ended by itself?"""
        now_ns = time.time_ns()
        codes = exit_codes(context)
        culprit = getattr(sys.exc_info()[1], "error_index", None) if by_poll else None
        exits = []
        for rank, code in codes.items():
            if code is None or rank in self._told:
                continue
            exit_ = worker_exit(context, rank, code)
            # Torch's multiprocessing has stopped the others before it tells of the first: only an error file
            # of its own shows that another one failed by itself.
            if culprit is None or rank == culprit or exit_.error is not None:
                exits.append(exit_)
        self._tell_exits(exits, now_ns)
        if len(self._told) < len(codes):
            self.tell(f.WorkersStopping(self.number, now_ns))

    def _tell_exits(self, exits: list[f.WorkerExit], now_ns: int) -> None:
        if not exits:
            return
        self._told.update(exit_.local_rank for exit_ in exits)
        oom_kills = None
        if any(exit_.exit_code == -9 for exit_ in exits):
            count = oom_kill_count()
            if count is not None and self._oom_kills is not None:
                oom_kills = count - self._oom_kills
        died = any(exit_.exit_code for exit_ in exits)
        self.tell(f.WorkersExited(self.number, now_ns, exits, oom_kills), secure=died)

    def _after_close(self, context: Any) -> None:
        rest = [
            worker_exit(context, rank, code)
            for rank, code in exit_codes(context).items()
            if code is not None and rank not in self._told
        ]
        self._told.update(exit_.local_rank for exit_ in rest)
        self.tell_end(f.WorkersStopped(self.number, time.time_ns(), rest))

    def monitored(self, agent: Any, result: Any) -> None:
        """``_monitor_workers`` took a look."""
        state = result.state.name
        if state == "HEALTHY":
            running = getattr(agent._pcontext, "_running_local_ranks", None)
            codes = {} if running is None else exit_codes(agent._pcontext, skip=running)
            done = [rank for rank, code in codes.items() if code == 0 and rank not in self._told]
            if done:
                self._tell_exits([worker_exit(agent._pcontext, rank, 0) for rank in done], time.time_ns())
            return
        stuck = []
        if state == "UNHEALTHY":
            limit = getattr(agent, "_uninterruptible_state_timeout", 0)
            seen = getattr(agent, "_uninterruptible_state_first_seen", {})
            stuck = [pid for pid, since in seen.items() if time.monotonic() - since >= limit]
        self.tell(
            f.Monitored(self.number, time.time_ns(), state, stuck), urgent=bool(stuck), secure=bool(stuck)
        )

    def restarting(self, agent: Any) -> None:
        """``_restart_workers`` begins."""
        group = agent._worker_group
        seen = view(group.spec.rdzv_handler, joined=True)
        self.tell(
            f.RestartStarted(
                self.number,
                time.time_ns(),
                group.state.name,
                seen.waiting if seen is not None else [],
                getattr(agent, "_remaining_restarts", None),
            )
        )

    # Ends

    def barrier(self, start_ns: int) -> None:
        """The exit barrier was left."""
        self.tell(f.ExitBarrier(self.number, start_ns, time.time_ns()))

    def shutting_down(self) -> None:
        """The agent stops its workers; for a signal, this may be the last that it gets to say."""
        error = sys.exc_info()[1]
        if error is None:
            return
        signal = raised(error).signal
        if signal is not None:
            self.tell(f.StopRequested(self.number, time.time_ns(), signal), urgent=True)
        else:
            self.tell(f.RunRaising(self.number, time.time_ns()))

    def run_ended(self, result: Any, error: BaseException | None) -> None:
        """``run`` returned or raised."""
        self._stop_watching()
        state = result.state.name if result is not None else ""
        fact = f.RunEnded(self.number, time.time_ns(), state, raised(error) if error is not None else None)
        if fact.error is not None and fact.error.signal is not None:
            self.tell(f.StopRequested(self.number, fact.time_ns, fact.error.signal))
        self.tell(fact)

    def closed(self, error: BaseException | None) -> None:
        """The rendezvous handler was shut down, or that raised."""
        self.tell(f.JobEnded(self.number, time.time_ns(), raised(error) if error is not None else None))

    def adopt(self, agent: Any) -> None:
        """Take the agent whose workers these are."""
        self._agent = agent
        spec = agent._worker_group.spec
        self.tell(
            f.AgentCreated(
                self.number,
                time.time_ns(),
                spec.role,
                spec.max_restarts,
                spec.local_world_size,
                spec.get_entrypoint_name(),
            )
        )


def hook_rendezvous_handler(handler: Any, job: JobHooks, ended: Callable[[], None]) -> None:
    """Follow a rendezvous handler; ``ended`` is called when the launcher has shut it down."""

    def joined(_start_ns: int, result: Any, error: BaseException | None) -> None:
        job.rendezvous_ended(handler, result, error)

    def closed(_start_ns: int, _result: Any, error: BaseException | None) -> None:
        job.closed(error)
        ended()

    wrap(handler, "next_rendezvous", before=job.rendezvous_started, after=joined)
    wrap(handler, "shutdown", after=closed)


def hook_agent(agent: Any, job: JobHooks, current: Any) -> None:
    """Follow an agent; the thread-local ``current`` tells whose workers are started, and what is measured."""
    job.adopt(agent)

    def running() -> None:
        current.operations = Operations(job.number)

    def starting() -> None:
        current.job = job

    def started(_start_ns: int, _result: Any, _error: BaseException | None) -> None:
        current.job = None

    def restarting() -> None:
        job.restarting(agent)

    def monitored(_start_ns: int, result: Any, error: BaseException | None) -> None:
        if error is None:
            job.monitored(agent, result)

    def ran(_start_ns: int, result: Any, error: BaseException | None) -> None:
        current.operations = None
        job.run_ended(result, error)

    def left_barrier(start_ns: int, _result: Any, _error: BaseException | None) -> None:
        job.barrier(start_ns)

    missing = [
        name
        for name, before, after in (
            ("run", running, ran),
            ("_start_workers", starting, started),
            ("_monitor_workers", None, monitored),
            ("_restart_workers", restarting, None),
            ("_shutdown", job.shutting_down, None),
            ("_exit_barrier", None, left_barrier),
        )
        if not wrap(agent, name, before=before, after=after)
    ]
    if missing:
        say_once(
            "hook agent",
            f"this torch is not known to torchelastic-otel (its agent has no {', '.join(missing)}); "
            "telemetry comes from torch's events alone, the job is not affected.",
        )
        job.tell(f.HooksMissing(job.number, time.time_ns()))
        job.fits = False


_After = Callable[[int, Any, BaseException | None], None]


def wrap(
    owner: Any, name: str, *, before: Callable[[], None] | None = None, after: _After | None = None
) -> bool:
    """Wrap the method ``name`` of one object; False if it has none, or takes none.

    ``after`` gets the start (ns since the epoch), the result, and the exception if one was raised.
    """
    original = getattr(owner, name, None)
    if original is None:
        return False

    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        start_ns = time.time_ns()
        if before is not None:
            guarded(before)
        try:
            result = original(*args, **kwargs)
        except BaseException as error:
            if after is not None:
                guarded(after, start_ns, None, error)
            raise
        if after is not None:
            guarded(after, start_ns, result, None)
        return result

    try:
        setattr(owner, name, wrapper)
    except AttributeError:
        return False
    return True
