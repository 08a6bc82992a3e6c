"""Where events go: the handlers, loggers and levels of each destination."""

from __future__ import annotations

import io
import json
import logging
import pickle
import threading
import traceback
from typing import Any
from unittest import mock

import pytest

from tests.support.event_sinks import captured
from tests.support.fresh_python import run
from tests.support.own_events import Unserializable, rdzv_event
from torchelastic_otel import events
from torchelastic_otel.events import Event, EventSource, NodeState


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
    with captured(events, "console") as records:
        events.record(Event("e", EventSource.AGENT), "console")
        logger = events._events_loggers["console"]
    assert logger.name == records[0].name == "torchelastic-events-console"
    assert not logger.propagate
    assert logger is not logging.getLogger(logger.name)
    assert (records[0].levelname, records[0].funcName) == ("INFO", "record")


def test_switching_off_and_on_again() -> None:
    """logging.disable and a level set later count at once, both ways."""
    event = Event("e", EventSource.AGENT)
    with captured(events, "console") as records:
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

        with captured(events, "console") as records:
            threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert sorted(json.loads(r.getMessage())["timestamp"] for r in records) == list(range(count))


def test_percent_signs_stay() -> None:
    """The JSON is not taken for a format."""
    event = Event("100%s %d", EventSource.AGENT)
    with captured(events, "console") as records:
        events.record(event, "console")
    assert records[0].getMessage() == event.serialize()


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
