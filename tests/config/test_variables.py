"""The table of variables: what holds for all rows, at one of each kind.

What each variable does is seen in ``test_effects.py``.
"""

from __future__ import annotations

import ast
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from torchelastic_otel._config import otlp_variables as otlp
from torchelastic_otel._config import sdk_variables as sdk
from torchelastic_otel._config import variables as v
from torchelastic_otel._config.environment import SIGNALS
from torchelastic_otel._config.kinds import Components, Pattern, Text
from torchelastic_otel._config.row import Variable
from torchelastic_otel._config.settings import Settings

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "torchelastic_otel"


def rows(chosen: list[Variable[Any]]) -> pytest.MarkDecorator:
    """Run a test once for each row."""
    return pytest.mark.parametrize("row", [pytest.param(row, id=row.names[0]) for row in chosen])


OF_EACH_KIND = list(
    {
        (type(row.kind), row.kind.exact, bool(row.own), row.otherwise is None): row
        for row in reversed(v.VARIABLES)
    }.values()
)
"""One row for each way in which a value is read: the others are read by the same code."""


def wrong_value(row: Variable[Any]) -> str:
    """Return a value that is none; "" if every text is one, or may be."""
    if isinstance(row.kind, Text) and not row.kind.placeholder:
        return "(" if isinstance(row.kind, Pattern) else ""
    return "no such value"


@rows(OF_EACH_KIND)
def test_unset_or_empty_is_the_default(row: Variable[Any]) -> None:
    """Manifests often set variables to nothing."""
    warnings: list[str] = []
    default = row.default if row.otherwise is None else row.otherwise.default
    for environ in (
        {},
        dict.fromkeys(row.names, ""),
        {} if row.kind.exact else dict.fromkeys(row.names, "  "),
    ):
        for signal in (None, *row.signals) if row.name else row.signals:
            assert row.value(environ, warnings.append, signal) == default
    assert warnings == []


@rows([row for row in OF_EACH_KIND if wrong_value(row)])
def test_a_wrong_value_is_one_warning_and_the_default(row: Variable[Any]) -> None:
    """It names the variable, the value, and what is accepted, and is the same for each signal."""
    value = wrong_value(row)
    counts: object = row.default if row.otherwise is None else row.otherwise.default
    if isinstance(row.kind, Pattern | Components):
        counts = "(?s).+" if isinstance(row.kind, Pattern) else ()
    for name in row.names:
        warnings: list[str] = []
        for signal in [each for each in row.signals if name in (row.name, row.of(each))]:
            assert row.value({name: value}, warnings.append, signal) == counts
        [warning] = set(warnings)
        assert warning.startswith(f"{name}={value!r} is not accepted: expected ")
        assert warning.endswith(".")


@rows([otlp.OTLP_ENDPOINT, otlp.EXPORTER])
def test_a_signals_own_variable_counts_before_the_one_for_all(row: Variable[Any]) -> None:
    """The two are not merged, and no other signal is concerned."""
    for signal in SIGNALS:
        own = row.of(signal)
        environ = {own: "own", **({row.name: "general"} if row.name else {})}
        assert row.given(environ, signal) == (own, "own")
        assert row.given({**environ, own: " "}, signal) == ((row.name, "general") if row.name else (own, ""))
        for other in set(SIGNALS) - {signal}:
            assert row.given(environ, other)[1] == ("general" if row.name else "")


@rows([sdk.SPAN_ATTRIBUTE_COUNT_LIMIT, sdk.SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT])
def test_a_limit_of_its_own_counts_before_the_common_one(row: Variable[Any]) -> None:
    """Also where it is wrong, the common one counts."""
    assert row.otherwise is not None
    warnings: list[str] = []
    assert row.value({row.otherwise.name: "7"}, warnings.append) == 7
    assert row.value({row.otherwise.name: "7", row.name: "8"}, warnings.append) == 8
    assert warnings == []
    assert row.value({row.otherwise.name: "7", row.name: "x"}, warnings.append) == 7
    [warning] = warnings
    assert warning.endswith("; 7 is used.")


def test_a_value_above_that_of_another_variable_is_one_warning() -> None:
    """A default that is above it is nothing wrong."""
    row = sdk.BSP_MAX_EXPORT_BATCH_SIZE
    assert row.at_most is not None
    warnings: list[str] = []
    assert row.value({row.at_most.name: "10"}, warnings.append) == 10
    assert row.value({row.at_most.name: "10", row.name: "10"}, warnings.append) == 10
    assert warnings == []
    assert row.value({row.at_most.name: "10", row.name: "20"}, warnings.append) == 10
    assert warnings == [
        f"{row.name}='20' is not accepted: expected at most {row.at_most.name} (10); 10 is used."
    ]


def test_a_long_value_is_cut_in_a_warning() -> None:
    """A pasted file does not fill the log."""
    warnings: list[str] = []
    v.HEARTBEATS.value({v.HEARTBEATS.name: "x" * 10_000}, warnings.append)
    assert len(warnings[0]) < 300


# --- the table and its users ----------------------------------------------------------------------


def test_no_variable_has_two_rows() -> None:
    """The table would contradict itself."""
    names = [name for row in v.VARIABLES for name in row.names]
    assert len(names) == len(set(names)) == len(v.NAMES)
    assert not v.NAMES & set(sdk.WITHOUT_EFFECT)


def test_each_variable_of_the_package_is_a_setting() -> None:
    """And each setting has its row, in the order of the document."""
    package = [row for row in v.VARIABLES if row.section == "package"]
    assert all(name.startswith(v.PREFIX) for row in package for name in row.names)
    assert [row.setting for row in package] == [field.name for field in fields(Settings)]
    assert not [row for row in v.VARIABLES if row.setting and row not in package]


def test_the_document_can_quote_what_is_accepted() -> None:
    """Quotes are in pairs; what a row says is one line of whole sentences."""
    for row in v.VARIABLES:
        assert row.kind.accepted.count("'") % 2 == 0, row.names
        assert row.meaning.endswith("."), row.names
        assert "\n" not in row.meaning + row.kind.accepted + row.default_text, row.names


OTHERS = {"TORCHELASTIC_OTEL_TOOLS", "TORCHELASTIC_OTEL_REQUIRE_TOOLS", "OTEL_SIGNAL"}
"""Two for tests alone, and a name of the contract."""


@pytest.mark.parametrize("where", ["src/**/*.py", "docs/*.md", "*.md", "examples/**/*.py"])
def test_no_variable_is_named_that_is_not_in_the_table(where: str) -> None:
    """A name that the code or a document spells is read, or known to have no effect."""
    known = v.NAMES | set(sdk.WITHOUT_EFFECT) | OTHERS
    unknown = {
        (path.name, name)
        for path in ROOT.glob(where)
        for name in re.findall(r"\b(?:TORCHELASTIC_)?OTEL_[A-Z_]*[A-Z](?![A-Z_{*])", path.read_text())
        if name not in known
    }
    assert unknown == set()


def test_each_name_that_is_read_elsewhere_is_in_the_table() -> None:
    """What must not wait for an import reads a variable by its name: also that is a name that users know."""
    known = {name for row in v.VARIABLES for name in row.names}
    spelt = {
        (path.relative_to(SOURCE).as_posix(), node.value)
        for path in SOURCE.rglob("*.py")
        if path.parent.name != "_config"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if re.fullmatch(r"(OTEL|TORCHELASTIC_OTEL)_[A-Z_]*[A-Z]", node.value)
    }
    assert spelt
    assert [(path, name) for path, name in sorted(spelt) if name not in known] == []
