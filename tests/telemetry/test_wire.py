"""Whatever is recorded: nothing raises, and it and its neighbours are on the wire."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otlp_receiver import OtlpReceiver
from torchelastic_otel import events, flush
from torchelastic_otel._intake import lifecycle
from torchelastic_otel._intake.recording import otel_handler, submit_event, submit_rendezvous_event
from torchelastic_otel._values import MAX_TEXT

TIMEOUT_S = 30.0
ODD_TEXTS = st.one_of(
    st.text(max_size=30),
    st.text(alphabet=st.characters(categories=["Cs", "Cc", "Co", "L"]), max_size=10),
    st.sampled_from(
        ["", "\ud800", "a\x00b", "\x00", "\udfff\ud800", "x" * (MAX_TEXT + 1), "\U0001d518nicode"]
    ),
)
ODD_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([2**63, -(2**63) - 1, 2**200, -(2**63), 2**63 - 1]),
    st.floats(),
    st.binary(max_size=8),
    st.complex_numbers(),
    ODD_TEXTS,
)
ODD_VALUES = st.recursive(
    ODD_SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(ODD_TEXTS, inner, max_size=4),
        st.tuples(inner, inner),
        st.sets(st.integers(), max_size=3),
    ),
    max_leaves=12,
)
NAMES = st.one_of(ODD_TEXTS, st.integers(), st.none())
METADATA = st.one_of(
    st.dictionaries(ODD_TEXTS, ODD_VALUES, max_size=6),
    st.dictionaries(st.sampled_from(["run_id", "global_rank", "metadata", "raw_error", "state"]), ODD_VALUES),
    ODD_VALUES,
)
JSON_TEXTS = st.one_of(
    ODD_TEXTS,
    ODD_VALUES.map(lambda value: json.dumps(value, default=str)),
    st.builds(
        lambda name, source, time, metadata: json.dumps(
            {"name": name, "source": source, "timestamp": time, "metadata": metadata}, default=str
        ),
        NAMES,
        st.one_of(st.sampled_from(["AGENT", "WORKER"]), ODD_SCALARS),
        ODD_SCALARS,
        METADATA,
    ),
    st.just("[" * 20_000),
    st.just('{"name": "a", "source": "AGENT", "metadata": {"metadata": "' + "[" * 5000 + '"}}'),
)


class Anything:
    """An event's fields, of types that its own are only hints of."""

    def __init__(self, **fields: Any) -> None:
        vars(self).update(fields)


EVENTS = st.builds(Anything, name=NAMES, source=ODD_SCALARS, timestamp=ODD_SCALARS, metadata=METADATA)
RENDEZVOUS = st.builds(
    Anything,
    name=NAMES,
    run_id=ODD_SCALARS,
    message=ODD_SCALARS,
    hostname=ODD_SCALARS,
    pid=ODD_SCALARS,
    node_state=st.one_of(st.sampled_from(list(events.NodeState)), ODD_SCALARS),
    master_endpoint=ODD_SCALARS,
    rank=ODD_SCALARS,
    local_id=ODD_SCALARS,
    error_trace=ODD_SCALARS,
)
thorough = settings(
    max_examples=150,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OtlpReceiver]:
    """Give this process a bridge of its own that sends to a receiver."""
    with OtlpReceiver() as receiver, pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("OTEL_", "TORCHELASTIC_"))]:
            patch.delenv(name)
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.http_endpoint)
        patch.setenv("OTEL_METRICS_EXPORTER", "none")
        patch.setenv("NO_PROXY", "127.0.0.1")
        patch.setenv("TORCHELASTIC_OTEL_SPOOL_DIR", str(tmp_path_factory.mktemp("node") / "spool"))
        patch.setattr(lifecycle, "_bridge", None)
        yield receiver
        flush(TIMEOUT_S)


def arrives_between_neighbours(receiver: OtlpReceiver, act: Any) -> None:
    """Do ``act`` between two events, and assert that all three are on the wire."""
    receiver.clear()
    events.record(events.Event("before", events.EventSource.AGENT), "otel")
    act()
    events.record(events.Event("after", events.EventSource.AGENT), "otel")
    assert flush(TIMEOUT_S)
    names = [record.event_name for record in receiver.logs]
    assert (names[0], names[-1], len(names)) == ("before", "after", 3), names
    uids = {record.attributes["log.record.uid"] for record in receiver.logs}
    assert len(uids) == 3
    for record in receiver.logs:
        for value in record.attributes.values():
            assert len(str(value)) <= MAX_TEXT + 100


@thorough
@given(event=EVENTS)
def test_any_event_arrives_and_costs_no_neighbour(receiver: OtlpReceiver, event: Anything) -> None:
    """Values beyond OTLP's ranges, wrong types, odd texts: a record of each, and both beside it."""
    arrives_between_neighbours(receiver, lambda: submit_event(event))  # type: ignore[arg-type]  # anything


@thorough
@given(text=JSON_TEXTS)
def test_any_text_arrives_and_costs_no_neighbour(receiver: OtlpReceiver, text: str) -> None:
    """What a logging handler is given need not be an event's JSON."""
    record = logging.LogRecord("torchelastic-events-otel", logging.INFO, "f.py", 1, text, (), None)
    arrives_between_neighbours(receiver, lambda: otel_handler().handle(record))


@thorough
@given(event=RENDEZVOUS)
def test_any_rendezvous_event_arrives_and_costs_no_neighbour(receiver: OtlpReceiver, event: Anything) -> None:
    """The same for rendezvous events. Heartbeats are counted, and are no records."""
    if str(vars(event)["name"]).endswith("._keep_alive"):
        return
    arrives_between_neighbours(receiver, lambda: submit_rendezvous_event(event))


@thorough
@given(count=st.integers(min_value=129, max_value=5000))
def test_thousands_of_keys_are_cut_and_the_record_arrives(receiver: OtlpReceiver, count: int) -> None:
    """Attributes beyond the limit go; the record, its name and its id stay."""
    event = events.Event("many", events.EventSource.WORKER, metadata={f"k{n}": n for n in range(count)})
    arrives_between_neighbours(receiver, lambda: events.record(event, "otel"))
