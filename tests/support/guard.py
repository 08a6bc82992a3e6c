"""Sees what the package's guard holds back, so that no test passes over an internal error it did not mean.

In this process every error that the guard notes is seen, also one that it has said before; of other processes
their standard error tells. A test announces what it makes fail::

    @pytest.mark.internal_errors("flushing: ValueError")

with regular expressions, each of which is found in at least one error, as WHERE: TYPE: MESSAGE.
"""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pytest

from torchelastic_otel._runtime import guard

_SAID = re.compile(r"internal error in (.*)")
_SHOWN = 3
_noted: list[Noted] = []


@dataclass(frozen=True, slots=True)
class Noted:
    """An internal error of the package that the program was spared."""

    what: str
    details: str

    def is_one_of(self, patterns: Iterable[str]) -> bool:
        """Tell whether one of the regular expressions is found in it."""
        return any(re.search(pattern, self.what) for pattern in patterns)


def watch() -> None:
    """See every internal error of this process from now on."""
    original = guard.note_internal_error

    def note_and_tell(where: str, error: BaseException) -> None:
        details = "".join(traceback.format_exception(error))
        _noted.append(Noted(f"{where}: {type(error).__name__}: {error}", details))
        original(where, error)

    for name, module in list(sys.modules.items()):
        if name.startswith("torchelastic_otel") and getattr(module, "note_internal_error", None) is original:
            setattr(module, original.__name__, note_and_tell)


def taken() -> list[Noted]:
    """Return what was noted since this was last asked."""
    found = list(_noted)
    del _noted[: len(found)]
    return found


def assert_none_in(output: str, announced: Iterable[str] = ()) -> None:
    """Assert that a process tells of no internal error on its standard error but ``announced`` ones."""
    told = [Noted(found[1], "") for found in _SAID.finditer(output)]
    judge([error for error in told if not error.is_one_of(announced)], (), pytest.fail)


def judge(noted: Iterable[Noted], announced: Iterable[str], fail: Callable[[str], object]) -> None:
    """Fail if an error was not announced, or if one that was did not come."""
    noted, announced = list(noted), list(announced)
    unmeant = [error for error in noted if not error.is_one_of(announced)]
    if unmeant:
        details = "\n".join(f"{error.what}\n{error.details}" for error in unmeant[:_SHOWN])
        fail(f"{len(unmeant)} internal errors that were not announced:\n{details}")
    missing = [pattern for pattern in announced if not any(error.is_one_of([pattern]) for error in noted)]
    if missing:
        fail(f"announced, and did not come: {missing}")
