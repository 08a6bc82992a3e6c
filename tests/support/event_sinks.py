"""What the handler of an event destination receives, in the package's own events module or in torch's."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from torchelastic_otel import events as ours


class Sink(logging.Handler):
    """Keeps the records it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        self.records.append(record)


@contextmanager
def captured(module: Any, destination: str = "dynamic_rendezvous") -> Iterator[list[logging.LogRecord]]:
    """Put a handler into a destination's slot of a module for a while; yields what it receives."""
    sink = Sink()
    slots = module._log_handlers if module is ours else module.handlers._log_handlers
    with (
        mock.patch.dict(slots, {destination: sink}),
        mock.patch.dict(module._events_loggers, clear=True),
    ):
        try:
            yield sink.records
        finally:
            # torch's logger is registered and would keep the handler.
            logging.getLogger(f"torchelastic-events-{destination}").removeHandler(sink)
