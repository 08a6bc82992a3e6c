"""Where torch's events go: ``otel`` as a destination, and hearing what goes to another one."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any

from .._contract import DESTINATION, TORCH_EVENT_PREFIX
from .._intake.recording import OtelHandler, otel_handler, submit_event, submit_rendezvous_event
from .._runtime.guard import guarded
from .names import AGENT_API, DYNAMIC_RENDEZVOUS, EVENT_LOGGER, EVENTS, RENDEZVOUS_DESTINATION
from .patches import Patches

if TYPE_CHECKING:
    from .surface import EventsModule


def _handlers(events: EventsModule) -> dict[str, logging.Handler]:
    """Return torch's handlers by destination, wherever the module that keeps them is by now."""
    handlers: dict[str, logging.Handler] = events.get_logging_handler.__globals__["_log_handlers"]
    return handlers


# otel as a destination


def register(events: EventsModule, patches: Patches) -> None:
    """Add ``otel`` to torch's event destinations; its events come at any LOGLEVEL."""
    handlers, loggers = _handlers(events), events._events_loggers
    if DESTINATION in handlers:
        return
    handler = otel_handler()
    logger = logging.getLogger(f"{EVENT_LOGGER}{DESTINATION}")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    if handler not in logger.handlers:
        logger.addHandler(handler)
    handlers[DESTINATION] = handler
    loggers[DESTINATION] = logger
    _shorten_record(events, logger, patches)

    def undo() -> None:
        handlers.pop(DESTINATION, None)
        loggers.pop(DESTINATION, None)
        logger.removeHandler(handler)

    patches.on_undo(undo)


def _shorten_record(events: EventsModule, logger: logging.Logger, patches: Patches) -> None:
    original = events.record
    if not _is_of(events, original):
        return  # somebody else's by now, who wants to see what is recorded

    @functools.wraps(original)
    def record(event: Any, destination: str = "null") -> None:
        # Straight to the queue: serializing an event only to parse it again costs more than all the rest.
        # Whoever listens at the logger still gets its text.
        if destination == DESTINATION and _nobody_else_listens(logger):
            submit_event(event)
        else:
            original(event, destination)

    patches.replace(events, "record", record)

    def undo() -> None:
        # It may have been imported by name while it was ours.
        importer = sys.modules.get(AGENT_API)
        if getattr(importer, "record", None) is record:
            vars(importer)["record"] = original

    patches.on_undo(undo)


def _is_of(events: EventsModule, function: object) -> bool:
    return getattr(function, "__globals__", None) is vars(events)


def _nobody_else_listens(logger: logging.Logger) -> bool:
    return len(logger.handlers) == 1 and not logger.filters


# Events on their way elsewhere


def listen(destination: str, patches: Patches) -> None:
    """Hear rendezvous events, and a job's own where it sends them to another destination."""
    events: Any = sys.modules[EVENTS]
    _listen_to_rendezvous(events, patches)
    if destination != DESTINATION:
        _tap(events, destination, _is_torchs_own, patches)


def _listen_to_rendezvous(events: EventsModule, patches: Patches) -> None:
    handlers, loggers = _handlers(events), events._events_loggers
    present = handlers.get(RENDEZVOUS_DESTINATION)
    if present is otel_handler():
        return
    if not isinstance(present, logging.NullHandler):
        _tap(events, RENDEZVOUS_DESTINATION, _is_of_a_rendezvous, patches)
        return
    # Torch does not even build these events while the handler is a NullHandler.
    handlers[RENDEZVOUS_DESTINATION] = otel_handler()

    def undo() -> None:
        handlers[RENDEZVOUS_DESTINATION] = present
        _forget_logger(loggers, RENDEZVOUS_DESTINATION)

    patches.on_undo(undo)
    _forget_logger(loggers, RENDEZVOUS_DESTINATION)
    logger = events._get_or_create_logger(RENDEZVOUS_DESTINATION)
    logger.setLevel(logging.INFO)
    _shorten_construct(events, logger, patches)


def _forget_logger(loggers: dict[str, logging.Logger], destination: str) -> None:
    logger = loggers.pop(destination, None)
    if logger is not None:
        for handler in list(logger.handlers):
            logger.removeHandler(handler)


def _shorten_construct(events: EventsModule, logger: logging.Logger, patches: Patches) -> None:
    """Spare the agent three walks through the stack, source files read, for each rendezvous event."""
    module = sys.modules.get(DYNAMIC_RENDEZVOUS)
    name = "construct_and_record_rdzv_event"
    original: Any = getattr(module, name, None)
    if not _is_of(events, original) or not _is_of(events, getattr(events, "record_rdzv_event", None)):
        return  # not there, or somebody else's by now, who wants to see what is recorded

    from .._intake.rendezvous import make_rendezvous_event

    def submit(caller: FrameType, *args: Any, **kwargs: Any) -> None:
        submit_rendezvous_event(make_rendezvous_event(events.RdzvEvent, caller, *args, **kwargs))

    @functools.wraps(original)
    def construct_and_record_rdzv_event(*args: Any, **kwargs: Any) -> None:
        caller = sys._getframe(1)
        if _nobody_else_listens(logger):
            guarded(submit, caller, *args, **kwargs)
        else:  # who listens at the logger still gets the text
            events.record_rdzv_event(make_rendezvous_event(events.RdzvEvent, caller, *args, **kwargs))

    patches.replace(module, name, construct_and_record_rdzv_event)
    name_of = getattr(module, "get_method_name", None)
    if name_of is not None:

        @functools.wraps(name_of)
        def get_method_name(depth: int = 2) -> str:
            frame: FrameType | None = sys._getframe()
            for _ in range(depth):
                frame = frame and frame.f_back
            return frame.f_code.co_name if frame is not None else "no_method_name"

        patches.replace(module, "get_method_name", get_method_name)


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


def _is_torchs_own(text: str) -> bool:
    return f'"name": "{TORCH_EVENT_PREFIX}' in text[:80] or '"agent_restarts"' in text


def _is_of_a_rendezvous(text: str) -> bool:
    return '"node_state"' in text


def _tap(events: EventsModule, destination: str, wants: Callable[[str], bool], patches: Patches) -> None:
    logger = events._get_or_create_logger(destination)
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

    patches.on_undo(undo)
