"""What tests of delivery share."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.credentials import Authority
from tests.support.node import Node
from tests.support.spools import MANY_BYTES, PLACES
from torchelastic_otel._delivery.spool import Spool


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory that is not there yet."""
    return tmp_path / "spool"


@pytest.fixture
def spool(directory: Path) -> Iterator[Spool]:
    """This process's own store."""
    made = Spool.create(directory, MANY_BYTES, PLACES)
    yield made
    made.discard()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if re.match(r"OTEL_|GRPC_|.*_PROXY$|.*CA_BUNDLE$", name, re.IGNORECASE):
            monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Make the certificates once."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """A machine of the test's own."""
    return Node(tmp_path / "spool")
