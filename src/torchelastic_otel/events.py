"""The API of ``torch.distributed.elastic.events``, with one destination more: ``otel``.

A launcher or controller that is not ``torchrun`` reports its job with the same calls, the same events and
the same JSON as torch's module, on a machine that need not have torch::

    from torchelastic_otel import events

    event = events.Event("worker.started", events.EventSource.WORKER, metadata={"global_rank": 3})
    events.record(event, destination="otel")

Events of this module and of torch's can be handed to either module's functions.

Destinations:

``null``
    drops the event (the default).
``console``
    one line of JSON per event on standard error.
``dynamic_rendezvous``
    where rendezvous events go; drops them.
``otel``
    OpenTelemetry, through the exporter that the standard ``OTEL_*`` variables describe.

All but ``otel`` go through a logger that takes its level from ``LOGLEVEL`` (default ``INFO``) when it is
first used; events are ``INFO`` records, so ``LOGLEVEL=WARNING`` silences them. ``otel`` does not depend on
``LOGLEVEL``. The loggers have the names of torch's (``torchelastic-events-<destination>``) without being the
objects that ``logging.getLogger`` returns for them: this module and torch's work side by side in a process,
and each event is written once.
"""

import json
import logging
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any, Union

from torchelastic_otel._contract import DESTINATION as OTEL
from torchelastic_otel._intake import recording
from torchelastic_otel._intake.event_like import EventLike, EventMetadataValue, RdzvEventLike
from torchelastic_otel._intake.rendezvous_event import make_rendezvous_event
from torchelastic_otel._runtime.frames import caller_of_this

__all__ = [
    "Event",
    "EventLike",
    "EventMetadataValue",
    "EventSource",
    "NodeState",
    "RdzvEvent",
    "RdzvEventLike",
    "UnknownDestinationError",
    "construct_and_record_rdzv_event",
    "get_logging_handler",
    "record",
    "record_rdzv_event",
]


class EventSource(str, Enum):
    """Who reports an event."""

    AGENT = "AGENT"
    WORKER = "WORKER"


class NodeState(str, Enum):
    """How a node stands in a rendezvous."""

    INIT = "INIT"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


class UnknownDestinationError(KeyError):
    """There is no destination of that name.

    ``destination`` is the name asked for (also ``args[0]``, as in torch's ``KeyError``), ``choices`` a tuple
    of the names that exist, sorted.
    """

    def __init__(self, destination: str, choices: Iterable[str] = ()) -> None:
        """Keep the name asked for and the names that exist."""
        super().__init__(destination)
        self.destination = destination
        self.choices = tuple(sorted(choices))

    def __str__(self) -> str:
        """Return a sentence: KeyError's own text is the bare key."""
        return f"unknown event destination {self.destination!r}: choose one of {', '.join(self.choices)}"


def _parse(data: object, kind: str) -> Any:
    if not isinstance(data, str):
        raise TypeError(
            f"{kind}.deserialize takes JSON text or a {__name__}.{kind}, not {type(data).__qualname__}"
        )
    return json.loads(data)


@dataclass
class Event:
    """Something that happened to a job.

    Args:
        name: what happened, such as ``torchelastic.worker.status.FAILED``.
        source: who reports it.
        timestamp: when, in milliseconds since the epoch. With 0 the time of the ``record`` call counts.
        metadata: facts about it, by name.

    """

    name: str
    source: EventSource
    timestamp: int = 0
    metadata: dict[str, EventMetadataValue] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return the JSON text."""
        return self.serialize()

    @staticmethod
    def deserialize(data: Union[str, "Event"]) -> "Event":
        """Return the event that ``serialize`` wrote as ``data``; an ``Event`` is returned as it is.

        Raises:
            json.JSONDecodeError: ``data`` is not JSON.
            KeyError: there is no ``source``, or it is not the name of an ``EventSource``.
            TypeError: ``data`` is neither text nor an ``Event``, or the JSON is not an object with an event's
                fields.

        """
        if isinstance(data, Event):
            return data
        fields = _parse(data, "Event")
        fields["source"] = EventSource[fields["source"]]
        return Event(**fields)

    def serialize(self) -> str:
        """Return the event as one line of JSON: an object with the fields in their order.

        Raises:
            TypeError: the metadata has a value that JSON cannot express.

        """
        return json.dumps(asdict(self))


@dataclass
class RdzvEvent:
    """A step of a node in a rendezvous.

    Args:
        name: where it happened, as ``<file>:<function>``.
        run_id: the job's id.
        message: what happened.
        hostname: the node's host.
        pid: the reporting process.
        node_state: how the node stands.
        master_endpoint: ``host:port`` of the store, if known.
        rank: the node's rank, once it has one.
        local_id: the node's number among the nodes of the process.
        error_trace: the traceback, if the step failed.

    """

    name: str
    run_id: str
    message: str
    hostname: str
    pid: int
    node_state: NodeState
    master_endpoint: str = ""
    rank: int | None = None
    local_id: int | None = None
    error_trace: str = ""

    def __str__(self) -> str:
        """Return the JSON text."""
        return self.serialize()

    @staticmethod
    def deserialize(data: Union[str, "RdzvEvent"]) -> "RdzvEvent":
        """Return the event that ``serialize`` wrote as ``data``; a ``RdzvEvent`` is returned as it is.

        Raises:
            json.JSONDecodeError: ``data`` is not JSON.
            KeyError: there is no ``node_state``, or it is not the name of a ``NodeState``.
            TypeError: ``data`` is neither text nor a ``RdzvEvent``, or the JSON is not an object with a
                rendezvous event's fields.

        """
        if isinstance(data, RdzvEvent):
            return data
        fields = _parse(data, "RdzvEvent")
        fields["node_state"] = NodeState[fields["node_state"]]
        return RdzvEvent(**fields)

    def serialize(self) -> str:
        """Return the event as one line of JSON: an object with the fields in their order.

        Raises:
            TypeError: a field has a value that JSON cannot express.

        """
        return json.dumps(asdict(self))


# The stream is the sys.stderr of this moment, as in torch's module.
_log_handlers: dict[str, logging.Handler] = {
    "console": logging.StreamHandler(),
    "dynamic_rendezvous": logging.NullHandler(),
    "null": logging.NullHandler(),
}
_events_loggers: dict[str, logging.Logger] = {}


class _PrivateLogger(logging.Logger):
    """A logger that ``logging.getLogger`` does not know.

    Torch's module hangs a handler on the registered logger of the same name, whatever hangs there already:
    sharing that logger would write every event twice.
    """

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 (the name is logging's)
        """Answer anew each time: only registered loggers are told when a cached answer is out of date."""
        return not self.disabled and self.manager.disable < level and level >= self.getEffectiveLevel()


def _get_or_create_logger(destination: str = "null") -> logging.Logger:
    logger = _events_loggers.get(destination)
    if logger is None:
        logger = _PrivateLogger(f"torchelastic-events-{destination}")
        logger.setLevel(os.environ.get("LOGLEVEL", "INFO"))
        logger.propagate = False
        # A registered logger has a parent, and takes the parent's level with LOGLEVEL=NOTSET.
        logger.parent = logging.getLogger()
        logger.addHandler(get_logging_handler(destination))
        _events_loggers[destination] = logger
    return logger


def get_logging_handler(destination: str = "null") -> logging.Handler:
    """Return the ``logging.Handler`` of a destination: the same object at each call.

    Raises:
        UnknownDestinationError: there is no such destination (a ``KeyError``).

    """
    if destination == OTEL:
        return recording.otel_handler()
    try:
        return _log_handlers[destination]
    except KeyError:
        raise UnknownDestinationError(destination, {*_log_handlers, OTEL}) from None


def record(event: EventLike, destination: str = "null") -> None:
    """Send an event to a destination.

    ``otel`` keeps a copy of the event's values and returns; a thread exports it. It raises nothing, whatever
    the values are. Every other destination is given the JSON text.

    Args:
        event: an ``Event`` of this module or of torch's.
        destination: ``null``, ``console``, ``dynamic_rendezvous`` or ``otel``.

    Raises:
        UnknownDestinationError: there is no such destination (a ``KeyError``).
        TypeError: the metadata has a value that JSON cannot express (not with ``otel``).
        ValueError: ``LOGLEVEL`` is not the name of a level (not with ``otel``).

    """
    if destination == OTEL:
        recording.submit_event(event)
        return
    logger = _get_or_create_logger(destination)
    logger.info(event.serialize())


def record_rdzv_event(event: RdzvEventLike, *, destination: str = "dynamic_rendezvous") -> None:
    """Send a rendezvous event to a destination; the default one drops it.

    Args:
        event: a ``RdzvEvent`` of this module or of torch's.
        destination: as for ``record``. Torch's function has no such argument.

    Raises:
        UnknownDestinationError, TypeError, ValueError: as ``record`` does.

    """
    if destination == OTEL:
        recording.submit_rendezvous_event(event)
        return
    logger = _get_or_create_logger(destination)
    logger.info(event.serialize())


def construct_and_record_rdzv_event(
    run_id: str,
    message: str,
    node_state: NodeState,
    name: str = "",
    hostname: str = "",
    pid: int | None = None,
    master_endpoint: str = "",
    local_id: int | None = None,
    rank: int | None = None,
    *,
    destination: str = "dynamic_rendezvous",
) -> None:
    """Make a rendezvous event and send it to a destination.

    The event's name is ``<caller's file>:<name>``. A node state of ``FAILED`` takes the traceback of the
    exception being handled along. Nothing is made while the destination's handler is a
    ``logging.NullHandler``, which the default destination's is.

    Args:
        run_id: the job's id.
        message: what happened.
        node_state: how the node stands, this module's or torch's ``NodeState``.
        name: the step's name; the caller's function if empty.
        hostname: the node's host; if empty, the fully qualified name, which can take a DNS look-up.
        pid: the reporting process; the current one if None or 0.
        master_endpoint: ``host:port`` of the store, if known.
        local_id: the node's number among the nodes of the process.
        rank: the node's rank, once it has one.
        destination: as for ``record``. Torch's function has no such argument.

    Raises:
        UnknownDestinationError, TypeError, ValueError: as ``record`` does.

    """
    if isinstance(get_logging_handler(destination), logging.NullHandler):
        return
    caller = caller_of_this()
    event = make_rendezvous_event(
        RdzvEvent, caller, run_id, message, node_state, name, hostname, pid, master_endpoint, local_id, rank
    )
    record_rdzv_event(event, destination=destination)
