"""Values as OTLP can carry them: nothing raises in an encoder, nothing costs a neighbour."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any

Scalar = str | bool | int | float
AttributeValue = Scalar | list[str] | list[int]
Attributes = dict[str, AttributeValue]

MAX_TEXT = 32_768
"""Longest text of an attribute or a body, in characters; what is longer is cut and marked."""

_INT_LIMIT = 1 << 63
_DEEPEST = 8


def clean_text(text: str) -> str:
    """Return ``text`` encodable as UTF-8 (lone surrogates replaced) and at most MAX_TEXT long."""
    if len(text) > MAX_TEXT:
        text = f"{text[:MAX_TEXT]}… [cut: {len(text)} characters]"
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


def clean(value: object) -> AttributeValue | None:
    """Return ``value`` in a form that OTLP carries; None where there is nothing to say.

    An int beyond 64 bits becomes text, anything nested JSON text, anything else its ``str``.
    """
    kind = type(value)
    if kind is str:
        return clean_text(value)  # type: ignore[arg-type]  # narrowed by the exact type, cheaper than isinstance
    if value is None:
        return None
    if kind is bool or kind is float:
        return value  # type: ignore[return-value]
    if kind is int:
        return value if -_INT_LIMIT <= value < _INT_LIMIT else clean_text(_big(value))  # type: ignore[operator,return-value,arg-type]
    return _clean_other(value)


def clean_all(attributes: Mapping[str, AttributeValue]) -> Attributes:
    """Return attributes whose texts can be sent, in lists too."""
    cleaned: Attributes = {}
    for name, value in attributes.items():
        if isinstance(value, str):
            cleaned[name] = clean_text(value)
        elif isinstance(value, list):
            cleaned[name] = [clean_text(item) if isinstance(item, str) else item for item in value]  # type: ignore[assignment]
        else:
            cleaned[name] = value
    return cleaned


def present(attributes: Mapping[str, AttributeValue | None]) -> Attributes:
    """Return the attributes that say something: neither None nor an empty text."""
    return {name: value for name, value in attributes.items() if value is not None and value != ""}


def _big(value: int) -> str:
    # str() of a huge int raises beyond sys.get_int_max_str_digits, hex() never does.
    return str(value) if value.bit_length() < 4096 else hex(value)


def _clean_other(value: object) -> AttributeValue:
    if isinstance(value, str):
        return clean_text(str.__str__(value))
    if isinstance(value, int):
        number = int.__int__(value)
        return number if -_INT_LIMIT <= number < _INT_LIMIT else clean_text(_big(number))
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        try:
            return clean_text(json.dumps(value, default=_as_text))
        except Exception:  # a key that JSON has no form for, a cycle, an int too long to print
            with contextlib.suppress(Exception):
                return clean_text(json.dumps(_plain(value, 0)))
    try:
        return clean_text(str(value))
    except Exception:  # a user's own __str__: whatever it raises
        return f"<{type(value).__name__}>"


def _plain(value: object, depth: int) -> Any:
    """Return a nested value in types and depths that JSON has a form for."""
    if isinstance(value, Mapping) and depth < _DEEPEST:
        return {str(clean(key)): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset) and depth < _DEEPEST:
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        return f"<{type(value).__name__}>"
    return clean(value)


def _as_text(value: object) -> Any:
    return sorted(map(str, value)) if isinstance(value, set | frozenset) else str(value)


def decode(text: str) -> object:
    """Parse JSON that nothing surrounds, not even blanks. Raises ValueError, RecursionError."""
    value: object
    value, end = _decoder.raw_decode(text)
    if end != len(text):
        raise ValueError("more than one JSON value")
    return value


_decoder = json.JSONDecoder()
