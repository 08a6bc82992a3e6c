"""What the tests of the doctor share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.doctor import Doctor


@pytest.fixture
def doctor(tmp_path: Path) -> Doctor:
    """A doctor with a spool of its own."""
    return Doctor(tmp_path)
