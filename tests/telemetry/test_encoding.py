"""Whatever a record says: it is on the wire with all that it has, and so are its neighbours."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.sdk.resources import Resource

from tests.support.job_player import STATUS, Player
from tests.support.odd_values import NO_EVENTS, anything, jsonable, nested, odd_events, odd_facts
from tests.support.plain_output import PlainOutput
from tests.support.sdk_world import SdkWorld, attributes
from tests.support.torch_texts import INNER, OUTER, rendezvous_event, status_event
from torchelastic_otel._config.limits import LogLimits
from torchelastic_otel._config.settings import Settings
from torchelastic_otel._job import facts as f
from torchelastic_otel._job.event import Event
from torchelastic_otel._telemetry.log_encoding import LogEncoder
from torchelastic_otel._values import MAX_TEXT

NODE = "The node 'node-2_17_0'"
NEIGHBOUR = {"name": "neighbour", "source": "AGENT", "timestamp": 0, "metadata": {"k": 1}}


ENCODER = LogEncoder(Resource({}), LogLimits(attribute_count=1000, value_length=None))


class Events(PlainOutput):
    """Keeps records as the model hands them over."""

    def __init__(self) -> None:
        super().__init__(keep=False)
        self.events: list[Event] = []

    def emit(self, record: Event) -> None:
        """Keep a record."""
        self.events.append(record)


def survives(event: str | Mapping[str, Any]) -> bool:
    """Record an event between two others, encode all; tell whether they arrive whole."""
    output = Events()
    job = Player(output, Settings(heartbeats="log"), {})
    for each in (NEIGHBOUR, event, NEIGHBOUR):
        job.record(each)
    events = output.events
    assert len(events) == 3
    (encoded,) = ENCODER.encode(events, "abc")
    records = [LogRecord.FromString(payload) for payload in encoded.payloads]
    # The encoder leaves out an attribute that it cannot encode, so they are counted.
    arrived = [(r.event_name, {pair.key for pair in r.attributes}) for r in records]
    expected = [(e.name, {*e.attributes, "log.record.uid"}) for e in events]
    return arrived == expected and [r.body.string_value for r in records] == [e.body for e in events]


@given(jsonable, st.sampled_from([STATUS + "FAILED", STATUS + "RENDEZVOUS", "mine", "kill worker process"]))
def test_any_metadata_arrives(metadata: object, name: str) -> None:
    """Whatever JSON there is in an event, its record is sent, and so are its neighbours."""
    fields = {"name": name, "source": "WORKER", "timestamp": 0, "metadata": metadata}
    assert survives(json.dumps(fields))


@given(
    st.fixed_dictionaries({}, optional={key: jsonable for key in OUTER if key != "metadata"}),
    st.dictionaries(st.sampled_from([*INNER, "watchdog_event", "scope_id", "new"]) | anything, jsonable),
    st.sampled_from(["FAILED", "START", "NEW\ud800"]),
    st.sampled_from(["AGENT", "WORKER", "\ud800"]),
    st.booleans(),
)
def test_torchs_keys_with_any_values_arrive(
    outer: dict[str, Any], inner: dict[str, Any], state: str, source: str, as_text: bool
) -> None:
    """Torch's own keys are read for more than their text; none of that reading trusts their types."""
    metadata = {"state": state, **outer, "metadata": json.dumps(inner)}
    fields = {"name": STATUS + state, "source": source, "timestamp": 0, "metadata": metadata}
    assert survives(json.dumps(fields) if as_text else fields)


@given(st.fixed_dictionaries(dict.fromkeys(rendezvous_event(), jsonable)))
def test_any_rendezvous_event_arrives(fields: dict[str, Any]) -> None:
    """Whatever stands in the fields of a rendezvous event."""
    assert survives(fields)
    assert survives(json.dumps(fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "\ud800"},
        {"run_id": "\ud800"},
        {"message": "\ud800"},
        {"message": f"{NODE} added itself to the participants of round {10**30} of the rendezvous 'r'."},
        {"message": f"{NODE} added itself to the participants of round {'9' * 5000} of the rendezvous 'r'."},
        {"message": f"{NODE} has joined round {10**30} of 'r' as rank 1 in a world of size 2."},
        {"node_state": "\ud800"},
        {"node_state": "FAILED", "error_trace": "Traceback (most recent call last):\nV\ud800: x\ud800\n"},
        {"rank": 10**30},
        {"pid": 10**30},
        {"hostname": "h" * 100_000},
        {"name": "n" * 100_000},
    ],
    ids=lambda fields: ascii(fields)[:50],
)
def test_hostile_rendezvous_event_arrives(fields: dict[str, Any]) -> None:
    """Surrogates, long texts and large numbers in each field."""
    assert survives(json.dumps(rendezvous_event(**fields)))


@pytest.mark.parametrize("state", ["\ud800", "x" * 100_000, "", " "])
@pytest.mark.parametrize("source", ["AGENT", "WORKER"])
def test_any_state_arrives(state: str, source: str) -> None:
    """A state that torch does not have, too."""
    assert survives(json.dumps(status_event(state, source)))


@given(anything, anything, st.dictionaries(anything, nested, max_size=4))
def test_any_event_given_by_its_fields_arrives(name: str, source: str, metadata: dict[str, Any]) -> None:
    """Recorded with our own API: values that are not even JSON."""
    assert survives({"name": name, "source": source, "timestamp": 0, "metadata": metadata})


@pytest.mark.parametrize("text", NO_EVENTS, ids=lambda text: ascii(text[:40]))
def test_what_is_no_event_arrives(text: str) -> None:
    """As a raw record."""
    assert survives(text)


@pytest.mark.parametrize("play", [odd_facts, odd_events])
def test_odd_texts_cost_no_span_and_no_record(play: Callable[[Player], None]) -> None:
    """An encoder takes every span and record of the job whole."""
    world = SdkWorld()
    play(world)
    assert world.out.counts["torchelastic.agent"] == 1
    for span in world.out.ended:
        (encoded,) = encode_spans([span]).resource_spans[0].scope_spans[0].spans
        assert {pair.key for pair in encoded.attributes} == set(attributes(span))
        for sent, kept in zip(encoded.events, span.events, strict=True):
            assert {pair.key for pair in sent.attributes} == set(kept.attributes or {})
    for record in world.out.records:
        texts = [record.name, record.body, *record.attributes, *map(flat, record.attributes.values())]
        assert all(text.encode() is not None for text in texts)


@pytest.mark.parametrize("play", [odd_facts, odd_events])
def test_odd_texts_cost_no_metric(play: Callable[[Player], None]) -> None:
    """A run id, a role, a name that is not UTF-8: each series arrives with all its attributes."""
    world = SdkWorld()
    play(world)
    names = set()
    for data in world.out.metric_requests():
        kept = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics]
        sent = [m for r in encode_metrics(data).resource_metrics for s in r.scope_metrics for m in s.metrics]
        for ours, theirs in zip(kept, sent, strict=True):
            names.add(theirs.name)
            points = getattr(theirs, theirs.WhichOneof("data")).data_points
            keys = [{pair.key for pair in point.attributes} for point in points]
            assert keys == [set(point.attributes or {}) for point in ours.data.data_points]
            assert all("torchelastic.run_id" in known for known in keys)
    assert len(names) > 10


def flat(value: object) -> str:
    """Return a value's text without escapes."""
    return "".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def test_long_texts_of_spans_are_cut() -> None:
    """A message of megabytes does not travel whole, several times over."""
    world = SdkWorld()
    world.start(0)
    world.tell(f.StoreFailed, 1, f.Raised("E", "x" * 5_000_000, "y" * 5_000_000))
    agent = world.one("torchelastic.agent")
    sizes = [len(flat(value)) for value in attributes(agent).values()]
    sizes += [len(flat(value)) for record in world.out.records for value in record.attributes.values()]
    assert MAX_TEXT < max(sizes) < MAX_TEXT + 100
