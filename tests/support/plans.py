"""Where variables say that telemetry goes, before anything is made or sent."""

from __future__ import annotations

from collections.abc import Mapping

from torchelastic_otel._config.environment import Signal
from torchelastic_otel._config.exporters import plan_exporters
from torchelastic_otel._config.otlp import OtlpTarget


def target_of(
    variables: Mapping[str, str] | None = None, /, *, signal: Signal = "logs", **more: str
) -> tuple[OtlpTarget, list[str]]:
    """Return the one target of ``signal``, and what was warned of."""
    warnings: list[str] = []
    [plan] = plan_exporters(signal, {**(variables or {}), **more}, warnings.append)
    assert plan.otlp is not None
    return plan.otlp, warnings


def refusal_of(variables: Mapping[str, str] | None = None, /, *, signal: Signal = "logs", **more: str) -> str:
    """Return the one warning that says why ``signal`` is not sent."""
    warnings: list[str] = []
    assert plan_exporters(signal, {**(variables or {}), **more}, warnings.append) == []
    [warning] = warnings
    return warning
