"""Regular expressions that cannot hold up the job: what they cost grows no faster than the text.

``re`` holds the interpreter while it searches, and for many expressions it takes time that grows with the
square of a text's length, or worse. It is used where the expression's form rules that out. All others need
RE2 (the extra ``redact``), which never does.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Protocol

from .._runtime.imports import import_module

INSTALL = "pip install 'torchelastic-otel[redact]'"
"""Brings RE2."""

HIDE_ALL = r"(?s).+"
"""Finds every text, at once."""

_MOST_STEPS = 512
"""Most steps of ``re`` at one place of a text."""
_LAST_TRIED = 0xFFFF


class Matcher(Protocol):
    """What is used of a compiled expression, of ``re`` or of RE2."""

    def sub(self, repl: str, string: str) -> str:
        """Return ``string`` with ``repl`` in place of each match."""


class UnboundedError(ValueError):
    """``re`` may take too long for this expression."""


@lru_cache(8)
def compile_pattern(text: str) -> Matcher:
    """Compile an expression whose search takes time in proportion to the text.

    Raises:
        ValueError: it is no expression, or only RE2 could run it, and that is not installed or refuses it.
    """
    try:
        compiled = re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(str(error)) from None
    if text == HIDE_ALL:  # it stands in for others, also where nothing can be checked
        return compiled
    try:
        _check(text)
    except UnboundedError as unbounded:
        return _re2(text, str(unbounded))
    return compiled


def _re2(text: str, why: str) -> Matcher:
    try:
        re2 = import_module("re2")
    except ImportError:
        raise ValueError(f"a long text could hold up the job: {why}. RE2 can run it: {INSTALL}") from None
    options = re2.Options()
    options.log_errors = False
    try:
        matcher: Matcher = re2.compile(text, options)
    except re2.error as error:
        said = error.args[0] if error.args else ""
        words = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        raise ValueError(f"a long text could hold up the job: {why}; and RE2 says: {words}") from None
    return matcher


# What bounds the search by re
#
# At each place of the text the search takes at most _MOST_STEPS steps, and reads on without a bound only
# - in a repeat that ends the expression: what it reads is the match, and not looked at again; or
# - in a repeat of one character class between two others that share no character with it: then what it reads
#   from different places does not overlap, and there is one way only to read it.


def _check(text: str) -> None:
    """Raise ``UnboundedError`` unless the form of the expression bounds the search."""
    try:
        parser = importlib.import_module("re._parser")
    except ImportError:
        try:
            parser = importlib.import_module("sre_parse")  # Python 3.10
        except ImportError:
            raise UnboundedError("this Python does not show how it reads expressions") from None
    try:
        tree = parser.parse(text)
        _cost(_flat(tree), tree.state.flags & ~re.DEBUG, last=True)
    except UnboundedError:
        raise
    except Exception as error:
        # The parser's tree is no public interface: what is not understood is not taken for harmless.
        raise UnboundedError(f"it is not understood ({type(error).__name__}: {error})") from None


Node = tuple[str, Any]


def _flat(tree: Any) -> list[Node]:
    """Return the items of a sequence, those of groups that only group among them."""
    items: list[Node] = []
    for operator, value in tree:
        name = str(operator)
        if name == "SUBPATTERN" and not value[1] and not value[2]:
            items += _flat(value[3])
        else:
            items.append((name, value))
    return items


def _cost(items: Sequence[Node], flags: int, *, last: bool) -> tuple[int, int]:
    """Return how many ways of matching a sequence has, and how many steps trying all of them takes.

    ``last`` tells whether nothing comes after it.
    """
    all_ways, all_steps = 1, 1
    for at, (name, value) in enumerate(items):
        is_last = last and at == len(items) - 1
        if name in _CHARACTERS or name == "AT":
            ways, steps = 1, 1
        elif name == "SUBPATTERN":
            ways, steps = _cost(_flat(value[3]), flags, last=is_last)
            _refuse_local_flags(value)
        elif name == "BRANCH":
            costs = [_cost(_flat(branch), flags, last=is_last) for branch in value[1]]
            ways, steps = sum(way for way, _ in costs), sum(step for _, step in costs)
        elif name in ("ASSERT", "ASSERT_NOT"):
            ways, steps = _cost(_flat(value[1]), flags, last=False)
            ways = 1
        elif name in _REPEATS:
            ways, steps = _repeat_cost(items, at, flags, last=is_last and name != "MIN_REPEAT")
        else:
            raise UnboundedError(f"it has what the check does not know ({name})")
        all_steps += all_ways * steps
        all_ways *= ways
        if all_steps > _MOST_STEPS:
            raise UnboundedError("it has too many ways to match")
    return all_ways, all_steps


def _refuse_local_flags(value: Any) -> None:
    if (value[1] or value[2]) and "REPEAT" in str(value[3]):
        raise UnboundedError("flags inside of it change what its repeats match")


def _repeat_cost(items: Sequence[Node], at: int, flags: int, *, last: bool) -> tuple[int, int]:
    least, most, body = items[at][1]
    inner = _flat(body)
    if int(most) <= _MOST_STEPS:
        ways, steps = _cost(inner, flags, last=False)
        all_ways, all_steps = 0, 1
        for times in range(int(most) + 1):
            all_ways += ways**times if times >= least else 0
            all_steps += steps * ways**times if times < most else 0
            if all_steps > _MOST_STEPS:
                raise UnboundedError("it has too many ways to match")
        return all_ways, all_steps
    if len(inner) != 1 or inner[0][0] not in _CHARACTERS:
        raise UnboundedError("it repeats without a bound what is more than one character")
    if least > _MOST_STEPS:
        raise UnboundedError("it has too many ways to match")
    if last:
        return 1, 1 + least
    before, after = _edge(items[:at][::-1]), _edge(items[at + 1 :])
    this = _character(inner[0])
    if before is None or after is None or this is None or not _disjoint(this, before, after, flags):
        raise UnboundedError(
            "one of its unbounded repeats, such as x+ or .*, can be entered at many places of a text. "
            "Give it a bound, as in x{1,64}"
        )
    return 1, 1 + least


_CHARACTERS = frozenset({"LITERAL", "NOT_LITERAL", "ANY", "IN"})
_REPEATS = frozenset({"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"})
_CATEGORIES = {
    "CATEGORY_DIGIT": r"\d",
    "CATEGORY_NOT_DIGIT": r"\D",
    "CATEGORY_SPACE": r"\s",
    "CATEGORY_NOT_SPACE": r"\S",
    "CATEGORY_WORD": r"\w",
    "CATEGORY_NOT_WORD": r"\W",
}


def _edge(items: Sequence[Node]) -> str | None:
    """Return an expression of the character that matching ``items`` begins with; None if there may be none.

    Give the items before a repeat in reverse, for the character that they end with.
    """
    found = next((item for item in items if item[0] != "AT"), None)
    if found is None:
        return None
    name, value = found
    if name == "BRANCH":
        # Which end of a branch meets the repeat depends on the side: both must fit.
        edges = [_edge(part) for branch in value[1] for part in (_flat(branch), _flat(branch)[::-1])]
        return None if None in edges else "|".join(filter(None, edges))
    if name in _REPEATS:
        least, _, body = value
        inner = _flat(body)
        return _character(inner[0]) if least and len(inner) == 1 else None
    return _character(found)


def _character(item: Node) -> str | None:
    """Return the expression of an item that is one character; None if it is more, or may be none."""
    name, value = item
    if name == "LITERAL":
        return re.escape(chr(value))
    if name == "NOT_LITERAL":
        return f"[^{_in_class(value)}]"
    if name == "ANY":
        return "."
    if name != "IN":
        return None
    parts = []
    for kind, known in value:
        match str(kind):
            case "NEGATE":
                parts.append("^")
            case "LITERAL":
                parts.append(_in_class(known))
            case "RANGE":
                parts.append(f"{_in_class(known[0])}-{_in_class(known[1])}")
            case _:
                parts.append(_CATEGORIES[str(known)])
    return f"[{''.join(parts)}]"


def _in_class(character: int) -> str:
    return f"\\U{character:08x}"


def _disjoint(this: str, before: str, after: str, flags: int) -> bool:
    """Tell whether no character is of the class ``this`` and of one of the others.

    All characters up to U+FFFF are tried. What words, digits and blanks share beyond, they share here, too.
    """
    if any(ord(character) > _LAST_TRIED for character in _named(this + before + after)):
        return False
    both: Callable[[str], object] = re.compile(f"(?={this})(?:{before}|{after})", flags).search
    return both("".join(map(chr, range(_LAST_TRIED + 1)))) is None


def _named(expression: str) -> list[str]:
    """Return the characters that an expression of classes names by themselves."""
    return [chr(int(code, 16)) for code in re.findall(r"\\U([0-9a-f]{8})", expression)] + list(expression)
