"""The table of private names: all of it is there, and all that the package uses is in it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import private_names
import torchelastic_otel
from private_names import PRIVATE_NAMES, PrivateName

SOURCE = Path(torchelastic_otel.__file__).parent
MODULES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts): path for path in sorted(SOURCE.rglob("*.py"))
}
PRIVATE = re.compile(r"_[A-Za-z]\w*")
PUBLIC = {"_replace", "_OTHER", "_torchelastic_otel_worker", "_TORCHELASTIC_OTEL_RECORDER"}
"""A method of named tuples, a value of OpenTelemetry's semantic conventions, and ours in workers."""


@pytest.mark.parametrize("name", PRIVATE_NAMES, ids=[each.name for each in PRIVATE_NAMES])
def test_a_private_name_is_there(name: PrivateName) -> None:
    """In the versions that are installed; what is gone has its consequence in the table."""
    assert name.is_there() or not name.is_expected, f"{name.name} is gone: {name.then}"


def test_what_is_gone_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """As ``make canary`` shows it, by name and with what it costs; what an older version lacks is not."""
    no = private_names.attribute("threading", "_no_such_name")
    lost = PrivateName("CPython", "threading._no_such_name", no, "_intake.lifecycle", "Nothing happens")
    newer = PrivateName("torch", "newer", no, "_torch.reading", "", since="99.0")
    other = PrivateName("OpenTelemetry", "other", no, "_api", "", needs="no_such_package.inside")
    monkeypatch.setattr(private_names, "PRIVATE_NAMES", (lost, newer, other))
    assert private_names.main() == 1
    assert "gone: CPython: threading._no_such_name, used in _intake.lifecycle" in capsys.readouterr().out
    monkeypatch.setattr(private_names, "PRIVATE_NAMES", (newer, other))
    assert private_names.main() == 0


@pytest.mark.parametrize(
    "is_there",
    [
        private_names.attribute("no_such_module", "a"),
        private_names.of_instances("threading", "Thread", "_no_such_name"),
        private_names.of_instances("threading", "NoSuchClass", "_name"),
        private_names.local("threading", "setprofile", "no_such_variable"),
        private_names.local("threading", "no_such_function", "a"),
        private_names.words("threading", "no such text"),
        private_names.words("no_such_module", "a"),
        private_names.compiled("grpc", "_cython/cygrpc*.so", "no such text anywhere"),
        private_names.compiled("grpc", "no_such_file*.so", "a"),
        private_names.compiled("no_such_package", "*.so", "a"),
    ],
)
def test_what_is_not_there_is_not_found(is_there: object) -> None:
    """None of the ways to look finds what does not exist."""
    assert callable(is_there)
    assert is_there() is False


def private_names_in(path: Path, own: set[str]) -> Iterator[tuple[int, str]]:
    """Yield lines and private names of others: attributes, imports, and names in quotes."""
    tree = ast.parse(path.read_text())
    in_quotes = {
        id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values
    }
    for node in ast.walk(tree):
        found: list[str] = []
        if isinstance(node, ast.Attribute):
            found = [node.attr]
        elif isinstance(node, ast.Import):
            found = [part for alias in node.names for part in alias.name.split(".")]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            parts = (node.module or "").split(".")
            if parts[0] not in ("torchelastic_otel", "__future__"):
                found = [*parts, *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Constant) and id(node) not in in_quotes:
            text = str(node.value)
            found = text.split(".") if re.fullmatch(r"[\w.]+", text) else []
        for name in found:
            if PRIVATE.fullmatch(name) and name not in own and name not in PUBLIC:
                yield getattr(node, "lineno", 0), name


def own_names() -> set[str]:
    """Return the private names that the package gives to things of its own."""
    found = set()
    for path in MODULES.values():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)
            elif isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("self", "cls"):
                found.add(node.attr)
    return found | {part for module in MODULES for part in module.split(".")}


def test_every_private_name_of_others_is_in_the_table() -> None:
    """As far as the source spells them; frames, threads and texts are in it by hand."""
    known = {
        (module, word)
        for each in PRIVATE_NAMES
        for module in each.used.split()
        for word in re.findall(r"\w+", each.name)
    }
    beginnings = {
        (module, each.name.rpartition(".")[2][:-1])
        for each in PRIVATE_NAMES
        for module in each.used.split()
        if each.name.endswith("_*")
    }
    own = own_names()
    missing = [
        f"{path.relative_to(SOURCE)}:{line}: {name}"
        for module, path in MODULES.items()
        for line, name in private_names_in(path, own)
        if (module, name) not in known
        and not any(module == place and name.startswith(start) for place, start in beginnings)
    ]
    assert not missing, "\n".join(missing)


@pytest.mark.parametrize("name", PRIVATE_NAMES, ids=[each.name for each in PRIVATE_NAMES])
def test_a_row_says_where_the_name_is_used(name: PrivateName) -> None:
    """In modules that are there, and that spell it: a row whose use is gone goes, too."""
    words = [word for word in re.findall(r"\w+", name.name) if len(word) > 2]
    for module in name.used.split():
        source = MODULES[module].read_text()
        assert any(word in source for word in words), f"{module} has nothing of {name.name}"


def test_the_check_runs_before_the_canary() -> None:
    """``make canary`` prints what is gone even where the tests then fail."""
    makefile = (Path(__file__).parents[2] / "Makefile").read_text()
    recipe = makefile.partition("\ncanary:")[2].partition("\n\n")[0]
    assert recipe.index("docs/private_names.py") < recipe.index("call suite")
