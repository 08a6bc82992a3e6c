"""What tests of the events module share."""

from __future__ import annotations

from typing import Any

import pytest

from torchelastic_otel._intake import recording


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """Give what reaches the exporter's queue: (kind, the object itself)."""
    calls: list[tuple[str, Any]] = []
    monkeypatch.setattr(recording, "submit_event", lambda event: calls.append(("event", event)))
    monkeypatch.setattr(
        recording, "submit_rendezvous_event", lambda event: calls.append(("rendezvous", event))
    )
    return calls
