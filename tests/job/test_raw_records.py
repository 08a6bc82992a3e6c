"""What reaches the destination and is no event: a raw record, whatever it is."""

from __future__ import annotations

import pytest

from tests.support.job_player import NOW
from tests.support.job_world import recorded
from tests.support.odd_values import NO_EVENTS
from torchelastic_otel._job.event import WARN
from torchelastic_otel._values import clean_text


@pytest.mark.parametrize("text", NO_EVENTS, ids=lambda text: ascii(text[:40]))
def test_what_is_no_event_is_a_raw_record(text: str) -> None:
    """It arrives as a warning with the text as its body, cut if it is very long."""
    event = recorded(text)
    assert event.name == event.attributes["torchelastic.event"] == "torchelastic.unparsed"
    assert (event.severity, event.time_ns) == (WARN, NOW)
    assert event.body == clean_text(text)
    assert event.span_id == 0
