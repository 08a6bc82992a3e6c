"""Meter providers of our own, one for each run id, so that a program of many jobs does not keep them all.

The SDK never forgets a series, and counts all beyond a limit as one. So each run id has a provider that can
be given up as a whole. What all of them hold is exported together.

Import this after the metrics SDK.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricExporter, MetricsData

from .._delivery.outbox import Outbox
from .._runtime.guard import say_gone
from .ways_out import succeeded


class OneProvider:
    """A provider for all run ids: a program's own, or one with a reader that can have no other.

    Args:
        provider: the provider.
    """

    def __init__(self, provider: Any) -> None:
        self._provider = provider

    def of(self, run_id: str) -> Any:
        """Return the provider."""
        return self._provider

    def key(self, run_id: str) -> str:
        """Return what tells providers apart: nothing."""
        return ""

    def forget(self, run_id: str, *, arrived: bool = True) -> bool:
        """Do nothing: its series are not ours to end."""
        return True

    def force_flush(self, timeout_millis: float) -> bool:
        """Let the provider export."""
        flush = getattr(self._provider, "force_flush", None)
        return flush is None or bool(flush(timeout_millis))


class RunProviders:
    """A provider for each run id, "" for what belongs to none.

    Args:
        exporters: take what all of them hold.
        make: makes a provider with these readers.
        outbox: what keeps the requests of one of the exporters; None if there is none.
    """

    def __init__(
        self,
        exporters: Sequence[MetricExporter],
        make: Callable[[Sequence[InMemoryMetricReader]], MeterProvider],
        outbox: Outbox | None,
    ) -> None:
        self._exporters = exporters
        self._make = make
        self._outbox = outbox
        self._runs: dict[str, tuple[MeterProvider, list[InMemoryMetricReader]]] = {}
        self._changing = threading.Lock()
        self._exported = True

    def of(self, run_id: str) -> MeterProvider:
        """Return the provider of a run id."""
        run = self._runs.get(run_id)
        if run is None:
            readers = [_reader(exporter) for exporter in self._exporters]
            run = self._make(readers), readers
            with self._changing:
                self._runs[run_id] = run
        return run[0]

    def key(self, run_id: str) -> str:
        """Return what tells providers apart."""
        return run_id

    def forget(self, run_id: str, *, arrived: bool = True) -> bool:
        """Give up a run id's series; False if what was exported last is to have arrived and has not.

        Cumulative metrics are kept in their last state alone, which must still have them until then.
        """
        if arrived and not (self._exported and (self._outbox is None or not self._outbox.left())):
            return False
        with self._changing:
            run = self._runs.pop(run_id, None)
        if run is not None:
            run[0].shutdown()
        return True

    def force_flush(self, timeout_millis: float) -> bool:
        """Export what all run ids have measured."""
        with self._changing:
            runs = list(self._runs.values())
        exported = True
        for number, exporter in enumerate(self._exporters):
            data = _together([readers[number].get_metrics_data() for _, readers in runs])
            if data is not None:
                exported &= succeeded(exporter.export(data, timeout_millis=timeout_millis))
            exported &= exporter.force_flush(timeout_millis)
        self._exported = exported
        return exported


def _reader(exporter: MetricExporter) -> InMemoryMetricReader:
    """Return a reader that collects as the exporter prefers: ours says so, and others privately."""
    return InMemoryMetricReader(
        _preference(exporter, "preferred_temporality"), _preference(exporter, "preferred_aggregation")
    )


def _preference(exporter: MetricExporter, what: str) -> Any:
    for name in (what, f"_{what}"):
        if hasattr(exporter, name):
            return getattr(exporter, name)
    say_gone(f"MetricExporter._{what}", "metrics go to that exporter as the SDK's default says")
    return None


def _with_points(data: Any, points: list[Any]) -> Any:
    """Return a sum, gauge or histogram with these points."""
    return replace(data, data_points=points)


def _together(collected: Sequence[MetricsData | None]) -> MetricsData | None:
    """Return as one what providers of one resource have collected, each metric once with all its points."""
    resources = [one for data in collected if data is not None for one in data.resource_metrics]
    if not resources:
        return None
    scopes: dict[Any, Any] = {}
    metrics: dict[Any, dict[str, Any]] = {}
    for scope in (scope for one in resources for scope in one.scope_metrics):
        scopes.setdefault(scope.scope, scope)
        known = metrics.setdefault(scope.scope, {})
        for metric in scope.metrics:
            before = known.get(metric.name)
            points = [*(before.data.data_points if before else ()), *metric.data.data_points]
            known[metric.name] = replace(metric, data=_with_points(metric.data, points))
    merged = [replace(scope, metrics=list(metrics[key].values())) for key, scope in scopes.items()]
    return MetricsData([replace(resources[0], scope_metrics=merged)])
