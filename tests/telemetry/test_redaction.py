"""What is hidden: every text and every name that is not the contract's, each searched once."""

from __future__ import annotations

import pytest

from tests.support.job_player import moment
from tests.support.sdk_world import InMemory, attributes
from torchelastic_otel import _contract as c
from torchelastic_otel._config.patterns import compile_pattern
from torchelastic_otel._config.settings import Settings
from torchelastic_otel._job.event import Event, Kind
from torchelastic_otel._telemetry import redaction
from torchelastic_otel._telemetry.redaction import Redaction
from torchelastic_otel._telemetry.sdk_resource import build_resource

SECRET = Settings(redact="hunter2")


def test_names_are_redacted() -> None:
    """Of spans, their events, records, and attributes."""
    out = InMemory(settings=SECRET)
    span = out.telemetry.start_span("agent hunter2", moment(1), {"hunter2": 1}, parent=None, trace_id=1)
    event = Event(Kind.USER, "hunter2 came", moment(2), "", {"of hunter2": 1})
    out.telemetry.emit(event)
    span.add_event(event.name, event.moment, event.attributes)
    span.end(moment(3))
    assert (out.span.name, attributes(out.span)) == ("agent [redacted]", {"[redacted]": 1})
    [drawn] = out.span.events
    assert (drawn.name, dict(drawn.attributes or {})) == ("[redacted] came", {"of [redacted]": 1})
    [record] = out.records
    assert record.name == "[redacted] came"
    assert record.attributes["of [redacted]"] == 1


def test_names_that_became_the_same_keep_their_values() -> None:
    """A number tells them apart."""
    assert Redaction(r"\d+").attributes({"of 1": "a", "of 2": "b", "of 3": "c"}) == {
        "of [redacted]": "a",
        "of [redacted].2": "b",
        "of [redacted].3": "c",
    }


def test_the_contracts_names_stay() -> None:
    """They are nobody's text, and an expression that hides everything would make one name of all."""
    known = {c.RUN_ID: "x", c.FAILURE_CAUSE: "y", "service.name": "z"}
    assert Redaction("(?s).+").attributes(known) == dict.fromkeys(known, "[redacted]")


def test_the_resource_is_redacted() -> None:
    """But for the id that tells processes apart, if nobody chose it."""
    environ = {"OTEL_RESOURCE_ATTRIBUTES": "team=hunter2,of.hunter2=1"}
    found = build_resource(environ, pytest.fail, Redaction("hunter2")).attributes
    assert (found["team"], found["of.[redacted]"]) == ("[redacted]", "1")
    assert "of.hunter2" not in found
    hidden = build_resource({}, pytest.fail, Redaction("(?s).+")).attributes
    assert hidden["service.name"] == "[redacted]"
    assert hidden["service.instance.id"] == build_resource({}, pytest.fail).attributes["service.instance.id"]
    chosen = {"OTEL_RESOURCE_ATTRIBUTES": "service.instance.id=hunter2"}
    assert build_resource(chosen, pytest.fail, Redaction("hunter2")).attributes["service.instance.id"] == (
        "[redacted]"
    )


def test_a_long_text_is_searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A traceback stands on a record, on the event of a span, and on two spans."""
    searched: list[str] = []

    class Counting:
        def sub(self, repl: str, string: str) -> str:
            searched.append(string)
            return string

    monkeypatch.setattr(redaction, "compile_pattern", lambda _pattern: Counting())
    out = InMemory(settings=SECRET)
    traceback = "Traceback\n" * 100
    worker = out.telemetry.start_span("worker", moment(1), {"a": traceback}, parent=None, trace_id=1)
    event = Event(Kind.BRIDGE, "failure", moment(2), "", {"b": traceback})
    out.telemetry.emit(event)
    worker.add_event(event.name, event.moment, event.attributes)
    worker.set({"c": "".join(list(traceback))})
    worker.end(moment(3), "failed", traceback)
    assert searched.count(traceback) == 1


def test_half_a_character_is_no_obstacle() -> None:
    """RE2 reads UTF-8, which cannot have one."""
    pattern = r"[\w.]+@[\w.]+"
    assert type(compile_pattern(pattern)).__module__.startswith("re2")
    assert Redaction(pattern).text("\ud800 a@b") == "? [redacted]"
