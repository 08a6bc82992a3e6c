"""Where what happens enters: a logging handler, functions for events, one for what the agent did.

This runs on the host's threads, in the middle of what they do. Nothing here raises or costs more than a few
microseconds, and no SDK is loaded. Nothing blocks either, but for the watchdog's last words: see below.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from .._contract import WATCHDOG_KILL
from .._runtime.clock import now
from .._runtime.guard import guarded
from .._runtime.own_thread import this_thread
from .lifecycle import bridge
from .messages import AgentFact, LoggedText, RecordedEvent, RecordedRendezvousEvent

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

    from .._job.facts import Fact

_SCALARS = frozenset({str, int, float, bool, type(None)})
# The watchdog's last event: within a millisecond of it the host kills its own process.
_LAST_WORDS = (WATCHDOG_KILL, "AGENT")
_LAST_WORDS_AS_TEXT = json.dumps({"name": WATCHDOG_KILL, "source": "AGENT"})[:-1]
_LAST_WORDS_S = 1.0
# What exporters and the bridge itself log never becomes telemetry, whatever thread it comes from.
_OWN_LOGGERS = ("torchelastic_otel", "opentelemetry", "grpc", "urllib3", "requests")
_RENDEZVOUS_FIELDS = (
    "name",
    "run_id",
    "message",
    "hostname",
    "pid",
    "node_state",
    "master_endpoint",
    "rank",
    "local_id",
    "error_trace",
)


class Recordable(Protocol):
    """An event; its fields may be of any type."""

    @property
    def name(self) -> object:
        """What happened."""

    @property
    def source(self) -> object:
        """Who reports it."""

    @property
    def timestamp(self) -> object:
        """When."""

    @property
    def metadata(self) -> object:
        """Facts about it."""


def _current_span() -> SpanContext | None:
    """Return the caller's span context; None where there is none, or no tracing in this process."""
    # Another thread may be importing it at this moment.
    get_current_span = getattr(sys.modules.get("opentelemetry.trace"), "get_current_span", None)
    if get_current_span is None:
        return None
    context: SpanContext = get_current_span().get_span_context()
    return context if context.is_valid else None


class OtelHandler(logging.Handler):
    """The ``otel`` destination: takes ``event.serialize()`` texts as log messages."""

    def handle(self, record: logging.LogRecord) -> bool:
        """Queue the record's message. Without the base class's lock: the queue needs none."""
        if this_thread.own or record.name.startswith(_OWN_LOGGERS):
            return False
        guarded(_submit_text, record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the record's message."""
        self.handle(record)

    def flush(self) -> None:
        """Do nothing: sending is the bridge's own business."""


_handler = OtelHandler()


def otel_handler() -> OtelHandler:
    """Return the process's handler."""
    return _handler


def _submit_text(record: logging.LogRecord) -> None:
    text = record.msg if not record.args and type(record.msg) is str else record.getMessage()
    recorded = now().at_wall(int(record.created * 1e9))
    bridge().enqueue(LoggedText(text, recorded, record.threadName, _current_span()))
    if text.startswith(_LAST_WORDS_AS_TEXT):
        bridge().last_words(_LAST_WORDS_S)


def submit_event(event: Recordable) -> None:
    """Queue an event (an ``Event`` of ours, or whatever looks like one), as it is now."""
    guarded(_submit_event, event)


def _submit_event(event: Recordable) -> None:
    if this_thread.own:
        return
    metadata = event.metadata
    if isinstance(metadata, Mapping):
        metadata = {
            key: value if type(value) in _SCALARS else _frozen(value) for key, value in dict(metadata).items()
        }
    bridge().enqueue(
        RecordedEvent(event.name, event.source, event.timestamp, metadata, now(), _current_span())
    )
    if (event.name, getattr(event.source, "name", event.source)) == _LAST_WORDS:
        bridge().last_words(_LAST_WORDS_S)


def submit_rendezvous_event(event: object) -> None:
    """Queue a rendezvous event (likewise), as it is now; what it lacks is None."""
    guarded(_submit_rendezvous_event, event)


def _submit_rendezvous_event(event: object) -> None:
    if this_thread.own:
        return
    fields: dict[str, object] = {name: getattr(event, name, None) for name in _RENDEZVOUS_FIELDS}
    bridge().enqueue(RecordedRendezvousEvent(fields, now(), threading.current_thread().name))


def submit_fact(fact: Fact, *, urgent: bool = False, quiet: bool = False) -> None:
    """Queue what the agent did; what is ``quiet`` waits for the bridge's next look."""
    bridge().enqueue(AgentFact(fact), urgent=urgent, quiet=quiet)


def _frozen(value: object) -> object:
    """Return a value that later changes in the program do not reach."""
    from .._values import clean

    return clean(value)
