"""Reading the environment: which value counts as set, and the words for a wrong one.

Left to itself, the SDK raises for some wrong values, logs others without the variable's name, and cannot be
imported with one. Here a wrong value is one warning that names the variable, and the default. The warning is
the same however often a variable is read, so that ``warn`` can tell it once. An empty variable counts as
unset, as the specification has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, get_args

from .secrets import shown

Warn = Callable[[str], None]
Signal = Literal["traces", "logs", "metrics"]
SIGNALS: tuple[Signal, ...] = get_args(Signal)

_MOST_SHOWN = 80


def read(environ: Mapping[str, str], name: str) -> str:
    """Return the variable without surrounding blanks, "" if it is unset."""
    return environ.get(name, "").strip()


def wrong_value(warn: Warn, name: str, value: str, expected: str, consequence: str) -> None:
    """Tell that the variable ``name`` has a value that cannot be used."""
    text = shown(name, value)
    text = text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "…"
    warn(f"{name}={text!r} is not accepted: expected {expected}; {consequence}.")
