"""The same values give the same JSON as in torch's events module, and the same text is read alike."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.event_parity import (
    anything,
    build,
    event_fields,
    kinds,
    outcome,
    rdzv_fields,
    theirs,
    trees,
)
from tests.support.event_sinks import captured
from torchelastic_otel import events as ours


@kinds
@given(data=st.data())
def test_same_json(kind: str, enum: str, field: str, inputs: Any, data: st.DataObject) -> None:
    """The same values give the same JSON byte for byte, the same str() and the same repr()."""
    fields = data.draw(inputs)
    own, other = (build(module, kind, enum, field, fields) for module in (ours, theirs))
    assert own.serialize() == other.serialize()
    assert str(own) == str(other) == own.serialize()
    assert repr(own) == repr(other)


@kinds
@given(data=st.data())
def test_round_trips(kind: str, enum: str, field: str, inputs: Any, data: st.DataObject) -> None:
    """Either module reads what the other wrote: equal fields, its own enum members."""
    fields = data.draw(inputs)
    for writer, reader in ((ours, theirs), (theirs, ours), (ours, ours)):
        text = build(writer, kind, enum, field, fields).serialize()
        back = getattr(reader, kind).deserialize(text)
        expected = getattr(theirs, kind).deserialize(text)
        assert type(back) is getattr(reader, kind)
        assert type(getattr(back, field)) is getattr(reader, enum)
        # repr, for nan is not equal to itself
        assert repr(dataclasses.astuple(back)) == repr(dataclasses.astuple(expected))


@kinds
@given(data=st.data())
def test_equality(kind: str, enum: str, field: str, inputs: Any, data: st.DataObject) -> None:
    """Two events of one module are equal when the other module's are, whosever enum members they have."""
    one = data.draw(inputs)
    two = data.draw(st.one_of(st.just(one), inputs))
    answers = {
        build(module, kind, enum, field, one) == build(module, kind, enum, field, two)
        for module in (ours, theirs)
    }
    assert len(answers) == 1
    mixed = getattr(ours, kind)(**one | {field: getattr(theirs, enum)[one[field]]})
    assert mixed == build(ours, kind, enum, field, one)
    assert mixed.serialize() == build(theirs, kind, enum, field, one).serialize()


@pytest.mark.parametrize(
    "value",
    [
        object(),
        b"x",
        {1, 2},
        1 + 2j,
        {(1, 2): 3},
        ours.EventSource.AGENT,
        theirs.NodeState.FAILED,
        [ours.Event],
        ours.Event("inner", ours.EventSource.AGENT),
        [{"k": theirs.Event("inner", theirs.EventSource.AGENT)}],
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_that_are_no_json(value: Any) -> None:
    """Values outside the annotation are written, or refused with the same error, as torch does."""
    own, other = (module.Event("e", module.EventSource.AGENT, 0, {"k": value}) for module in (ours, theirs))
    assert outcome(own.serialize) == outcome(other.serialize)
    with captured(ours, "null") as mine, captured(theirs, "null") as torchs:
        assert outcome(lambda: ours.record(own)) == outcome(lambda: theirs.record(other))
    assert [r.msg for r in mine] == [r.msg for r in torchs]


def documents() -> st.SearchStrategy[str]:
    """Make text for deserialize: events, near misses, other JSON, and no JSON at all."""
    keys = st.sampled_from(
        [
            "name",
            "source",
            "timestamp",
            "metadata",
            "node_state",
            "run_id",
            "message",
            "hostname",
            "pid",
            "more",
        ]
    )
    named = st.sampled_from(["AGENT", "WORKER", "agent", "", "INIT", "FAILED"])
    near = st.dictionaries(keys, named | trees, max_size=9)
    changed = st.builds(lambda fields, change: fields | change, event_fields | rdzv_fields, near)
    return (changed | event_fields | rdzv_fields | near | trees).map(json.dumps) | anything


@pytest.mark.parametrize("kind", ["Event", "RdzvEvent"])
@settings(max_examples=300)
@given(text=documents())
def test_reading_anything(kind: str, text: str) -> None:
    """Any text is read to the same fields, or refused with the same exception and the same words."""
    own, other = (outcome(lambda m=m: getattr(m, kind).deserialize(text)) for m in (ours, theirs))  # type: ignore[misc]
    assert own == other


@pytest.mark.parametrize("kind", ["Event", "RdzvEvent"])
@pytest.mark.parametrize("data", [None, b"{}", {}, {"source": "AGENT", "node_state": "INIT"}, [], 3])
def test_reading_what_is_no_text(kind: str, data: Any) -> None:
    """What is neither text nor an event is refused by both, by torch's without a word about it."""
    with pytest.raises((TypeError, UnboundLocalError)):
        getattr(theirs, kind).deserialize(data)
    with pytest.raises(TypeError):
        getattr(ours, kind).deserialize(data)


def test_reading_the_other_modules_event() -> None:
    """An event object of the other module is refused by both deserialize functions."""
    for reader, writer in ((ours, theirs), (theirs, ours)):
        event = writer.Event("e", writer.EventSource.AGENT)
        assert writer.Event.deserialize(event) is event
        with pytest.raises((TypeError, UnboundLocalError)):
            reader.Event.deserialize(event)
