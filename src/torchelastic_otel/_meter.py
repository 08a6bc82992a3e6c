"""Measurements on their way to the SDK's instruments.

The metrics SDK is the dearest part to import, so it is loaded on a thread of its own; what is measured
before that waits here. All of this is used on the bridge's thread.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from . import _contract as c
from ._delivery import Flusher
from ._spans import context_of
from ._values import AttributeValue
from ._version import __version__

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

_MOST_DURATIONS = 1000
_FIRST_EXPORT_S = 30.0

Series = tuple[str, tuple[tuple[str, AttributeValue], ...]]
"""A metric's name, and the attributes of one of its series."""


class Meter:
    """Takes measurements by the names of the contract.

    Args:
        provider: sets up the meter provider, and flushes it.
    """

    def __init__(self, provider: Flusher) -> None:
        self._provider = provider
        self._amounts: dict[Series, tuple[float, SpanContext | None]] = {}
        self._gauges: dict[Series, float] = {}
        self._durations: deque[tuple[Series, float, SpanContext | None]] = deque(maxlen=_MOST_DURATIONS)
        self._instruments: dict[str, Any] = {}

    def measure(
        self,
        name: str,
        amount: float,
        attributes: Mapping[str, AttributeValue],
        span: SpanContext | None = None,
    ) -> None:
        """Add to a counter, set a gauge, or record a histogram's value, in the context of ``span``."""
        series = (name, tuple(attributes.items()))
        kind = c.INSTRUMENTS[name].kind
        if kind == c.HISTOGRAM:
            self._durations.append((series, amount, span))
        elif kind == c.GAUGE:
            self._gauges[series] = amount
        else:
            before, last = self._amounts.get(series, (0, None))
            self._amounts[series] = before + amount, span or last

    def publish(self) -> None:
        """Hand what was measured to the SDK, once that has been loaded."""
        provider: Any = self._provider.flushed
        if provider is None or not (self._amounts or self._durations or self._gauges):
            return
        first = not self._instruments
        for series, (amount, span) in self._amounts.items():
            self._hand_over(provider, series, amount, span)
        self._amounts.clear()
        for series, amount in self._gauges.items():
            # Each time: some versions of the SDK forget a gauge once it was exported.
            self._hand_over(provider, series, amount, None)
        while self._durations:
            self._hand_over(provider, *self._durations.popleft())
        if first:
            # Backends take the first value of a counter for where it starts: let that be its zero.
            self._provider.request(time.monotonic() + _FIRST_EXPORT_S)

    def _hand_over(self, provider: Any, series: Series, amount: float, span: SpanContext | None) -> None:
        name, attributes = series
        instrument = self._instruments.get(name)
        if instrument is None:
            instrument = self._instruments[name] = _instrument(provider, name)
        instrument(amount, dict(attributes), context_of(span))


def _instrument(provider: Any, name: str) -> Any:
    """Make the instrument of a metric; return what takes its measurements."""
    meter = provider.get_meter(c.SCOPE, __version__)
    known = c.INSTRUMENTS[name]
    about = (name, known.unit, known.description)
    if known.kind == c.COUNTER:
        return meter.create_counter(*about).add
    if known.kind == c.UP_DOWN_COUNTER:
        return meter.create_up_down_counter(*about).add
    if known.kind == c.GAUGE:
        return meter.create_gauge(*about).set
    buckets = list(c.SECONDS_BUCKETS)
    return meter.create_histogram(*about, explicit_bucket_boundaries_advisory=buckets).record
