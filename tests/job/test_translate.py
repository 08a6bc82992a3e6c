"""From torch's events to records: nothing left out, nothing padded, nothing that an encoder refuses."""

from __future__ import annotations

import enum
import json
import math
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.sdk.resources import Resource

from torchelastic_otel._config.limits import LogLimits
from torchelastic_otel._contract import TORCH_KEYS
from torchelastic_otel._job.event import DEBUG, ERROR, INFO, WARN, Event, Kind
from torchelastic_otel._job.sentences import signal_name
from torchelastic_otel._job.translate import translate_event, translate_rendezvous, translate_text
from torchelastic_otel._telemetry.log_sinks import ReadableRecords
from torchelastic_otel._values import MAX_TEXT, clean, clean_text

NOW = 1_700_000_000_123_456_789
STATUS = "torchelastic.worker.status."
DERIVED = {
    "error.type",
    "exception.type",
    "exception.message",
    "exception.stacktrace",
    "torchelastic.worker.signal",
}
"""What is read out of torch's values, besides the values themselves."""

INNER = {
    "group_world_size": 2,
    "entry_point": "python",
    "local_rank": [1],
    "role_rank": [3],
    "role_world_size": [4],
    "exit_code": [None],
    "worker_pid": [None],
}
OUTER: dict[str, Any] = {
    "run_id": "r",
    "global_rank": 3,
    "group_rank": 1,
    "worker_id": "4711",
    "role": "default",
    "hostname": "node-2",
    "state": "START",
    "total_run_time": 0,
    "rdzv_backend": "c10d",
    "raw_error": None,
    "metadata": json.dumps(INNER),
    "agent_restarts": 1,
    "duration_ms": None,
}


def torchs(
    state: str, source: str = "WORKER", /, *, inner: Mapping[str, Any] | None = None, **metadata: Any
) -> str:
    """Return the JSON text of an agent's or worker's event, as torch writes it."""
    full = {**OUTER, "state": state, "metadata": json.dumps({**INNER, **(inner or {})}), **metadata}
    fields = {"name": STATUS + state, "source": source, "timestamp": 0, "metadata": full}
    return json.dumps(fields)


def translated(state: str, source: str = "WORKER", /, **fields: Any) -> Event:
    """Translate such an event."""
    return translate_text(torchs(state, source, **fields), NOW)


def by_fields(fields: Mapping[str, Any]) -> Event:
    """Translate an event that comes by its fields rather than as text."""
    return translate_event(fields["name"], fields["source"], fields["timestamp"], fields["metadata"], NOW)


def watchdog(name: str, **inner: str) -> str:
    """Return the JSON text of a watchdog's event."""
    metadata = {
        **OUTER,
        "global_rank": None,
        "worker_id": None,
        "state": "RUNNING",
        "metadata": json.dumps({"watchdog_event": name, **inner}),
    }
    del metadata["duration_ms"]
    return json.dumps({"name": name, "source": "AGENT", "timestamp": 0, "metadata": metadata})


def rendezvous(**fields: Any) -> dict[str, Any]:
    """Return a rendezvous event's fields, as torch writes them."""
    return {
        "name": "dynamic_rendezvous.py:DynamicRendezvousHandler.next_rendezvous",
        "run_id": "r",
        "message": "The node 'node-2_17_0' does something.",
        "hostname": "node-2",
        "pid": 17,
        "node_state": "RUNNING",
        "master_endpoint": "",
        "rank": None,
        "local_id": None,
        "error_trace": "",
        **fields,
    }


def rdzv(thread: str | None = None, **fields: Any) -> Event:
    """Translate a rendezvous event from its JSON text."""
    return translate_text(json.dumps(rendezvous(**fields)), NOW, thread)


# --- every key of torch's ---------------------------------------------------------------------------------


def test_start_event_is_complete() -> None:
    """A worker's START, key by key: torch's names under the prefix, one-element lists unwrapped."""
    event = translated("START")
    assert event.attributes == {
        "torchelastic.event": "torchelastic.worker.status.START",
        "torchelastic.source": "WORKER",
        "torchelastic.run_id": "r",
        "torchelastic.global_rank": 3,
        "torchelastic.group_rank": 1,
        "torchelastic.worker_id": "4711",
        "torchelastic.role": "default",
        "torchelastic.hostname": "node-2",
        "torchelastic.state": "START",
        "torchelastic.total_run_time": 0,
        "torchelastic.rdzv_backend": "c10d",
        "torchelastic.agent_restarts": 1,
        "torchelastic.group_world_size": 2,
        "torchelastic.entry_point": "python",
        "torchelastic.local_rank": 1,
        "torchelastic.role_rank": 3,
        "torchelastic.role_world_size": 4,
    }
    assert (event.kind, event.name) == (Kind.WORKER, "torchelastic.worker.status.START")
    assert (event.state, event.run_id, event.local_rank) == ("START", "r", 1)
    assert (event.severity, event.time_ns, event.observed_ns) == (INFO, NOW, NOW)
    assert event.body == "Worker 3 (local rank 1, pid 4711) on node-2 started"


def test_agent_event_is_complete() -> None:
    """An agent's RENDEZVOUS has no worker, so nothing of a worker; its duration is a number."""
    event = translate_text(
        torchs("RENDEZVOUS", "AGENT", global_rank=None, worker_id=None, duration_ms=12.5, inner={}), NOW
    )
    assert event.kind is Kind.AGENT
    assert event.attributes["torchelastic.duration_ms"] == 12.5
    assert "torchelastic.global_rank" not in event.attributes
    assert "torchelastic.worker_id" not in event.attributes
    assert "12" in event.body or "0.013" in event.body or "0.012" in event.body


@pytest.mark.parametrize("key", sorted({*OUTER, *INNER} - {"metadata", "raw_error", "exit_code"}))
def test_each_key_keeps_its_name_under_the_prefix(key: str) -> None:
    """Torch's keys are lifted alike, from the outer and the inner metadata; none has a name of its own."""
    value = 77 if key in ("global_rank", "local_rank") else "text"
    event = translated("START", **({"inner": {key: [value]}} if key in INNER else {key: value}))
    assert event.attributes[f"torchelastic.{key}"] == value


def test_known_keys_are_lifted_by_the_rule() -> None:
    """The table of known keys says the same as the rule, but for the two that have a convention."""
    exceptions = {"exit_code": "process.exit.code", "watchdog_event": "torchelastic.watchdog.event"}
    rule = {key: exceptions.get(key, f"torchelastic.{key}") for key in TORCH_KEYS}
    assert rule == TORCH_KEYS


short = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
int64 = st.integers(-(1 << 63), (1 << 63) - 1)
scalars = st.booleans() | int64 | st.floats(allow_nan=False, allow_infinity=False) | short
new_keys = st.from_regex(r"\Anew_[a-z_]{1,8}\Z")
outer_metadata = st.fixed_dictionaries(
    {key: st.none() | scalars for key in OUTER if key not in ("metadata", "raw_error", "state")}
)
inner_metadata = st.fixed_dictionaries(
    {},
    optional={
        **{
            key: st.none() | scalars | st.lists(st.none() | scalars, min_size=1, max_size=1)
            for key in INNER
            if key != "exit_code"
        },
        "exit_code": st.lists(st.none() | st.integers(-64, 255), min_size=1, max_size=1),
    },
)


@given(
    outer_metadata,
    inner_metadata,
    st.dictionaries(new_keys, st.none() | scalars, max_size=3),
    st.sampled_from(
        ["START", "SUCCEEDED", "FAILED", "TERMINATED", "RENDEZVOUS", "ASSIGN_WORKER_RANKS", "NEW"]
    ),
    st.sampled_from(["AGENT", "WORKER"]),
)
def test_nothing_is_left_out_and_nothing_padded(
    outer: dict[str, Any], inner: dict[str, Any], unknown: dict[str, Any], state: str, source: str
) -> None:
    """Every value that torch says is there, as torch says it; what is null is not, and nothing else is."""
    metadata = {**outer, **unknown, "state": state, "raw_error": None, "metadata": json.dumps(inner)}
    fields = {"name": STATUS + state, "source": source, "timestamp": 0, "metadata": metadata}
    event = translate_text(json.dumps(fields), NOW)

    lifted = {**outer, **unknown, "state": state}
    lifted.update({key: value[0] if isinstance(value, list) else value for key, value in inner.items()})
    expected = {f"torchelastic.{key}": value for key, value in lifted.items() if value is not None}
    if "torchelastic.exit_code" in expected:
        expected["process.exit.code"] = expected.pop("torchelastic.exit_code")
    expected.update({"torchelastic.event": STATUS + state, "torchelastic.source": source})
    given_ones = {key: value for key, value in event.attributes.items() if key not in DERIVED}
    assert given_ones == expected
    assert {key: type(value) for key, value in given_ones.items()} == {
        key: type(value) for key, value in expected.items()
    }


@given(
    outer_metadata,
    inner_metadata,
    st.sampled_from(["START", "FAILED", "RENDEZVOUS"]),
    st.sampled_from(["AGENT", "WORKER"]),
)
def test_text_and_fields_say_the_same(
    outer: dict[str, Any], inner: dict[str, Any], state: str, source: str
) -> None:
    """An event is the same whether it comes as torch's JSON or by its fields."""
    metadata = {**outer, "state": state, "metadata": json.dumps(inner)}
    fields = {"name": STATUS + state, "source": source, "timestamp": 0, "metadata": metadata}
    assert translate_text(json.dumps(fields), NOW) == by_fields(fields)


@pytest.mark.parametrize("metadata", ["no JSON", "[1, 2]", "7", "{broken", ""])
def test_inner_metadata_of_another_shape_is_kept_as_text(metadata: str) -> None:
    """What should be JSON in a string and is none is not thrown away."""
    event = translate_text(torchs("START", metadata=metadata), NOW)
    assert event.attributes["torchelastic.metadata"] == metadata
    assert event.attributes["torchelastic.run_id"] == "r"


def test_longer_lists_are_kept_whole() -> None:
    """Only lists of one element are torch's way of writing a scalar."""
    event = translated("START", inner={"role_rank": [3, 4]})
    assert event.attributes["torchelastic.role_rank"] == "[3, 4]"


def test_source_may_be_an_enumeration() -> None:
    """Torch's own ``EventSource`` by its value, when events come by their fields."""

    class Source(str, enum.Enum):
        WORKER = "WORKER"

    event = translate_event(STATUS + "START", Source.WORKER, 0, OUTER, NOW)
    assert event.kind is Kind.WORKER
    assert event.attributes["torchelastic.source"] == "WORKER"


# --- exits and errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "signal", "error_type", "words"),
    [
        (1, None, "1", "exit code 1"),
        (137, None, "137", "exit code 137"),
        (-9, "SIGKILL", "SIGKILL", "killed by SIGKILL"),
        (-11, "SIGSEGV", "SIGSEGV", "killed by SIGSEGV"),
        (-15, "SIGTERM", "SIGTERM", "killed by SIGTERM"),
        (-40, "SIG40", "SIG40", "killed by SIG40"),
        (-9999, "SIG9999", "SIG9999", "killed by SIG9999"),
    ],
)
def test_exit_code_and_signal(code: int, signal: str | None, error_type: str, words: str) -> None:
    """A negative exit code names its signal; ``error.type`` is the signal's name, else the code as text."""
    event = translated("FAILED", inner={"exit_code": [code], "worker_pid": [4711]})
    assert event.attributes["process.exit.code"] == code
    assert event.attributes.get("torchelastic.worker.signal") == signal
    assert event.attributes["error.type"] == error_type
    assert event.attributes["torchelastic.worker_pid"] == 4711
    assert event.severity == ERROR
    assert words in event.body


def test_signals_without_a_name_in_python() -> None:
    """Real-time signals have numbers only."""
    assert signal_name(9) == "SIGKILL"
    assert signal_name(35) == "SIG35"


def test_succeeded_worker_has_no_error() -> None:
    """Exit code 0 is a fact like any other, and no error type is made up for it."""
    event = translated("SUCCEEDED", inner={"exit_code": [0]})
    assert event.attributes["process.exit.code"] == 0
    assert "error.type" not in event.attributes
    assert event.severity == INFO


def test_terminated_worker_is_a_warning() -> None:
    """Stopped by its agent is no failure of its own."""
    event = translated("TERMINATED")
    assert event.severity == WARN
    assert not DERIVED & set(event.attributes)


def error_file(message: str, stack: str = "Traceback …\n") -> str:
    """Return an error file's text, as ``@record`` writes it."""
    extra = {"py_callstack": stack, "timestamp": "1700000000"}
    return json.dumps({"message": {"message": message, "extraInfo": extra}})


@pytest.mark.parametrize(
    ("message", "kind", "text"),
    [
        ("ValueError: wrong", "ValueError", "wrong"),
        ("ValueError: ", "ValueError", None),
        ("KeyError: 'a: b'", "KeyError", "'a: b'"),
        ("RuntimeError: CUDA error: out of memory", "RuntimeError", "CUDA error: out of memory"),
        ("RuntimeError: two\nNote: lines", "RuntimeError", "two\nNote: lines"),
        ("RuntimeError: \nWord: first\n\nOther: last", "RuntimeError", "\nWord: first\n\nOther: last"),
        ("Lösung_1: größer als 64", "Lösung_1", "größer als 64"),
        ("_Private: x", "_Private", "x"),
        ("something went wrong: badly", None, "something went wrong: badly"),
        ("a message\nValueError: in its second line", None, "a message\nValueError: in its second line"),
    ],
)
def test_exception_of_an_error_file(message: str, kind: str | None, text: str | None) -> None:
    """What stands before the first colon is the class; all the rest is the message, with its lines."""
    raw = error_file(message, "Traceback (most recent call last):\n  …\n" + message + "\n")
    event = translated("FAILED", raw_error=raw, inner={"exit_code": [1]})
    assert event.attributes.get("exception.type") == kind
    assert event.attributes.get("exception.message") == text
    assert event.attributes["exception.stacktrace"].startswith("Traceback")  # type: ignore[union-attr]
    assert event.attributes["error.type"] == (kind or "1")
    assert event.attributes["torchelastic.raw_error"] == raw
    assert event.severity == ERROR


def test_dotted_class_name_in_an_error_file() -> None:
    """A handler that writes the class with its module is read, too."""
    event = translated("FAILED", raw_error=error_file("torch.cuda.OutOfMemoryError: none left"))
    assert str(event.attributes["exception.type"]).rpartition(".")[2] == "OutOfMemoryError"
    assert event.attributes["exception.message"] == "none left"


@pytest.mark.parametrize(
    "raw",
    [
        json.dumps({"message": "<NONE>"}),
        json.dumps({"message": "<NONE>", "errorTraits": {"category": "system_terminated_error"}}),
        json.dumps({"message": {"message": "<NONE>", "extraInfo": {}}}),
        json.dumps({"message": {"extraInfo": {"py_callstack": 7}}}),
        json.dumps({}),
        json.dumps([]),
        json.dumps("text"),
        "no JSON",
    ],
)
def test_error_file_without_an_exception(raw: str) -> None:
    """Torch's placeholder, or another shape, is no exception; the exit code speaks, the text is kept."""
    event = translated("FAILED", raw_error=raw, inner={"exit_code": [3]})
    assert not {"exception.type", "exception.message", "exception.stacktrace"} & set(event.attributes)
    assert event.attributes["error.type"] == "3"
    assert event.attributes["torchelastic.raw_error"] == raw


def test_error_file_with_a_plain_message() -> None:
    """The older format has the message as a string."""
    event = translated("FAILED", raw_error=json.dumps({"message": "ValueError: wrong", "timestamp": 1}))
    assert event.attributes["exception.type"] == "ValueError"
    assert event.attributes["exception.message"] == "wrong"


def test_null_error_is_none() -> None:
    """The JSON text ``null`` says nothing, and is left out."""
    assert "torchelastic.raw_error" not in translated("FAILED", raw_error="null").attributes


def test_long_error_file_keeps_its_exception() -> None:
    """A message beyond the longest text is cut where it is shown, not before it is read."""
    raw = error_file("RuntimeError: " + "x" * (2 * MAX_TEXT), "Traceback (most recent call last): …")
    event = translated("FAILED", raw_error=raw, inner={"exit_code": [1]})
    assert event.attributes["exception.type"] == event.attributes["error.type"] == "RuntimeError"
    assert str(event.attributes["exception.message"]).startswith("xxx")
    assert event.attributes["exception.stacktrace"] == "Traceback (most recent call last): …"


class DottedError(Exception):
    """An exception whose traceback shows its module."""


def _raise(error: BaseException) -> None:
    raise error


def _chained() -> None:
    try:
        raise ValueError("the first\nKeyError: not this")
    except ValueError as error:
        raise DottedError("the last: of all") from error


def _while_handling() -> None:
    try:
        _raise(KeyError("the first"))
    except KeyError:
        _raise(OSError(28, "No space left"))


def _local_class() -> None:
    class InsideError(Exception):
        pass

    raise InsideError("boom")


def _syntax() -> None:
    compile("a b", "job.py", "exec")


def _remote() -> None:
    raise RuntimeError(
        "Caught ValueError in process 0.\n"
        "Original Traceback (most recent call last):\n"
        '  File "x.py", line 1, in f\n'
        "ValueError: bad"
    )


RAISERS: list[tuple[Callable[[], None], str, str | None]] = [
    (lambda: _raise(ValueError("wrong")), "ValueError", "wrong"),
    (lambda: _raise(ValueError()), "ValueError", None),
    (lambda: _raise(DottedError("with a module")), "DottedError", "with a module"),
    (lambda: _raise(DottedError()), "DottedError", None),
    (lambda: _raise(RuntimeError("one\nWord: two\n\nOther.Word: three")), "RuntimeError", None),
    (lambda: _raise(RuntimeError("\nstarts below")), "RuntimeError", "starts below"),
    (_chained, "DottedError", "the last: of all"),
    (_while_handling, "OSError", "[Errno 28] No space left"),
    (_local_class, "InsideError", "boom"),
    (_syntax, "SyntaxError", None),
    (_remote, "RuntimeError", None),
]


def _formatted(raiser: Callable[[], None]) -> str:
    try:
        raiser()
    except Exception:
        return traceback.format_exc()
    raise AssertionError("it did not raise")


@pytest.mark.parametrize(
    ("raiser", "kind", "message"),
    RAISERS,
    ids=[
        *("plain", "no-message", "dotted", "dotted-no-message", "lines", "empty-first-line", "chained"),
        *("while-handling", "local-class", "syntax", "traceback-in-message"),
    ],
)
@pytest.mark.parametrize("carrier", ["agent", "rendezvous"])
def test_exception_of_a_traceback(
    raiser: Callable[[], None], kind: str, message: str | None, carrier: str
) -> None:
    """What was raised last, as ``traceback.format_exc`` writes it: its bare class and all of its message."""
    text = _formatted(raiser)
    if carrier == "agent":
        event = translated("FAILED", "AGENT", raw_error=text)
        assert event.severity == ERROR
    else:
        event = rdzv(node_state="FAILED", message="X: y", error_trace=text)
        assert event.severity == WARN
    assert event.attributes.get("exception.type") == kind
    assert event.attributes["error.type"] == kind
    assert event.attributes["exception.stacktrace"] == text
    if message is not None:
        assert event.attributes["exception.message"] == message


def test_message_of_several_lines_is_whole() -> None:
    """Lines of a message that look like an exception are part of the message."""
    text = _formatted(lambda: _raise(RuntimeError("one\nWord: two\n\nOther.Word: three")))
    event = translated("FAILED", "AGENT", raw_error=text)
    assert event.attributes["exception.message"] == "one\nWord: two\n\nOther.Word: three"


def test_exception_without_a_message_has_none() -> None:
    """No message is no attribute, rather than an empty one."""
    text = _formatted(lambda: _raise(ValueError()))
    assert "exception.message" not in translated("FAILED", "AGENT", raw_error=text).attributes
    assert "exception.message" not in rdzv(node_state="FAILED", error_trace=text).attributes


@pytest.mark.parametrize("text", ["NoneType: None\n", "NoneType: None"])
def test_no_exception_at_hand(text: str) -> None:
    """``format_exc`` outside of a handler says "NoneType: None": that is no exception, and not kept."""
    agent = translated("FAILED", "AGENT", raw_error=text).attributes
    assert not {"exception.type", "exception.stacktrace", "torchelastic.raw_error"} & set(agent)
    failed = rdzv(node_state="FAILED", error_trace=text).attributes
    assert not {"exception.type", "exception.stacktrace", "error.type"} & set(failed)


def test_long_traceback_of_the_agent_keeps_its_exception() -> None:
    """The exception stands at the end of a traceback; a cut must not cost it."""
    frames = '  File "train.py", line 1, in step\n    step()\n' * 2000
    text = "Traceback (most recent call last):\n" + frames + "RecursionError: too deep\n"
    assert len(text) > MAX_TEXT
    event = translated("FAILED", "AGENT", raw_error=text)
    assert event.attributes["exception.type"] == "RecursionError"
    assert event.attributes["exception.message"] == "too deep"


# --- rendezvous -------------------------------------------------------------------------------------------

NODE = "The node 'node-2_17_0'"


@pytest.mark.parametrize(
    ("message", "found", "joins", "joined"),
    [
        (f"{NODE} attempts to join the next round of the rendezvous 'r'.", {}, True, False),
        (
            f"{NODE} has joined round 3 of the rendezvous 'r' as rank 1 in a world of size 2.",
            {"round": 3, "group_rank": 1, "group_world_size": 2},
            False,
            True,
        ),
        (
            f"{NODE} has joined round 12 of the rendezvous 'as rank 7 in' as rank 0 in a world of size 64.",
            {"round": 12, "group_rank": 0, "group_world_size": 64},
            False,
            True,
        ),
        (
            f"{NODE} added itself to the participants of round 4 of the rendezvous 'r'. Pending sync.",
            {"round": 4},
            False,
            False,
        ),
        (
            f"{NODE} added itself to the wait list of round 5 of the rendezvous 'r'. Pending sync.",
            {"round": 5},
            False,
            False,
        ),
        (
            f"{NODE} added itself to the redundancy list of round 1 of the rendezvous 'r'. Pending sync.",
            {"round": 1},
            False,
            False,
        ),
        (
            f"{NODE} removed itself from the participants of round 10 of the rendezvous 'r'. Pending sync.",
            {"round": 10},
            False,
            False,
        ),
        (
            f"{NODE} marked round 0 of the rendezvous 'r' as complete. Pending sync.",
            {"round": 0},
            False,
            False,
        ),
        (f"{NODE} marked the rendezvous 'r' as closed. Pending sync.", {}, False, False),
        (f"{NODE} has closed the rendezvous 'r'.", {}, False, False),
        (f"{NODE} attempts to join the next round of the rendezvous 'round 7'.", {}, True, False),
        (
            f"{NODE} added itself to the participants of round 2 of the rendezvous 'round 9'. Pending sync.",
            {"round": 2},
            False,
            False,
        ),
        ("As part of the sync operation the node(s) 'a_1_0' have been removed …", {}, False, False),
    ],
)
def test_round_rank_and_size_are_read_from_the_message(
    message: str, found: dict[str, int], joins: bool, joined: bool
) -> None:
    """They stand nowhere else. A run id that looks like one of them does not count."""
    event = rdzv(message=message)
    numbers = {key: event.attributes.get(f"torchelastic.{key}") for key in ("round", "group_world_size")}
    assert numbers == {key: found.get(key) for key in numbers}
    assert event.attributes.get("torchelastic.group_rank") == found.get("group_rank")
    assert (event.joins, event.joined) == (joins, joined)
    assert event.body == message


def test_rendezvous_event_is_complete() -> None:
    """Every field of torch's, with the node's rank as the group's; what is empty is left out."""
    event = rdzv(rank=1, local_id=0, master_endpoint="node-1:29400", node_state="SUCCEEDED")
    assert event.attributes == {
        "torchelastic.event": "dynamic_rendezvous.py:DynamicRendezvousHandler.next_rendezvous",
        "torchelastic.run_id": "r",
        "torchelastic.node_state": "SUCCEEDED",
        "torchelastic.hostname": "node-2",
        "torchelastic.pid": 17,
        "torchelastic.master_endpoint": "node-1:29400",
        "torchelastic.local_id": 0,
        "torchelastic.group_rank": 1,
    }
    assert (event.kind, event.run_id, event.state) == (Kind.RENDEZVOUS, "r", "SUCCEEDED")
    assert (event.time_ns, event.severity) == (NOW, INFO)
    assert set(rdzv().attributes) == {
        *("torchelastic.event", "torchelastic.run_id", "torchelastic.node_state"),
        *("torchelastic.hostname", "torchelastic.pid"),
    }


@pytest.mark.parametrize("state", ["INIT", "RUNNING", "SUCCEEDED"])
def test_error_trace_is_never_left_out(state: str) -> None:
    """Torch has it in FAILED events alone, a caller of the events API in whichever it likes."""
    event = rdzv(node_state=state, error_trace="Traceback (most recent call last):\nValueError: x\n")
    assert any("ValueError: x" in str(value) for value in event.attributes.values())


KEEP_ALIVE = "dynamic_rendezvous.py:DynamicRendezvousHandler._keep_alive"
EXECUTOR_KEEP_ALIVE = "dynamic_rendezvous.py:_DistributedRendezvousOpExecutor._keep_alive"
SYNC = "dynamic_rendezvous.py:_DistributedRendezvousOpExecutor.run"
TIMER = "RendezvousKeepAliveTimer_0"


@pytest.mark.parametrize(
    ("name", "thread", "state", "heartbeat"),
    [
        (KEEP_ALIVE, TIMER, "RUNNING", True),
        (EXECUTOR_KEEP_ALIVE, TIMER, "RUNNING", True),
        (KEEP_ALIVE, None, "RUNNING", True),
        (SYNC, TIMER, "RUNNING", True),
        (SYNC, "MainThread", "RUNNING", False),
        (SYNC, None, "RUNNING", False),
        (KEEP_ALIVE, TIMER, "FAILED", False),
        (SYNC, TIMER, "FAILED", False),
        (KEEP_ALIVE, TIMER, "SUCCEEDED", False),
        ("dynamic_rendezvous.py:DynamicRendezvousHandler._keep_alive_weak", "T", "RUNNING", False),
        ("keep_alive", "MainThread", "RUNNING", False),
    ],
)
def test_heartbeats(name: str, thread: str | None, state: str, heartbeat: bool) -> None:
    """RUNNING events of the keep-alive, and the syncs on its thread; one that failed is none."""
    event = rdzv(thread, name=name, node_state=state)
    assert event.heartbeat is heartbeat
    assert event.severity == (DEBUG if heartbeat else WARN if state == "FAILED" else INFO)


# --- watchdog ---------------------------------------------------------------------------------------------


def test_watchdog_kill_is_complete() -> None:
    """The inner keys have a prefix of their own: a worker's pid here is the victim's."""
    event = translate_text(
        watchdog(
            "kill worker process", worker_pid="4711", scope_id="step", expiration_time="1.5", signal="9"
        ),
        NOW,
    )
    assert event.kind is Kind.WATCHDOG
    assert event.severity == ERROR
    assert event.attributes == {
        "torchelastic.event": "kill worker process",
        "torchelastic.source": "AGENT",
        "torchelastic.run_id": "r",
        "torchelastic.group_rank": 1,
        "torchelastic.role": "default",
        "torchelastic.hostname": "node-2",
        "torchelastic.state": "RUNNING",
        "torchelastic.total_run_time": 0,
        "torchelastic.rdzv_backend": "c10d",
        "torchelastic.agent_restarts": 1,
        "torchelastic.watchdog.event": "kill worker process",
        "torchelastic.watchdog.worker_pid": "4711",
        "torchelastic.watchdog.scope_id": "step",
        "torchelastic.watchdog.expiration_time": "1.5",
        "torchelastic.watchdog.signal": "9",
    }
    assert "4711" in event.body
    assert "step" in event.body


@pytest.mark.parametrize("name", ["watchdog started", "watchdog stopped", "timer expired"])
def test_other_watchdog_events_are_no_errors(name: str) -> None:
    """Only the kill is."""
    event = translate_text(watchdog(name), NOW)
    assert (event.kind, event.severity) == (Kind.WATCHDOG, INFO)
    assert event.attributes["torchelastic.watchdog.event"] == name


# --- a user's own events ----------------------------------------------------------------------------------


def test_users_event_keeps_its_keys() -> None:
    """No prefix, no unwrapping, no reading of what torch's keys would mean."""
    metadata = {"loss": 1.5, "run_id": "r", "state": "FAILED", "exit_code": -9, "note": "x", "none": None}
    text = json.dumps({"name": "checkpoint.saved", "source": "WORKER", "timestamp": 0, "metadata": metadata})
    event = translate_text(text, NOW)
    assert event.kind is Kind.USER
    assert event.attributes == {
        "torchelastic.event": "checkpoint.saved",
        "torchelastic.source": "WORKER",
        **{key: value for key, value in metadata.items() if value is not None},
    }
    assert (event.severity, event.body, event.run_id) == (INFO, "checkpoint.saved", "r")


@given(st.dictionaries(short, scalars, max_size=10))
def test_users_metadata_is_untouched(metadata: dict[str, Any]) -> None:
    """Key by key and value by value, beside the two attributes that every event has."""
    event = translate_event("mine", "AGENT", 0, metadata, NOW)
    assert {k: v for k, v in event.attributes.items() if k in metadata} == metadata
    assert set(event.attributes) == {"torchelastic.event", "torchelastic.source", *metadata}


@pytest.mark.parametrize("metadata", [[1, 2], "text", 7])
def test_metadata_that_is_no_mapping_is_kept(metadata: object) -> None:
    """It has no keys, so it has one."""
    event = translate_event("mine", "AGENT", 0, metadata, NOW)
    assert event.attributes["torchelastic.metadata"] in (metadata, json.dumps(metadata))


# --- time -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("timestamp", "time_ns"),
    [
        (1_600_000_000_123, 1_600_000_000_123_000_000),
        (1, 1_000_000),
        (0, NOW),
        (-5, NOW),
        (None, NOW),
        ("1600000000123", NOW),
        (1.5e12, NOW),
        (True, NOW),
        (10**15, NOW),
        (10**400, NOW),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_timestamp_is_milliseconds(timestamp: object, time_ns: int) -> None:
    """An event's own time counts if it is set; else the time of recording. Both are within OTLP's 64 bits."""
    event = translate_event("mine", "AGENT", timestamp, {}, NOW)
    assert (event.time_ns, event.observed_ns) == (time_ns, NOW)


# --- what is no event -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain words",
        "[1, 2]",
        "null",
        "7",
        '{"a": 1}',
        '{"metadata": {}}',
        '{"node_state": "RUNNING"}',
        '{"name": "x", "source": "AGENT", "metadata": {}',
        '{"name": "x", "source": "AGENT", "metadata": {}} and more',
        "[" * 100_000,
        '{"metadata":' * 50_000,
        "\ud800",
        "x" * (MAX_TEXT + 1),
    ],
    ids=lambda text: ascii(text[:40]),
)
def test_what_is_no_event_is_a_raw_record(text: str) -> None:
    """It arrives as a warning with the text as its body, cut if it is very long."""
    event = translate_text(text, NOW)
    assert event.kind is Kind.UNPARSED
    assert event.name == event.attributes["torchelastic.event"] == "torchelastic.unparsed"
    assert (event.severity, event.time_ns) == (WARN, NOW)
    assert event.body == clean_text(text)
    assert survives(event)


# --- values -----------------------------------------------------------------------------------------------


class Raises:
    """Whatever one asks it, it raises."""

    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__


class Mute:
    """Its text cannot be had; what tests print of it can."""

    def __str__(self) -> str:
        raise ValueError("no text")

    def __repr__(self) -> str:
        return "Mute()"


class RaisesHard(Raises):
    """Raises something that is not even a usual error."""

    def __str__(self) -> str:
        raise MemoryError

    __repr__ = __str__


class Level(enum.IntEnum):
    """An int that is none exactly."""

    HIGH = 3


class Name(str):
    """A text that is none exactly, and lies about it."""

    __slots__ = ()

    def __str__(self) -> str:
        return "another text"


class Real(float):
    """A float that is none exactly, like numpy's."""

    __slots__ = ()


class Odd(int):
    """An int that cannot be had."""

    def __int__(self) -> int:
        raise ValueError("no number")

    def __repr__(self) -> str:
        return "Odd()"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("text", "text"),
        ("", ""),
        ("nul\0nul", "nul\0nul"),
        (True, True),
        (False, False),
        (0, 0),
        ((1 << 63) - 1, (1 << 63) - 1),
        (-(1 << 63), -(1 << 63)),
        (1 << 63, str(1 << 63)),
        (-(1 << 63) - 1, str(-(1 << 63) - 1)),
        (10**400, str(10**400)),
        (1.5, 1.5),
        (math.inf, math.inf),
        (None, None),
        ([1, "a", None], '[1, "a", null]'),
        ((1, 2), "[1, 2]"),
        ({"a": {"b": [1.5]}}, '{"a": {"b": [1.5]}}'),
        ([], "[]"),
        pytest.param({"b", "a"}, '["a", "b"]', id="a set"),
        (b"\xff", r"b'\xff'"),
        (Level.HIGH, 3),
        (Name("text"), "text"),
        (Real(0.0), 0.0),
        (Real(2.5), 2.5),
        ("\ud800", "?"),
        ("a\udcffb", "a?b"),
        ("größer 🙂", "größer 🙂"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_clean_value(value: object, expected: object) -> None:
    """Scalars as they are, anything else as text that can be read, in types that OTLP has."""
    cleaned = clean(value)
    assert cleaned == expected
    assert type(cleaned) is type(expected)


def test_nan_stays_a_number() -> None:
    """A loss that is not a number is news; OTLP carries it."""
    cleaned = clean(float("nan"))
    assert isinstance(cleaned, float)
    assert math.isnan(cleaned)


def test_int_too_long_for_python_to_print() -> None:
    """Python refuses to print ints beyond a few thousand digits in decimal."""
    cleaned = clean(1 << 40_000)
    assert isinstance(cleaned, str)
    assert int(cleaned.partition("…")[0], 16) == 1 << 40_000


@pytest.mark.parametrize(
    "value", [Raises(), RaisesHard(), {"a": Raises()}, [RaisesHard()], {1: Odd(7)}, Odd(7)]
)
def test_value_that_raises_is_named_by_its_type(value: object) -> None:
    """A user's object that cannot be shown costs neither the event nor the caller."""
    cleaned = clean(value)
    assert isinstance(cleaned, str | int)


@pytest.mark.parametrize(
    "value",
    [{(1, 2): "kept"}, {frozenset(): "kept"}, [{b"k": "kept"}], {"a": "kept", "b": 10**5000}],
    ids=["tuple", "frozenset", "bytes", "huge-int"],
)
def test_nested_value_that_json_has_no_form_for_is_not_lost(value: object) -> None:
    """Such a key or number must not cost all the rest of the value."""
    assert "kept" in str(clean(value))


def test_cycle_is_no_error() -> None:
    """A list that contains itself has an end."""
    cycle: list[object] = ["kept"]
    cycle.append(cycle)
    assert isinstance(clean(cycle), str)


@pytest.mark.parametrize(
    "value",
    ["x" * 100_000, ["y" * 100_000], {"k": "z" * 100_000}, 1 << 1_000_000],
    ids=["text", "list", "mapping", "int"],
)
def test_long_values_are_cut_and_marked(value: object) -> None:
    """What is cut says how long it was."""
    cleaned = clean(value)
    assert isinstance(cleaned, str)
    assert len(cleaned) < MAX_TEXT + 100
    assert cleaned[MAX_TEXT:].startswith("… [cut: ")


def test_text_at_the_limit_is_whole() -> None:
    """The longest text that is not cut."""
    assert clean("x" * MAX_TEXT) == "x" * MAX_TEXT


anything = st.text(st.characters(exclude_categories=()))
odd_objects = st.sampled_from([Mute(), object(), Level.HIGH, Odd(7), Real(0.5), Name("n")])
nested = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | anything | st.binary() | odd_objects,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(anything | st.integers() | st.tuples(anything), inner, max_size=4)
    ),
    max_leaves=10,
)
jsonable = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | anything,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(anything, inner, max_size=4),
    max_leaves=10,
)


@given(nested)
def test_clean_is_total(value: object) -> None:
    """Whatever goes in, what comes out is a value that OTLP carries, or nothing at all."""
    cleaned = clean(value)
    assert cleaned is None or type(cleaned) in (str, bool, int, float)
    if isinstance(cleaned, str):
        assert len(cleaned.encode()) >= 0
    if type(cleaned) is int:
        assert -(1 << 63) <= cleaned < 1 << 63
    if value is not None:
        assert cleaned is not None


# --- nothing costs a neighbour ----------------------------------------------------------------------------

BEFORE = translate_event("before", "AGENT", 0, {"k": 1}, NOW)
AFTER = translate_event("after", "AGENT", 0, {"k": 2}, NOW)
RECORDS = ReadableRecords(Resource({}), LogLimits(attribute_count=1000, value_length=None))


def survives(event: Event) -> bool:
    """Encode the event between two others as the exporters do; tell whether all arrive with all they have."""
    events = [BEFORE, event, AFTER]
    request = encode_logs(RECORDS.batch(events))
    request.FromString(request.SerializeToString())
    records = [
        record
        for resource_logs in request.resource_logs
        for scope_logs in resource_logs.scope_logs
        for record in scope_logs.log_records
    ]
    # The encoder leaves out an attribute that it cannot encode, so they are counted.
    arrived = [(r.event_name, {pair.key for pair in r.attributes}) for r in records]
    expected = [(e.name, {*e.attributes, "log.record.uid"}) for e in events]
    return arrived == expected and [r.body.string_value for r in records] == [e.body for e in events]


@given(jsonable, st.sampled_from([STATUS + "FAILED", STATUS + "RENDEZVOUS", "mine", "kill worker process"]))
def test_any_metadata_arrives(metadata: object, name: str) -> None:
    """Whatever JSON there is in an event, its record is sent, and so are its neighbours."""
    fields = {"name": name, "source": "WORKER", "timestamp": 0, "metadata": metadata}
    assert survives(translate_text(json.dumps(fields), NOW))


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
    event = translate_text(json.dumps(fields), NOW) if as_text else by_fields(fields)
    assert survives(event)


@given(st.fixed_dictionaries(dict.fromkeys(rendezvous(), jsonable)))
def test_any_rendezvous_event_arrives(fields: dict[str, Any]) -> None:
    """Whatever stands in the fields of a rendezvous event."""
    assert survives(translate_rendezvous(fields, NOW))
    assert survives(translate_text(json.dumps(fields), NOW))


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
    assert survives(rdzv(**fields))


@pytest.mark.parametrize("state", ["\ud800", "x" * 100_000, "", " "])
@pytest.mark.parametrize("source", ["AGENT", "WORKER"])
def test_any_state_arrives(state: str, source: str) -> None:
    """A state that torch does not have, too."""
    assert survives(translated(state, source))


@given(anything, anything, st.dictionaries(anything, nested, max_size=4))
def test_any_event_given_by_its_fields_arrives(name: str, source: str, metadata: dict[str, Any]) -> None:
    """Recorded with our own API: values that are not even JSON."""
    assert survives(translate_event(name, source, 0, metadata, NOW))
