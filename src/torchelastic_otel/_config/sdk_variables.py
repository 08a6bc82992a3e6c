"""Rows of the table (``variables.py``) for what OpenTelemetry's SDK would read by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from .._contract import SERVICE_NAME as DEFAULT_NAME
from .kinds import PAIRS, Choice, Component, Components, Integer, Limit, Number, Text
from .row import Variable

ExemplarFilter = Literal["trace_based", "always_on", "always_off"]
Temporality = Literal["cumulative", "delta", "lowmemory"]
HistogramAggregation = Literal["explicit_bucket_histogram", "base2_exponential_bucket_histogram"]

SAMPLERS = "opentelemetry_traces_sampler"
"""Entry point group of third parties' samplers."""
ID_GENERATORS = "opentelemetry_id_generator"
"""That of their id generators."""

_DAY_MS = 24 * 60 * 60 * 1000
_INT32_MAX = 2**31 - 1
_UNUSED = (
    "Read by Python, and not used. `OTEL_EXPORTER_OTLP_TIMEOUT` bounds an export, "
    "`TORCHELASTIC_OTEL_EXIT_TIMEOUT` the end of the process."
)
_CONFIGURATOR = "Belongs to the SDK's own configurator."
_COUNT = Limit[int](128)
_LENGTH = Limit[int | None](None)

# Who sends

SERVICE_NAME = Variable(
    "OTEL_SERVICE_NAME",
    Text("any text"),
    section="resource",
    default_words=f"`{DEFAULT_NAME}`",
    meaning="`service.name`. Counts before the one in `OTEL_RESOURCE_ATTRIBUTES`.",
)
RESOURCE_ATTRIBUTES = Variable(
    "OTEL_RESOURCE_ATTRIBUTES",
    Text(PAIRS, exact=True),
    section="resource",
    meaning="Attributes of whoever sends. They count before everything that is found out.",
)
RESOURCE_DETECTORS = Variable(
    "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS",
    Components("opentelemetry_resource_detector", built_in=("*",), default=()),
    section="resource",
    instead="it is left out",
    meaning="What else finds out attributes: `os`, `process`, third parties'; `*` for all.",
)

# Traces

TRACES_SAMPLER = Variable(
    "OTEL_TRACES_SAMPLER",
    Component(
        SAMPLERS,
        built_in=(
            "always_on",
            "always_off",
            "traceidratio",
            "parentbased_always_on",
            "parentbased_always_off",
            "parentbased_traceidratio",
        ),
        default="parentbased_always_on",
    ),
    section="traces",
    signals=("traces",),
    meaning="Which traces are sent. A third party's sampler is called with `OTEL_TRACES_SAMPLER_ARG`.",
)
TRACES_SAMPLER_ARG = Variable(
    "OTEL_TRACES_SAMPLER_ARG",
    Number(1.0, "a ratio", lowest=0.0, highest=1.0),
    section="traces",
    signals=("traces",),
    meaning="How many traces the ratio samplers take. A third party's sampler takes what it likes.",
)
ID_GENERATOR = Variable(
    "OTEL_PYTHON_ID_GENERATOR",
    Component(ID_GENERATORS, built_in=("random",), default="random"),
    section="traces",
    signals=("traces",),
    instead="the default is used",
    meaning="Who makes ids. With any but `random`, the nodes of a job no longer share a trace.",
)
PROPAGATORS = Variable(
    "OTEL_PROPAGATORS",
    Components("opentelemetry_propagator", built_in=("none",), default=("tracecontext", "baggage")),
    section="traces",
    signals=("traces",),
    instead="workers are handed no trace context",
    meaning="What workers find of their span in their environment.",
)
BSP_SCHEDULE_DELAY = Variable(
    "OTEL_BSP_SCHEDULE_DELAY",
    Integer(5000, highest=_DAY_MS, unit="milliseconds"),
    section="traces",
    signals=("traces",),
    meaning="Longest time that a span waits for others.",
)
BSP_MAX_QUEUE_SIZE = Variable(
    "OTEL_BSP_MAX_QUEUE_SIZE",
    Integer(2048, highest=_INT32_MAX),
    section="traces",
    signals=("traces",),
    meaning="Spans that wait at the same time in memory: for other exporters than `otlp`, and where there is "
    "no spool. Beyond it the oldest is dropped. On a disk `TORCHELASTIC_OTEL_SPOOL_MAX_BYTES` is the bound.",
)
BSP_MAX_EXPORT_BATCH_SIZE = Variable(
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
    Integer(512, highest=_INT32_MAX),
    section="traces",
    signals=("traces",),
    at_most=BSP_MAX_QUEUE_SIZE,
    meaning="Spans per export, at most `OTEL_BSP_MAX_QUEUE_SIZE`.",
)

# Logs

BLRP_SCHEDULE_DELAY = Variable(
    "OTEL_BLRP_SCHEDULE_DELAY",
    Integer(1000, highest=_DAY_MS, unit="milliseconds"),
    section="logs",
    signals=("logs",),
    meaning="Longest time that a record waits for others.",
)
BLRP_MAX_QUEUE_SIZE = Variable(
    "OTEL_BLRP_MAX_QUEUE_SIZE",
    Integer(2048, highest=_INT32_MAX),
    section="logs",
    signals=("logs",),
    meaning="Records that wait at the same time in memory: for other exporters than `otlp`, and where "
    "there is no spool. Beyond it the oldest is dropped. On a disk `TORCHELASTIC_OTEL_SPOOL_MAX_BYTES` is "
    "the bound.",
)
BLRP_MAX_EXPORT_BATCH_SIZE = Variable(
    "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE",
    Integer(512, highest=_INT32_MAX),
    section="logs",
    signals=("logs",),
    at_most=BLRP_MAX_QUEUE_SIZE,
    meaning="Records per export, at most `OTEL_BLRP_MAX_QUEUE_SIZE`.",
)

# Attributes of spans and records

ATTRIBUTE_COUNT_LIMIT = Variable(
    "OTEL_ATTRIBUTE_COUNT_LIMIT",
    _COUNT,
    section="attributes",
    signals=("traces", "logs"),
    meaning="Attributes of anything that has no limit of its own.",
)
ATTRIBUTE_VALUE_LENGTH_LIMIT = Variable(
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    _LENGTH,
    section="attributes",
    signals=("traces", "logs"),
    meaning="Characters of an attribute's value, of anything that has no limit of its own.",
)
SPAN_ATTRIBUTE_COUNT_LIMIT = Variable(
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
    _COUNT,
    section="attributes",
    signals=("traces",),
    otherwise=ATTRIBUTE_COUNT_LIMIT,
    meaning="Attributes of a span.",
)
SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT = Variable(
    "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    _LENGTH,
    section="attributes",
    signals=("traces",),
    otherwise=ATTRIBUTE_VALUE_LENGTH_LIMIT,
    meaning="Characters of a span attribute's value.",
)
EVENT_ATTRIBUTE_COUNT_LIMIT = Variable(
    "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT",
    _COUNT,
    section="attributes",
    signals=("traces",),
    otherwise=ATTRIBUTE_COUNT_LIMIT,
    meaning="Attributes of an event on a span.",
)
LINK_ATTRIBUTE_COUNT_LIMIT = Variable(
    "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT",
    _COUNT,
    section="attributes",
    signals=("traces",),
    otherwise=ATTRIBUTE_COUNT_LIMIT,
    meaning="Attributes of a link.",
)
SPAN_EVENT_COUNT_LIMIT = Variable(
    "OTEL_SPAN_EVENT_COUNT_LIMIT",
    _COUNT,
    section="attributes",
    signals=("traces",),
    meaning="Events on a span. The log records are complete whatever it is.",
)
SPAN_LINK_COUNT_LIMIT = Variable(
    "OTEL_SPAN_LINK_COUNT_LIMIT",
    _COUNT,
    section="attributes",
    signals=("traces",),
    meaning="Links of a span.",
)
LOGRECORD_ATTRIBUTE_COUNT_LIMIT = Variable(
    "OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT",
    _COUNT,
    section="attributes",
    signals=("logs",),
    otherwise=ATTRIBUTE_COUNT_LIMIT,
    meaning="Attributes of a log record.",
)
LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT = Variable(
    "OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    _LENGTH,
    section="attributes",
    signals=("logs",),
    otherwise=ATTRIBUTE_VALUE_LENGTH_LIMIT,
    meaning="Characters of a log attribute's value.",
)

# Metrics

METRIC_EXPORT_INTERVAL = Variable(
    "OTEL_METRIC_EXPORT_INTERVAL",
    Number(60_000.0, "milliseconds", highest=_DAY_MS),
    section="metrics",
    signals=("metrics",),
    meaning="Time between two exports.",
)
METRICS_EXEMPLAR_FILTER = Variable(
    "OTEL_METRICS_EXEMPLAR_FILTER",
    Choice[ExemplarFilter]("trace_based", get_args(ExemplarFilter)),
    section="metrics",
    signals=("metrics",),
    meaning="Which measurements are kept as exemplars, which lead to their trace.",
)
METRICS_TEMPORALITY = Variable(
    "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
    Choice[Temporality]("cumulative", get_args(Temporality)),
    section="metrics",
    signals=("metrics",),
    meaning="Whether a sum counts from the start or from the last export.",
)
METRICS_HISTOGRAM_AGGREGATION = Variable(
    "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
    Choice[HistogramAggregation]("explicit_bucket_histogram", get_args(HistogramAggregation)),
    section="metrics",
    signals=("metrics",),
    meaning="Histograms with fixed buckets, or with exponential ones.",
)

# A configuration file

CONFIG_FILE = Variable(
    "OTEL_CONFIG_FILE",
    Text("a declarative configuration in YAML"),
    section="file",
    meaning="Counts before the other `OTEL_*` variables. Needs the package `opentelemetry-configuration`.",
)

# Without effect

WITHOUT_EFFECT: Mapping[str, str] = {
    "OTEL_BSP_EXPORT_TIMEOUT": _UNUSED,
    "OTEL_BLRP_EXPORT_TIMEOUT": _UNUSED,
    "OTEL_METRIC_EXPORT_TIMEOUT": _UNUSED,
    "OTEL_PYTHON_TRACER_CONFIGURATOR": _CONFIGURATOR,
    "OTEL_PYTHON_METER_CONFIGURATOR": _CONFIGURATOR,
    "OTEL_PYTHON_LOGGER_CONFIGURATOR": _CONFIGURATOR,
    "OTEL_LOG_LEVEL": _CONFIGURATOR,
    "OTEL_PYTHON_EXPORTER_OTLP_GRPC_RETRYABLE_ERROR_CODES": "The bridge itself sends OTLP, and decides what "
    "to try again ([delivery](delivery.md)).",
}
"""Variables of OpenTelemetry that do nothing here, and why, as Markdown."""
