"""A row of the table of variables: it reads its variable, and words what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, Generic, Literal, TypeVar, cast

from .environment import SIGNALS, Signal, Warn, wrong_value
from .kinds import Kind

Section = Literal[
    "destination", "tls", "resource", "traces", "logs", "attributes", "metrics", "file", "package"
]
"""The table of docs/configuration.md that a variable stands in."""

T = TypeVar("T")


# Rows are told apart by themselves, not by what is in them: no __eq__.
@dataclass(frozen=True, eq=False, repr=False)
class Variable(Generic[T]):
    """A row of the table."""

    name: str
    """The variable, for all signals; "" if there are only variables for one signal each."""
    kind: Kind[T]
    _: KW_ONLY
    section: Section
    meaning: str
    """What it is for, and what else there is to know, as Markdown."""
    own: str = ""
    """The variable for one signal, which counts first, ``{}`` being the signal; "" if there is none."""
    signals: tuple[Signal, ...] = SIGNALS
    """Which signals it concerns."""
    otherwise: Variable[T] | None = None
    """The variable that counts where this one is unset."""
    at_most: Variable[T] | None = None
    """A variable whose value this one may not exceed."""
    setting: str = ""
    """The field of ``Settings`` that it becomes; "" if none."""
    default_words: str = ""
    """The default as Markdown, where ``default`` does not say it."""
    instead: str = ""
    """How the warning about a wrong value ends, ``{}`` being the signal; "" if the default is used."""

    @property
    def default(self) -> T:
        """What counts if it is unset."""
        return self.kind.default

    @property
    def names(self) -> tuple[str, ...]:
        """All variables of this row."""
        own = tuple(self.of(signal) for signal in self.signals) if self.own else ()
        return (self.name, *own) if self.name else own

    def of(self, signal: Signal) -> str:
        """Return the signal's own variable."""
        return self.own.format(signal.upper())

    def given(self, environ: Mapping[str, str], signal: Signal | None = None) -> tuple[str, str]:
        """Return the variable that counts, or would, and its text: the signal's own if that is set."""
        if self.own and signal is not None:
            own = self.of(signal)
            text = self._text(environ, own)
            if text or not self.name:
                return own, text
        return self.name, self._text(environ, self.name)

    def _text(self, environ: Mapping[str, str], name: str) -> str:
        text = environ.get(name, "")
        return text if self.kind.exact else text.strip()

    def value(self, environ: Mapping[str, str], warn: Warn, signal: Signal | None = None) -> T:
        """Return what the environment says, or the default, after a warning if it says something wrong.

        Args:
            environ: the environment.
            warn: told what is wrong.
            signal: the signal whose own variable counts first.
        """
        name, text = self.given(environ, signal)
        default = self.otherwise.value(environ, warn) if self.otherwise else self.default
        refused = False

        def refuse(value: str, expected: str) -> None:
            nonlocal refused
            refused = True
            wrong_value(warn, name, value, expected, self.consequence(default, signal))

        found: Any = self.kind.read(text, default, refuse, signal) if text else default
        if self.at_most is not None:
            most: Any = self.at_most.value(environ, warn)
            if found > most:
                if text and not refused:
                    expected = f"at most {self.at_most.name} ({most})"
                    wrong_value(warn, name, text, expected, self.consequence(most))
                found = most
        return cast("T", found)

    def consequence(self, counts: T, signal: Signal | None = None) -> str:
        """Return how a warning about a wrong value ends, where ``counts`` is what counts instead."""
        return self.instead.format(signal) or _is_used(counts)

    @property
    def default_text(self) -> str:
        """The default as Markdown."""
        if self.otherwise is not None:
            return f"`{self.otherwise.name}`"
        shown = _shown(self.default)
        return self.default_words or (f"`{shown}`" if shown else "none")


def _is_used(value: object) -> str:
    if value is None:
        return "there is no limit"
    return f"{value!r} is used" if isinstance(value, str) else f"{_shown(value)} is used"


def _shown(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case float():
            return f"{value:.12g}"
        case tuple():
            return ",".join(value)
        case _:
            return str(value)
