"""Garbage collection is put off for a while, and only where it was on."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from torchelastic_otel._runtime import collection


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    enabled = gc.isenabled()
    yield
    collection.go_on()
    (gc.enable if enabled else gc.disable)()


def test_collection_is_off_until_it_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not before; and once is enough."""
    collection.put_off()
    collection.go_on_when_due()
    assert not gc.isenabled()
    collection.go_on()
    assert gc.isenabled()
    monkeypatch.setattr(collection, "PUT_OFF_S", 0.0)
    collection.put_off()
    collection.go_on_when_due()
    assert gc.isenabled()


def test_whoever_switched_collection_off_finds_it_off() -> None:
    """It is not ours to switch on."""
    gc.disable()
    collection.put_off()
    collection.go_on()
    assert not gc.isenabled()
