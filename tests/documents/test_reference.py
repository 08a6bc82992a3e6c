"""The references of telemetry and configuration say what the code says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from torchelastic_otel import _contract

ROOT = Path(__file__).parents[2]


def test_the_tables_of_the_references_are_what_the_code_says() -> None:
    """Those of telemetry.md are made of the contract, those of configuration.md of the variables."""
    done = subprocess.run(
        [sys.executable, "docs/reference.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_name_of_the_contract_is_in_the_reference() -> None:
    """No span, event, attribute or metric is missing from the document."""
    text = (ROOT / "docs" / "telemetry.md").read_text()
    prefixes = ("SPAN_", "EVENT_", "METRIC_")
    names = {value for key, value in vars(_contract).items() if key.startswith(prefixes)}
    names |= set(_contract.TORCH_KEYS.values())
    assert names
    assert {name for name in names if f"`{name}`" not in text} == set()


def test_no_other_module_spells_a_name_of_the_contract() -> None:
    """A name in quotes outside the contract would be a second source of it."""
    source = ROOT / "src" / "torchelastic_otel"
    spelled = [
        f"{path.name}: {line.strip()}"
        for path in source.rglob("*.py")
        if path.name != "_contract.py"
        for line in path.read_text().splitlines()
        if '"torchelastic.' in line
    ]
    assert spelled == []
