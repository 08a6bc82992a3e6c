"""A bridge with its records in memory, whose thread can be held."""

from __future__ import annotations

import threading
from typing import Any

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider

from tests.support.waiting import LONG_S
from torchelastic_otel._intake.bridge import Bridge
from torchelastic_otel._intake.messages import RecordedEvent
from torchelastic_otel._job.engine import Engine
from torchelastic_otel._runtime.clock import now
from torchelastic_otel._telemetry.providers import Providers


class Names:
    """A log record processor that keeps the names and bodies of what it is given."""

    def __init__(self) -> None:
        self.records: list[tuple[str, str]] = []

    def on_emit(self, data: Any) -> None:
        """Keep a record."""
        self.records.append((data.log_record.event_name, data.log_record.body))

    def shutdown(self) -> None:
        """Do nothing."""

    def force_flush(self, timeout_millis: int = 0) -> bool:
        """Do nothing."""
        return True


class Held:
    """A bridge with its records in memory, whose thread can be held."""

    def __init__(self) -> None:
        self._sink = Names()
        loggers = LoggerProvider(shutdown_on_exit=False)
        loggers.add_log_record_processor(self._sink)  # type: ignore[arg-type]  # a duck, for all versions
        meters = MeterProvider(shutdown_on_exit=False)
        self.bridge = Bridge(Providers(TracerProvider(shutdown_on_exit=False), loggers, meters))
        self._release = threading.Event()
        self._holder: threading.Thread | None = None

    def put(self, *names: str) -> None:
        """Queue an event for each name."""
        for name in names:
            self.bridge.enqueue(RecordedEvent(name, "AGENT", 0, {}, now(), None))

    def hold(self) -> None:
        """Keep the bridge's thread busy; returns once it is."""
        entered = threading.Event()
        self._release.clear()

        def wait(engine: Engine) -> None:
            entered.set()
            self._release.wait(LONG_S)

        self._holder = threading.Thread(target=self.bridge.ask, args=(wait, LONG_S), daemon=True)
        self._holder.start()
        assert entered.wait(LONG_S)

    def release(self) -> None:
        """Let the bridge's thread go on."""
        self._release.set()
        if self._holder is not None:
            self._holder.join(LONG_S)

    def names(self) -> list[str]:
        """Return the names of all records, after a flush."""
        return [name for name, _ in self.records()]

    def records(self) -> list[tuple[str, str]]:
        """Return the names and bodies of all records, after a flush."""
        assert self.bridge.flush(LONG_S)
        return list(self._sink.records)
