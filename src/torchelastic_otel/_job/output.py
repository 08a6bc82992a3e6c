"""Where a job's story goes: what the model needs of telemetry, and no more.

The model knows neither OpenTelemetry's SDK nor a sender. ``_telemetry`` implements this; so does any test, in
a few lines.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from .._runtime.clock import Moment
from .._values import Attributes, AttributeValue

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

    from .event import Event
    from .identity import ParentContext


class OpenSpan(Protocol):
    """A span from its start to its end.

    It begins by the wall clock. Its end and its events are placed by their distance from that, by the
    monotonic clock: a wall clock that is set meanwhile does not change how long it took.
    """

    @property
    def context(self) -> SpanContext:
        """Its ids, and whether it is sampled."""

    @property
    def start(self) -> Moment:
        """When it began."""

    @property
    def ended(self) -> bool:
        """Whether ``end`` was called."""

    def add_event(self, name: str, moment: Moment, attributes: Mapping[str, AttributeValue]) -> None:
        """Put an event on it."""

    def set(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Set attributes; once it has ended, nothing happens."""

    def end(self, moment: Moment, outcome: str | None = None, description: str = "") -> None:
        """End it, the first time that this is called.

        Args:
            moment: when; before the start counts as the start.
            outcome: an outcome of the contract, from which its status follows; None where it is not known.
            description: what went wrong, for a status that is an error.
        """


class Output(Protocol):
    """Takes spans, records and measurements."""

    @property
    def exports_spans(self) -> bool:
        """Whether spans go anywhere; a parent that nobody exports is worse than none."""

    @property
    def run_id(self) -> str:
        """The run id of this process's job, "" where it has none or several."""

    def start_span(
        self,
        name: str,
        start: Moment,
        attributes: Attributes,
        *,
        parent: OpenSpan | ParentContext | None,
        trace_id: int = 0,
        span_id: int = 0,
        link: OpenSpan | None = None,
    ) -> OpenSpan:
        """Start a span under ``parent``, or as a root of the trace ``trace_id`` where there is none.

        ``span_id`` is the id promised to others beforehand, 0 for any. Both count only where ids are ours.
        """

    def emit(self, record: Event) -> None:
        """Send a log record on its way.

        What must not leave the process is taken out of ``record`` itself: who draws it on a span afterwards
        draws what was sent.
        """

    def measure(
        self,
        name: str,
        amount: float,
        attributes: Mapping[str, AttributeValue],
        span: SpanContext | None = None,
    ) -> None:
        """Take a measurement of the metric ``name``, in the context of ``span``."""

    def say(self, text: str) -> None:
        """Tell the person at the terminal, or whoever reads the launcher's standard error later."""

    def leave_verdict(self, text: str) -> None:
        """Leave the verdict of a job that failed where the platform shows it."""

    def hurry(self) -> None:
        """Send what there is now: it may be the last that this process gets to say."""

    def belongs_to(self, run_id: str) -> None:
        """Note a job of this process: while there is one alone, the bridge's own metrics are found by it."""

    def job_ended(self, run_id: str) -> None:
        """Note that no job of this run id runs any more; more may still be measured of it, or one begin."""

    def begin_counts(self) -> None:
        """Take the bridge's own counters at zero, so that the first loss is an increase."""

    def worker_environment(self, span: OpenSpan) -> dict[str, str]:
        """Return the environment variables that carry the context of a worker's span."""

    def remote_context(self, parent: ParentContext) -> SpanContext:
        """Return the context of another process's span."""
