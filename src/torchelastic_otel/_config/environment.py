"""Reading variables: what is accepted, the limits and batches that they set, and the words for a wrong value.

The SDK reads most of these itself, each in its own way: it raises for some wrong values, logs others without
the variable's name, and one stops it from being imported. Here a wrong value is one warning that names the
variable, and the default. The texts are equal however often a variable is read, so that ``warn`` can tell
each once. An empty variable counts as unset, as the specification has it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

Warn = Callable[[str], None]
Signal = Literal["traces", "logs", "metrics"]
SIGNALS: tuple[Signal, ...] = get_args(Signal)

_MOST_SHOWN = 80
_DAY_MS = 24 * 60 * 60 * 1000
_INT32_MAX = 2**31 - 1


def read(environ: Mapping[str, str], name: str) -> str:
    """Return the variable without surrounding blanks, "" if it is unset."""
    return environ.get(name, "").strip()


def wrong_value(warn: Warn, name: str, value: str, expected: str, consequence: str) -> None:
    """Tell that the variable ``name`` has a value that cannot be used."""
    shown = value if len(value) <= _MOST_SHOWN else value[:_MOST_SHOWN] + "…"
    warn(f"{name}={shown!r} is not accepted: expected {expected}; {consequence}.")


def read_number(
    environ: Mapping[str, str], name: str, default: float, highest: float, warn: Warn, *, unit: str
) -> float:
    """Return a number above 0 and up to ``highest``, or ``default`` after a warning."""
    value = read(environ, name)
    if not value:
        return default
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 < number <= highest:
        wrong_value(warn, name, value, f"{unit} above 0 and up to {highest:g}", f"{default:g} is used")
        return default
    return number


def read_integer(
    environ: Mapping[str, str], name: str, default: int, highest: int, warn: Warn, *, unit: str = ""
) -> int:
    """Return a whole number from 1 to ``highest``, or ``default`` after a warning."""
    value = read(environ, name)
    if not value:
        return default
    try:
        number = int(value)
    except ValueError:
        number = 0
    if not 1 <= number <= highest:
        expected = f"a whole number{unit and ' of ' + unit} from 1 to {highest}"
        wrong_value(warn, name, value, expected, f"{default} is used")
        return default
    return number


def sdk_disabled(environ: Mapping[str, str], warn: Warn) -> bool:
    """Tell whether ``OTEL_SDK_DISABLED`` is true: nothing is to be sent then."""
    value = read(environ, "OTEL_SDK_DISABLED")
    if value.lower() not in ("", "true", "false"):
        wrong_value(warn, "OTEL_SDK_DISABLED", value, "true or false", "false is used")
    return value.lower() == "true"


def read_limit(environ: Mapping[str, str], name: str, default: int | None, warn: Warn) -> int | None:
    value = read(environ, name)
    if not value:
        return default
    try:
        number = int(value)
    except ValueError:
        number = -1
    if number < 0:
        instead = "there is no limit" if default is None else f"{default} is used"
        wrong_value(warn, name, value, "a whole number from 0", instead)
        return default
    return number


@dataclass(frozen=True, slots=True)
class LogLimits:
    """Limits for a log record: how many attributes, and how many characters a value has (None: no limit)."""

    attribute_count: int
    value_length: int | None


def log_limits_from_env(environ: Mapping[str, str], warn: Warn) -> LogLimits:
    """Return the limits for log records: ``OTEL_LOGRECORD_*_LIMIT``, else ``OTEL_ATTRIBUTE_*_LIMIT``."""
    general_count = read_limit(environ, "OTEL_ATTRIBUTE_COUNT_LIMIT", 128, warn)
    count = read_limit(environ, "OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", general_count, warn)
    length = read_limit(environ, "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", None, warn)
    return LogLimits(
        attribute_count=128 if count is None else count,
        value_length=read_limit(environ, "OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT", length, warn),
    )


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """How a signal is batched."""

    delay_s: float
    """Longest time that an item waits for others, in seconds."""
    max_batch: int
    """Items per export, at most ``max_queue``."""
    max_queue: int
    """Items that wait at the same time."""


def batch_settings(signal: Signal, environ: Mapping[str, str], warn: Warn) -> BatchSettings:
    """Return the batch settings from ``OTEL_BSP_*`` (traces) or ``OTEL_BLRP_*`` (logs)."""
    prefix, delay_ms = ("OTEL_BSP_", 5000) if signal == "traces" else ("OTEL_BLRP_", 1000)
    batch_name = prefix + "MAX_EXPORT_BATCH_SIZE"
    delay_ms = read_integer(environ, prefix + "SCHEDULE_DELAY", delay_ms, _DAY_MS, warn, unit="milliseconds")
    max_queue = read_integer(environ, prefix + "MAX_QUEUE_SIZE", 2048, _INT32_MAX, warn)
    max_batch = read_integer(environ, batch_name, 512, _INT32_MAX, warn)
    if max_batch > max_queue:
        if read(environ, batch_name) == str(max_batch):
            expected = f"at most {prefix}MAX_QUEUE_SIZE ({max_queue})"
            wrong_value(warn, batch_name, str(max_batch), expected, f"{max_queue} is used")
        max_batch = max_queue
    return BatchSettings(delay_ms / 1000, max_batch, max_queue)


def metric_export_interval_s(environ: Mapping[str, str], warn: Warn) -> float:
    """Return the time between two exports of metrics in seconds (``OTEL_METRIC_EXPORT_INTERVAL``, in ms)."""
    name = "OTEL_METRIC_EXPORT_INTERVAL"
    return read_number(environ, name, 60_000, _DAY_MS, warn, unit="milliseconds") / 1000
