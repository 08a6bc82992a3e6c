"""What the two dashboards share: their head, and what a job's state is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as models

import dashboard_parts as p
from dashboard_names import HOST, NOW, RUN, TARGET_INFO, Queries, label, prometheus_name
from torchelastic_otel import _contract as c

JOBS_UID: Final = "torchelastic-jobs"
JOB_UID: Final = "torchelastic-job"
RANGE: Final = "$__range"
STEP: Final = "$__interval"

ENDED, LOST, WAITING, RUNNING, FAILED = "0", "1", "2", "3", "4"
STATES: Final = {
    RUNNING: ("running", "green"),
    WAITING: ("waiting", "orange"),
    LOST: ("went silent", "red"),
    FAILED: ("failed", "red"),
    ENDED: ("ended", "text"),
}
STATE_MEANS: Final = (
    "**running**: workers run. **waiting**: no worker runs, and a node waits in the rendezvous. **failed**: "
    "a launcher ended as failed. **went silent**: nothing came from a launcher for 5 minutes, and it did not "
    "say that it ends: killed, or cut off. **ended**: every launcher said goodbye"
)


def failed(q: Queries) -> str:
    """Return the jobs that have a launcher that ended as failed in the range."""
    ended = q.last(c.METRIC_LAUNCHERS_ENDED, RANGE, f'{label(c.OUTCOME)}="{c.OUTCOME_FAILED}"')
    return f"max by (job, {RUN}) ({ended}) > 0"


def state(q: Queries) -> str:
    """Return each job's state as a number."""
    by = f"by (job, {RUN})"
    active, waiting = c.METRIC_WORKER_ACTIVE, c.METRIC_RENDEZVOUS_WAITING
    gone = f"unless on (job, instance) {q.launchers}"
    ended = f"sum by (job, instance, {RUN}) ({q.last(c.METRIC_LAUNCHERS_ENDED, RANGE)})"
    silent = (
        f"max {by} ({ended} == 0 {gone}) + 1 "
        # The last word of launchers of older versions, which count no ends.
        f"or sum {by} ({q.last(active, RANGE)} {gone}) > 0 or max {by} ({q.last(waiting, RANGE)} {gone}) > 0"
    )
    return (
        f"(sum {by} ({q.now(active)}) > 0) * 0 + {RUNNING} "
        f"or (max {by} ({q.now(waiting)}) > 0) * 0 + {WAITING} "
        f"or ({failed(q)}) * 0 + {FAILED} "
        f"or ({silent}) * 0 + {LOST} "
        f"or max {by} ({q.on_hosts(f'last_over_time({q.launchers}[{RANGE}])', RANGE)}) * 0"
    )


def last_seen(q: Queries) -> str:
    """Return when each job's last sample was taken, in ms. A step of 5 minutes misses no series."""
    by, samples = f"max by (job, {RUN})", f"timestamp({q.launchers})"
    return f"({by} ({samples}) or max_over_time({by} ({samples})[{RANGE}:{NOW}])) * 1000"


def run_time(q: Queries, by: str) -> str:
    """Return how long each job has lasted up to now: the longest of its launchers."""
    each = f"sum by (job, instance, {RUN})"
    spent = f"{each} ({q.last(c.METRIC_UPTIME, RANGE)}) + {each} ({q.last(c.METRIC_DOWNTIME, RANGE)})"
    return f"max by ({by}) ({spent})"


def dashboard_of(title: str, uid: str, description: str) -> dashboard.Dashboard:
    """Return an empty dashboard with the choice of the service."""
    series = prometheus_name(c.METRIC_DOWNTIME)
    service = f"label_values({series}, job)"
    chosen = f'label_values({series}{{job=~"$service"}}, job)'
    return (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags(["torchelastic"])
        .refresh("1m")
        .timezone("browser")
        .editable()
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .with_variable(p.choice("service", "Service", "service.name of the launchers", service, several=True))
        .with_variable(
            # Prometheus puts a service's namespace before its name, Loki does not.
            p.choice(
                "service_name",
                "Service in Loki",
                "The service without namespace",
                chosen,
                several=True,
                all_value=None,
            )
            .regex("/(?:.*[/])?(.*)/")
            .hide(models.VariableHide.HIDE_VARIABLE)
        )
    )


def filled(made: dashboard.Dashboard, panels: Sequence[p.Panel]) -> dashboard.Dashboard:
    """Return the dashboard with the choice of data sources, and panels that are numbered for links."""
    for name in ("Prometheus", "Loki", "Tempo", "Jaeger"):
        made.with_variable(p.datasource_variable(name.lower(), name, name.lower()))
    for number, panel in enumerate(panels, start=1):
        made.with_panel(panel.id(number))
    return made


def run_variable(*, several: bool) -> dashboard.QueryVariable:
    """Return the choice of the run id, or of several."""
    query = f'label_values({prometheus_name(c.METRIC_DOWNTIME)}{{job=~"$service"}}, {RUN})'
    return p.choice("run_id", "Run id", "torchrun's --rdzv-id", query, several=several)


def host_variable() -> dashboard.QueryVariable:
    """Return the choice of hosts."""
    query = f'label_values({TARGET_INFO}{{job=~"$service"}}, {HOST})'
    return p.choice("host", "Host", "host.name of the launchers", query, several=True)
