"""The walls of the house: which room may know what. CONTRIBUTING.md draws the map.

Every import counts: inside functions, for type checkers only, and by ``import_module``.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = "torchelastic_otel"
TESTS = Path(__file__).parent
SOURCE = Path(__file__).parent.parent / "src" / PACKAGE
LONGEST_MODULE = 400

GROUND = "ground"
DOORS = "doors"
ROOMS = (
    "_torch",
    "_intake",
    "_telemetry",
    "_job",
    "_delivery",
    "_config",
    "_runtime",
    "_doctor",
    "_commands",
    "_worker",
)
MAY_IMPORT: dict[str, set[str]] = {
    GROUND: set(),
    "_worker": set(),
    "_runtime": {GROUND},
    "_config": {GROUND, "_runtime"},
    "_job": {GROUND, "_runtime", "_config"},
    "_delivery": {GROUND, "_runtime", "_config"},
    "_telemetry": {GROUND, "_runtime", "_config", "_job", "_delivery"},
    "_intake": {GROUND, "_runtime", "_config", "_job", "_telemetry"},
    "_torch": {GROUND, "_runtime", "_config", "_job", "_intake", "_worker"},
    "_doctor": {GROUND, "_runtime", "_config", "_delivery", "_telemetry"},
    "_commands": {GROUND, "_runtime", "_config", "_delivery"},
    DOORS: {GROUND, *ROOMS},
}
"""What a room may import beside its own modules. A door is a public module, and ``_api`` behind them."""

STRANGERS = {
    "torch": {"_torch"},
    "opentelemetry.sdk": {"_telemetry"},
    "opentelemetry.configuration": {"_telemetry", "_doctor"},
    "opentelemetry.exporter": {"_delivery.encoding"},
    # Log records become messages where they are told: the bytes' room does not know what an event is.
    "opentelemetry.proto": {"_delivery", "_doctor", "_telemetry.log_encoding"},
    "grpc": {"_delivery", "_doctor"},
    "requests": {"_delivery", "_doctor"},
    "urllib3": {"_delivery"},
    "google": {"_delivery", "_commands"},
    "sqlite3": {"_delivery.spool"},
    "wrapt": {"_torch"},
    "re2": {"_config.patterns"},
}
"""Who may import a package: rooms, or modules by name. Others of the list are for nobody."""

ANYBODY = {"opentelemetry"}
"""OpenTelemetry's API: types and contexts. ``_job`` names its types only."""


RECORDS_IN_THE_MAKING = {"_job.translate"}
"""Modules whose subject is a record that is not told yet: they fill it in."""


@dataclass(frozen=True)
class Import:
    """An import of ``target`` by ``module``, both as dotted names."""

    module: str
    target: str
    line: int
    types_only: bool

    @property
    def where(self) -> str:
        """The file and line, for messages."""
        return f"{file_of(self.module).relative_to(SOURCE.parent.parent)}:{self.line}"


def modules() -> dict[str, Path]:
    """Return every module of the package by its dotted name below the package; "" is the package itself."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def file_of(module: str) -> Path:
    """Return a module's file."""
    return MODULES[module]


def room_of(module: str) -> str:
    """Return the room that a module is in."""
    first = module.partition(".")[0]
    if first in ROOMS:
        return first
    return GROUND if first in ("_contract", "_values", "_version") else DOORS


def imports_of(module: str) -> Iterator[Import]:
    """Yield what a module imports: names of this package below it, others whole."""
    path = file_of(module)
    tree = ast.parse(path.read_text())
    type_lines = {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    for node in ast.walk(tree):
        for target in _targets(module, path, node):
            line = getattr(node, "lineno", 0)
            yield Import(module, target, line, line in type_lines)


def _targets(module: str, path: Path, node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (_below(alias.name) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        above = package.split(".") if package else []
        above = above[: len(above) - (node.level - 1)] if node.level > 1 else above
        base = ".".join([*above, node.module or ""]).strip(".") if node.level else _below(node.module or "")
        for alias in node.names:
            inner = f"{base}.{alias.name}".strip(".")
            yield inner if inner in MODULES and (node.level or base in MODULES) else base
    elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
        name = [*node.args, *(each.value for each in node.keywords)][:1]
        if name and isinstance(name[0], ast.Constant) and isinstance(name[0].value, str):
            yield _below(name[0].value)


def _below(name: str) -> str:
    return "" if name == PACKAGE else name.removeprefix(f"{PACKAGE}.")


IMPORTS = [each for module in MODULES for each in imports_of(module)]


def test_the_map_has_every_room() -> None:
    """A new package under the root needs a place in the order, and a line on the map."""
    packages = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert packages == set(ROOMS)


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_rooms_below_it(room: str) -> None:
    """What is understood does not know who tells it, what is delivered does not know what it says."""
    wrong = [
        f"{each.where}: {each.module} imports {each.target}, and {room} may import only "
        f"{', '.join(sorted(MAY_IMPORT[room])) or 'nothing of the package'}"
        for each in IMPORTS
        if room_of(each.module) == room
        and each.target in MODULES
        and room_of(each.target) not in {room, *MAY_IMPORT[room]}
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("package", STRANGERS)
def test_a_package_is_known_where_it_belongs(package: str) -> None:
    """Torch in one room, the SDK in one room, each library where its work is done."""
    allowed = STRANGERS[package]
    wrong = [
        f"{each.where}: {each.module} imports {each.target}, which is for {', '.join(sorted(allowed))} alone"
        for each in IMPORTS
        if (each.target == package or each.target.startswith(f"{package}."))
        and each.target not in MODULES
        and not any(each.module == place or each.module.startswith(f"{place}.") for place in allowed)
    ]
    assert not wrong, "\n".join(wrong)


def test_other_packages_are_on_the_list() -> None:
    """A new dependency is somebody's alone, and costs every image: it gets its line in ``STRANGERS``."""
    known = {name.partition(".")[0] for name in (*STRANGERS, *ANYBODY)} | set(sys.stdlib_module_names)
    wrong = [
        f"{each.where}: {each.module} imports {each.target}"
        for each in IMPORTS
        if each.target not in MODULES and each.target and each.target.partition(".")[0] not in known
    ]
    assert not wrong, "\n".join(wrong)


def test_what_runs_in_workers_needs_the_standard_library_alone() -> None:
    """A worker's start pays for each import, and its Python need not have this package or any other."""
    wrong = [
        f"{each.where}: {each.module} imports {each.target}"
        for each in IMPORTS
        if room_of(each.module) == "_worker"
        and room_of(each.target) != "_worker"
        and each.target.partition(".")[0] not in sys.stdlib_module_names
    ]
    assert not wrong, "\n".join(wrong)


def test_a_job_alone_changes_its_state() -> None:
    """In ``_job`` an attribute of another object is set by that object's own methods."""
    mine = ("self",)
    wrong = [
        f"{path.relative_to(SOURCE.parent.parent)}:{node.lineno}: {ast.unparse(target)} is set from outside"
        for module, path in MODULES.items()
        if room_of(module) == "_job" and module not in RECORDS_IN_THE_MAKING
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Attribute)
        and ast.unparse(target).partition(".")[0] not in mine
        and not ast.unparse(target).startswith("event.")
    ]
    assert not wrong, "\n".join(wrong)


def test_understanding_needs_no_opentelemetry() -> None:
    """``_job`` imports types of OpenTelemetry's API for type checkers alone."""
    wrong = [
        f"{each.where}: {each.module} imports {each.target} when it runs"
        for each in IMPORTS
        if room_of(each.module) == "_job" and each.target.startswith("opentelemetry") and not each.types_only
    ]
    assert not wrong, "\n".join(wrong)


def test_torch_is_named_where_it_is_known() -> None:
    """Names of torch's modules are spelled in ``_torch`` alone; two places say why they are not."""
    allowed = {
        "events": "mirrors torch's API, and takes torch's own events",
        "_job.torch_words": "the words that events are recognised by",
        "_worker.torch_names": "what a recorder hooks; it cannot import another room",
    }
    wrong = [
        f"{path.relative_to(SOURCE.parent.parent)}:{node.lineno}: {node.value!r} is for _torch"
        for module, path in MODULES.items()
        if room_of(module) != "_torch" and module not in allowed
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and "\n" not in node.value
        and node.value.startswith("torch.")
    ]
    assert not wrong, "\n".join(wrong)


def test_imports_have_no_circle() -> None:
    """Not even inside of functions: a reader can begin at the bottom and never meet what comes later."""
    graph: dict[str, set[str]] = {module: set() for module in MODULES}
    for each in IMPORTS:
        if each.target in MODULES and each.target != each.module and each.target:
            graph[each.module].add(each.target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail("circle of imports: " + " <- ".join(error.args[1]))


def test_no_module_is_longer_than_can_be_read() -> None:
    """About 400 lines: beyond that it is two things."""
    lengths = {module: len(path.read_text().splitlines()) for module, path in MODULES.items()}
    assert {module: length for module, length in lengths.items() if length > LONGEST_MODULE} == {}


def test_packages_have_no_logic() -> None:
    """An ``__init__`` imports and names; the package's own one may make one call."""
    wrong = []
    for module, path in MODULES.items():
        if path.name != "__init__.py":
            continue
        calls = 0
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
                calls += 1
            elif not isinstance(node, ast.Import | ast.ImportFrom | ast.Expr | ast.Assign):
                wrong.append(f"{path.relative_to(SOURCE.parent.parent)}:{node.lineno}")
        if calls > (module == ""):
            wrong.append(f"{path.relative_to(SOURCE.parent.parent)}: {calls} calls")
    assert not wrong, "\n".join(wrong)


def test_tests_share_what_is_in_support() -> None:
    """No test imports another: what two of them need is nobody's test."""
    shared = [
        f"{path.relative_to(TESTS)}:{node.lineno}"
        for path in TESTS.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
        if re.search(r"(^|\.)(test_\w+|conftest)$", name)
    ]
    assert shared == []


def test_no_test_sleeps() -> None:
    """A test waits for what it needs, and says how long at most; to let others run takes no time."""
    asleep = [
        f"{path.relative_to(TESTS)}:{node.lineno}"
        for path in TESTS.rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        if ast.unparse(node.func).rpartition(".")[2] == "sleep"
        if ast.unparse(node.args[0]) != "0"
    ]
    assert asleep == []
