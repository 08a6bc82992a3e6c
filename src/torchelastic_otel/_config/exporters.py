"""Which exporters ``OTEL_{TRACES,LOGS,METRICS}_EXPORTER`` ask for, decided before anything heavy is imported.

So what is wrong is told early, and a signal that goes nowhere needs no thread. A warning about a variable
that is common to all signals has the same text for each of them, so that ``warn`` can tell it once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .._runtime.imports import entry_point_names, find_entry_point
from .environment import Signal, Warn, read, sdk_disabled, wrong_value
from .otlp import OtlpTarget, Protocol, plan_otlp

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
