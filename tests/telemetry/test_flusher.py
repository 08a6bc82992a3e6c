"""Flushing a provider that the program brought: with a deadline, whatever the provider does."""

from __future__ import annotations

import threading
import time

import pytest

from tests.support.said import Said
from tests.support.waiting import LONG_S, soon
from torchelastic_otel._telemetry.flusher import Flusher


class Provider:
    """Something of the SDK's that can be flushed; can be held, and told to raise."""

    def __init__(self) -> None:
        self.flushes = 0
        self.go_on = threading.Event()
        self.go_on.set()
        self.error: Exception | None = None

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush, far beyond the time-out if held."""
        assert self.go_on.wait(LONG_S)
        self.flushes += 1
        if self.error is not None:
            raise self.error
        return True


def test_providers_flush_has_a_deadline() -> None:
    """The SDK's own may block far beyond its time-out; nobody waits for that."""
    provider = Provider()
    flusher = Flusher("logs", lambda: provider)
    provider.go_on.clear()
    number = flusher.request(soon())
    assert flusher.wait(number, time.monotonic() + 0.01) is False
    provider.go_on.set()
    assert flusher.wait(number, soon()) is True
    assert provider.flushes == 1


@pytest.mark.internal_errors("flushing: ValueError: wrong")
def test_providers_flush_that_raises(said: Said) -> None:
    """It counts as done, and the next one is tried again."""
    provider = Provider()
    provider.error = ValueError("wrong")
    flusher = Flusher("logs", lambda: provider)
    for _ in range(2):
        assert flusher.wait(flusher.request(soon()), soon())
    assert provider.flushes == 2
    assert len(said.texts) == 1


@pytest.mark.parametrize("made", [None, object()])
def test_what_cannot_be_flushed_is_done(made: object) -> None:
    """There may be no such provider, or one without a flush."""
    flusher = Flusher("logs", lambda: made)
    assert flusher.wait(flusher.request(soon()), soon())
