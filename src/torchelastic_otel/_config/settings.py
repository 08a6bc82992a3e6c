"""The package's own settings, ``TORCHELASTIC_OTEL_*``: what OpenTelemetry's variables cannot say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from .environment import Warn, read, read_number, wrong_value

_PREFIX = "TORCHELASTIC_OTEL_"
_TRUE = ("true", "1", "yes", "on")
_FALSE = ("false", "0", "no", "off")
_LONGEST_EXIT_TIMEOUT_S = 3600.0
_LARGEST_SPOOL = 2**40


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user chose, or the defaults."""

    heartbeats: Literal["metric", "log"] = "metric"
    """``metric`` only counts keep-alive events, ``log`` makes a log record of each as well."""
    span_events: bool = True
    """Whether events are also drawn on their spans."""
    trace_seed: str = ""
    """Goes into the trace id, exactly as it is written; "" if unset."""
    trace_url: str = ""
    """Link template that contains ``{trace_id}``; "" if unset."""
    exit_timeout_s: float = 0.5
    """Longest time that the end of the process waits for delivery, in seconds."""
    redact: str = ""
    """Regular expression of what is replaced in every text that is sent; "" for nothing."""
    spool_dir: str = ""
    """Where undelivered telemetry is kept; "" for the default, "off" for nowhere but memory."""
    spool_max_bytes: int = 64 * 1024 * 1024
    """Most that is kept there."""


def read_settings(environ: Mapping[str, str], warn: Warn) -> Settings:
    """Read the settings; never raises.

    A wrong value is told once through ``warn``, by the variable's name, and the default stands.
    """
    defaults = Settings()
    return Settings(
        heartbeats=_heartbeats(environ, warn),
        span_events=_flag(environ, _PREFIX + "SPAN_EVENTS", defaults.span_events, warn),
        trace_seed=environ.get(_PREFIX + "TRACE_SEED", defaults.trace_seed),
        trace_url=_trace_url(environ, warn),
        exit_timeout_s=read_number(
            environ,
            _PREFIX + "EXIT_TIMEOUT",
            defaults.exit_timeout_s,
            _LONGEST_EXIT_TIMEOUT_S,
            warn,
            unit="seconds",
        ),
        redact=_redact(environ, warn),
        spool_dir=_spool_dir(environ),
        spool_max_bytes=int(
            read_number(
                environ,
                _PREFIX + "SPOOL_MAX_BYTES",
                defaults.spool_max_bytes,
                _LARGEST_SPOOL,
                warn,
                unit="bytes",
            )
        ),
    )


def _redact(environ: Mapping[str, str], warn: Warn) -> str:
    name = _PREFIX + "REDACT"
    value = environ.get(name, "")
    try:
        re.compile(value)
    except (re.error, RecursionError, OverflowError) as error:
        # What the pattern was to hide is not known: nothing of it may leave.
        wrong_value(warn, name, value, f"a regular expression ({error})", "all texts are redacted")
        return r"(?s).+"
    return value


def _spool_dir(environ: Mapping[str, str]) -> str:
    value = read(environ, _PREFIX + "SPOOL_DIR")
    return "off" if value.lower() in _FALSE else value


def _heartbeats(environ: Mapping[str, str], warn: Warn) -> Literal["metric", "log"]:
    name = _PREFIX + "HEARTBEATS"
    value = read(environ, name)
    if value.lower() == "log":
        return "log"
    if value.lower() not in ("", "metric"):
        wrong_value(warn, name, value, "'metric' or 'log'", "'metric' is used")
    return "metric"


def _flag(environ: Mapping[str, str], name: str, default: bool, warn: Warn) -> bool:
    value = read(environ, name)
    if value.lower() in _TRUE:
        return True
    if value.lower() in _FALSE:
        return False
    if value:
        wrong_value(warn, name, value, "true or false", f"{str(default).lower()} is used")
    return default


def _trace_url(environ: Mapping[str, str], warn: Warn) -> str:
    name = _PREFIX + "TRACE_URL"
    value = read(environ, name)
    if value and "{trace_id}" not in value:
        expected = "a link with {trace_id} where the trace id goes"
        wrong_value(warn, name, value, expected, "no link is given")
        return ""
    return value
