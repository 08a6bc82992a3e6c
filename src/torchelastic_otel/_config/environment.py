"""What OpenTelemetry's variables say about sampling, ids, limits and batches.

The SDK reads most of these itself, each in its own way: it raises for some wrong values, logs others without
the variable's name, and one stops it from being imported. Here a wrong value is one warning that names the
variable, and the default. The texts are equal however often a variable is read, so that ``warn`` can tell
each once. An empty variable counts as unset, as the specification has it. Nothing heavy is imported before it
is needed.
"""

from __future__ import annotations

import importlib
import math
import os
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Literal, get_args

from .._runtime.guard import from_signal_handler

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import ExemplarFilter
    from opentelemetry.sdk.trace import SpanLimits
    from opentelemetry.sdk.trace.id_generator import IdGenerator
    from opentelemetry.sdk.trace.sampling import Sampler

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


def find_entry_point(group: str, name: str) -> EntryPoint | None:
    """Return the installed entry point, None if there is none of that name."""
    return next(iter(entry_points(group=group, name=name)), None)


def entry_point_names(group: str) -> str:
    """Return the names that are installed in ``group``, as a text for messages."""
    return ", ".join(sorted({point.name for point in entry_points(group=group)})) or "none"


importing = threading.RLock()
"""Held while parts of OpenTelemetry are imported. They import each other in circles: two threads that begin
at different ends find modules half-made, and exporters are lost."""


def import_module(name: str) -> Any:
    """Import the module ``name`` while nobody else imports."""
    with importing:
        return importlib.import_module(name)


def import_trace_sdk() -> None:
    """Import ``opentelemetry.sdk.trace``; call this before anything that imports it.

    That module reads ``OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT`` while it is imported, and raises ValueError for a
    wrong one. The variable is then out of sight for as long as the import takes; ``span_limits_from_env``
    tells of it.
    """
    with importing:
        if "opentelemetry.sdk.trace" in sys.modules:
            return
        try:
            import opentelemetry.sdk.trace
        except ValueError:
            name = "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT"
            value = os.environ.pop(name, None)
            if value is None:
                raise
            try:
                import opentelemetry.sdk.trace  # noqa: F401
            finally:
                os.environ[name] = value


def sampler_from_env(environ: Mapping[str, str], warn: Warn) -> Sampler:
    """Return the sampler that ``OTEL_TRACES_SAMPLER`` and ``OTEL_TRACES_SAMPLER_ARG`` name.

    Third parties' come from the entry point group ``opentelemetry_traces_sampler``, called with the argument.
    The default, also for what is wrong, is ``parentbased_always_on``.
    """
    import_trace_sdk()
    from opentelemetry.sdk.trace import sampling

    fixed = {
        "": sampling.DEFAULT_ON,
        "parentbased_always_on": sampling.DEFAULT_ON,
        "parentbased_always_off": sampling.DEFAULT_OFF,
        "always_on": sampling.ALWAYS_ON,
        "always_off": sampling.ALWAYS_OFF,
    }
    name = read(environ, "OTEL_TRACES_SAMPLER")
    if name.lower() in fixed:
        return fixed[name.lower()]
    if name.lower() == "traceidratio":
        return sampling.TraceIdRatioBased(_ratio(environ, warn))
    if name.lower() == "parentbased_traceidratio":
        return sampling.ParentBasedTraceIdRatio(_ratio(environ, warn))
    sampler = _third_party(
        "OTEL_TRACES_SAMPLER",
        name,
        "opentelemetry_traces_sampler",
        sampling.Sampler,
        "parentbased_always_on is used",
        warn,
        environ.get("OTEL_TRACES_SAMPLER_ARG"),
    )
    return sampler if isinstance(sampler, sampling.Sampler) else sampling.DEFAULT_ON


def _ratio(environ: Mapping[str, str], warn: Warn) -> float:
    value = read(environ, "OTEL_TRACES_SAMPLER_ARG")
    if not value:
        return 1.0
    try:
        ratio = float(value)
    except ValueError:
        ratio = math.nan
    if not 0 <= ratio <= 1:
        wrong_value(warn, "OTEL_TRACES_SAMPLER_ARG", value, "a ratio from 0 to 1", "1.0 is used")
        return 1.0
    return ratio


def id_generator_from_env(environ: Mapping[str, str], warn: Warn) -> IdGenerator | None:
    """Return the third party's generator that ``OTEL_PYTHON_ID_GENERATOR`` names.

    None if it is unset, ``random``, or wrong: the caller then makes the ids.
    """
    name = read(environ, "OTEL_PYTHON_ID_GENERATOR")
    if name.lower() in ("", "random"):
        return None
    import_trace_sdk()
    from opentelemetry.sdk.trace.id_generator import IdGenerator

    generator = _third_party(
        "OTEL_PYTHON_ID_GENERATOR",
        name,
        "opentelemetry_id_generator",
        IdGenerator,
        "the default is used",
        warn,
    )
    return generator if isinstance(generator, IdGenerator) else None


def _third_party(
    variable: str, name: str, group: str, kind: type, consequence: str, warn: Warn, *arguments: object
) -> Any:
    """Make the installed component ``name``, which must be a ``kind``; None after a warning."""
    point = find_entry_point(group, name)
    if point is None:
        wrong_value(warn, variable, name, f"one that is installed ({entry_point_names(group)})", consequence)
        return None
    try:
        made = point.load()(*arguments)
    except Exception as error:
        if from_signal_handler(error):
            raise
        warn(f"{variable}={name!r} cannot be used ({type(error).__name__}: {error}); {consequence}.")
        return None
    if not isinstance(made, kind):
        warn(f"{variable}={name!r} cannot be used (it is no {kind.__name__}); {consequence}.")
        return None
    return made


def exemplar_filter_from_env(environ: Mapping[str, str], warn: Warn) -> ExemplarFilter:
    """Return the filter that ``OTEL_METRICS_EXEMPLAR_FILTER`` names, ``trace_based`` if it is unset or wrong.

    The SDK's meter provider raises for a wrong one if it is left to read the variable.
    """
    from opentelemetry.sdk import metrics

    filters: dict[str, Callable[[], ExemplarFilter]] = {
        "trace_based": metrics.TraceBasedExemplarFilter,
        "always_on": metrics.AlwaysOnExemplarFilter,
        "always_off": metrics.AlwaysOffExemplarFilter,
    }
    name = read(environ, "OTEL_METRICS_EXEMPLAR_FILTER")
    if name.lower() not in ("", *filters):
        wrong_value(warn, "OTEL_METRICS_EXEMPLAR_FILTER", name, ", ".join(filters), "trace_based is used")
    return filters.get(name.lower(), metrics.TraceBasedExemplarFilter)()


def _limit(environ: Mapping[str, str], name: str, default: int | None, warn: Warn) -> int | None:
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


def span_limits_from_env(environ: Mapping[str, str], warn: Warn) -> SpanLimits:
    """Return the SDK's limits for spans, their events and links, from the variables of the specification."""
    import_trace_sdk()
    from opentelemetry.sdk.trace import SpanLimits

    def limit(name: str, default: int | None) -> int:
        # A None would send SpanLimits to the environment again, where it raises.
        value = _limit(environ, name, default, warn)
        return SpanLimits.UNSET if value is None else value

    attributes = limit("OTEL_ATTRIBUTE_COUNT_LIMIT", 128)
    length = _limit(environ, "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", None, warn)
    return SpanLimits(
        max_attributes=attributes,
        max_events=limit("OTEL_SPAN_EVENT_COUNT_LIMIT", 128),
        max_links=limit("OTEL_SPAN_LINK_COUNT_LIMIT", 128),
        max_span_attributes=limit("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", attributes),
        max_event_attributes=limit("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", attributes),
        max_link_attributes=limit("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", attributes),
        max_attribute_length=SpanLimits.UNSET if length is None else length,
        max_span_attribute_length=limit("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", length),
    )


@dataclass(frozen=True, slots=True)
class LogLimits:
    """Limits for a log record: how many attributes, and how many characters a value has (None: no limit)."""

    attribute_count: int
    value_length: int | None


def log_limits_from_env(environ: Mapping[str, str], warn: Warn) -> LogLimits:
    """Return the limits for log records: ``OTEL_LOGRECORD_*_LIMIT``, else ``OTEL_ATTRIBUTE_*_LIMIT``."""
    general_count = _limit(environ, "OTEL_ATTRIBUTE_COUNT_LIMIT", 128, warn)
    count = _limit(environ, "OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", general_count, warn)
    length = _limit(environ, "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", None, warn)
    return LogLimits(
        attribute_count=128 if count is None else count,
        value_length=_limit(environ, "OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT", length, warn),
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
