"""Log records are encoded as OpenTelemetry's own encoder would, and cost each other nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import SpanContext, TraceFlags

from tests.support.job_player import moment
from tests.support.odd_values import int64, scalars
from tests.support.said import Said
from torchelastic_otel._config.limits import LogLimits
from torchelastic_otel._job.event import SEVERITY_TEXT, Event, Kind
from torchelastic_otel._runtime.clock import Moment
from torchelastic_otel._telemetry.log_encoding import LogEncoder
from torchelastic_otel._telemetry.log_sinks import ReadableRecords

UNLIMITED = LogLimits(attribute_count=128, value_length=None)
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
texts = st.text(st.characters(codec="utf-8"), max_size=40)
floats = st.floats(allow_nan=False)
plain = scalars | floats | texts | st.lists(texts, max_size=4) | st.lists(int64, max_size=4)
"""What the job model gives records."""

values = st.recursive(
    plain | st.none() | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=8,
)
"""All that OTLP has a form for."""

resources = st.builds(
    Resource, st.dictionaries(names, plain, max_size=5), st.sampled_from(["", "https://s/1"])
)
spans = st.none() | st.builds(
    SpanContext,
    st.integers(0, (1 << 128) - 1),
    st.integers(0, (1 << 64) - 1),
    st.booleans(),
    st.integers(0, 255).map(TraceFlags),
)
times = st.integers(0, (1 << 64) - 1)
events = st.builds(
    Event,
    kind=st.just(Kind.USER),
    name=texts,
    moment=st.builds(Moment, times, times),
    body=texts,
    attributes=st.dictionaries(names, values, max_size=8),
    severity=st.sampled_from(list(SEVERITY_TEXT)),
    observed_ns=times,
    span=spans,
)
limits = st.builds(LogLimits, attribute_count=st.integers(0, 12), value_length=st.none() | st.integers(0, 12))


def event(name: str = "e", attributes: Mapping[str, Any] | None = None, **fields: Any) -> Event:
    """Return an event."""
    return Event(Kind.USER, name, moment(1), "body", dict(attributes or {}), **fields)


def encoded(resource: Resource, limits: LogLimits, events: Sequence[Event]) -> ResourceLogs:
    """Return what becomes of the records, put together again."""
    (parts,) = LogEncoder(resource, limits).encode(events, map(str, range(len(events))))
    logs: ResourceLogs = ResourceLogs.FromString(parts.header)
    logs.scope_logs[0].log_records.extend(LogRecord.FromString(payload) for payload in parts.payloads)
    return logs


def name_nothing(pairs: Iterable[KeyValue]) -> None:
    """Give what stands for None its empty value, which older SDKs leave out."""
    for pair in pairs:
        pair.value.SetInParent()
        within = [pair.value]
        while within:
            value = within.pop()
            within += value.array_value.values
            if value.HasField("kvlist_value"):
                name_nothing(value.kvlist_value.values)


@given(resources, limits, st.lists(events, min_size=1, max_size=3))
def test_records_are_encoded_as_the_sdk_does(
    resource: Resource, limits: LogLimits, events: list[Event]
) -> None:
    """Field by field: resource, scope, times, ids, flags, severity, body, attributes within the limits."""
    (theirs,) = encode_logs(ReadableRecords(resource, limits).batch(events)).resource_logs
    ours = encoded(resource, limits, events)
    for logs in (ours, theirs):
        for record in logs.scope_logs[0].log_records:
            name_nothing(record.attributes)
            if record.attributes and record.attributes[0].key == "log.record.uid":
                record.attributes[0].value.string_value = ""  # unique
    for mine, other in zip(ours.scope_logs[0].log_records, theirs.scope_logs[0].log_records, strict=True):
        assert mine == other
    assert ours == theirs


def test_each_record_has_an_id_of_its_own() -> None:
    """Whatever its attributes; a record that has one already keeps that."""
    logs = encoded(Resource({}), UNLIMITED, [event(), event(), event(attributes={"log.record.uid": "mine"})])
    records = logs.scope_logs[0].log_records
    assert [record.attributes[0].value.string_value for record in records] == ["0", "1", "mine"]


def test_limits_keep_what_says_most() -> None:
    """The first attributes stay, and the others are counted."""
    attributes = {"a": "long text", "b": ["long text", "short"], "c": 3, "d": 4}
    (record,) = (
        encoded(Resource({}), LogLimits(4, 5), [event(attributes=attributes)]).scope_logs[0].log_records
    )
    assert [pair.key for pair in record.attributes] == ["log.record.uid", "a", "b", "c"]
    assert record.attributes[1].value.string_value == "long "
    assert [value.string_value for value in record.attributes[2].value.array_value.values] == [
        "long ",
        "short",
    ]
    assert record.dropped_attributes_count == 1


@pytest.mark.internal_errors("encoding an attribute: ")
@pytest.mark.parametrize("value", [1 << 63, "\ud800", object(), ["fine", "\ud800"], {"a": 1 << 64}])
def test_a_value_that_otlp_cannot_carry_costs_itself(value: object, said: Said) -> None:
    """It is counted among those that were dropped, and said."""
    bad = event("bad", {"first": 1, "bad": value, "last": 2})
    records = encoded(Resource({"bad": "x"}), UNLIMITED, [event(), bad, event()]).scope_logs[0].log_records
    assert [record.event_name for record in records] == ["e", "bad", "e"]
    assert [pair.key for pair in records[1].attributes] == ["log.record.uid", "first", "last"]
    assert [record.dropped_attributes_count for record in records] == [0, 1, 0]
    assert len(said.having("encoding an attribute")) == 1


@pytest.mark.internal_errors("encoding: UnicodeEncodeError")
def test_a_record_that_cannot_be_encoded_costs_itself(said: Said) -> None:
    """It is said, and its neighbours go."""
    records = encoded(Resource({}), UNLIMITED, [event("a"), event("\ud800"), event("b")])
    assert [record.event_name for record in records.scope_logs[0].log_records] == ["a", "b"]
    assert len(said.having("internal error in encoding")) == 1
    assert LogEncoder(Resource({}), UNLIMITED).encode([event("\ud800")], "a") == []


@pytest.mark.parametrize(
    "value", [["text", 1], [True, "text"], {"a": ["text", {"b": "text"}]}, b"text", None]
)
def test_third_parties_get_what_is_shortened(value: object) -> None:
    """Lists of several types, too, which older SDKs leave out where a limit is set."""
    (readable,) = ReadableRecords(Resource({}), LogLimits(9, 2)).batch([event(attributes={"a": value})])
    shortened = json.loads(json.dumps(value, default=bytes.decode).replace("text", "te"))
    got = (readable.log_record.attributes or {})["a"]
    assert got == (value if isinstance(value, bytes) else shortened)
    assert readable.dropped_attributes == 0


def test_third_parties_get_records_of_the_sdk() -> None:
    """Made by its public constructors, within the limits."""
    span = SpanContext(7, 8, is_remote=True, trace_flags=TraceFlags(1))
    attributes = dict.fromkeys("abc", "text")
    (readable,) = ReadableRecords(Resource({"a": "b"}), LogLimits(3, 2)).batch(
        [event("mine", attributes, span=span, severity=13)]
    )
    record = readable.log_record
    assert (record.trace_id, record.span_id, record.trace_flags) == (7, 8, 1)
    assert (record.event_name, record.body, record.severity_text) == ("mine", "body", "WARN")
    assert list(record.attributes or {}) == ["log.record.uid", "a", "b"]
    assert (record.attributes or {})["a"] == "te"
    assert readable.dropped_attributes == 1
    assert readable.resource.attributes["a"] == "b"
    assert '"dropped_attributes": 1' in readable.to_json()
