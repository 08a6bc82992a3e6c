"""``torchelastic_otel.events`` beside ``torch.distributed.elastic.events``: same input, same result."""

import _thread
import dataclasses
import inspect
import json
import logging
import os
import subprocess
import sys
import textwrap
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchelastic_otel import events as ours

torch = pytest.importorskip("torch")
theirs = pytest.importorskip("torch.distributed.elastic.events")

SOURCES = str(Path(ours.__file__).parents[1])
MODULES = ("torch.distributed.elastic.events", "torchelastic_otel.events")

anything = st.text(st.characters(exclude_categories=()))
scalars = st.none() | st.booleans() | st.integers() | st.floats() | anything
# More than the annotation allows: what users really put into metadata must come out the same too.
trees = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(anything | st.integers() | st.none() | st.booleans(), inner, max_size=3)
    ),
    max_leaves=8,
)
# Inputs are made as plain values, to build an event of each module from.
event_fields = st.fixed_dictionaries(
    {"name": anything, "source": st.sampled_from(["AGENT", "WORKER"])},
    optional={"timestamp": st.integers(), "metadata": st.dictionaries(anything, trees, max_size=4)},
)
rdzv_fields = st.fixed_dictionaries(
    {
        "name": anything,
        "run_id": anything,
        "message": anything,
        "hostname": anything,
        "pid": st.integers(),
        "node_state": st.sampled_from(["INIT", "RUNNING", "SUCCEEDED", "FAILED"]),
    },
    optional={
        "master_endpoint": anything,
        "rank": st.none() | st.integers(),
        "local_id": st.none() | st.integers(),
        "error_trace": anything,
    },
)
kinds = pytest.mark.parametrize(
    ("kind", "enum", "field", "inputs"),
    [
        ("Event", "EventSource", "source", event_fields),
        ("RdzvEvent", "NodeState", "node_state", rdzv_fields),
    ],
    ids=["Event", "RdzvEvent"],
)


def build(module: Any, kind: str, enum: str, field: str, fields: dict[str, Any]) -> Any:
    """Make a module's event from plain values."""
    member = getattr(module, enum)[fields[field]]
    return getattr(module, kind)(**fields | {field: member})


def outcome(call: Callable[[], object]) -> tuple[str, str]:
    """How a call ends: its result's or its exception's type and text."""
    try:
        result = call()
    except Exception as error:
        return type(error).__name__, str(error)
    return type(result).__name__, repr(result)


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
def captured(module: Any, destination: str = "dynamic_rendezvous") -> Iterator[list[logging.LogRecord]]:
    """Put a handler into a destination's slot of a module for a while; yields what it receives."""
    sink = Sink()
    slots = module._log_handlers if module is ours else module.handlers._log_handlers
    with (
        mock.patch.dict(slots, {destination: sink}),
        mock.patch.dict(module._events_loggers, clear=True),
    ):
        try:
            yield sink.records
        finally:
            # torch's logger is registered and would keep the handler.
            logging.getLogger(f"torchelastic-events-{destination}").removeHandler(sink)


def facts(record: logging.LogRecord) -> tuple[object, ...]:
    """Return what a handler can tell of a record, but for where the modules' own code stands."""
    return record.name, record.levelno, record.funcName, record.msg, record.args, record.exc_info


def run(script: str, *argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a fresh interpreter, with ``LOGLEVEL`` unset unless given."""
    base = {key: value for key, value in os.environ.items() if key not in ("LOGLEVEL", "PYTHONPATH")}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *argv],
        env=base | {"PYTHONPATH": SOURCES} | env,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


# --- names and signatures


def test_every_public_name_is_there() -> None:
    """What torch's module makes public is in ours, under the same name."""
    own = {
        name
        for name, value in vars(theirs).items()
        if not name.startswith("_") and getattr(value, "__module__", "").startswith(theirs.__name__)
    }
    assert own >= {"Event", "EventSource", "NodeState", "RdzvEvent", "record", "get_logging_handler"}
    assert own | {"EventMetadataValue"} <= set(ours.__all__)
    assert ours.EventMetadataValue == theirs.EventMetadataValue


@pytest.mark.parametrize(
    "path",
    [
        "Event",
        "Event.serialize",
        "Event.deserialize",
        "Event.__str__",
        "RdzvEvent",
        "RdzvEvent.serialize",
        "RdzvEvent.deserialize",
        "RdzvEvent.__str__",
        "record",
        "record_rdzv_event",
        "construct_and_record_rdzv_event",
        "get_logging_handler",
    ],
)
def test_signatures(path: str) -> None:
    """Parameters have torch's names, order, kinds and defaults; only a keyword of ours may follow."""

    def shape(module: Any) -> list[tuple[str, object, object]]:
        value = module
        for part in path.split("."):
            value = getattr(value, part)
        parameters = inspect.signature(value).parameters.values()
        # The default of metadata is dataclasses' marker for "made anew", the same object in both.
        return [(p.name, p.kind, p.default) for p in parameters]

    expected, found = shape(theirs), shape(ours)
    extra = [("destination", inspect.Parameter.KEYWORD_ONLY, "dynamic_rendezvous")]
    assert found == expected + (extra if "rdzv_event" in path else [])


@pytest.mark.parametrize("kind", ["Event", "RdzvEvent"])
def test_fields(kind: str) -> None:
    """Fields have torch's names, order and defaults; events compare by value, and have no hash."""

    def shape(cls: Any) -> list[tuple[object, ...]]:
        return [(f.name, f.default, f.default_factory, f.kw_only) for f in dataclasses.fields(cls)]

    own, other = getattr(ours, kind), getattr(theirs, kind)
    assert shape(own) == shape(other)
    assert own.__hash__ is other.__hash__ is None
    assert own.__match_args__ == other.__match_args__


@pytest.mark.parametrize("enum", ["EventSource", "NodeState"])
def test_enums(enum: str) -> None:
    """Members have torch's names, values, order, text and hash, and equal torch's members."""

    def shape(cls: Any) -> list[tuple[object, ...]]:
        return [(m.name, m.value, str(m), f"{m}", repr(m), hash(m)) for m in cls]

    own, other = getattr(ours, enum), getattr(theirs, enum)
    assert shape(own) == shape(other)
    assert list(own) == list(other)


# --- JSON


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
    """What is neither text nor an event is refused with an exception that a handler of torch's catches."""
    with pytest.raises(Exception) as other:  # noqa: PT011 (whatever torch raises)
        getattr(theirs, kind).deserialize(data)
    with pytest.raises(other.type):
        getattr(ours, kind).deserialize(data)


def test_reading_the_other_modules_event() -> None:
    """An event object of the other module is refused by both deserialize functions."""
    for reader, writer in ((ours, theirs), (theirs, ours)):
        event = writer.Event("e", writer.EventSource.AGENT)
        assert writer.Event.deserialize(event) is event
        with pytest.raises(UnboundLocalError):
            reader.Event.deserialize(event)


# --- recording


@kinds
@settings(max_examples=25)
@given(data=st.data())
def test_either_module_records_the_others_events(
    kind: str, enum: str, field: str, inputs: Any, data: st.DataObject
) -> None:
    """Four ways to record one event (whose function, whose event) hand the same record to the handler."""
    fields = data.draw(inputs)
    seen = []
    for recorder in (ours, theirs):
        for maker in (ours, theirs):
            event = build(maker, kind, enum, field, fields)
            if kind == "Event":
                with captured(recorder, "console") as records:
                    recorder.record(event, "console")
            else:
                with captured(recorder) as records:
                    recorder.record_rdzv_event(event)
            seen.append([facts(record) for record in records])
    assert len(seen[0]) == 1
    assert all(each == seen[0] for each in seen)


@pytest.mark.parametrize("destination", ["", "foo", "NULL", "Console", None, 3])
def test_unknown_destination(destination: Any) -> None:
    """Where torch raises a KeyError, ours is one too, with the same argument."""
    calls: list[Callable[[Any], object]] = [
        lambda module: module.get_logging_handler(destination),
        lambda module: module.record(module.Event("e", module.EventSource.AGENT), destination),
    ]
    for call in calls:
        with pytest.raises(KeyError) as other:
            call(theirs)
        with pytest.raises(KeyError) as own:
            call(ours)
        assert own.value.args == other.value.args


def test_otel_takes_torchs_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event object of torch's goes to the exporter as it is."""
    from torchelastic_otel._intake import recording as _handler

    calls: list[Any] = []
    monkeypatch.setattr(_handler, "submit_event", calls.append)
    monkeypatch.setattr(_handler, "submit_rendezvous_event", calls.append)
    event = theirs.Event("e", theirs.EventSource.WORKER)
    rdzv = theirs.RdzvEvent("n", "job", "m", "n0", 1, theirs.NodeState.INIT)
    ours.record(event, "otel")
    ours.record_rdzv_event(rdzv, destination="otel")
    assert calls[0] is event
    assert calls[1] is rdzv


# --- constructed rendezvous events


def construct_both(state: str, *args: Any, **kwargs: Any) -> None:
    """Call both modules from one line."""
    for module in (theirs, ours):
        module.construct_and_record_rdzv_event(*args, node_state=module.NodeState[state], **kwargs)


def captured_pair(call: Callable[[], object]) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    """Return what torch's and our handler received during a call."""
    with captured(theirs) as other, captured(ours) as own:
        call()
    return [facts(r) for r in other], [facts(r) for r in own]


@settings(max_examples=40, deadline=None)
@given(
    state=st.sampled_from(["INIT", "RUNNING", "SUCCEEDED", "FAILED"]),
    run_id=anything,
    message=anything,
    options=st.fixed_dictionaries(
        {},
        optional={
            "name": anything,
            "hostname": anything,
            "pid": st.none() | st.integers(),
            "master_endpoint": anything,
            "local_id": st.none() | st.integers(),
            "rank": st.none() | st.integers(),
        },
    ),
    failing=st.booleans(),
)
def test_constructed_events(
    state: str, run_id: str, message: str, options: dict[str, Any], failing: bool
) -> None:
    """Called from one line with the same arguments, both modules record the same event."""

    def call() -> None:
        if not failing:
            construct_both(state, run_id, message, **options)
            return
        try:
            raise RuntimeError(message)
        except RuntimeError:
            construct_both(state, run_id, message, **options)

    other, own = captured_pair(call)
    assert len(other) == 1
    assert own == other


def test_constructed_events_of_a_failure() -> None:
    """A chain of exceptions under way is told in the same words."""

    def call() -> None:
        try:
            try:
                raise ConnectionError("store")
            except ConnectionError as error:
                raise TimeoutError("rendezvous") from error
        except TimeoutError:
            construct_both("FAILED", "job", "m")

    other, own = captured_pair(call)
    assert own == other
    (record,) = own
    trace = json.loads(str(record[3]))["error_trace"]
    assert "ConnectionError: store" in trace
    assert "TimeoutError: rendezvous" in trace


@pytest.mark.parametrize("state", ["RUNNING", "FAILED"])
def test_state_of_the_other_module(state: str) -> None:
    """Torch's NodeState, ours or plain text: the same event."""
    for value in (theirs.NodeState[state], ours.NodeState[state], state):

        def call(value: Any = value) -> None:
            for module in (theirs, ours):
                module.construct_and_record_rdzv_event("job", "m", value)

        other, own = captured_pair(call)
        assert len(other) == 1
        assert own == other


CALLERS = {
    "lambda": "f = lambda: both()",
    "method": "class C:\n    def go(self):\n        both()\nf = C().go",
    "comprehension": "f = lambda: [both() for _ in (1,)]",
    "generator": "f = lambda: list(both() for _ in (1,))",
    "decorated": "import functools\ndef f0():\n    both()\nf = functools.wraps(len)(lambda: f0())",
    "module": "f = lambda: None\nboth()",
}


@pytest.mark.parametrize("source", CALLERS.values(), ids=CALLERS)
@pytest.mark.parametrize(
    "filename", ["/a/b/c.py", "c.py", "<string>", "", "dir/", "noext", "x.pyc", "x.so", "ünï.py", "a\\b.py"]
)
def test_callers_name(source: str, filename: str) -> None:
    """Whatever kind of function calls, from whatever file, both modules name it the same."""
    # Comprehensions have a frame of their own before Python 3.12: it is the caller, for both.
    source = source.replace("both()", "[call('job', 'm', 'INIT', hostname='h') for call in calls]")
    calls = [module.construct_and_record_rdzv_event for module in (theirs, ours)]

    def call() -> None:
        namespace: dict[str, Any] = {"calls": calls, "__name__": "made_up"}
        exec(compile(source, filename, "exec"), namespace)
        namespace["f"]()

    other, own = captured_pair(call)
    assert len(other) == 1
    assert own == other


def test_no_caller() -> None:
    """Called by the interpreter itself, both modules say no_file."""
    with captured(theirs) as other, captured(ours) as own:
        for module in (theirs, ours):
            _thread.start_new_thread(
                module.construct_and_record_rdzv_event,
                ("job", "m", module.NodeState.INIT),
                {"hostname": "n0"},
            )
        for _ in range(1000):
            if other and own:
                break
            threading.Event().wait(0.01)
    assert json.loads(own[0].getMessage())["name"] == "no_file:"
    assert facts(own[0]) == facts(other[0])


def test_nothing_is_made_for_a_null_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the default handler both modules return at once: nothing is looked up or formatted."""
    for module in ("socket.getfqdn", "os.getpid", "traceback.format_exc"):
        monkeypatch.setattr(module, mock.Mock(side_effect=AssertionError(module)))
    construct_both("FAILED", "job", "m")
    monkeypatch.undo()
    assert traceback.format_exc() == "NoneType: None\n"


# --- in a process of their own

RECORD = """
    import importlib, sys
    events = importlib.import_module(sys.argv[1])
    event = events.Event("e", events.EventSource.AGENT, 5, {"text": "ü%s", "none": None, "x": 0.1})
    rdzv = events.RdzvEvent("n", "job", "m", "n0", 1, events.NodeState.FAILED)
    sys.stderr.flush()
    print("--", file=sys.stderr)
    for destination in ("console", "null", "dynamic_rendezvous", "console"):
        try:
            events.record(event, destination)
        except Exception as error:
            print(type(error).__name__, error)
    try:
        events.record(event)
        events.record_rdzv_event(rdzv)
        events.construct_and_record_rdzv_event("job", "m", events.NodeState.RUNNING)
    except Exception as error:
        print(type(error).__name__, error)
    events.get_logging_handler("console").handle(__import__("logging").makeLogRecord({"msg": event}))
    print(events.get_logging_handler().__class__, sorted(events._events_loggers))
"""


@pytest.mark.parametrize("level", [None, "INFO", "WARNING", "DEBUG", "NOTSET", "LOUD", "10", ""])
def test_same_output(level: str | None) -> None:
    """Both modules print the same on both streams and exit alike, whatever LOGLEVEL is."""
    env = {} if level is None else {"LOGLEVEL": level}
    other, own = (run(RECORD, module, **env) for module in MODULES)
    assert own.returncode == other.returncode == 0, (own.stderr, other.stderr)
    assert own.stdout == other.stdout
    # Before the mark torch may have printed warnings of its import.
    assert own.stderr.partition("--\n")[2] == other.stderr.partition("--\n")[2]
    loud = level in (None, "INFO", "DEBUG")
    assert own.stderr.count('"name": "e"') == (3 if loud else 1)


@pytest.mark.parametrize("first", [0, 1], ids=["torch first", "ours first"])
def test_both_in_one_process(first: int) -> None:
    """Events recorded through both modules in one process are each written once, in either order."""
    result = run(
        """
        import importlib, logging, sys
        first, second = sys.argv[1:]
        number = 0

        def say(events):
            global number
            events.record(events.Event("e", events.EventSource.AGENT, number), "console")
            number += 1

        a = importlib.import_module(first)
        say(a)
        say(a)
        b = importlib.import_module(second)
        for events in (a, b, b, a, b):
            say(events)
        # The handlers that torch's logger has are torch's own.
        logger = logging.getLogger("torchelastic-events-console")
        print(number, len(logger.handlers))
        """,
        *(MODULES if first == 0 else reversed(MODULES)),
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == "7 1\n"
    stamps = [json.loads(line)["timestamp"] for line in result.stderr.splitlines() if line.startswith("{")]
    assert stamps == list(range(7))


def test_rendezvous_in_one_process() -> None:
    """A handler in torch's slot sees torch's rendezvous events only, one in ours sees ours only."""
    with captured(theirs) as other, captured(ours) as own:
        theirs.construct_and_record_rdzv_event("torch", "m", theirs.NodeState.INIT, hostname="n0")
        ours.construct_and_record_rdzv_event("ours", "m", ours.NodeState.INIT, hostname="n0")
    assert [json.loads(r.getMessage())["run_id"] for r in other] == ["torch"]
    assert [json.loads(r.getMessage())["run_id"] for r in own] == ["ours"]
