"""An event in the terms of the contract, on its way to becoming a log record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from .._runtime.clock import Moment
from .._values import Attributes

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

DEBUG, INFO, WARN, ERROR = 5, 9, 13, 17
"""Severity numbers of the OpenTelemetry log data model."""

SEVERITY_TEXT = {DEBUG: "DEBUG", INFO: "INFO", WARN: "WARN", ERROR: "ERROR"}


class Kind(Enum):
    """What sort of event was recorded."""

    AGENT = "agent"
    WORKER = "worker"
    WATCHDOG = "watchdog"
    RENDEZVOUS = "rendezvous"
    USER = "user"
    BRIDGE = "bridge"
    UNPARSED = "unparsed"


@dataclass(slots=True)
class Event:
    """What was recorded, and what the job's history adds to it.

    ``state`` is torch's (START, SUCCEEDED, …) for agent and worker events, ``node_state`` for rendezvous;
    ``joins`` and ``joined`` tell a rendezvous event that begins or ends a join; ``inner`` is torch's inner
    metadata. ``span`` is set where the event is placed. ``moment`` is when it happened,
    ``observed_ns`` when it was recorded (nanoseconds since the epoch).
    """

    kind: Kind
    name: str
    moment: Moment
    body: str
    attributes: Attributes
    severity: int = INFO
    run_id: str | None = None
    state: str = ""
    local_rank: int | None = None
    keep_alive: bool = False
    joins: bool = False
    joined: bool = False
    inner: Mapping[str, object] | None = None
    observed_ns: int = 0
    span: SpanContext | None = None

    @property
    def time_ns(self) -> int:
        """When it happened, nanoseconds since the epoch."""
        return self.moment.wall_ns

    @property
    def heartbeat(self) -> bool:
        """Whether it is one of the keep-alive that went well, as there are two or three every 5 s."""
        return self.keep_alive and self.state == "RUNNING"

    @property
    def begins(self) -> bool:
        """Whether a job that is over would not record it: a node joins, a worker starts."""
        return self.joins or (self.kind is Kind.WORKER and self.state == "START")
