"""What one job's agent does, told to the bridge as facts.

``wrapping`` calls these methods where the agent does it.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from .._intake.lifecycle import bridge
from .._intake.recording import submit_fact
from .._job import facts as f
from .._job.identity import TraceIdentity, identify, new_span_id
from .._job.torch_words import HEALTHY, UNHEALTHY
from .._job.worker_evidence import has_raised
from .._runtime.clock import Moment, now
from .._runtime.guard import say_once
from . import propagation, reading
from .launcher_signals import SignalWatch, signal_behind
from .oom import oom_kill_count
from .reading import Launch, raised
from .recorders import Recorders

if TYPE_CHECKING:
    from .surface import Agent, ProcessContext, RendezvousHandler, RendezvousInfo, RunResult

_SECURE_S = 0.25
"""Longest time that the agent waits for its node's disk, in seconds."""
_DYING_S = 2.0
"""Longest time that a launcher which is killed waits for a backend, in seconds."""


class JobHooks:
    """Tells the bridge what one job's agent does."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.fits = True
        """Whether torch's agent is what the hooks expect."""
        self._identity: TraceIdentity | None = None
        self._watch: SignalWatch | None = None
        self._agent: Agent | None = None
        self._context: ProcessContext | None = None
        self._generation: f.WorkersStarting | None = None
        self._told: set[int] = set()
        self._alive: Moment | None = None
        self._oom_kills: int | None = None
        self.recorders = Recorders()

    def _report_safely(self, fact: f.Fact) -> None:
        """Pass a fact on, and wait, with a bound, until it would outlive the process."""
        submit_fact(fact, urgent=True)
        bridge().secure(_SECURE_S)

    def _report_end(self, fact: f.Fact) -> None:
        """Likewise for the end of something, but nobody waits while telemetry is still being loaded."""
        submit_fact(fact, urgent=True)
        bridge().secure(_SECURE_S, loading=False)

    # The launcher

    def begin(self, launch: Launch) -> None:
        """The job begins."""
        self._identity = identify(
            launch.run_id, os.environ, os.environ.get("TORCHELASTIC_OTEL_TRACE_SEED", "")
        )
        submit_fact(
            f.JobStarted(
                self.number,
                now(),
                run_id=launch.run_id,
                backend=launch.backend,
                min_nodes=launch.min_nodes,
                max_nodes=launch.max_nodes,
                nproc_per_node=launch.nproc_per_node,
                max_restarts=launch.max_restarts,
                role=launch.role,
                entry_point=launch.entry_point,
                identity=self._identity,
                agent_span_id=new_span_id(),
            )
        )
        self._watch = SignalWatch(self._dying)
        self._watch.install()

    def _dying(self, signal_name: str) -> None:
        submit_fact(f.StopRequested(self.number, now(), signal_name), urgent=True)
        if bridge().finish(min(bridge().exit_timeout_s, _DYING_S)):
            bridge().clear_spool(_SECURE_S)

    def stop_watching(self) -> None:
        """Torch is about to handle signals itself, or nothing is left to be told of one."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.remove()

    def store_failed(self, error: BaseException) -> None:
        """No rendezvous handler could be made."""
        self.stop_watching()
        submit_fact(f.StoreFailed(self.number, now(), raised(error)), urgent=True)

    def adopt(self, agent: Agent) -> None:
        """Take the agent whose workers these are."""
        self._agent = agent
        spec = agent.get_worker_group().spec
        submit_fact(
            f.AgentCreated(
                self.number,
                now(),
                spec.role,
                spec.max_restarts,
                spec.local_world_size,
                spec.get_entrypoint_name(),
            )
        )

    def does_not_fit(self, why: str) -> None:
        """Torch's agent is not what the hooks are for: its events alone tell of this job."""
        say_once(
            "hook agent",
            f"this torch is not known to torchelastic-otel ({why}); "
            "telemetry comes from torch's events alone, the job is not affected.",
        )
        submit_fact(f.HooksMissing(self.number, now()))
        self.fits = False

    # Rendezvous

    def rendezvous_started(self) -> None:
        """This node asks to join: its agent is at work, and is followed if it ever is."""
        if self._agent is None and self.fits:
            self.does_not_fit("its agent was not seen")
        submit_fact(f.RendezvousStarted(self.number, now()))

    def rendezvous_ended(
        self, handler: RendezvousHandler, result: RendezvousInfo | None, error: BaseException | None
    ) -> None:
        """``next_rendezvous`` returned or raised."""
        moment = now()
        why = raised(error) if error is not None else None
        if why is not None and why.signal is not None:
            submit_fact(f.StopRequested(self.number, moment, why.signal))
        self._report_end(
            f.RendezvousEnded(
                self.number,
                moment,
                why,
                getattr(result, "rank", None),
                getattr(result, "world_size", None),
                reading.view(handler, joined=error is None),
            )
        )

    # Workers

    def workers_starting(self) -> None:
        """The agent is about to start the processes of a generation."""
        if self._agent is None:
            return
        self._told = set()
        self._oom_kills = oom_kill_count()
        self._generation = reading.workers_starting(self._agent, self.number)
        submit_fact(self._generation)

    def worker_environments(self) -> dict[int, dict[str, str]]:
        """Return, by local rank, the variables that give each worker the context of its own span."""
        if self._generation is None or self._identity is None:
            return {}
        return propagation.worker_environments(self.number, self._generation, self._identity)

    def workers_started(self, context: ProcessContext) -> None:
        """The processes run."""
        pids = dict(context.pids())
        self._context = context
        moment = self._alive = now()
        submit_fact(f.WorkersStarted(self.number, moment, pids))

    def workers_not_started(self, error: BaseException) -> None:
        """Starting the processes raised."""
        submit_fact(f.WorkersStarted(self.number, now(), error=raised(error)))

    def closing(self, context: ProcessContext, culprit: int | None) -> None:
        """Torch closes the context: first of all, who ended by itself?

        ``culprit`` is the local rank that torch names, if it names one.
        """
        look = now()
        codes = reading.exit_codes(context)
        raised_and_run = reading.errors_of_running(context, codes)
        exits = []
        for rank, code in codes.items():
            if code is None or rank in self._told:
                continue
            exit_ = self._exit(context, rank, code)
            # Torch's multiprocessing has stopped the others before it tells of the first: only an exception
            # of its own shows that another one failed by itself.
            if culprit is None or rank == culprit or has_raised(exit_):
                exits.append(exit_)
        self._workers_exited(exits, look, raised_and_run, self.recorders.of_running(codes))
        if len(self._told) < len(codes):
            submit_fact(f.WorkersStopping(self.number, now()))

    def _workers_exited(
        self,
        exits: list[f.WorkerExit],
        look: Moment,
        raised_and_run: dict[int, f.WorkerError] | None = None,
        recorded: dict[int, f.Recorded] | None = None,
    ) -> None:
        """Report what a look has found that began at ``look``: whoever still runs was alive then."""
        alive, self._alive = self._alive, look
        if not exits:
            return
        self._told.update(exit_.local_rank for exit_ in exits)
        oom_kills = None
        if any(exit_.exit_code == -9 for exit_ in exits):
            count = oom_kill_count()
            if count is not None and self._oom_kills is not None:
                oom_kills = count - self._oom_kills
        fact = f.WorkersExited(
            self.number, now(), exits, oom_kills, alive, raised_and_run or {}, recorded or {}
        )
        if any(exit_.exit_code for exit_ in exits):
            self._report_safely(fact)
        else:
            submit_fact(fact)

    def closed_context(self, context: ProcessContext) -> None:
        """None of the generation runs any more."""
        rest = [
            self._exit(context, rank, code)
            for rank, code in reading.exit_codes(context).items()
            if code is not None and rank not in self._told
        ]
        self._told.update(exit_.local_rank for exit_ in rest)
        self._report_end(f.WorkersStopped(self.number, now(), rest))
        self.recorders.close()

    def _exit(self, context: ProcessContext, rank: int, code: int) -> f.WorkerExit:
        return self.recorders.with_evidence(reading.worker_exit(context, rank, code))

    def monitored(self, agent: Agent, result: RunResult, look: Moment) -> None:
        """``_monitor_workers`` took a look, which began at ``look``."""
        state = result.state.name
        if state == HEALTHY:
            context = self._context
            if context is not None:
                done = [rank for rank in reading.succeeded_early(context) if rank not in self._told]
                exits = [reading.worker_exit(context, rank, 0) for rank in done]
                self._workers_exited(exits, look)
            return
        stuck = reading.stuck_pids(agent) if state == UNHEALTHY else []
        fact = f.Monitored(self.number, now(), state, stuck)
        if stuck:
            self._report_safely(fact)
        else:
            submit_fact(fact)

    def restarting(self, agent: Agent) -> None:
        """``_restart_workers`` begins."""
        group = agent.get_worker_group()
        seen = reading.view(group.spec.rdzv_handler, joined=True)
        submit_fact(
            f.RestartStarted(
                self.number,
                now(),
                group.state.name,
                seen.waiting if seen is not None else [],
            )
        )

    # Ends

    def left_barrier(self, start: Moment) -> None:
        """The exit barrier was left."""
        submit_fact(f.ExitBarrier(self.number, start, now()))

    def shutting_down(self) -> None:
        """The agent stops its workers; for a signal, this may be the last that it gets to say."""
        error = sys.exc_info()[1]
        if error is None:
            return
        signal = signal_behind(error)
        if signal is not None:
            submit_fact(f.StopRequested(self.number, now(), signal), urgent=True)
        else:
            submit_fact(f.RunRaising(self.number, now()))

    def run_ended(self, result: RunResult | None, error: BaseException | None) -> None:
        """``run`` returned or raised."""
        self.stop_watching()
        moment = now()
        state = result.state.name if result is not None else ""
        why = raised(error) if error is not None else None
        if why is not None and why.signal is not None:
            submit_fact(f.StopRequested(self.number, moment, why.signal))
        submit_fact(f.RunEnded(self.number, moment, state, why))

    def job_ended(self, error: BaseException | None) -> None:
        """The rendezvous handler was shut down, or that raised."""
        submit_fact(f.JobEnded(self.number, now(), raised(error) if error is not None else None))
