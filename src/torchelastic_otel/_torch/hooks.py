"""The one module that knows torch: where its events go, and what its agent does.

Everything is put in by wrapping, and taken out again by ``uninstall``. A hook that does not fit the installed
torch is said once, and events alone go on. ``docs/telemetry.md`` tells what each hook is for.
"""

from __future__ import annotations

import functools
import itertools
import logging
import sys
import threading
from collections.abc import Callable
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, Any

from .._contract import DESTINATION, TORCH_EVENT_PREFIX
from .._intake.recording import (
    OtelHandler,
    otel_handler,
    submit_event,
    submit_rendezvous_event,
)
from .._runtime.guard import guarded, let_pass, say_once
from .._runtime.loading import keep_what_is_loaded
from .launcher_signals import is_signal
from .torchrun import in_torchrun

if TYPE_CHECKING:
    from .agent import JobHooks

EVENTS = "torch.distributed.elastic.events"
REGISTRY = "torch.distributed.elastic.rendezvous.registry"
METRICS = "torch.distributed.elastic.metrics.api"
DYNAMIC_RENDEZVOUS = "torch.distributed.elastic.rendezvous.dynamic_rendezvous"
AGENT_API = "torch.distributed.elastic.agent.server.api"
AGENT = "torch.distributed.elastic.agent.server.local_elastic_agent"
RENDEZVOUS_DESTINATION = "dynamic_rendezvous"
"""Where torch sends rendezvous events, whatever ``--event-log-handler`` says."""

_current = threading.local()


class _Tap(logging.Handler):
    """Sees torch's own events on their way to another destination; a program's own are none of ours."""

    def __init__(self, handler: OtelHandler, wants: Callable[[str], bool]) -> None:
        super().__init__(logging.INFO)
        self._handler = handler
        self._wants = wants

    def handle(self, record: logging.LogRecord) -> bool:
        text = record.msg
        if type(text) is str and self._wants(text):
            return self._handler.handle(record)
        return False


class TorchHooks:
    """What is put into torch, and how to take it out again."""

    def __init__(self) -> None:
        self.every_job = False
        self.by_entry_point = False
        self.jobs: dict[int, JobHooks] = {}
        self._undo: list[Callable[[], None]] = []
        self._job_undo: list[Callable[[], None]] = []
        self._numbers = itertools.count(1)
        self._done: set[str] = set()

    # Putting in

    def register_destination(self, events: ModuleType) -> None:
        """Add ``otel`` to torch's event destinations; its events come at any LOGLEVEL."""
        handlers: dict[str, logging.Handler] = events.get_logging_handler.__globals__["_log_handlers"]
        loggers: dict[str, logging.Logger] = events._events_loggers
        if DESTINATION in handlers:
            return
        handler = otel_handler()
        logger = logging.getLogger(f"torchelastic-events-{DESTINATION}")
        logger.propagate = False
        logger.setLevel(logging.INFO)
        if handler not in logger.handlers:
            logger.addHandler(handler)
        handlers[DESTINATION] = handler
        loggers[DESTINATION] = logger
        self._shorten_record(events, logger)

        def undo() -> None:
            handlers.pop(DESTINATION, None)
            loggers.pop(DESTINATION, None)
            logger.removeHandler(handler)

        self._undo.append(undo)

    def _shorten_record(self, events: ModuleType, logger: logging.Logger) -> None:
        original = events.record
        if getattr(original, "__globals__", None) is not vars(events):
            return  # somebody else's by now, who wants to see what is recorded

        @functools.wraps(original)
        def record(event: Any, destination: str = "null") -> None:
            # Straight to the queue: serializing an event only to parse it again costs more than all the rest.
            # Whoever listens at the logger still gets its text.
            if destination == DESTINATION and len(logger.handlers) == 1 and not logger.filters:
                submit_event(event)
            else:
                original(event, destination)

        self._replace(events, "record", record)

        def undo() -> None:
            # It may have been imported by name while it was ours.
            importer = sys.modules.get(AGENT_API)
            if getattr(importer, "record", None) is record:
                vars(importer)["record"] = original

        self._undo.append(undo)

    def hook_registry(self, registry: ModuleType) -> None:
        """See each job begin: every launcher asks the registry for its rendezvous handler."""
        original = registry.get_rendezvous_handler

        @functools.wraps(original)
        def get_rendezvous_handler(*args: Any, **kwargs: Any) -> Any:
            job: list[JobHooks] = []
            guarded(self._begin, sys._getframe(1), args, kwargs, job)
            try:
                handler = original(*args, **kwargs)
            except BaseException as error:
                if job:
                    guarded(job[0].store_failed, error)
                raise
            if job:
                guarded(self._adopt_handler, job[0], handler)
            return handler

        self._replace(registry, "get_rendezvous_handler", get_rendezvous_handler)

    def hook_agents(self, module: ModuleType) -> None:
        """See what each agent does, and give its workers their trace context."""
        agent_class = module.LocalElasticAgent
        original_init = agent_class.__init__

        @functools.wraps(original_init)
        def __init__(agent: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807  # it replaces one
            original_init(agent, *args, **kwargs)
            guarded(self._adopt_agent, agent)

        original_start = module.start_processes

        @functools.wraps(original_start)
        def start_processes(*args: Any, **kwargs: Any) -> Any:
            job: JobHooks | None = getattr(_current, "job", None)
            if job is None:
                return original_start(*args, **kwargs)
            return job.start_processes(original_start, args, kwargs)

        self._replace(agent_class, "__init__", __init__)
        self._replace(module, "start_processes", start_processes)
        from .operations import observed

        metrics = sys.modules[METRICS]
        self._replace(
            metrics, "put_metric", observed(metrics.put_metric, lambda: getattr(_current, "operations", None))
        )

    def _replace(
        self, owner: Any, name: str, replacement: Any, undo_list: list[Callable[[], None]] | None = None
    ) -> None:
        original = getattr(owner, name)
        setattr(owner, name, replacement)

        def undo() -> None:
            # Only if nobody wrapped it again after us.
            if getattr(owner, name) is replacement:
                setattr(owner, name, original)

        (self._undo if undo_list is None else undo_list).append(undo)

    def once(self, what: str, install: Callable[[ModuleType], None], module: ModuleType) -> None:
        """Install a hook unless it is in already; say so if torch is not what it expects."""
        if what in self._done:
            return
        self._done.add(what)
        try:
            install(module)
        except (AttributeError, KeyError, TypeError) as error:
            say_once(
                f"hook {what}",
                f"this torch is not known to torchelastic-otel ({what}: {type(error).__name__}: {error}); "
                "telemetry of this job is less complete, the job is not affected.",
            )

    def release(self) -> None:
        """Undo ``instrument``. What the entry point put in was there before, and stays."""
        self._end_jobs()
        self.every_job = False
        if not self.by_entry_point:
            self.uninstall()

    def uninstall(self) -> None:
        """Take everything out again."""
        self._end_jobs()
        for undo in reversed(self._undo):
            undo()
        self._undo.clear()
        self._done.clear()
        self.every_job = False

    # Jobs

    def _wants(self, destination: object) -> bool:
        return destination == DESTINATION or self.every_job

    def _begin(
        self, frame: Any, args: tuple[Any, ...], kwargs: dict[str, Any], found: list[JobHooks]
    ) -> None:
        """Note a job that asks for ``otel``. Only ``launch_agent``, the caller, knows what was asked for."""
        if frame.f_code.co_name != "launch_agent":
            return  # an agent built by hand tells when it is made
        config = frame.f_locals.get("config")
        destination = getattr(config, "event_log_handler", None)
        if not self._wants(destination):
            return
        from .agent import JobHooks

        if in_torchrun(frame):
            keep_what_is_loaded()
        job = JobHooks(next(self._numbers))
        found.append(job)
        params = args[0] if args else kwargs.get("params")
        self._listen(str(destination))
        job.begin(
            run_id=str(getattr(params, "run_id", "")),
            backend=str(getattr(params, "backend", "")),
            min_nodes=getattr(params, "min_nodes", None),
            max_nodes=getattr(params, "max_nodes", None),
            max_restarts=getattr(config, "max_restarts", None),
            nproc_per_node=getattr(config, "nproc_per_node", None),
            role=getattr(config, "role", None),
            entry_point=frame.f_locals.get("entrypoint_name"),
        )

    def _adopt_handler(self, job: JobHooks, handler: Any) -> None:
        from .agent import hook_rendezvous_handler

        self.jobs[id(handler)] = job
        hook_rendezvous_handler(handler, job, lambda: self._job_ended(handler))

    def _job_ended(self, handler: Any) -> None:
        self.jobs.pop(id(handler), None)
        if not self.jobs:
            self._end_jobs()

    def _end_jobs(self) -> None:
        self.jobs.clear()
        while self._job_undo:
            self._job_undo.pop()()

    def _adopt_agent(self, agent: Any) -> None:
        spec = agent._worker_group.spec
        handler = spec.rdzv_handler
        job = self.jobs.get(id(handler))
        if job is None:
            if not self._wants(getattr(spec, "event_log_handler", None)):
                return
            from .agent import JobHooks

            job = JobHooks(next(self._numbers))
            self._listen(str(spec.event_log_handler))
            settings = getattr(handler, "settings", None)
            job.begin(
                run_id=str(handler.get_run_id()),
                backend=str(handler.get_backend()),
                min_nodes=getattr(settings, "min_nodes", None),
                max_nodes=getattr(settings, "max_nodes", None),
                max_restarts=spec.max_restarts,
                nproc_per_node=spec.local_world_size,
                role=spec.role,
                entry_point=spec.get_entrypoint_name(),
            )
            self._adopt_handler(job, handler)
        from .agent import hook_agent

        hook_agent(agent, job, _current)

    # Events on their way elsewhere

    def _listen(self, destination: str) -> None:
        """Hear rendezvous events, and the job's own where it sends them to another destination."""
        events = sys.modules[EVENTS]
        handlers: dict[str, logging.Handler] = events.get_logging_handler.__globals__["_log_handlers"]
        loggers: dict[str, logging.Logger] = events._events_loggers
        if isinstance(handlers.get(RENDEZVOUS_DESTINATION), logging.NullHandler):
            # Torch does not even build these events while the handler is a NullHandler.
            silent = handlers[RENDEZVOUS_DESTINATION]
            handlers[RENDEZVOUS_DESTINATION] = otel_handler()

            def undo() -> None:
                handlers[RENDEZVOUS_DESTINATION] = silent
                self._forget_logger(loggers, RENDEZVOUS_DESTINATION)

            self._job_undo.append(undo)
            self._forget_logger(loggers, RENDEZVOUS_DESTINATION)
            logger = events._get_or_create_logger(RENDEZVOUS_DESTINATION)
            logger.setLevel(logging.INFO)
            self._shorten_construct(events, logger)
        elif handlers.get(RENDEZVOUS_DESTINATION) is not otel_handler():
            self._tap(events, RENDEZVOUS_DESTINATION, lambda text: '"node_state"' in text)
        if destination != DESTINATION:
            self._tap(events, destination, _is_torchs_own)

    def _shorten_construct(self, events: ModuleType, logger: logging.Logger) -> None:
        """Spare the agent three walks through the stack, source files read, for each rendezvous event."""
        module = sys.modules.get(DYNAMIC_RENDEZVOUS)
        name = "construct_and_record_rdzv_event"
        record_by_torch = getattr(module, name, _absent)
        for function in (record_by_torch, getattr(events, "record_rdzv_event", _absent)):
            if getattr(function, "__globals__", None) is not vars(events):
                return  # somebody else's by now, who wants to see what is recorded

        from .._intake.rendezvous import make_rendezvous_event

        def submit(caller: FrameType, *args: Any, **kwargs: Any) -> None:
            submit_rendezvous_event(make_rendezvous_event(events.RdzvEvent, caller, *args, **kwargs))

        @functools.wraps(record_by_torch)
        def construct_and_record_rdzv_event(*args: Any, **kwargs: Any) -> None:
            if len(logger.handlers) == 1 and not logger.filters:
                guarded(submit, sys._getframe(1), *args, **kwargs)
            else:  # who listens at the logger still gets the text
                events.record_rdzv_event(
                    make_rendezvous_event(events.RdzvEvent, sys._getframe(1), *args, **kwargs)
                )

        self._replace(module, name, construct_and_record_rdzv_event, self._job_undo)
        name_of = getattr(module, "get_method_name", None)
        if name_of is not None:

            @functools.wraps(name_of)
            def get_method_name(depth: int = 2) -> str:
                frame: FrameType | None = sys._getframe()
                for _ in range(depth):
                    frame = frame and frame.f_back
                return frame.f_code.co_name if frame is not None else "no_method_name"

            self._replace(module, "get_method_name", get_method_name, self._job_undo)

    def _forget_logger(self, loggers: dict[str, logging.Logger], destination: str) -> None:
        logger = loggers.pop(destination, None)
        if logger is not None:
            for handler in list(logger.handlers):
                logger.removeHandler(handler)

    def _tap(self, events: ModuleType, destination: str, wants: Callable[[str], bool]) -> None:
        logger: logging.Logger = events._get_or_create_logger(destination)
        if any(isinstance(handler, _Tap) for handler in logger.handlers):
            return
        tap = _Tap(otel_handler(), wants)
        level = logger.level
        raised: list[tuple[logging.Handler, int]] = []
        if level > logging.INFO:
            # LOGLEVEL=WARNING silences the destination that the user chose, not the telemetry.
            for handler in logger.handlers:
                raised.append((handler, handler.level))
                handler.setLevel(max(level, handler.level))
            logger.setLevel(logging.INFO)
        logger.addHandler(tap)

        def undo() -> None:
            logger.removeHandler(tap)
            logger.setLevel(level)
            for handler, before in raised:
                handler.setLevel(before)

        self._job_undo.append(undo)


def _absent() -> None:
    """Stand in for a function that this torch lacks."""


def _is_torchs_own(text: str) -> bool:
    return f'"name": "{TORCH_EVENT_PREFIX}' in text[:80] or '"agent_restarts"' in text


hooks = TorchHooks()


_waiting = False


def watch_imports() -> None:
    """Put the hooks into torch as its modules are imported; at once into those that are."""
    global _waiting
    let_pass(is_signal)
    for name, install in (
        (EVENTS, hooks.register_destination),
        (REGISTRY, hooks.hook_registry),
        (AGENT, hooks.hook_agents),
    ):
        if not _waiting:
            _when_imported(name, install)
        elif name in sys.modules:
            hooks.once(name, install, sys.modules[name])
    _waiting = True


def _when_imported(name: str, install: Callable[[ModuleType], None]) -> None:
    from wrapt import register_post_import_hook

    register_post_import_hook(lambda module: hooks.once(name, install, module), name)


__all__ = ["TorchHooks", "hooks", "watch_imports"]
