"""``torchelastic_otel.events`` by itself: none of these tests needs torch."""

import _thread
import io
import json
import logging
import os
import pickle
import socket
import subprocess
import sys
import textwrap
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchelastic_otel import events
from torchelastic_otel.events import (
    Event,
    EventSource,
    NodeState,
    RdzvEvent,
)

SOURCES = str(Path(events.__file__).parents[1])

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


def run(script: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a fresh interpreter, with ``LOGLEVEL`` unset unless given."""
    base = {key: value for key, value in os.environ.items() if key not in ("LOGLEVEL", "PYTHONPATH")}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=base | {"PYTHONPATH": SOURCES} | env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


class Sink(logging.Handler):
    """Keeps the records it is given."""

    def __init__(self) -> None:
        """Start with none."""
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        self.records.append(record)


@contextmanager
def captured(destination: str = "dynamic_rendezvous") -> Iterator[list[logging.LogRecord]]:
    """Put a handler into a destination's slot for a while; yields the records it receives."""
    sink = Sink()
    with (
        mock.patch.dict(events._log_handlers, {destination: sink}),
        mock.patch.dict(events._events_loggers, clear=True),
    ):
        yield sink.records


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """Give what reaches the exporter's queue: (kind, the object itself)."""
    from torchelastic_otel._intake import recording as _handler

    calls: list[tuple[str, Any]] = []
    monkeypatch.setattr(_handler, "submit_event", lambda event: calls.append(("event", event)))
    monkeypatch.setattr(
        _handler, "submit_rendezvous_event", lambda event: calls.append(("rendezvous", event))
    )
    return calls


class Unserializable(Event):
    """Fails when something asks for its JSON."""

    def serialize(self) -> str:
        """Fail."""
        raise AssertionError("asked for JSON")


class UnserializableRdzv(RdzvEvent):
    """Fails when something asks for its JSON."""

    def serialize(self) -> str:
        """Fail."""
        raise AssertionError("asked for JSON")


def rdzv_event(**changes: Any) -> RdzvEvent:
    """Make a rendezvous event with some fields changed."""
    fields: dict[str, Any] = {
        "name": "f.py:g",
        "run_id": "job",
        "message": "joined",
        "hostname": "n0",
        "pid": 7,
        "node_state": NodeState.RUNNING,
    }
    return RdzvEvent(**fields | changes)


# --- imports


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


# --- events and their JSON


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
    """Neither text nor an event: a TypeError that says so, and is of the class that torch's error has too."""
    with pytest.raises(TypeError, match=f"{kind.__name__}.deserialize takes JSON text") as caught:
        kind.deserialize(data)
    assert isinstance(caught.value, UnboundLocalError)


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


# --- destinations


def test_handlers() -> None:
    """Every destination has one handler, the same at each call; null is the default."""
    for destination, kind in [
        ("console", logging.StreamHandler),
        ("dynamic_rendezvous", logging.NullHandler),
        ("null", logging.NullHandler),
    ]:
        handler = events.get_logging_handler(destination)
        assert type(handler) is kind
        assert events.get_logging_handler(destination) is handler
    assert events.get_logging_handler() is events.get_logging_handler("null")


@pytest.mark.parametrize(
    "call",
    [
        lambda: events.get_logging_handler("foo"),
        lambda: events.record(Event("e", EventSource.AGENT), "foo"),
        lambda: events.record(Unserializable("e", EventSource.AGENT), "foo"),
        lambda: events.record_rdzv_event(rdzv_event(), destination="foo"),
        lambda: events.construct_and_record_rdzv_event("job", "m", NodeState.INIT, destination="foo"),
    ],
)
def test_unknown_destination(call: Any) -> None:
    """A destination that does not exist is a KeyError whose text lists those that do."""
    with pytest.raises(KeyError) as caught:
        call()
    error = caught.value
    assert isinstance(error, events.UnknownDestinationError)
    assert error.args == ("foo",)
    text = "unknown event destination 'foo': choose one of console, dynamic_rendezvous, null, otel"
    assert str(error) == text
    assert traceback.format_exception_only(error)[-1].endswith(f"UnknownDestinationError: {text}\n")
    assert error.__suppress_context__
    # A job that runs the call in a pool gets the error back through pickle.
    assert str(pickle.loads(pickle.dumps(error))) == text


def test_console() -> None:
    """Console writes one line of JSON per event on standard error, and nothing to the root logger."""
    result = run(
        """
        import logging, sys
        logging.basicConfig(stream=sys.stdout, level=logging.DEBUG)
        from torchelastic_otel import events
        for number in range(3):
            events.record(events.Event("e", events.EventSource.AGENT, number), "console")
        events.record(events.Event("dropped", events.EventSource.AGENT))
        events.record(events.Event("dropped", events.EventSource.AGENT), destination="null")
        """
    )
    assert (result.returncode, result.stdout) == (0, "")
    assert [json.loads(line)["timestamp"] for line in result.stderr.splitlines()] == [0, 1, 2]


@pytest.mark.parametrize(
    ("level", "lines"), [("DEBUG", 1), ("INFO", 1), ("WARNING", 0), ("CRITICAL", 0), ("NOTSET", 0)]
)
def test_loglevel(level: str, lines: int) -> None:
    """LOGLEVEL above INFO silences the console; NOTSET leaves it to the root logger (WARNING by default)."""
    result = run(
        """
        from torchelastic_otel import events
        events.record(events.Event("e", events.EventSource.AGENT), "console")
        """,
        LOGLEVEL=level,
    )
    assert (result.returncode, result.stderr.count("\n")) == (0, lines)


def test_bad_loglevel(monkeypatch: pytest.MonkeyPatch, submitted: list[tuple[str, Any]]) -> None:
    """A LOGLEVEL that is no level is a ValueError at each record, but with otel it is not looked at."""
    monkeypatch.setenv("LOGLEVEL", "LOUD")
    event = Event("e", EventSource.AGENT)
    with mock.patch.dict(events._events_loggers, clear=True):
        for _ in range(2):
            with pytest.raises(ValueError, match="LOUD"):
                events.record(event)
        events.record(event, "otel")
    assert submitted == [("event", event)]


def test_logger() -> None:
    """The logger has torch's name, passes nothing on, and is not the one that logging.getLogger knows."""
    with captured("console") as records:
        events.record(Event("e", EventSource.AGENT), "console")
        logger = events._events_loggers["console"]
    assert logger.name == records[0].name == "torchelastic-events-console"
    assert not logger.propagate
    assert logger is not logging.getLogger(logger.name)
    assert (records[0].levelname, records[0].funcName) == ("INFO", "record")


def test_switching_off_and_on_again() -> None:
    """logging.disable and a level set later count at once, both ways."""
    event = Event("e", EventSource.AGENT)
    with captured("console") as records:
        events.record(event, "console")
        logging.disable(logging.CRITICAL)
        try:
            events.record(event, "console")
        finally:
            logging.disable(logging.NOTSET)
        assert len(records) == 1
        events.record(event, "console")
        assert len(records) == 2
        logger = events._events_loggers["console"]
        logger.setLevel("ERROR")
        events.record(event, "console")
        assert len(records) == 2
        logger.setLevel("INFO")
        events.record(event, "console")
        assert len(records) == 3


def test_first_records_from_many_threads() -> None:
    """Threads that use a destination first at the same moment write each event once."""
    count = 16
    for _ in range(20):
        start = threading.Barrier(count)

        def work(number: int, start: threading.Barrier = start) -> None:
            start.wait()
            events.record(Event("e", EventSource.AGENT, number), "console")

        with captured("console") as records:
            threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert sorted(json.loads(r.getMessage())["timestamp"] for r in records) == list(range(count))


def test_percent_signs_stay() -> None:
    """The JSON is not taken for a format."""
    event = Event("100%s %d", EventSource.AGENT)
    with captured("console") as records:
        events.record(event, "console")
    assert records[0].getMessage() == event.serialize()


# --- rendezvous events


def test_rendezvous_events_are_dropped_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is computed for a rendezvous event while nobody listens: no host name, no traceback."""
    monkeypatch.setattr(socket, "getfqdn", mock.Mock(side_effect=AssertionError("looked up")))
    monkeypatch.setattr(traceback, "format_exc", mock.Mock(side_effect=AssertionError("formatted")))
    for destination in ("dynamic_rendezvous", "null"):
        events.construct_and_record_rdzv_event("job", "m", NodeState.FAILED, destination=destination)
    events.construct_and_record_rdzv_event("job", "m", NodeState.FAILED)
    events.record_rdzv_event(rdzv_event())


def test_construct_fills_in_what_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name, host, pid come from the caller and its process, and no traceback unless the node failed."""
    monkeypatch.setattr(socket, "getfqdn", lambda: "n0.cluster")
    with captured() as records:
        events.construct_and_record_rdzv_event("job", "m", NodeState.RUNNING)
        events.construct_and_record_rdzv_event("job", "m", NodeState.RUNNING, pid=0)
    for record in records:
        assert RdzvEvent.deserialize(record.getMessage()) == RdzvEvent(
            "test_events_api.py:test_construct_fills_in_what_is_not_given",
            "job",
            "m",
            "n0.cluster",
            os.getpid(),
            NodeState.RUNNING,
        )
        assert record.funcName == "record_rdzv_event"
    assert len(records) == 2


def test_construct_keeps_what_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values given are kept, and then no host name is looked up."""
    monkeypatch.setattr(socket, "getfqdn", mock.Mock(side_effect=AssertionError("looked up")))
    with captured() as records:
        events.construct_and_record_rdzv_event(
            "job", "m", NodeState.INIT, "step", "n1", 9, "n0:29400", local_id=0, rank=0
        )
    assert RdzvEvent.deserialize(records[0].getMessage()) == RdzvEvent(
        "test_events_api.py:step", "job", "m", "n1", 9, NodeState.INIT, "n0:29400", 0, 0
    )


@pytest.mark.parametrize("failed", [NodeState.FAILED, "FAILED"])
def test_construct_takes_the_traceback_of_a_failure(failed: Any) -> None:
    """A failed node's event has the traceback of the exception being handled."""
    with captured() as records:
        try:
            raise RuntimeError("store is gone")
        except RuntimeError:
            expected = traceback.format_exc()
            events.construct_and_record_rdzv_event("job", "m", failed, hostname="n0")
    assert json.loads(records[0].getMessage())["error_trace"] == expected
    assert "store is gone" in expected


def test_construct_without_a_caller() -> None:
    """Called by the interpreter itself, the event's file is no_file."""
    with captured() as records:
        _thread.start_new_thread(
            events.construct_and_record_rdzv_event, ("job", "m", NodeState.INIT), {"hostname": "n0"}
        )
        for _ in range(1000):
            if records:
                break
            threading.Event().wait(0.01)
    assert json.loads(records[0].getMessage())["name"] == "no_file:"


# --- the otel destination


def test_otel_takes_the_event_itself(
    submitted: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With otel the exporter gets the event object: no JSON is made and no logging switch can silence it."""
    monkeypatch.setenv("LOGLEVEL", "CRITICAL")
    event = Unserializable("e", EventSource.AGENT, metadata={"k": object()})  # type: ignore[dict-item]
    rdzv = UnserializableRdzv(**vars(rdzv_event()))
    logging.disable(logging.CRITICAL)
    try:
        events.record(event, "otel")
        events.record_rdzv_event(rdzv, destination="otel")
    finally:
        logging.disable(logging.NOTSET)
    assert [kind for kind, _ in submitted] == ["event", "rendezvous"]
    assert submitted[0][1] is event
    assert submitted[1][1] is rdzv
    assert "otel" not in events._events_loggers


def test_otel_takes_constructed_rendezvous_events(submitted: list[tuple[str, Any]]) -> None:
    """A rendezvous event made for otel is complete, and its name is the caller's."""
    try:
        raise RuntimeError("store is gone")
    except RuntimeError:
        events.construct_and_record_rdzv_event(
            "job", "m", NodeState.FAILED, hostname="n0", rank=3, destination="otel"
        )
    ((kind, event),) = submitted
    assert kind == "rendezvous"
    assert event.name == "test_events_api.py:test_otel_takes_constructed_rendezvous_events"
    assert (event.node_state, event.rank, event.pid) == (NodeState.FAILED, 3, os.getpid())
    assert "store is gone" in event.error_trace


def test_rendezvous_events_do_not_reach_otel_unasked(submitted: list[tuple[str, Any]]) -> None:
    """Without destination="otel" a rendezvous event is not exported."""
    events.record_rdzv_event(rdzv_event())
    events.construct_and_record_rdzv_event("job", "m", NodeState.RUNNING)
    assert submitted == []


def test_otel_handler() -> None:
    """get_logging_handler("otel") is the exporter's one handler."""
    from torchelastic_otel._intake import recording as _handler

    handler = events.get_logging_handler("otel")
    assert handler is _handler.otel_handler()
    assert isinstance(handler, logging.Handler)
    assert not isinstance(handler, logging.NullHandler)


def test_console_handler_can_be_used_alone() -> None:
    """The handler of a destination works on a logger of the user's: the message is the event's JSON."""
    event = Event("e", EventSource.AGENT)
    handler = events.get_logging_handler("console")
    assert isinstance(handler, logging.StreamHandler)
    stream = io.StringIO()
    before = handler.setStream(stream)
    logger = logging.Logger("mine")
    logger.addHandler(handler)
    try:
        logger.info(event)
    finally:
        if before is not None:
            handler.setStream(before)
    assert stream.getvalue() == event.serialize() + "\n"
