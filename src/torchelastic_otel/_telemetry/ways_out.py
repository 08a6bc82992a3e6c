"""Where each signal leaves the process: by OTLP through the outbox, or by other exporters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .._config.exporters import plan_exporters
from .._config.limits import BatchSettings, batch_settings
from .batcher import Batcher, Export
from .other_exporters import load_exporter

if TYPE_CHECKING:
    from .._config.environment import Signal, Warn
    from .._config.exporters import ExporterPlan
    from .._delivery.outbox import Outbox
    from .._delivery.outboxes import Outboxes

_AT_ONCE = BatchSettings(delay_s=0.0, max_batch=1, max_queue=1024)


class WaysOut:
    """Makes the ways out that the variables ask for, and flushes them.

    Args:
        environ: the process's environment; ``OTEL_*`` is read from it.
        warn: takes one clear sentence for each thing that is wrong in it.
        outboxes: keep and sends what goes by OTLP.
    """

    def __init__(self, environ: Mapping[str, str], warn: Warn, outboxes: Outboxes) -> None:
        self._environ = environ
        self._warn = warn
        self._outboxes = outboxes
        self._batchers: list[Batcher[Any]] = []

    def of(
        self, signal: Signal, adapt: Callable[[Any], Export[Any]]
    ) -> tuple[Outbox | None, list[Batcher[Any]]]:
        """Return where a signal goes by OTLP, and where by other exporters; ``adapt`` makes those take it."""
        outbox: Outbox | None = None
        batchers: list[Batcher[Any]] = []
        for plan in plan_exporters(signal, self._environ, self._warn):
            settings = batch_settings(signal, self._environ, self._warn)
            if plan.otlp is not None and outbox is None:
                outbox = self._outboxes.outbox(signal, plan.otlp, settings)
                continue

            def load(plan: ExporterPlan = plan) -> Export[Any] | None:
                exporter = load_exporter(plan, self._warn)
                return None if exporter is None else adapt(exporter)

            batchers.append(
                Batcher(
                    signal,
                    load,
                    delay_s=settings.delay_s,
                    max_batch=settings.max_batch,
                    max_queue=settings.max_queue,
                )
            )
        self._batchers += batchers
        return outbox, batchers

    def of_metrics(self) -> tuple[list[ExporterPlan], Outbox | None]:
        """Return the exporters of metrics, which the SDK's readers use, and the outbox of those by OTLP."""
        plans = plan_exporters("metrics", self._environ, self._warn)
        target = next((plan.otlp for plan in plans if plan.otlp is not None), None)
        return plans, None if target is None else self._outboxes.outbox("metrics", target, _AT_ONCE)

    def counts(self) -> Counter[tuple[str, str, str]]:
        """Return items so far, by signal, what became of them, and why."""
        found = self._outboxes.counts()
        for batcher in self._batchers:
            for why, count in list(batcher.drops.items()):
                found[batcher.signal, "dropped", why] += count
        return found

    def _parts(self) -> list[Batcher[Any] | Outbox]:
        return [*self._batchers, *self._outboxes]

    def wait_loaded(self, deadline: float) -> None:
        """Wait until what sends is loaded, at most until ``deadline`` (``time.monotonic`` seconds)."""
        for part in self._parts():
            part.wait_loaded(deadline)

    def hurry(self) -> None:
        """Ask for all that is queued to be sent now, without waiting."""
        for part in self._parts():
            part.hurry()

    def flush(self, deadline: float, collected: Callable[[], bool]) -> bool:
        """Send all that is queued; False if that is not done by ``deadline`` (``time.monotonic`` seconds).

        ``collected`` waits until metrics are in their outbox, and tells whether they are: that comes before
        the outbox is flushed.
        """
        parts = self._parts()
        metrics = [part for part in parts if part.signal == "metrics"]
        others = [part for part in parts if part.signal != "metrics"]
        done = [part.flush(deadline) for part in others]
        done.append(collected())
        done += [part.flush(deadline) for part in metrics]
        return all(done)


def succeeded(result: Any) -> bool:
    """Tell whether an exporter has taken a batch, by what it answers."""
    return getattr(result, "name", "SUCCESS") == "SUCCESS"


def export_by(exporter: Any, convert: Callable[[Sequence[Any]], Sequence[Any]]) -> Export[Any]:
    """Return what hands batches to an exporter of the SDK's kind, in the form that ``convert`` gives them."""

    def export(batch: Sequence[Any]) -> bool:
        return succeeded(exporter.export(convert(batch)))

    return export
