"""How much goes together: limits for log records, batches, and the interval of metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from . import sdk_variables as v
from .environment import Signal, Warn


@dataclass(frozen=True, slots=True)
class LogLimits:
    """Limits for a log record: how many attributes, and how many characters a value has (None: no limit)."""

    attribute_count: int
    value_length: int | None


def log_limits(environ: Mapping[str, str], warn: Warn) -> LogLimits:
    """Return the limits for log records: ``OTEL_LOGRECORD_*_LIMIT``, else ``OTEL_ATTRIBUTE_*_LIMIT``."""
    count = v.LOGRECORD_ATTRIBUTE_COUNT_LIMIT.value(environ, warn)
    return LogLimits(count, v.LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT.value(environ, warn))


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
    if signal == "traces":
        rows = v.BSP_SCHEDULE_DELAY, v.BSP_MAX_EXPORT_BATCH_SIZE, v.BSP_MAX_QUEUE_SIZE
    else:
        rows = v.BLRP_SCHEDULE_DELAY, v.BLRP_MAX_EXPORT_BATCH_SIZE, v.BLRP_MAX_QUEUE_SIZE
    delay_ms, max_batch, max_queue = (row.value(environ, warn) for row in rows)
    return BatchSettings(delay_ms / 1000, max_batch, max_queue)


def metric_export_interval_s(environ: Mapping[str, str], warn: Warn) -> float:
    """Return the time between two exports of metrics in seconds."""
    return v.METRIC_EXPORT_INTERVAL.value(environ, warn) / 1000
