"""Either module records the other's events, and both construct the same rendezvous events."""

from __future__ import annotations

import _thread
import json
import traceback
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.event_parity import anything, build, kinds, theirs, told
from tests.support.event_sinks import captured
from torchelastic_otel import events as ours
from torchelastic_otel._intake import recording


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
            seen.append([told(record) for record in records])
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
    calls: list[Any] = []
    monkeypatch.setattr(recording, "submit_event", calls.append)
    monkeypatch.setattr(recording, "submit_rendezvous_event", calls.append)
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
    return [told(r) for r in other], [told(r) for r in own]


@settings(max_examples=40)
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
        other.wait()
        own.wait()
    assert json.loads(own[0].getMessage())["name"] == "no_file:"
    assert told(own[0]) == told(other[0])


def test_nothing_is_made_for_a_null_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the default handler both modules return at once: nothing is looked up or formatted."""
    for module in ("socket.getfqdn", "os.getpid", "traceback.format_exc"):
        monkeypatch.setattr(module, mock.Mock(side_effect=AssertionError(module)))
    construct_both("FAILED", "job", "m")
    monkeypatch.undo()
    assert traceback.format_exc() == "NoneType: None\n"


def test_rendezvous_in_one_process() -> None:
    """A handler in torch's slot sees torch's rendezvous events only, one in ours sees ours only."""
    with captured(theirs) as other, captured(ours) as own:
        theirs.construct_and_record_rdzv_event("torch", "m", theirs.NodeState.INIT, hostname="n0")
        ours.construct_and_record_rdzv_event("ours", "m", ours.NodeState.INIT, hostname="n0")
    assert [json.loads(r.getMessage())["run_id"] for r in other] == ["torch"]
    assert [json.loads(r.getMessage())["run_id"] for r in own] == ["ours"]
