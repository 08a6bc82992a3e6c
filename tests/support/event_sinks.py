"""What the handler of an event destination receives, in the package's own events module or in torch's."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from tests.support.waiting import LONG_S
from torchelastic_otel import events as ours


class Records(list[logging.LogRecord]):
    """Records as they come."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = threading.Condition()

    def take(self, record: logging.LogRecord) -> None:
        """Add a record."""
        with self._changed:
            self.append(record)
            self._changed.notify_all()

    def wait(self) -> None:
        """Wait for the first."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self) > 0, LONG_S)


class Sink(logging.Handler):
    """Keeps the records it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.records = Records()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        self.records.take(record)


@contextmanager
def captured(module: Any, destination: str = "dynamic_rendezvous") -> Iterator[Records]:
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
