"""The instrumentor that ``opentelemetry-instrument`` loads: every job is exported, with no flag.

Needs the package opentelemetry-instrumentation, which brings that command.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]  # untyped

from . import instrument, uninstrument


class TorchElasticInstrumentor(BaseInstrumentor):  # type: ignore[misc]  # untyped
    """Instruments torch.distributed.elastic; accepts tracer_provider, logger_provider and meter_provider."""

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return the torch versions that the hooks are made for."""
        return ("torch >= 2.8",)

    def _instrument(self, **kwargs: Any) -> None:
        names = ("tracer_provider", "logger_provider", "meter_provider")
        instrument(**{name: kwargs[name] for name in names if kwargs.get(name) is not None})

    def _uninstrument(self, **kwargs: Any) -> None:
        uninstrument()
