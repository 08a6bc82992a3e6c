"""Exceptions, as they are read out of error files and tracebacks."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable

import pytest

from tests.support.job_world import rendezvous_record, status_record
from tests.support.torch_texts import error_file
from torchelastic_otel._job.event import ERROR, WARN
from torchelastic_otel._values import MAX_TEXT


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
    event = status_record("FAILED", raw_error=raw, inner={"exit_code": [1]})
    assert event.attributes.get("exception.type") == kind
    assert event.attributes.get("exception.message") == text
    assert event.attributes["exception.stacktrace"].startswith("Traceback")  # type: ignore[union-attr]
    assert event.attributes["error.type"] == (kind or "1")
    assert event.attributes["torchelastic.raw_error"] == raw
    assert event.severity == ERROR


def test_dotted_class_name_in_an_error_file() -> None:
    """A handler that writes the class with its module is read, too."""
    event = status_record("FAILED", raw_error=error_file("torch.cuda.OutOfMemoryError: none left"))
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
    event = status_record("FAILED", raw_error=raw, inner={"exit_code": [3]})
    assert not {"exception.type", "exception.message", "exception.stacktrace"} & set(event.attributes)
    assert event.attributes["error.type"] == "3"
    assert event.attributes["torchelastic.raw_error"] == raw


def test_error_file_with_a_plain_message() -> None:
    """The older format has the message as a string."""
    event = status_record("FAILED", raw_error=json.dumps({"message": "ValueError: wrong", "timestamp": 1}))
    assert event.attributes["exception.type"] == "ValueError"
    assert event.attributes["exception.message"] == "wrong"


def test_null_error_is_none() -> None:
    """The JSON text ``null`` says nothing, and is left out."""
    assert "torchelastic.raw_error" not in status_record("FAILED", raw_error="null").attributes


def test_long_error_file_keeps_its_exception() -> None:
    """A message beyond the longest text is cut where it is shown, not before it is read."""
    raw = error_file("RuntimeError: " + "x" * (2 * MAX_TEXT), "Traceback (most recent call last): …")
    event = status_record("FAILED", raw_error=raw, inner={"exit_code": [1]})
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
        event = status_record("FAILED", "AGENT", raw_error=text)
        assert event.severity == ERROR
    else:
        event = rendezvous_record(node_state="FAILED", message="X: y", error_trace=text)
        assert event.severity == WARN
    assert event.attributes.get("exception.type") == kind
    assert event.attributes["error.type"] == kind
    assert event.attributes["exception.stacktrace"] == text
    if message is not None:
        assert event.attributes["exception.message"] == message


def test_message_of_several_lines_is_whole() -> None:
    """Lines of a message that look like an exception are part of the message."""
    text = _formatted(lambda: _raise(RuntimeError("one\nWord: two\n\nOther.Word: three")))
    event = status_record("FAILED", "AGENT", raw_error=text)
    assert event.attributes["exception.message"] == "one\nWord: two\n\nOther.Word: three"


def test_exception_without_a_message_has_none() -> None:
    """No message is no attribute, rather than an empty one."""
    text = _formatted(lambda: _raise(ValueError()))
    assert "exception.message" not in status_record("FAILED", "AGENT", raw_error=text).attributes
    assert "exception.message" not in rendezvous_record(node_state="FAILED", error_trace=text).attributes


@pytest.mark.parametrize("text", ["NoneType: None\n", "NoneType: None"])
def test_no_exception_at_hand(text: str) -> None:
    """``format_exc`` outside of a handler says "NoneType: None": that is no exception, and not kept."""
    agent = status_record("FAILED", "AGENT", raw_error=text).attributes
    assert not {"exception.type", "exception.stacktrace", "torchelastic.raw_error"} & set(agent)
    failed = rendezvous_record(node_state="FAILED", error_trace=text).attributes
    assert not {"exception.type", "exception.stacktrace", "error.type"} & set(failed)


def test_long_traceback_of_the_agent_keeps_its_exception() -> None:
    """The exception stands at the end of a traceback; a cut must not cost it."""
    frames = '  File "train.py", line 1, in step\n    step()\n' * 2000
    text = "Traceback (most recent call last):\n" + frames + "RecursionError: too deep\n"
    assert len(text) > MAX_TEXT
    event = status_record("FAILED", "AGENT", raw_error=text)
    assert event.attributes["exception.type"] == "RecursionError"
    assert event.attributes["exception.message"] == "too deep"
