"""The package's own settings, ``TORCHELASTIC_OTEL_*``: what OpenTelemetry's variables cannot say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from . import variables as v
from .environment import Warn


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user chose, or the defaults. The table says which variable each field is read from."""

    heartbeats: v.Heartbeats = v.HEARTBEATS.default
    """``metric`` only counts keep-alive events, ``log`` makes a log record of each as well."""
    span_events: bool = v.SPAN_EVENTS.default
    """Whether events are also drawn on their spans."""
    trace_seed: str = v.TRACE_SEED.default
    """Goes into the trace id, exactly as it is written; "" if unset."""
    trace_url: str = v.TRACE_URL.default
    """Link template that contains ``{trace_id}``; "" if unset."""
    exit_timeout_s: float = v.EXIT_TIMEOUT.default
    """Longest time that the end of the process waits for delivery, in seconds."""
    redact: str = v.REDACT.default
    """Regular expression of what is replaced in every text that is sent; "" for nothing."""
    spool_dir: str = v.SPOOL_DIR.default
    """Where undelivered telemetry is kept; "" for the default, "off" for nowhere but memory."""
    spool_max_bytes: int = v.SPOOL_MAX_BYTES.default
    """Most that is kept there."""
    worker: bool = v.WORKER.default
    """Whether workers get a recorder."""
    stderr_bytes: int = v.STDERR.default
    """Most that is read of the end of a dead worker's standard error; 0 for nothing."""
    termination_log: bool = v.TERMINATION_LOG.default
    """Whether the verdict of a job that failed is written to Kubernetes' termination log."""


def read_settings(environ: Mapping[str, str], warn: Warn) -> Settings:
    """Read the settings; never raises.

    A wrong value is told once through ``warn``, by the variable's name, and the default stands.
    """
    return Settings(**{row.setting: row.value(environ, warn) for row in v.VARIABLES if row.setting})
