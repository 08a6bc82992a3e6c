"""What tests of the commands share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.node import Node


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """A machine of the test's own."""
    return Node(tmp_path / "spool")
