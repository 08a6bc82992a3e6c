"""What can be recorded: the fields that an event must have, whoever's class it is of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

EventMetadataValue = str | int | float | bool | None
"""What a value of an event's metadata can be."""


class EventLike(Protocol):
    """What ``record`` takes: this module's ``Event``, torch's, or anything with their fields."""

    @property
    def name(self) -> str:
        """What happened."""

    @property
    def source(self) -> str:
        """Who reports it."""

    @property
    def timestamp(self) -> int:
        """When, in milliseconds since the epoch; 0 if not said."""

    @property
    def metadata(self) -> Mapping[str, EventMetadataValue]:
        """Facts about it, by name."""

    def serialize(self) -> str:
        """Return the event as JSON text."""


class RdzvEventLike(Protocol):
    """What ``record_rdzv_event`` takes: this module's ``RdzvEvent``, torch's, or one with their fields."""

    @property
    def name(self) -> str:
        """Where it happened."""

    @property
    def run_id(self) -> str:
        """The job's id."""

    @property
    def message(self) -> str:
        """What happened."""

    @property
    def hostname(self) -> str:
        """The node's host."""

    @property
    def pid(self) -> int:
        """The reporting process."""

    @property
    def node_state(self) -> str:
        """How the node stands."""

    @property
    def master_endpoint(self) -> str:
        """The store's ``host:port``, or empty."""

    @property
    def rank(self) -> int | None:
        """The node's rank, if it has one."""

    @property
    def local_id(self) -> int | None:
        """The node's number among the nodes of this process."""

    @property
    def error_trace(self) -> str:
        """The traceback of a failure, or empty."""

    def serialize(self) -> str:
        """Return the event as JSON text."""
