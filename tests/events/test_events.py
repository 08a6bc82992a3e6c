"""Events and their JSON, on a machine that need not have torch."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fresh_python import run
from tests.support.own_events import rdzv_event
from torchelastic_otel import events
from torchelastic_otel.events import Event, EventSource, NodeState, RdzvEvent

# Any text at all, lone surrogates included: names and messages come from file names and error texts.
anything = st.text(st.characters(exclude_categories=()))
values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | anything
made_events = st.builds(
    Event,
    name=anything,
    source=st.sampled_from(EventSource),
    timestamp=st.integers(),
    metadata=st.dictionaries(anything, values),
)
made_rdzv_events = st.builds(
    RdzvEvent,
    name=anything,
    run_id=anything,
    message=anything,
    hostname=anything,
    pid=st.integers(),
    node_state=st.sampled_from(NodeState),
    master_endpoint=anything,
    rank=st.none() | st.integers(),
    local_id=st.none() | st.integers(),
    error_trace=anything,
)


def test_needs_neither_torch_nor_opentelemetry() -> None:
    """Where torch and opentelemetry cannot be imported, every function but the otel export works."""
    result = run(
        """
        import sys

        class Refuse:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in ("torch", "opentelemetry"):
                    raise ImportError("refused: " + name)

        sys.meta_path.insert(0, Refuse())
        from torchelastic_otel import events

        event = events.Event("e", events.EventSource.AGENT, metadata={"k": 1})
        events.record(event)
        events.record(event, "console")
        events.construct_and_record_rdzv_event("job", "m", events.NodeState.INIT)
        assert events.Event.deserialize(str(event)) == event
        print(sorted(m for m in sys.modules if m.partition(".")[0] in ("torch", "opentelemetry")))
        """
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == "[]\n"
    assert result.stderr.count("\n") == 1


def test_import_loads_neither_torch_nor_opentelemetry() -> None:
    """Where both are installed, importing the module and recording to the console loads neither."""
    result = run(
        """
        import sys
        from torchelastic_otel import events
        events.record(events.Event("e", events.EventSource.AGENT), "console")
        print(sorted(m for m in sys.modules if m.partition(".")[0] in ("torch", "opentelemetry")))
        """
    )
    assert (result.returncode, result.stdout) == (0, "[]\n")


def test_event_json() -> None:
    """An event's JSON has the fields in their order; timestamp defaults to 0 and metadata to a new dict."""
    event = Event("e", EventSource.WORKER)
    assert event.serialize() == '{"name": "e", "source": "WORKER", "timestamp": 0, "metadata": {}}'
    assert str(event) == event.serialize()
    assert event.metadata is not Event("e", EventSource.WORKER).metadata


def test_rdzv_event_json() -> None:
    """A rendezvous event's JSON has the fields in their order, with empty defaults."""
    event = rdzv_event()
    assert event.serialize() == (
        '{"name": "f.py:g", "run_id": "job", "message": "joined", "hostname": "n0", "pid": 7, '
        '"node_state": "RUNNING", "master_endpoint": "", "rank": null, "local_id": null, "error_trace": ""}'
    )
    assert str(event) == event.serialize()


@given(made_events | made_rdzv_events)
def test_round_trip(event: Event | RdzvEvent) -> None:
    """What was serialized comes back equal, with enum members where they were."""
    back = type(event).deserialize(event.serialize())
    assert back == event
    assert repr(back) == repr(event)


def test_deserialize_returns_an_event_as_it_is() -> None:
    """An event in place of text is returned, not copied."""
    event, rdzv = Event("e", EventSource.AGENT), rdzv_event()
    assert Event.deserialize(event) is event
    assert RdzvEvent.deserialize(rdzv) is rdzv


@pytest.mark.parametrize("kind", [Event, RdzvEvent])
@pytest.mark.parametrize("data", [None, b"{}", {}, 3])
def test_deserialize_refuses_other_types(kind: type[Event] | type[RdzvEvent], data: Any) -> None:
    """Neither text nor an event: a TypeError that says so."""
    with pytest.raises(TypeError, match=f"{kind.__name__}.deserialize takes JSON text"):
        kind.deserialize(data)


def test_deserialize_unknown_source() -> None:
    """A source or state that does not exist is a KeyError with its name."""
    with pytest.raises(KeyError) as caught:
        Event.deserialize('{"name": "e", "source": "NOBODY"}')
    assert caught.value.args == ("NOBODY",)
    with pytest.raises(KeyError) as caught:
        RdzvEvent.deserialize('{"name": "e", "node_state": "LOST"}')
    assert caught.value.args == ("LOST",)


def test_serialize_refuses_what_json_cannot_express() -> None:
    """A value that JSON cannot express is a TypeError, with the null destination too."""
    event = Event("e", EventSource.AGENT, metadata={"k": object()})  # type: ignore[dict-item]
    with pytest.raises(TypeError):
        event.serialize()
    with pytest.raises(TypeError):
        events.record(event)
