"""What becomes of the model's spans in the SDK: status, ids, events, limits."""

from __future__ import annotations

import random

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanContext, StatusCode

from tests.support.job_player import moment, ns
from tests.support.said import Said
from tests.support.sdk_world import InMemory, attributes, context
from torchelastic_otel._config.settings import Settings
from torchelastic_otel._job.identity import ParentContext
from torchelastic_otel._job.output import OpenSpan
from torchelastic_otel._telemetry.providers import Providers
from torchelastic_otel._telemetry.redaction import Redaction
from torchelastic_otel._telemetry.spans import RecordedSpan
from torchelastic_otel._telemetry.telemetry import Telemetry
from torchelastic_otel._values import MAX_TEXT

TRACE, SPAN = 0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331


def start(out: InMemory, parent: OpenSpan | ParentContext | None = None, span_id: int = 0) -> OpenSpan:
    """Start a span at second 1, in the trace ``TRACE`` if it has no parent."""
    return out.telemetry.start_span("s", moment(1), {}, parent=parent, trace_id=TRACE, span_id=span_id)


def providers(tracers: TracerProvider) -> Providers:
    """Return providers of a program."""
    return Providers(tracers, LoggerProvider(shutdown_on_exit=False), MeterProvider(shutdown_on_exit=False))


# --- how it ended -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        ("failed", StatusCode.ERROR),
        ("succeeded", StatusCode.OK),
        ("terminated", StatusCode.UNSET),
        ("interrupted", StatusCode.UNSET),
        (None, StatusCode.UNSET),
    ],
)
def test_the_status_follows_from_the_outcome(outcome: str | None, status: StatusCode) -> None:
    """A failure is Error with its sentence, a success Ok, else Unset. What is known is an attribute."""
    out = InMemory()
    start(out).end(moment(2), outcome, "a sentence")
    assert out.span.status.status_code is status
    assert out.span.status.description == ("a sentence" if outcome == "failed" else None)
    assert attributes(out.span).get("torchelastic.outcome") == outcome
    assert (out.span.start_time, out.span.end_time) == (ns(1), ns(2))


def test_a_span_ends_once() -> None:
    """The first end counts, and nothing is set after it."""
    out = InMemory()
    span = start(out)
    span.end(moment(2), "failed", "first")
    span.end(moment(3), "succeeded")
    span.set({"late": 1})
    assert span.ended
    assert (out.span.end_time, out.span.status.description) == (ns(2), "first")
    assert "late" not in attributes(out.span)


def test_a_clock_that_is_set_back_makes_no_span_end_before_it_began() -> None:
    """It ends when it began."""
    out = InMemory()
    start(out).end(moment(-5))
    assert out.span.start_time == out.span.end_time == ns(1)


# --- ids --------------------------------------------------------------------------------------------------


def test_a_root_has_the_trace_id_that_it_is_given() -> None:
    """And no parent; a child is in its parent's trace, whatever it is given."""
    out = InMemory()
    root = start(out)
    child = out.telemetry.start_span("c", moment(1), {}, parent=root, trace_id=7)
    assert (root.context.trace_id, child.context.trace_id) == (TRACE, TRACE)
    for span in (child, root):
        span.end(moment(2))
    assert [span.parent and span.parent.span_id for span in out.ended] == [root.context.span_id, None]


def test_promised_span_ids_are_kept_and_never_used_again() -> None:
    """No chosen id is left over for the next span."""
    out = InMemory()
    promised = start(out, span_id=0xA)
    others = [start(out) for _ in range(3)] + [start(out, promised) for _ in range(3)]
    assert promised.context.span_id == 0xA
    ids = {span.context.span_id for span in others}
    assert len(ids) == 6
    assert not ids & {0, 0xA}


def test_another_processs_span_is_a_remote_parent() -> None:
    """Its trace and its flags hold."""
    out = InMemory()
    start(out, ParentContext(TRACE, SPAN, 1)).end(moment(2))
    parent = out.span.parent
    assert parent is not None
    assert (parent.trace_id, parent.span_id, parent.is_remote) == (TRACE, SPAN, True)
    assert parent.trace_flags.sampled
    start(out, ParentContext(TRACE, SPAN, 0)).end(moment(2))
    assert len(out.ended) == 1  # what the parent does not sample goes nowhere


def test_a_link_leads_to_the_span_before() -> None:
    """Both in one trace."""
    out = InMemory()
    first = start(out)
    second = out.telemetry.start_span("second", moment(2), {}, parent=first, link=first)
    second.end(moment(3))
    assert [link.context.span_id for link in out.span.links] == [first.context.span_id]


def test_the_programs_seed_decides_on_no_id() -> None:
    """The SDK's own generator draws from ``random``; the bridge's tracer does not, in the same provider."""
    provider = TracerProvider(shutdown_on_exit=False)
    tracer = Telemetry({}, pytest.fail, providers(provider)).tracer
    state = random.getstate()
    try:
        ids = []
        for _ in range(2):
            random.seed(0)
            context = tracer.start_span("s").get_span_context()
            theirs = provider.get_tracer("the program's").start_span("s").get_span_context()
            ids.append((context.trace_id, context.span_id, theirs.span_id))
    finally:
        random.setstate(state)
    (trace_1, span_1, theirs_1), (trace_2, span_2, theirs_2) = ids
    assert trace_1 != trace_2
    assert span_1 != span_2
    assert theirs_1 == theirs_2  # theirs is left as it is


def test_a_programs_own_ids_stay_and_that_is_said(said: Said) -> None:
    """Where its provider makes ids by itself, nodes cannot share a trace."""

    class Own(RandomIdGenerator):
        def generate_trace_id(self) -> int:
            return 0xFEED

    provider = TracerProvider(id_generator=Own(), shutdown_on_exit=False)
    telemetry = Telemetry({}, pytest.fail, providers(provider))
    span = telemetry.start_span("s", moment(1), {}, parent=None, trace_id=TRACE)
    assert span.context.trace_id == 0xFEED
    assert len(said.having("makes its own ids")) == 1


def test_a_span_that_is_not_sampled_takes_everything_and_goes_nowhere() -> None:
    """The model does not ask before it tells."""
    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    telemetry = Telemetry({}, pytest.fail, providers(provider))
    span = telemetry.start_span("s", moment(1), {"a": 1}, parent=None, trace_id=TRACE)
    span.add_event("e", moment(1), {})
    span.set({"b": 2})
    span.end(moment(2), "failed", "x")
    assert span.ended
    assert not span.context.trace_flags.sampled


# --- what it says -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("events", "limit", "kept"), [(300, None, 128), (10, 0, 0), (10, 1, 1), (3, 5, 3)])
def test_a_span_keeps_the_newest_events_and_counts_the_others(
    events: int, limit: int | None, kept: int
) -> None:
    """Up to 128, or the program's own limit."""
    out = InMemory(max_events=limit)
    span = start(out)
    for number in range(events):
        span.add_event(f"event {number}", moment(number), {"n": number})
    span.end(moment(events))
    numbers = list(range(events - kept, events))
    assert [event.name for event in out.span.events] == [f"event {number}" for number in numbers]
    assert [event.timestamp for event in out.span.events] == [ns(number) for number in numbers]
    assert [dict(event.attributes or {}) for event in out.span.events] == [{"n": n} for n in numbers]
    assert out.span.dropped_events == events - kept


def test_a_span_that_counts_no_dropped_events_ends_all_the_same() -> None:
    """The SDK has no public way to say how many it never saw; a program's own spans may have none at all."""

    class Plain:
        def __init__(self) -> None:
            self._events: list[str] = []
            self.seen: list[str] = []

        def add_event(self, name: str, *_: object) -> None:
            self.seen.append(name)

        def set_attribute(self, *_: object) -> None:
            pass

        def set_status(self, *_: object) -> None:
            pass

        def end(self, _end_ns: int) -> None:
            self.seen.append("ended")

    theirs = Plain()
    context = SpanContext(1, 2, is_remote=False)
    span = RecordedSpan(theirs, context, moment(1), 1, Redaction())
    for number in range(3):
        span.add_event(f"event {number}", moment(number), {})
    span.end(moment(4), "succeeded")
    assert theirs.seen == ["event 2", "ended"]


def test_attributes_are_cut_and_cleaned() -> None:
    """What an encoder would refuse does not reach the SDK, at the start and later."""
    out = InMemory()
    span = out.telemetry.start_span("s", moment(1), {"a": "\ud800", "b": ["\udcff"]}, parent=None, trace_id=1)
    span.set({"c": "x" * (2 * MAX_TEXT), "d": "\ud800", "n": [1, 2]})
    span.end(moment(2), "failed", "\ud800" + "y" * (2 * MAX_TEXT))
    found = attributes(out.span)
    assert (found["a"], found["b"], found["d"], found["n"]) == ("?", ("?",), "?", (1, 2))
    description = out.span.status.description or ""
    for text in (found["c"], description):
        assert MAX_TEXT < len(text) < MAX_TEXT + 100
    assert description.startswith("?y")


def test_what_must_not_leave_is_redacted() -> None:
    """In attributes, lists included, and in the sentence of the status; names and numbers stay."""
    out = InMemory(settings=Settings(redact=r"pass\w+=\S+"))
    secret = "password=hunter2"
    span = out.telemetry.start_span("s", moment(1), {"a": secret}, parent=None, trace_id=1)
    span.set({"b": [f"x {secret}", "y"], "c": 7})
    span.end(moment(2), "failed", f"died of {secret}")
    known = {"a": "[redacted]", "b": ("x [redacted]", "y"), "c": 7, "torchelastic.outcome": "failed"}
    assert attributes(out.span) == known
    assert out.span.status.description == "died of [redacted]"


def test_the_spans_context_is_the_sdks() -> None:
    """The model gives it to records and workers."""
    out = InMemory()
    span = start(out)
    span.end(moment(2))
    assert (span.context, span.start) == (context(out.span), moment(1))
