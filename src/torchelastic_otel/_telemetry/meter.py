"""Measurements on their way to the SDK's instruments.

The metrics SDK is the dearest part to import, so it is loaded on a thread of its own; what is measured
before that waits here. All of this is used on the bridge's thread.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .. import _contract as c
from .._runtime.guard import note_internal_error, say_once
from .._values import AttributeValue
from .._version import __version__
from .context import context_of
from .flusher import Flusher

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

_MOST_DURATIONS = 1000
_ZERO_EXPORT_S = 30.0
ENDED_THAT_STAY = 16
"""So many run ids whose jobs have ended keep their series."""
_MOST_ENDED = 256

Series = tuple[str, tuple[tuple[str, AttributeValue], ...]]
"""A metric's name, and the attributes of one of its series."""


class Meter:
    """Takes measurements by the names of the contract.

    Args:
        provider: sets up what provides meters (``run_providers``), and flushes it.
    """

    def __init__(self, provider: Flusher) -> None:
        self._provider = provider
        self._amounts: dict[Series, tuple[float, SpanContext | None]] = {}
        self._durations: deque[tuple[Series, float, SpanContext | None]] = deque(maxlen=_MOST_DURATIONS)
        self._zeros: dict[Series, int] = {}
        self._instruments: dict[str, dict[str, Any]] = {}
        self._seen: set[str] = set()
        self._ended: dict[str, int] = {}  # run ids, and the export that has the last of them; 0 if none yet

    def measure(
        self,
        name: str,
        amount: float,
        attributes: Mapping[str, AttributeValue],
        span: SpanContext | None = None,
    ) -> None:
        """Add to a counter, set a gauge, or record a histogram's value, in the context of ``span``."""
        series = (name, tuple(attributes.items()))
        self._seen.add(_run_of(series))
        kind = c.INSTRUMENTS[name].kind
        if kind == c.HISTOGRAM:
            self._durations.append((series, amount, span))
        elif kind == c.GAUGE:
            self._amounts[series] = amount, span
        else:
            before, last = self._amounts.get(series, (0, None))
            self._amounts[series] = before + amount, span or last

    def publish(self, *, last: bool = False) -> None:
        """Hand what was measured to the SDK, once that has been loaded.

        Backends take a counter's first value for where it starts. So what counts failures and losses is
        exported at zero first, and then counts; unless this is the ``last`` chance.
        """
        provider: Any = self._provider.flushed
        if provider is None:
            return
        waiting, self._amounts = self._amounts, {}
        began: list[Series] = []
        for series, (amount, span) in waiting.items():
            if series[0] in c.ZERO_FIRST and not last:
                if series not in self._zeros:
                    began.append(series)
                    self._hand_over(provider, series, 0, None)
                if amount and self._provider.done < self._zeros.get(series, sys.maxsize):
                    self._amounts[series] = amount, span
                    continue
            self._hand_over(provider, series, amount, span)
        while self._durations:
            self._hand_over(provider, *self._durations.popleft())
        waiting_for = {_run_of(series) for series in self._amounts}
        over = [run_id for run_id, number in self._going() if not number and run_id not in waiting_for]
        if began or over:
            number = self._provider.request(time.monotonic() + _ZERO_EXPORT_S)
            self._zeros.update(dict.fromkeys(began, number))
            self._ended.update(dict.fromkeys(over, number))
        self._forget(provider)

    def begin(self, run_id: str) -> None:
        """A job of this run id runs: its series stay."""
        self._ended.pop(run_id, None)

    def end(self, run_id: str) -> None:
        """No job of this run id runs any more: its series go, exported, once others have ended after it."""
        if run_id in self._seen:
            self._ended.setdefault(run_id, 0)

    def _going(self) -> list[tuple[str, int]]:
        """Return the ended run ids whose series are to go, with their exports.

        The last ones stay: where a program launches one again by the same run id, its counters go on.
        """
        return list(self._ended.items())[:-ENDED_THAT_STAY]

    def _forget(self, provider: Any) -> None:
        done = self._provider.done
        for run_id, number in self._going():
            if number and done >= number and provider.forget(run_id):
                self._drop(run_id)
        while len(self._ended) > _MOST_ENDED:
            say_once("ended series", "metrics of ended jobs cannot be delivered, and the oldest are lost.")
            oldest = next(iter(self._ended))
            provider.forget(oldest, arrived=False)
            self._drop(oldest)

    def _drop(self, run_id: str) -> None:
        del self._ended[run_id]
        self._seen.discard(run_id)
        self._instruments.pop(run_id, None)
        for series in [series for series in self._zeros if _run_of(series) == run_id]:
            del self._zeros[series]

    def _hand_over(self, provider: Any, series: Series, amount: float, span: SpanContext | None) -> None:
        name, attributes = series
        run_id = _run_of(series)
        if run_id in self._ended:
            self._ended[run_id] = 0  # it came late, and is to be exported, too
        try:
            instruments = self._instruments.setdefault(provider.key(run_id), {})
            instrument = instruments.get(name)
            if instrument is None:
                instrument = instruments[name] = _instrument(provider.of(run_id), name)
            instrument(amount, dict(attributes), context_of(span))
        except Exception as error:  # a view or a reservoir of the program's
            note_internal_error(f"measuring {name}", error)


def _run_of(series: Series) -> str:
    """Return the run id that a series goes with; "" for what the bridge counts of itself, which goes on."""
    name, attributes = series
    return "" if name.startswith(f"{c.SCOPE}.") else str(dict(attributes).get(c.RUN_ID, ""))


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
