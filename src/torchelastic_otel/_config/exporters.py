"""Which exporters ``OTEL_{TRACES,LOGS,METRICS}_EXPORTER`` ask for, decided before anything heavy is imported.

So what is wrong is told early, and a signal that goes nowhere needs no thread. A warning about a variable
that is common to all signals has the same text for each of them, so that ``warn`` can tell it once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .environment import Signal, Warn
from .otlp import OtlpTarget, plan_otlp
from .otlp_variables import EXPORTER, OTLP_EXPORTERS, SDK_DISABLED


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
    if SDK_DISABLED.value(environ, warn):
        return []
    names = EXPORTER.value(environ, warn, signal)
    plans: list[ExporterPlan] = []
    for name in names:
        if name in OTLP_EXPORTERS:
            target = plan_otlp(signal, OTLP_EXPORTERS[name], environ, warn)
            first = next((plan.otlp for plan in plans if plan.otlp is not None), None)
            if target is not None and first is not None and target != first:
                warn(
                    f"{EXPORTER.of(signal)}: {signal} go by OTLP once, to {first.endpoint}; {name!r} beside "
                    "it is ignored."
                )
            elif target is not None:
                plans.append(ExporterPlan(signal, "otlp", target))
        elif name != "none":
            plans.append(ExporterPlan(signal, name))
        elif len(names) > 1:
            warn(f"{EXPORTER.of(signal)}: 'none' next to other exporters means nothing; it is ignored.")
    # Named twice is still one.
    return list(dict.fromkeys(plans))
