"""From OpenTelemetry's variables to exporters.

``plan_exporters`` decides without importing anything heavy, so that what is wrong can be told early and a
signal that goes nowhere needs no thread. OTLP is the bridge's own business, ``_transport`` sends it; other
exporters, ``load_exporter`` makes from their entry points. Neither raises. What is wrong is one warning that
names the variable; where it comes from a variable that is common to all signals, its text is the same for
each of them, so that ``warn`` can tell it once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .._config.environment import (
    Signal,
    Warn,
    entry_point_names,
    find_entry_point,
    import_module,
    import_trace_sdk,
    importing,
    read,
    sdk_disabled,
    wrong_value,
)
from .._config.otlp import OtlpTarget, Protocol, plan_otlp
from .._runtime.guard import from_signal_handler

_OTLP_NAMES: dict[str, Protocol | None] = {
    "otlp": None,
    "otlp_proto_grpc": "grpc",
    "otlp_proto_http": "http/protobuf",
}


@dataclass(frozen=True, slots=True)
class ExporterPlan:
    """An exporter to be made: ``name`` is its entry point; ``otlp`` says the rest where it is OTLP's."""

    signal: Signal
    name: str
    otlp: OtlpTarget | None = None


def plan_exporters(signal: Signal, environ: Mapping[str, str], warn: Warn) -> list[ExporterPlan]:
    """Decide which exporters ``OTEL_{TRACES,LOGS,METRICS}_EXPORTER`` asks for; none if the SDK is disabled.

    An exporter that is unknown, has no usable endpoint, or whose TLS files cannot be used is not in the list.
    """
    if sdk_disabled(environ, warn):
        return []
    variable = f"OTEL_{signal.upper()}_EXPORTER"
    names = [name.strip() for name in read(environ, variable).split(",") if name.strip()] or ["otlp"]
    plans: list[ExporterPlan] = []
    for name in names:
        if name.lower() in _OTLP_NAMES:
            target = plan_otlp(signal, _OTLP_NAMES[name.lower()], environ, warn)
            if target is not None:
                plans.append(ExporterPlan(signal, "otlp", target))
        elif name.lower() == "none":
            if len(names) > 1:
                warn(f"{variable}: 'none' next to other exporters means nothing; it is ignored.")
        elif find_entry_point(f"opentelemetry_{signal}_exporter", name) is None:
            known = f"one that is installed ({entry_point_names(f'opentelemetry_{signal}_exporter')}) or none"
            wrong_value(warn, variable, name, known, f"{signal} are not sent there")
        else:
            plans.append(ExporterPlan(signal, name))
    # Named twice, or by two names for the same, is still one.
    return list(dict.fromkeys(plans))


def load_exporter(plan: ExporterPlan, warn: Warn) -> Any | None:
    """Make the exporter of ``plan``, which is not OTLP's; None, after a warning, if that fails.

    Third parties' exporters read ``os.environ``. Where metrics go to one it may be a ``MetricReader``.
    """
    try:
        _import_sdk()
        point = find_entry_point(f"opentelemetry_{plan.signal}_exporter", plan.name)
        with importing:
            exporter_class = point.load() if point else None
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
