"""Where torch's events go: ``otel`` as a destination, and hearing what goes to another one."""

from __future__ import annotations

import functools
import inspect
import logging
import sys
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any

from .._contract import DESTINATION, TORCH_EVENT_PREFIX
from .._intake.recording import OtelHandler, otel_handler, submit_event, submit_rendezvous_event
from .._runtime.frames import caller_of_this
from .._runtime.guard import from_signal_handler, guarded
from .._runtime.node_name import look_up_node_name, node_name
from .fit import fits, say_unknown
from .names import AGENT_API, DYNAMIC_RENDEZVOUS, EVENT_LOGGER, EVENTS, RENDEZVOUS_DESTINATION
from .patches import Patches

if TYPE_CHECKING:
    from .surface import EventsModule


def _handlers(events: EventsModule) -> dict[str, logging.Handler]:
    """Return torch's handlers by destination, wherever the module that keeps them is by now.

    Raises:
        LookupError: torch keeps them otherwise.

    """
    handlers = getattr(events.get_logging_handler, "__globals__", {}).get("_log_handlers")
    if not isinstance(handlers, dict):
        raise LookupError("_log_handlers is not where torch's handlers are")
    return handlers


def _loggers(events: EventsModule) -> dict[str, logging.Logger]:
    """Return torch's loggers by destination.

    Raises:
        LookupError: torch keeps them otherwise.

    """
    loggers = getattr(events, "_events_loggers", None)
    if not isinstance(loggers, dict):
        raise LookupError("_events_loggers is not where torch's loggers are")
    return loggers


# otel as a destination


def register(events: EventsModule, patches: Patches) -> None:
    """Add ``otel`` to torch's event destinations; its events come at any LOGLEVEL.

    A job that asks for a destination that torch does not know ends with a KeyError. So where torch's own
    tables are gone, the functions that everybody calls learn of it.
    """
    try:
        _register_in_tables(events, patches)
    except Exception as error:
        if from_signal_handler(error):
            raise
        say_unknown(f"{EVENTS}, its tables", error)
        fits(f"{EVENTS}.get_logging_handler", _register_in_get_logging_handler, events, patches)
        fits(f"{EVENTS}.record", _register_in_record, events, patches)


def _logger() -> logging.Logger:
    """Return the logger that torch uses for ``otel``: it lets events pass whatever LOGLEVEL says."""
    logger = logging.getLogger(f"{EVENT_LOGGER}{DESTINATION}")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    return logger


def _register_in_tables(events: EventsModule, patches: Patches) -> None:
    handlers, loggers = _handlers(events), _loggers(events)
    if DESTINATION in handlers:
        return
    handler, logger = otel_handler(), _logger()
    if handler not in logger.handlers:
        logger.addHandler(handler)
    handlers[DESTINATION] = handler
    loggers[DESTINATION] = logger

    def undo() -> None:
        handlers.pop(DESTINATION, None)
        loggers.pop(DESTINATION, None)
        logger.removeHandler(handler)

    patches.on_undo(undo)


def _register_in_get_logging_handler(events: EventsModule, patches: Patches) -> None:
    original = events.get_logging_handler

    @functools.wraps(original)
    def get_logging_handler(destination: str = "null") -> logging.Handler:
        if destination != DESTINATION:
            handler: logging.Handler = original(destination)
            return handler
        _logger()  # torch has just given it LOGLEVEL
        return otel_handler()

    patches.replace(events, "get_logging_handler", get_logging_handler)


def _register_in_record(events: EventsModule, patches: Patches) -> None:
    original = events.record

    @functools.wraps(original)
    def record(event: Any, destination: str = "null") -> None:
        if destination == DESTINATION:
            submit_event(event)
        else:
            original(event, destination)

    # The agent's module has imported it by name if it was there before.
    for owner in (events, sys.modules.get(AGENT_API)):
        if getattr(owner, "record", None) is original:
            patches.replace(owner, "record", record)

    def undo() -> None:
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
    look_up_node_name()
    fits("rendezvous events", _listen_to_rendezvous, events, patches)
    if destination != DESTINATION:
        fits(f"events of {destination}", _tap, events, destination, _is_torchs_own, patches)


def _listen_to_rendezvous(events: EventsModule, patches: Patches) -> None:
    handlers, loggers = _handlers(events), _loggers(events)
    present = handlers.get(RENDEZVOUS_DESTINATION)
    if present is otel_handler():
        return
    if not isinstance(present, logging.NullHandler):
        _tap(events, RENDEZVOUS_DESTINATION, _is_of_a_rendezvous, patches)
        return
    if not callable(getattr(events, "_get_or_create_logger", None)):
        raise LookupError("_get_or_create_logger is gone")
    # Torch does not even build these events while the handler is a NullHandler.
    handlers[RENDEZVOUS_DESTINATION] = otel_handler()

    def undo() -> None:
        handlers[RENDEZVOUS_DESTINATION] = present
        _forget_logger(loggers, RENDEZVOUS_DESTINATION)

    patches.on_undo(undo)
    _forget_logger(loggers, RENDEZVOUS_DESTINATION)
    logger = events._get_or_create_logger(RENDEZVOUS_DESTINATION)
    logger.setLevel(logging.INFO)
    fits(f"{DYNAMIC_RENDEZVOUS}, shortened", _shorten_construct, events, logger, patches)


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

    from .._intake.rendezvous_event import make_rendezvous_event

    def make(caller: FrameType | None, *args: Any, **kwargs: Any) -> object:
        # A look-up here, where torch makes none without us, could hold the launcher for as long as it takes.
        return make_rendezvous_event(events.RdzvEvent, caller, *args, find_hostname=node_name, **kwargs)

    def submit(caller: FrameType | None, *args: Any, **kwargs: Any) -> None:
        submit_rendezvous_event(make(caller, *args, **kwargs))

    @functools.wraps(original)
    def construct_and_record_rdzv_event(*args: Any, **kwargs: Any) -> None:
        caller = caller_of_this()
        if _nobody_else_listens(logger):
            guarded(submit, caller, *args, **kwargs)
        else:  # who listens at the logger still gets the text
            events.record_rdzv_event(make(caller, *args, **kwargs))

    patches.replace(module, name, construct_and_record_rdzv_event)
    name_of = getattr(module, "get_method_name", None)
    if name_of is not None:

        @functools.wraps(name_of)
        def get_method_name(depth: int = 2) -> str:
            frame = inspect.currentframe()
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
    make = getattr(events, "_get_or_create_logger", None)
    # By its name it is the same one; only its own handler and level come later then.
    logger = make(destination) if make is not None else logging.getLogger(f"{EVENT_LOGGER}{destination}")
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
