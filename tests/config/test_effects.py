"""What each variable does: a job is told to the bridge, its environment alone differs, a receiver sees how.

``EFFECTS`` has each row of the table of variables (``_config/variables.py``): what an environment says, and
what is then seen of the job that is not seen by default. Where more than an environment is needed, it has the
name of the test that sees it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from otlp_receiver import LogRecord, MetricPoint, OtlpReceiver, Span
from tests.support.bridged_job import OWN_EVENT, tell_job
from tests.support.harness import otlp
from torchelastic_otel import _contract as c
from torchelastic_otel._config import otlp_variables as o
from torchelastic_otel._config import sdk_variables as sdk
from torchelastic_otel._config import variables as v
from torchelastic_otel._config.row import Variable

ROOT = Path(__file__).parents[2]
PARENT = {"TRACEPARENT": f"00-{'a' * 32}-{'b' * 16}-01"}
NOT_SAMPLED = {"TRACEPARENT": f"00-{'a' * 32}-{'b' * 16}-00"}

VENDOR_POINTS = """
    [opentelemetry_traces_sampler]
    vendor = vendor_stuff:make
    [opentelemetry_id_generator]
    vendor = vendor_stuff:Ids
    """
VENDOR = """
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
    from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

    def make(argument):
        return TraceIdRatioBased(float(argument))

    class Ids(RandomIdGenerator):
        def generate_trace_id(self): return 0xDEF
    """


class Told:
    """What arrived of the job, and what its process said."""

    def __init__(self, receiver: OtlpReceiver, said: str) -> None:
        self.logs, self.spans, self.metrics = receiver.logs, receiver.spans, receiver.metrics
        self.requests, self.said = receiver.requests, said

    @property
    def with_attributes(self) -> list[Span | LogRecord]:
        """All spans and records."""
        return [*self.spans, *self.logs]

    def log(self, name: str) -> LogRecord:
        """Return the first record of that name."""
        return next(record for record in self.logs if record.event_name == name)

    @property
    def failed(self) -> Span:
        """The span of the worker that failed."""
        return next(s for s in self.spans if s.name == c.SPAN_WORKER and s.status_code == "ERROR")

    @property
    def second_group(self) -> Span:
        """The span of the second generation."""
        return [span for span in self.spans if span.name == c.SPAN_WORKER_GROUP][-1]

    def points(self, name: str) -> list[MetricPoint]:
        """Return the points of a metric that count something."""
        return [point for point in self.metrics if point.name == name and (point.value or point.count)]


@dataclass(frozen=True)
class Effect:
    """What an environment says, and what of the job differs by it.

    Args:
        says: the variables.
        seen: what is looked at.
        then: what is seen with them.
        besides: variables of both jobs, that with ``says`` and that without.
    """

    says: Mapping[str, str]
    seen: Callable[[Told], object]
    then: object
    besides: Mapping[str, str] = field(default_factory=dict)


def trace_ids(told: Told) -> set[str]:
    """Return the trace ids of all spans."""
    return {span.trace_id for span in told.spans}


def signals(told: Told) -> set[str]:
    """Return which signals were sent."""
    return {request.signal for request in told.requests}


def lengths(attributes: Mapping[str, Any]) -> int:
    """Return the length of the longest text among attributes."""
    return max(len(value) for value in attributes.values() if isinstance(value, str))


Sent = LogRecord | Span | MetricPoint


def resource(name: str) -> Callable[[Told], object]:
    """Look at an attribute of the resource, which is the same on each signal."""

    def look(told: Told) -> object:
        sent: list[Sent] = [*told.logs, *told.spans, *told.metrics]
        found = {each.resource.get(name) for each in sent}
        assert len(found) == 1
        return found.pop()

    return look


def exemplars(told: Told) -> bool:
    """Tell whether restarts show an example."""
    return any(point.exemplars for point in told.points(c.METRIC_RESTARTS))


def kinds(told: Told) -> set[tuple[str, str]]:
    """Return kind and temporality of the restarts' metrics."""
    points = told.points(c.METRIC_RESTARTS) + told.points(c.METRIC_RESTART_DURATION)
    return {(point.kind, point.temporality) for point in points}


EFFECTS: dict[Variable[Any], Effect | list[Effect] | str] = {
    o.SDK_DISABLED: Effect(
        {"OTEL_SDK_DISABLED": "true"},
        lambda told: (signals(told), told.said),
        (set(), ""),
    ),
    o.EXPORTER: [
        Effect({"OTEL_TRACES_EXPORTER": "none"}, signals, {"logs", "metrics"}),
        Effect({"OTEL_LOGS_EXPORTER": "none"}, signals, {"traces", "metrics"}),
        Effect({"OTEL_METRICS_EXPORTER": "none"}, signals, {"traces", "logs"}),
    ],
    o.OTLP_PROTOCOL: "test_the_protocol_is_what_is_spoken",
    o.OTLP_ENDPOINT: "test_the_endpoint_is_where_it_goes",
    o.OTLP_INSECURE: "test_insecure_turns_encryption_off",
    o.OTLP_HEADERS: "test_headers_arrive_decoded",
    o.OTLP_TIMEOUT: "test_the_timeout_is_in_seconds",
    o.OTLP_COMPRESSION: "test_the_compression_is_the_one_named",
    o.OTLP_CERTIFICATE: "test_the_client_shows_its_certificate_to_a_server_that_it_trusts",
    o.OTLP_CLIENT_CERTIFICATE: "test_the_client_shows_its_certificate_to_a_server_that_it_trusts",
    o.OTLP_CLIENT_KEY: "test_the_client_shows_its_certificate_to_a_server_that_it_trusts",
    o.HTTP_CREDENTIAL_PROVIDER: "test_credential_providers_are_asked",
    o.GRPC_CREDENTIAL_PROVIDER: "test_credential_providers_are_asked",
    sdk.SERVICE_NAME: Effect(
        {"OTEL_SERVICE_NAME": "mine", "OTEL_RESOURCE_ATTRIBUTES": "service.name=other"},
        resource("service.name"),
        "mine",
    ),
    sdk.RESOURCE_ATTRIBUTES: Effect(
        {"OTEL_RESOURCE_ATTRIBUTES": "host.name=a%2Cb"}, resource("host.name"), "a,b"
    ),
    sdk.RESOURCE_DETECTORS: "test_resource_detectors",
    sdk.TRACES_SAMPLER: [
        Effect({"OTEL_TRACES_SAMPLER": "always_off"}, signals, {"logs", "metrics"}),
        Effect({"OTEL_TRACES_SAMPLER": "parentbased_always_off"}, signals, {"logs", "metrics"}),
        Effect(
            {"OTEL_TRACES_SAMPLER": "always_on"}, signals, {"traces", "logs", "metrics"}, besides=NOT_SAMPLED
        ),
    ],
    sdk.TRACES_SAMPLER_ARG: [
        Effect(
            {"OTEL_TRACES_SAMPLER_ARG": "0"},
            signals,
            {"logs", "metrics"},
            besides={"OTEL_TRACES_SAMPLER": sampler},
        )
        for sampler in ("traceidratio", "parentbased_traceidratio")
    ]
    + [
        Effect(
            {"OTEL_TRACES_SAMPLER": "vendor", "OTEL_TRACES_SAMPLER_ARG": "0.0"}, signals, {"logs", "metrics"}
        )
    ],
    sdk.ID_GENERATOR: Effect({"OTEL_PYTHON_ID_GENERATOR": "vendor"}, trace_ids, {f"{0xDEF:032x}"}),
    sdk.PROPAGATORS: Effect(
        {"OTEL_PROPAGATORS": "baggage"},
        lambda told: told.log(OWN_EVENT).attributes["parent"],
        f"{0:016x}",
        besides=PARENT,
    ),
    sdk.BSP_SCHEDULE_DELAY: "test_what_fills_no_batch_waits_for_its_signals_delay",
    sdk.BSP_MAX_QUEUE_SIZE: "test_no_more_than_the_queue_holds_is_kept_in_memory",
    sdk.BSP_MAX_EXPORT_BATCH_SIZE: "test_a_request_holds_no_more_than_a_batch",
    sdk.BLRP_SCHEDULE_DELAY: "test_what_fills_no_batch_waits_for_its_signals_delay",
    sdk.BLRP_MAX_QUEUE_SIZE: "test_no_more_than_the_queue_holds_is_kept_in_memory",
    sdk.BLRP_MAX_EXPORT_BATCH_SIZE: "test_a_request_holds_no_more_than_a_batch",
    sdk.ATTRIBUTE_COUNT_LIMIT: Effect(
        {"OTEL_ATTRIBUTE_COUNT_LIMIT": "2"},
        lambda told: (
            {len(sent.attributes) for sent in told.with_attributes},
            {len(event.attributes) for event in told.failed.events},
            told.failed.dropped_attributes_count > 0,
            told.log(OWN_EVENT).dropped_attributes_count > 0,
        ),
        ({2}, {2}, True, True),
    ),
    sdk.ATTRIBUTE_VALUE_LENGTH_LIMIT: Effect(
        {"OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "5"},
        lambda told: (
            {lengths(sent.attributes) for sent in told.with_attributes},
            {lengths(event.attributes) for event in told.failed.events},
        ),
        ({5}, {5}),
    ),
    sdk.SPAN_ATTRIBUTE_COUNT_LIMIT: Effect(
        {"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "2", "OTEL_ATTRIBUTE_COUNT_LIMIT": "3"},
        lambda told: (len(told.failed.attributes), len(told.failed.events[0].attributes)),
        (2, 3),
    ),
    sdk.SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT: Effect(
        {"OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": "5", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "7"},
        lambda told: (lengths(told.failed.attributes), lengths(told.log(OWN_EVENT).attributes)),
        (5, 7),
    ),
    sdk.EVENT_ATTRIBUTE_COUNT_LIMIT: Effect(
        {"OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT": "2", "OTEL_ATTRIBUTE_COUNT_LIMIT": "3"},
        lambda told: (len(told.failed.attributes), len(told.failed.events[0].attributes)),
        (3, 2),
    ),
    sdk.LINK_ATTRIBUTE_COUNT_LIMIT: "test_the_limit_of_links_attributes_is_the_sdks_business",
    sdk.SPAN_EVENT_COUNT_LIMIT: Effect(
        {"OTEL_SPAN_EVENT_COUNT_LIMIT": "1"},
        lambda told: (len(told.failed.events), told.failed.dropped_events_count, len(told.logs)),
        (1, 1, 14),
    ),
    sdk.SPAN_LINK_COUNT_LIMIT: Effect(
        {"OTEL_SPAN_LINK_COUNT_LIMIT": "0"},
        lambda told: (len(told.second_group.links), told.second_group.dropped_links_count),
        (0, 1),
    ),
    sdk.LOGRECORD_ATTRIBUTE_COUNT_LIMIT: Effect(
        {"OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT": "2", "OTEL_ATTRIBUTE_COUNT_LIMIT": "3"},
        lambda told: ({len(log.attributes) for log in told.logs}, len(told.failed.attributes)),
        ({2}, 3),
    ),
    sdk.LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT: Effect(
        {"OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT": "5", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "7"},
        lambda told: ({lengths(log.attributes) for log in told.logs}, lengths(told.failed.attributes)),
        ({5}, 7),
    ),
    sdk.METRIC_EXPORT_INTERVAL: "test_metrics_come_by_themselves_at_their_interval",
    sdk.METRICS_EXEMPLAR_FILTER: [
        Effect({"OTEL_METRICS_EXEMPLAR_FILTER": "always_off"}, exemplars, False),
        Effect(
            {"OTEL_METRICS_EXEMPLAR_FILTER": "always_on"},
            exemplars,
            True,
            besides={"OTEL_TRACES_SAMPLER": "always_off"},
        ),
    ],
    sdk.METRICS_TEMPORALITY: [
        Effect(
            {"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": preference},
            kinds,
            {("sum", "DELTA"), ("histogram", "DELTA")},
        )
        for preference in ("delta", "lowmemory")
    ],
    sdk.METRICS_HISTOGRAM_AGGREGATION: Effect(
        {"OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": "base2_exponential_bucket_histogram"},
        kinds,
        {("sum", "CUMULATIVE"), ("exponential_histogram", "CUMULATIVE")},
    ),
    sdk.CONFIG_FILE: "test_a_configuration_file_declares_the_providers",
    v.HEARTBEATS: Effect(
        {"TORCHELASTIC_OTEL_HEARTBEATS": "log"},
        lambda told: [log.severity_text for log in told.logs if "keep-alive" in str(log.body)],
        ["DEBUG"],
    ),
    v.SPAN_EVENTS: Effect(
        {"TORCHELASTIC_OTEL_SPAN_EVENTS": "false"},
        lambda told: ({len(span.events) + span.dropped_events_count for span in told.spans}, len(told.logs)),
        ({0}, 14),
    ),
    v.TRACE_SEED: Effect(
        {"TORCHELASTIC_OTEL_TRACE_SEED": "second"},
        trace_ids,
        {"d2fc3641209f0a9ca20e3234834894b7"},
    ),
    v.TRACE_URL: Effect(
        {"TORCHELASTIC_OTEL_TRACE_URL": "https://traces.example/t/{trace_id}?v=1"},
        lambda told: re.sub("[0-9a-f]{32}", "ID", told.said),
        "torchelastic-otel: trace ID https://traces.example/t/ID?v=1\n",
    ),
    v.EXIT_TIMEOUT: "test_the_end_of_a_process_waits_no_longer_than_it_may",
    v.REDACT: Effect(
        {"TORCHELASTIC_OTEL_REDACT": "(?i)hunter|worker 0"},
        lambda told: (
            re.findall("(?i)hunter|worker 0", str((told.logs, told.spans, told.metrics))),
            told.log(OWN_EVENT).attributes["key0"],
            str(told.log(c.EVENT_FAILURE).body)[:10],
        ),
        ([], "[redacted]0, a long value", "[redacted]"),
    ),
    v.SPOOL_DIR: "test_without_a_spool_nothing_is_written",
    v.SPOOL_MAX_BYTES: "test_at_the_bound_the_oldest_goes",
    v.WORKER: "test_without_a_recorder_nothing_is_added_to_a_worker",
    v.STDERR: "test_the_end_of_standard_error_is_read_where_it_is_a_file",
    v.TERMINATION_LOG: "test_the_termination_log_can_be_left_alone",
}
"""Each row, in the order of the table, with its effects, or the name of the test that sees them."""

CASES = [
    pytest.param(effect, id=f"{row.names[0]}-{number}")
    for row, effects in EFFECTS.items()
    if not isinstance(effects, str)
    for number, effect in enumerate(effects if isinstance(effects, list) else [effects])
]


def test_each_variable_has_an_effect_that_is_seen() -> None:
    """A row that nobody proves is a promise."""
    source = "\n".join(path.read_text() for path in (ROOT / "tests").glob("**/test_*.py"))
    there = set(re.findall(r"^def (test_\w+)\(", source, re.MULTILINE))
    assert list(EFFECTS) == list(v.VARIABLES)
    assert {effect for effect in EFFECTS.values() if isinstance(effect, str)} - there == set()
    for row, effects in EFFECTS.items():
        for effect in [effects] if isinstance(effects, Effect) else effects:
            assert isinstance(effect, str) or set(effect.says) & set(row.names), row.names


@pytest.fixture(scope="module")
def by_default() -> Callable[[Mapping[str, str]], Told]:
    """Return a function that gives the job as it is seen with these variables alone, told once."""
    known: dict[tuple[tuple[str, str], ...], Told] = {}

    def told(besides: Mapping[str, str]) -> Told:
        key = tuple(sorted(besides.items()))
        if key not in known:
            with OtlpReceiver() as receiver:
                known[key] = Told(receiver, tell_job({**otlp(receiver), **besides}))
        return known[key]

    return told


@pytest.mark.parametrize("effect", CASES)
def test_what_a_variable_says_is_seen_of_the_job(
    receiver: OtlpReceiver,
    third_party: Callable[[str, str], None],
    by_default: Callable[[Mapping[str, str]], Told],
    effect: Effect,
) -> None:
    """And without it, something else."""
    third_party(VENDOR_POINTS, VENDOR)
    told = Told(receiver, tell_job({**otlp(receiver), **effect.besides, **effect.says}))
    assert effect.seen(told) == effect.then
    assert effect.seen(by_default(effect.besides)) != effect.then
    assert "not accepted" not in told.said
