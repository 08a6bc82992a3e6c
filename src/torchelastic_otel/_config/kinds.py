"""Kinds of values: the one parser of each, and its words for what is accepted.

Default and bounds come from the row of the table (``variables.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar, cast

from .._runtime.imports import entry_point_names, find_entry_point
from .environment import Signal
from .patterns import HIDE_ALL, compile_pattern

Refuse = Callable[[str, str], None]
"""Tells that a value is wrong, and what was expected."""

SPECIFIED_WORDS: Mapping[str, bool] = {"true": True, "false": False}
"""The specification's words for a flag."""
USUAL_WORDS: Mapping[str, bool] = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}
"""Those, and what else people write."""
PAIRS = "'name=value' pairs separated by commas, values percent-encoded"
"""What a list of headers or attributes should be."""

T = TypeVar("T")


class Kind(Generic[T]):
    """How a value is written, and what it means; ``T`` is what it is read as."""

    exact = False
    """Whether blanks around a value are part of it."""

    def __init__(self, default: T) -> None:
        self.default = default

    def parse(self, text: str) -> T:
        """Return what ``text``, which is not empty, means; ValueError if it means nothing."""
        raise NotImplementedError

    @property
    def accepted(self) -> str:
        """What is accepted, with single quotes around values."""
        raise NotImplementedError

    @property
    def expected(self) -> str:
        """What is accepted on this machine."""
        return self.accepted

    def read(self, text: str, default: T, refuse: Refuse, signal: Signal | None) -> T:
        """Return what ``text`` means, or ``default`` after ``refuse`` was told."""
        try:
            return self.parse(text)
        except ValueError:
            refuse(text, self.expected)
            return default


class Text(Kind[str]):
    """Any text: what it has to be is known only where it is used.

    Args:
        form: what it should be.
        exact: whether blanks around it are part of it.
        placeholder: what must be in it.
    """

    def __init__(self, form: str, *, exact: bool = False, placeholder: str = "") -> None:
        super().__init__("")
        self.form, self.exact, self.placeholder = form, exact, placeholder

    def parse(self, text: str) -> str:
        """Return it if the placeholder is there."""
        if self.placeholder not in text:
            raise ValueError(text)
        return text

    @property
    def accepted(self) -> str:
        """What it should be."""
        return self.form


class Pattern(Text):
    """A regular expression for what to hide, which no text makes slow.

    One that cannot be used hides all: nobody knows what it was to hide.
    """

    def read(self, text: str, default: str, refuse: Refuse, signal: Signal | None) -> str:
        """Return the expression."""
        try:
            compile_pattern(text)
        except ValueError as error:
            refuse(text, f"{self.form} ({error})")
            return HIDE_ALL
        return text


class Directory(Text):
    """A directory, or one of the usual words for none, which is read as "off"."""

    def parse(self, text: str) -> str:
        """Return the directory, or "off"."""
        return text if USUAL_WORDS.get(text.lower(), True) else "off"


class Flag(Kind[bool]):
    """True or false, in any case.

    Args:
        default: what counts if it is unset.
        words: what each word means, in lower case.
    """

    def __init__(self, default: bool, words: Mapping[str, bool] = USUAL_WORDS) -> None:
        super().__init__(default)
        self.words = words

    def parse(self, text: str) -> bool:
        """Return what the word means."""
        if text.lower() not in self.words:
            raise ValueError(text)
        return self.words[text.lower()]

    @property
    def accepted(self) -> str:
        """The two words that are written most."""
        return "true or false"


class Choice(Kind[T]):
    """One of a few words, in any case.

    Args:
        default: what counts if it is unset.
        choices: the words, in lower case.
    """

    def __init__(self, default: T, choices: Sequence[str]) -> None:
        super().__init__(default)
        self.choices = choices

    def parse(self, text: str) -> T:
        """Return the word in lower case."""
        if text.lower() not in self.choices:
            raise ValueError(text)
        return cast("T", text.lower())

    @property
    def accepted(self) -> str:
        """All of the words."""
        *most, last = (f"'{word}'" for word in self.choices)
        return f"{', '.join(most)} or {last}"


class Number(Kind[float]):
    """A number.

    Args:
        default: what counts if it is unset.
        unit: what it counts.
        lowest: the smallest; None if it must be above 0.
        highest: the largest.
        milliseconds_from: as of which number of seconds milliseconds were probably meant; None if that is no
            usual mistake.
    """

    def __init__(
        self,
        default: float,
        unit: str,
        *,
        lowest: float | None = None,
        highest: float,
        milliseconds_from: float | None = None,
    ) -> None:
        super().__init__(default)
        self.unit, self.lowest, self.highest = unit, lowest, highest
        self.milliseconds_from = milliseconds_from

    def parse(self, text: str) -> float:
        """Return the number if it is within bounds."""
        number = float(text)
        high_enough = number > 0 if self.lowest is None else number >= self.lowest
        if not (high_enough and number <= self.highest):
            raise ValueError(text)
        return number

    @property
    def accepted(self) -> str:
        """The unit and the bounds."""
        unit = self.unit if self.milliseconds_from is None else f"{self.unit} (not milliseconds)"
        lowest = "above 0 and up" if self.lowest is None else f"from {self.lowest:.12g}"
        return f"{unit} {lowest} to {self.highest:.12g}"


class Integer(Kind[int]):
    """A whole number from 1, in whatever notation.

    Args:
        default: what counts if it is unset.
        highest: the largest.
        unit: what it counts.
    """

    def __init__(self, default: int, *, highest: int, unit: str = "") -> None:
        super().__init__(default)
        self.highest, self.unit = highest, unit

    def parse(self, text: str) -> int:
        """Return the number if it is whole and within bounds."""
        try:
            number = int(text)
        except ValueError:
            if not float(text).is_integer():
                raise
            number = int(float(text))
        if not 1 <= number <= self.highest:
            raise ValueError(text)
        return number

    @property
    def accepted(self) -> str:
        """The unit and the bounds."""
        return f"a whole number{self.unit and ' of ' + self.unit} from 1 to {self.highest}"


class Bytes(Integer):
    """A number of bytes, also as KiB or MiB; one of the usual words for none is 0."""

    def __init__(self, default: int, *, highest: int) -> None:
        super().__init__(default, highest=highest, unit="bytes")

    def parse(self, text: str) -> int:
        """Return the number of bytes."""
        if not USUAL_WORDS.get(text.lower(), True):
            return 0
        for unit, size in (("kib", 1024), ("mib", 1024 * 1024)):
            if text.lower().endswith(unit):
                return super().parse(str(int(text[: -len(unit)]) * size))
        return super().parse(text)

    @property
    def accepted(self) -> str:
        """The bounds, and the word for none."""
        return f"{super().accepted} or 'off'"


class Limit(Kind[T]):
    """A whole number from 0; None, where that is the default, is no limit."""

    def parse(self, text: str) -> T:
        """Return the number."""
        number = int(text)
        if number < 0:
            raise ValueError(text)
        return cast("T", number)

    @property
    def accepted(self) -> str:
        """The only bound."""
        return "a whole number from 0"


class Component(Kind[str]):
    """The name of an installed component, or of one that is built in, the latter in any case.

    Args:
        group: the entry point group of installed ones.
        built_in: the others, in lower case.
        default: what counts if it is unset.
    """

    def __init__(self, group: str, *, built_in: Sequence[str] = (), default: str = "") -> None:
        super().__init__(default)
        self.group, self.built_in = group, built_in

    def parse(self, text: str) -> str:
        """Return the name, of what is built in in lower case."""
        name = _component(text, self.group, self.built_in)
        if name is None:
            raise ValueError(text)
        return name

    @property
    def accepted(self) -> str:
        """What is built in, and the group of the others."""
        return _components(self.built_in, self.group)

    @property
    def expected(self) -> str:
        """What is installed."""
        return f"one that is installed ({entry_point_names(self.group)})"


class Components(Kind[tuple[str, ...]]):
    """A comma list of such names. A wrong one is left out, and the others stand.

    Args:
        group: the entry point group of installed ones, with ``{}`` for the signal if each has its own group.
        built_in: the others, in lower case.
        default: what counts if it is unset.
    """

    def __init__(self, group: str, *, built_in: Sequence[str], default: tuple[str, ...]) -> None:
        super().__init__(default)
        self.group, self.built_in = group, built_in

    def read(
        self, text: str, default: tuple[str, ...], refuse: Refuse, signal: Signal | None
    ) -> tuple[str, ...]:
        """Return the names, of what is built in in lower case."""
        group = self.group.format(signal)
        given = [name.strip() for name in text.split(",") if name.strip()]
        found = []
        for name in given:
            known = _component(name, group, self.built_in)
            if known is not None:
                found.append(known)
            else:
                none = " or none" if "none" in self.built_in else ""
                refuse(name, f"one that is installed ({entry_point_names(group)}){none}")
        return tuple(found) if given else default

    @property
    def accepted(self) -> str:
        """What is built in, and the group of the others."""
        return f"a comma list; each {_components(self.built_in, self.group.format('{traces,logs,metrics}'))}"


def _component(name: str, group: str, built_in: Sequence[str]) -> str | None:
    if name.lower() in built_in:
        return name.lower()
    return None if find_entry_point(group, name) is None else name


def _components(built_in: Sequence[str], group: str) -> str:
    words = ", ".join(f"'{name}'" for name in built_in)
    return f"{words}{words and ' or '}an installed entry point of '{group}'"
