"""Exporters that are not OTLP's, made from their entry points. OTLP is sent by ``_delivery``."""

from __future__ import annotations

from typing import Any

from .._config.environment import Warn
from .._config.exporters import ExporterPlan
from .._runtime.guard import from_signal_handler
from .._runtime.imports import import_module, importing, load_entry_point
from .sdk_objects import import_trace_sdk


def load_exporter(plan: ExporterPlan, warn: Warn) -> Any | None:
    """Make the exporter of ``plan``, which is not OTLP's; None, after a warning, if that fails.

    Third parties' exporters read ``os.environ``. Where metrics go to one it may be a ``MetricReader``.
    """
    try:
        _import_sdk()
        exporter_class = load_entry_point(f"opentelemetry_{plan.signal}_exporter", plan.name)
        return exporter_class and exporter_class()
    except Exception as error:
        if from_signal_handler(error):
            raise
        warn(
            f"OTEL_{plan.signal.upper()}_EXPORTER: the exporter {plan.name!r} cannot be made "
            f"({type(error).__name__}: {error}); {plan.signal} are not sent there."
        )
    return None


def _import_sdk() -> None:
    """Import the packages of the SDK that exporters import parts of, each from the outside."""
    with importing:
        import_trace_sdk()
        for name in ("resources", "_logs", "metrics"):
            import_module(f"opentelemetry.sdk.{name}")
