"""Limits and batches as they are read; tests/config/test_effects.py sees what they cut."""

from __future__ import annotations

from typing import Literal

import pytest

from tests.support.programs import python
from torchelastic_otel._config.environment import SIGNALS
from torchelastic_otel._config.limits import (
    BatchSettings,
    LogLimits,
    batch_settings,
    log_limits,
    metric_export_interval_s,
)
from torchelastic_otel._telemetry.sdk_objects import span_limits_from_env


def test_the_limit_of_links_attributes_is_the_sdks_business() -> None:
    """The bridge's links have none, so that no job shows it."""
    limits = span_limits_from_env({"OTEL_LINK_ATTRIBUTE_COUNT_LIMIT": "2"}, pytest.fail)
    assert (limits.max_link_attributes, limits.max_event_attributes) == (2, 128)


def test_limits_of_spans_by_default() -> None:
    """What the specification says."""
    limits = span_limits_from_env({}, pytest.fail)
    assert (limits.max_events, limits.max_links, limits.max_span_attributes) == (128, 128, 128)
    assert (limits.max_attribute_length, limits.max_span_attribute_length) == (None, None)


@pytest.mark.parametrize("value", ["many", ""])
def test_a_limit_that_the_sdk_chokes_on_while_it_is_imported(value: str) -> None:
    """Exporters are still made, the variable is told once and left as it was."""
    printed = python(
        """
        import os, threading
        from torchelastic_otel._telemetry.sdk_objects import span_limits_from_env
        from torchelastic_otel._config.exporters import plan_exporters
        from torchelastic_otel._telemetry.other_exporters import load_exporter
        warnings, names = [], []
        def load(signal):
            for plan in plan_exporters(signal, os.environ, warnings.append):
                names.append(type(load_exporter(plan, warnings.append)).__name__)
        threads = [threading.Thread(target=load, args=[signal]) for signal in ("traces", "logs", "metrics")]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        span_limits_from_env(os.environ, warnings.append)
        print(sorted(names))
        print(warnings, repr(os.environ["OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT"]))
        """,
        OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT=value,
        **{f"OTEL_{signal.upper()}_EXPORTER": "console" for signal in SIGNALS},
    )
    names, rest = printed.splitlines()
    assert names == "['ConsoleLogRecordExporter', 'ConsoleMetricExporter', 'ConsoleSpanExporter']"
    assert rest.endswith(repr(value))
    assert rest.count("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT") == (1 if value else 0)


def test_limits_of_log_records() -> None:
    """Their own count before the general ones; what they cut is seen of a process that records."""
    assert log_limits({}, pytest.fail) == LogLimits(attribute_count=128, value_length=None)
    general = {"OTEL_ATTRIBUTE_COUNT_LIMIT": "3", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "4"}
    assert log_limits(general, pytest.fail) == LogLimits(attribute_count=3, value_length=4)
    own = {"OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT": "5", "OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT": "0"}
    assert log_limits({**general, **own}, pytest.fail) == LogLimits(attribute_count=5, value_length=0)


@pytest.mark.parametrize(
    ("signal", "prefix", "delay_s"), [("traces", "OTEL_BSP_", 5.0), ("logs", "OTEL_BLRP_", 1.0)]
)
def test_batches_of_spans_and_records(signal: Literal["traces", "logs"], prefix: str, delay_s: float) -> None:
    """By default what the specification says; the delay is in milliseconds."""
    assert batch_settings(signal, {}, pytest.fail) == BatchSettings(delay_s, max_batch=512, max_queue=2048)
    environ = {
        f"{prefix}SCHEDULE_DELAY": "20",
        f"{prefix}MAX_EXPORT_BATCH_SIZE": "3",
        f"{prefix}MAX_QUEUE_SIZE": "9",
    }
    assert batch_settings(signal, environ, pytest.fail) == BatchSettings(0.02, max_batch=3, max_queue=9)


def test_the_interval_of_metrics() -> None:
    """In milliseconds, a minute by default."""
    assert metric_export_interval_s({}, pytest.fail) == 60.0
    assert metric_export_interval_s({"OTEL_METRIC_EXPORT_INTERVAL": "20"}, pytest.fail) == 0.02
