"""Objects of the SDK that variables describe: samplers, id generators, limits, exemplar filters."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .._config.environment import Warn, read, read_limit, wrong_value
from .._runtime.guard import from_signal_handler
from .._runtime.imports import entry_point_names, find_entry_point, importing

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import ExemplarFilter
    from opentelemetry.sdk.trace import SpanLimits
    from opentelemetry.sdk.trace.id_generator import IdGenerator
    from opentelemetry.sdk.trace.sampling import Sampler


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


def span_limits_from_env(environ: Mapping[str, str], warn: Warn) -> SpanLimits:
    """Return the SDK's limits for spans, their events and links, from the variables of the specification."""
    import_trace_sdk()
    from opentelemetry.sdk.trace import SpanLimits

    def limit(name: str, default: int | None) -> int:
        # A None would send SpanLimits to the environment again, where it raises.
        value = read_limit(environ, name, default, warn)
        return SpanLimits.UNSET if value is None else value

    attributes = limit("OTEL_ATTRIBUTE_COUNT_LIMIT", 128)
    length = read_limit(environ, "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", None, warn)
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
