"""Only ``_torch`` knows torch: read in the sources."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import torchelastic_otel

ROOT = Path(torchelastic_otel.__file__).parent
MODULES = {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in ROOT.rglob("*.py")}


def imported(tree: ast.AST) -> set[str]:
    """Return the top-level names of what a module imports, whenever it does."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names.add(node.module.partition(".")[0])
    return names


def texts(tree: ast.AST) -> set[str]:
    """Return the texts that a module's code holds; what stands alone is documentation."""
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation
    }


@pytest.mark.parametrize("module", MODULES)
def test_nobody_imports_torch(module: str) -> None:
    """Importing it takes seconds; the hooks wait until the program does."""
    assert "torch" not in imported(MODULES[module])


def test_modules_of_torch_are_named_in_one_place() -> None:
    """Whoever reads what a new version of torch has moved finds the names there."""
    naming = {
        module for module, tree in MODULES.items() if any("torch.distributed" in t for t in texts(tree))
    }
    assert naming == {"_torch/names.py", "_worker/torch_names.py"}


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith(("_runtime/", "_intake/"))])
def test_what_lives_in_any_host_knows_no_name_of_torchs(module: str) -> None:
    """Neither the guard nor the queue would be other ones in another host."""
    assert not {text for text in texts(MODULES[module]) if "SignalException" in text or "torch." in text}
