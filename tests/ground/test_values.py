"""Values as OTLP carries them: whatever goes in, nothing raises, and nothing is lost for want of a form."""

from __future__ import annotations

import math

import pytest
from hypothesis import given

from tests.support.odd_values import Level, Name, Odd, Real, nested
from torchelastic_otel._values import MAX_TEXT, clean


class Raises:
    """Whatever one asks it, it raises."""

    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__


class RaisesHard(Raises):
    """Raises something that is not even a usual error."""

    def __str__(self) -> str:
        raise MemoryError

    __repr__ = __str__


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
