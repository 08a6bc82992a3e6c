"""What is put into torch, when, and how it is taken out again; the jobs that are followed.

Everything is put in by wrapping. A hook that does not fit the installed torch is said once, and events alone
go on. ``docs/telemetry.md`` tells what each hook is for.
"""

from __future__ import annotations

import functools
import itertools
import sys
import weakref
from collections.abc import Callable
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, Any

from .._contract import DESTINATION
from .._job.torch_words import SIGNAL_EXCEPTION
from .._runtime import collection
from .._runtime.frames import caller_of_this
from .._runtime.guard import guarded, let_pass
from . import destination
from .current import current
from .fit import fits
from .launcher_signals import is_signal
from .names import AGENT, AGENT_API, EVENTS, METRICS, REGISTRY
from .patches import Patches
from .torchrun import asked_for, is_launch, is_torchrun

if TYPE_CHECKING:
    from .agent import JobHooks
    from .reading import Launch
    from .surface import Agent, AgentModule, EventsModule, ProcessContext, RegistryModule, RendezvousHandler

# Importing the package is cheap in every process: what only a job needs is imported when one begins.


class TorchHooks:
    """The hooks of this process."""

    def __init__(self) -> None:
        self._every_job = False
        self._kept = False
        self._waiting = False
        self._starts_are_seen = False
        self._done: set[str] = set()
        self._patches = Patches()
        self._numbers = itertools.count(1)
        self._jobs: dict[int, JobHooks] = {}
        self._job_patches = Patches()

    # Putting in, and taking out

    def install(self) -> None:
        """Put the hooks into torch as its modules are imported; at once into those that are."""
        let_pass(is_signal)
        wanted: tuple[tuple[str, Callable[[Any], None]], ...] = (
            (EVENTS, self._hook_events),
            (REGISTRY, self._hook_registry),
            (AGENT, self._hook_agents),
        )
        for name, hook in wanted:
            if not self._waiting:
                fits(name, self._when_imported, name, hook)
            elif name in sys.modules:
                self._once(name, hook, sys.modules[name])
        self._waiting = True

    def _when_imported(self, name: str, hook: Callable[[Any], None]) -> None:
        from wrapt import register_post_import_hook

        register_post_import_hook(lambda module: self._once(name, hook, module), name)

    def _once(self, what: str, hook: Callable[[Any], None], module: ModuleType) -> None:
        """Put a hook in unless it is in already; say so if torch is not what it expects.

        This runs inside of torch's own imports: no exception of ours may leave it, of whatever type.
        """
        if what in self._done:
            return
        self._done.add(what)
        fits(what, hook, module)

    def follow_every_job(self) -> None:
        """From now on, whatever a job's event log handler is."""
        self._every_job = True

    def keep(self) -> None:
        """Let the hooks stay in for as long as the process lives."""
        self._kept = True

    def release(self) -> None:
        """Follow only jobs that ask for it; take out what nobody wanted to be kept."""
        self._every_job = False
        self._forget_jobs()
        if not self._kept:
            self._patches.undo()
            self._done.clear()

    # The hooks

    def _hook_events(self, events: EventsModule) -> None:
        """Make ``otel`` known as a destination."""
        destination.register(events, self._patches)

    def _hook_registry(self, registry: RegistryModule) -> None:
        """See each job begin: every launcher asks the registry for its rendezvous handler."""
        original = registry.get_rendezvous_handler

        @functools.wraps(original)
        def get_rendezvous_handler(*args: Any, **kwargs: Any) -> RendezvousHandler:
            begun: list[JobHooks] = []
            params = args[0] if args else kwargs.get("params")
            guarded(self._begin_if_wanted, caller_of_this(), params, begun)
            try:
                handler = original(*args, **kwargs)
            except BaseException as error:
                for job in begun:
                    guarded(job.store_failed, error)
                raise
            for job in begun:
                guarded(self._adopt_handler, job, handler)
                guarded(self._end_with_launch, job, handler, params)
            return handler

        self._patches.replace(registry, "get_rendezvous_handler", get_rendezvous_handler)

    def _hook_agents(self, module: AgentModule) -> None:
        """See what each agent does, and give its workers their trace context."""
        fits(f"{AGENT}.LocalElasticAgent", self._hook_agent_class, module)
        self._starts_are_seen = fits(f"{AGENT}.start_processes", self._hook_start_processes, module)
        fits(f"{METRICS}.put_metric", self._hook_metrics)
        fits(f"{AGENT_API}.{SIGNAL_EXCEPTION}", getattr, sys.modules[AGENT_API], SIGNAL_EXCEPTION)

    def _hook_agent_class(self, module: AgentModule) -> None:
        agent_class = module.LocalElasticAgent
        original = agent_class.__init__

        @functools.wraps(original)
        def __init__(agent: Agent, *args: Any, **kwargs: Any) -> None:  # noqa: N807  # it replaces one
            original(agent, *args, **kwargs)
            guarded(self._adopt_agent, agent)

        self._patches.replace(agent_class, "__init__", __init__)

    def _hook_start_processes(self, module: AgentModule) -> None:
        original = module.start_processes

        @functools.wraps(original)
        def start_processes(*args: Any, **kwargs: Any) -> ProcessContext:
            job = current.job
            if job is None:
                return original(*args, **kwargs)
            from . import wrapping

            return wrapping.start_processes(original, job, args, kwargs)

        self._patches.replace(module, "start_processes", start_processes)

    def _hook_metrics(self) -> None:
        from .operations import observed

        metrics = sys.modules[METRICS]
        put_metric = observed(metrics.put_metric, lambda: current.operations)
        self._patches.replace(metrics, "put_metric", put_metric)

    # Jobs

    def _wants(self, event_log_handler: object) -> bool:
        return event_log_handler == DESTINATION or self._every_job

    def _begin_if_wanted(self, frame: FrameType | None, params: object, begun: list[JobHooks]) -> None:
        """Put the job that torch's launcher is about to run into ``begun``, if it asks for ``otel``."""
        if frame is None or not is_launch(frame):
            return  # an agent built by hand tells when it is made
        wanted = asked_for(frame)
        if not self._wants(wanted):
            return
        if is_torchrun(frame):
            collection.put_off()
        from .agent import JobHooks
        from .reading import launch_of

        job = JobHooks(next(self._numbers))
        begun.append(job)
        self._begin(job, str(wanted), launch_of(frame, params))

    def _begin(self, job: JobHooks, event_log_handler: str, launch: Launch) -> None:
        destination.listen(event_log_handler, self._job_patches)
        job.begin(launch)

    def _adopt_handler(self, job: JobHooks, handler: RendezvousHandler) -> None:
        from .wrapping import hook_rendezvous_handler

        self._jobs[id(handler)] = job
        hook_rendezvous_handler(handler, job, lambda: self._job_ended(handler))

    def _end_with_launch(self, job: JobHooks, handler: RendezvousHandler, params: object) -> None:
        """Let go of a job whose launch ends without a word, as between the registry and the agent.

        ``params`` live as long as ``launch_agent``'s frame does.
        """
        known = id(handler)

        def over() -> None:
            guarded(job.stop_watching)
            if self._jobs.get(known) is job:
                guarded(self._forget_job, known)

        weakref.finalize(params, over).atexit = False

    def _adopt_agent(self, agent: Agent) -> None:
        spec = agent.get_worker_group().spec
        handler = spec.rdzv_handler
        job = self._jobs.get(id(handler))
        if job is None:
            wanted = getattr(spec, "event_log_handler", None)
            if not self._wants(wanted):
                return
            from .agent import JobHooks
            from .reading import launch_by_hand

            job = JobHooks(next(self._numbers))
            self._begin(job, str(wanted), launch_by_hand(spec))
            self._adopt_handler(job, handler)
        from .wrapping import hook_agent

        job.adopt(agent)
        if not self._starts_are_seen or not hook_agent(agent, job):
            job.does_not_fit("it starts its workers otherwise")

    def _job_ended(self, handler: RendezvousHandler) -> None:
        self._forget_job(id(handler))

    def _forget_job(self, handler: int) -> None:
        self._jobs.pop(handler, None)
        if not self._jobs:
            self._forget_jobs()

    def _forget_jobs(self) -> None:
        self._jobs.clear()
        self._job_patches.undo()


hooks = TorchHooks()
"""Those of this process."""
