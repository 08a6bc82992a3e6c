"""Providers that are not the bridge's own: injected ones, and those that the program has set up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .._runtime.otel_api import is_real

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider


@dataclass(slots=True)
class Providers:
    """Providers that the program brings; None where it has none of that signal."""

    tracer_provider: TracerProvider | None = None
    logger_provider: LoggerProvider | None = None
    meter_provider: MeterProvider | None = None


def global_providers() -> Providers:
    """The providers that the program has set up itself; a proxy or a no-op is none."""
    from opentelemetry import _logs, metrics, trace

    def real(provider: Any) -> Any:
        return provider if is_real(provider) else None

    return Providers(
        real(trace.get_tracer_provider()),
        real(_logs.get_logger_provider()),
        real(metrics.get_meter_provider()),
    )
