"""Objects of the SDK that variables describe: samplers, id generators, limits, exemplar filters."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .._config import sdk_variables as v
from .._config.environment import Warn
from .._config.row import Variable
from .._runtime.guard import from_signal_handler
from .._runtime.imports import importing, load_entry_point

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
            name = v.SPAN_ATTRIBUTE_COUNT_LIMIT.name
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

    name = v.TRACES_SAMPLER.value(environ, warn)
    fixed = {
        "parentbased_always_on": sampling.DEFAULT_ON,
        "parentbased_always_off": sampling.DEFAULT_OFF,
        "always_on": sampling.ALWAYS_ON,
        "always_off": sampling.ALWAYS_OFF,
    }
    if name in fixed:
        return fixed[name]
    if name == "traceidratio":
        return sampling.TraceIdRatioBased(v.TRACES_SAMPLER_ARG.value(environ, warn))
    if name == "parentbased_traceidratio":
        return sampling.ParentBasedTraceIdRatio(v.TRACES_SAMPLER_ARG.value(environ, warn))
    argument = environ.get(v.TRACES_SAMPLER_ARG.name)
    sampler = _third_party(v.TRACES_SAMPLER, v.SAMPLERS, name, sampling.Sampler, warn, argument)
    return sampler if isinstance(sampler, sampling.Sampler) else sampling.DEFAULT_ON


def id_generator_from_env(environ: Mapping[str, str], warn: Warn) -> IdGenerator | None:
    """Return the third party's generator that ``OTEL_PYTHON_ID_GENERATOR`` names.

    None if it is unset, ``random``, or wrong: the caller then makes the ids.
    """
    name = v.ID_GENERATOR.value(environ, warn)
    if name == v.ID_GENERATOR.default:
        return None
    import_trace_sdk()
    from opentelemetry.sdk.trace.id_generator import IdGenerator

    generator = _third_party(v.ID_GENERATOR, v.ID_GENERATORS, name, IdGenerator, warn)
    return generator if isinstance(generator, IdGenerator) else None


def _third_party(
    row: Variable[str], group: str, name: str, kind: type, warn: Warn, *arguments: object
) -> Any:
    """Make the installed component ``name``, which must be a ``kind``; None after a warning."""
    consequence = row.consequence(row.default)
    try:
        make = load_entry_point(group, name)
        made = make and make(*arguments)
    except Exception as error:
        if from_signal_handler(error):
            raise
        warn(f"{row.name}={name!r} cannot be used ({type(error).__name__}: {error}); {consequence}.")
        return None
    if not isinstance(made, kind):
        warn(f"{row.name}={name!r} cannot be used (it is no {kind.__name__}); {consequence}.")
        return None
    return made


def exemplar_filter_from_env(environ: Mapping[str, str], warn: Warn) -> ExemplarFilter:
    """Return the filter that ``OTEL_METRICS_EXEMPLAR_FILTER`` names, ``trace_based`` if it is unset or wrong.

    The SDK's meter provider raises for a wrong one if it is left to read the variable.
    """
    from opentelemetry.sdk import metrics

    filters: dict[v.ExemplarFilter, Callable[[], ExemplarFilter]] = {
        "trace_based": metrics.TraceBasedExemplarFilter,
        "always_on": metrics.AlwaysOnExemplarFilter,
        "always_off": metrics.AlwaysOffExemplarFilter,
    }
    return filters[v.METRICS_EXEMPLAR_FILTER.value(environ, warn)]()


def span_limits_from_env(environ: Mapping[str, str], warn: Warn) -> SpanLimits:
    """Return the SDK's limits for spans, their events and links, from the variables of the specification."""
    import_trace_sdk()
    from opentelemetry.sdk.trace import SpanLimits

    def limit(row: Variable[int] | Variable[int | None]) -> int:
        # A None would send SpanLimits to the environment again, where it raises.
        value = row.value(environ, warn)
        return SpanLimits.UNSET if value is None else value

    return SpanLimits(
        max_attributes=limit(v.ATTRIBUTE_COUNT_LIMIT),
        max_events=limit(v.SPAN_EVENT_COUNT_LIMIT),
        max_links=limit(v.SPAN_LINK_COUNT_LIMIT),
        max_span_attributes=limit(v.SPAN_ATTRIBUTE_COUNT_LIMIT),
        max_event_attributes=limit(v.EVENT_ATTRIBUTE_COUNT_LIMIT),
        max_link_attributes=limit(v.LINK_ATTRIBUTE_COUNT_LIMIT),
        max_attribute_length=limit(v.ATTRIBUTE_VALUE_LENGTH_LIMIT),
        max_span_attribute_length=limit(v.SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT),
    )
