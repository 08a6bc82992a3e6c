"""What the project's names are called in Prometheus and Loki, and the query forms that the panels share.

``dashboards.py`` builds its queries from here, and the tests hold every query against ``PROMETHEUS_METRICS``
and ``LOKI_LABELS``: a renamed metric or attribute can't leave a dead panel or alert.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from torchelastic_otel import _contract as c


def label(attribute: str) -> str:
    """Return the name of an attribute in Prometheus and in Loki (as structured metadata)."""
    return attribute.replace(".", "_")


def prometheus_name(metric: str) -> str:
    """Return the name under which Prometheus keeps a metric that came by OTLP.

    A histogram has the further endings ``_bucket``, ``_count`` and ``_sum``.
    """
    known = c.INSTRUMENTS[metric]
    name = label(metric)
    if known.unit == "s":
        name += "_seconds"
    if known.kind == c.COUNTER:
        name += "_total"
    return name


def _prometheus_metrics() -> dict[str, frozenset[str]]:
    found = {}
    for metric, known in c.INSTRUMENTS.items():
        labels = frozenset({*map(label, (c.RUN_ID, *known.attributes)), *RESOURCE_LABELS})
        name = prometheus_name(metric)
        if known.kind == c.HISTOGRAM:
            found[f"{name}_bucket"] = labels | {"le"}
            found[f"{name}_count"] = found[f"{name}_sum"] = labels
        else:
            found[name] = labels
    return found


RESOURCE_LABELS: Final = frozenset({"job", "instance"})
"""``service.name`` and ``service.instance.id``, on every series that came by OTLP."""
HOST: Final = label("host.name")
TARGET_INFO: Final = "target_info"
"""What else the resource says, host and all, is on this series alone."""

PROMETHEUS_METRICS: Final[dict[str, frozenset[str]]] = {
    TARGET_INFO: RESOURCE_LABELS | {HOST},
    **_prometheus_metrics(),
}
"""Every series that a query may ask for, with the labels that it has."""

LOKI_LABELS: Final = frozenset(
    {"service_name", HOST, "trace_id", "span_id", "severity_text", "severity_number"}
    | {
        label(value)
        for name, value in vars(c).items()
        if name.isupper() and isinstance(value, str) and "." in value
        if not name.startswith(("METRIC_", "EVENT_", "SPAN_", "TORCH_")) and not value.endswith(".")
    }
)
"""Every label and every piece of structured metadata that a query may ask for."""

RUN: Final = label(c.RUN_ID)
CAUSE: Final = label(c.RESTART_CAUSE)

NOW: Final = "5m"
"""How long Prometheus takes the last sample for the present one."""

BASE_LOOKBACK: Final = "1h"
"""How far back the value at the beginning of a range is looked for: longer than a backend is away, mostly."""


@dataclass(frozen=True)
class Queries:
    """Builds the queries of a dashboard.

    Args:
        one_run: whether the dashboard is of one run id, not of all that are chosen.
    """

    one_run: bool

    @property
    def _run(self) -> str:
        return f'{RUN}="$run_id"' if self.one_run else f'{RUN}=~"$run_id"'

    def metric(self, metric: str, *matchers: str, ending: str = "") -> str:
        """Return a PromQL selector for a metric of the chosen service and run ids."""
        chosen = ", ".join(('job=~"$service"', self._run, *matchers))
        return f"{prometheus_name(metric)}{ending}{{{chosen}}}"

    def increase(self, metric: str, window: str, *matchers: str, ending: str = "") -> str:
        """Return the exact increase of each of a counter's series over a window, on the chosen hosts.

        ``increase()`` does not count what a series begins with, and extrapolates the rest: of a job that
        lasts a minute it tells nothing, or too much. Each launcher is a series of its own that begins at 0
        and never goes back, so the increase is the last value less the one at the window's beginning; that
        one is 0 where the series is younger.
        """
        chosen = self.metric(metric, *matchers, ending=ending)
        last = f"max_over_time({chosen}[{window}])"
        first = f"last_over_time({chosen}[{BASE_LOOKBACK}] offset {window}) or {last} * 0"
        return self.on_hosts(f"({last} - ({first}))", window)

    def last(self, metric: str, window: str, *matchers: str) -> str:
        """Return the last value of each series in a window, on the chosen hosts."""
        return self.on_hosts(f"last_over_time({self.metric(metric, *matchers)}[{window}])", window)

    def now(self, metric: str, *matchers: str) -> str:
        """Return the present value of each series, on the chosen hosts."""
        return self.on_hosts(self.metric(metric, *matchers), NOW)

    @property
    def launchers(self) -> str:
        """Return a selector of one series for each launcher, there from its first sample to its last."""
        return self.metric(c.METRIC_DOWNTIME, f'{CAUSE}="{c.DOWN_STARTUP}"')

    @staticmethod
    def on_hosts(expression: str, window: str) -> str:
        """Return the expression without the launchers that are known to be on a host that is not chosen."""
        others = f'{TARGET_INFO}{{job=~"$service", {HOST}!~"$host"}}'
        return f"({expression} unless on (job, instance) last_over_time({others}[{window}]))"

    @staticmethod
    def with_host(expression: str, window: str) -> str:
        """Return the expression with the label of the host, which only the resource tells."""
        chosen = f'{TARGET_INFO}{{job=~"$service", {HOST}=~"$host"}}'
        known = f"max by (job, instance, {HOST}) (last_over_time({chosen}[{window}]))"
        return f"{expression} * on (job, instance) group_left ({HOST}) {known}"

    @staticmethod
    def of_the_most(shown: str, label: str, ranked: str, window: str) -> str:
        """Return what is shown of the twenty with the most over the whole range.

        ``topk`` by itself chooses anew at each moment: of a thousand equals it would name a thousand.
        """
        ranked = ranked.replace(f"[{window}]", f"[{window}] @ end()")
        return f"{shown} and on ({label}) topk(20, {ranked})"

    def total(self, metric: str, window: str, by: str = "", *matchers: str) -> str:
        """Return the sum of the exact increases over a window."""
        grouped = f" by ({by})" if by else ""
        return f"sum{grouped} ({self.increase(metric, window, *matchers)})"

    def restarts(self, window: str) -> str:
        """Return how often each job restarted: each of its launchers counts the same restart once."""
        each = self.total(c.METRIC_RESTARTS, window, f"job, instance, {RUN}")
        return f"max by (job, {RUN}) ({each})"

    def availability(self, window: str, by: str = "") -> str:
        """Return the share of the time in which workers ran.

        What comes after the last workers (``shutdown``: the exit barrier, the launcher's end) is no time in
        which they should have run, and is left out.
        """
        up = self.total(c.METRIC_UPTIME, window, by)
        down = self.total(c.METRIC_DOWNTIME, window, by, f'{CAUSE}!="{c.DOWN_SHUTDOWN}"')
        return f"{up} / ({up} + {down} > 0)"

    def quantile(self, share: float, metric: str, window: str) -> str:
        """Return a percentile of a histogram over a window; nothing, not NaN, where nothing was measured."""
        buckets = self.increase(metric, window, ending="_bucket")
        return f"histogram_quantile({share}, sum by (le) ({buckets})) >= 0"

    def logs(self, *events: str, where: str = "") -> str:
        """Return a LogQL query for the records of the chosen service, run ids and hosts, of these events."""
        named = "|".join(event.replace(".", "[.]") for event in events)
        if len(events) == 1:
            named = f' | {label(c.EVENT)}="{events[0]}"'
        elif events:
            named = f' | {label(c.EVENT)}=~"{named}"'
        return f'{{service_name=~"$service_name"}}{named} | {self._run} | {HOST}=~"$host"{where}'
