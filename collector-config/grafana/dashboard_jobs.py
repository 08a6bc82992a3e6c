"""The dashboard **Jobs**: what is wrong with the training jobs, and where?"""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as models

import dashboard_parts as p
import dashboard_shared as shared
from dashboard_names import CAUSE, HOST, NOW, RUN, Queries, label
from dashboard_shared import RANGE, STEP
from torchelastic_otel import _contract as c

FAILED: Final = f' | {label(c.OUTCOME)}="{c.OUTCOME_FAILED}"'
DROPPED: Final = f'{label(c.REASON)}!="unsupported"'
JOB_OF_ROW: Final = [
    p.link(
        "Open the job",
        f"/d/{shared.JOB_UID}?${{service:queryparam}}&var-run_id=${{__value.raw}}&${{__url_time_range}}",
    )
]


def jobs() -> dashboard.Dashboard:
    """Return the dashboard of all jobs."""
    q = Queries(one_run=False)
    built = (
        shared.dashboard_of(
            "torchelastic: Jobs", shared.JOBS_UID, "What is wrong with the training jobs, and where?"
        )
        .time("now-6h", "now")
        .with_variable(shared.run_variable(several=True))
        .with_variable(shared.host_variable())
        .link(
            dashboard.DashboardLink("Job")
            .type(models.DashboardLinkType.LINK)
            .url(f"/d/{shared.JOB_UID}")
            .keep_time(True)
        )
    )
    return shared.filled(built, [*_jobs_first(q), *_jobs_over_time(q), *_jobs_ranked(q), *_bridge(q)])


def _jobs_first(q: Queries) -> list[p.Panel]:
    by_job = f"by (job, {RUN})"
    stops = q.logs(c.EVENT_AGENT_STOP, where=FAILED)
    running = f"sum {by_job} ({q.now(c.METRIC_WORKER_ACTIVE)}) > 0"
    waiting = f"max {by_job} ({q.now(c.METRIC_RENDEZVOUS_WAITING)}) > 0"
    numbers = [
        p.stat_panel(
            "Jobs that failed",
            "Run ids of which a launcher ended as failed in the time range; a job of N nodes is one. "
            "The table below says which and why.",
            p.prom_value(f"count({shared.failed(q)}) or vector(0)"),
            steps=p.BAD_FROM_ONE,
        ),
        p.stat_panel(
            "Jobs that run",
            "Run ids with running workers now.",
            p.prom_value(f"count({running}) or vector(0)"),
        ),
        p.stat_panel(
            "Jobs that wait",
            "Run ids of which no worker runs and a node waits in the rendezvous now.",
            p.prom_value(f"count(({waiting}) unless ({running})) or vector(0)"),
            steps=p.WARN_FROM_ONE,
        ),
        p.stat_panel(
            "Jobs that restarted",
            "Run ids whose workers were started anew in the time range, whatever the cause.",
            p.prom_value(f"count({q.restarts(RANGE)} > 0) or vector(0)"),
            steps=p.WARN_FROM_ONE,
        ),
        p.stat_panel(
            "Availability",
            "Share of the launchers' time in the range in which their workers ran: uptime / (uptime + "
            "downtime). What comes after the last workers (the exit barrier) is left out.",
            p.prom_value(q.availability(RANGE)),
            unit="percentunit",
            steps=p.GOOD_SHARE,
            empty="no job",
            decimals=1,
        ),
        p.stat_panel(
            "Telemetry lost",
            "Log records, spans and metric requests that the bridge had to give up in the time range. "
            "Signals that a backend does not take at all are left out.",
            p.prom_value(f"{q.total(c.METRIC_DROPPED, RANGE, '', DROPPED)} or vector(0)"),
            steps=p.BAD_FROM_ONE,
        ),
    ]
    failed = p.table_panel(
        "What failed last",
        "One row for each launcher that ended as failed, the latest on top, with its verdict. A launcher "
        "knows its own node only: of several rows of one job, the one with a worker's death says more than "
        "those that lost a peer. Click the run id for the whole job.",
        p.records(stops),
        empty="No launcher failed in this time range",
        sort="Time",
        desc=True,
    )
    p.record_columns(
        failed,
        {
            "Time": "Time",
            RUN: "Run id",
            HOST: "Host",
            label(c.VERDICT): "Verdict",
            label(c.RESTARTS): "Restarts",
            "service_name": "Service",
            "trace_id": "Trace",
        },
    )
    failed.override_by_name("Run id", [p.prop("links", JOB_OF_ROW), p.prop("custom.width", 220)])
    failed.override_by_name("Host", [p.prop("custom.width", 160)])
    failed.override_by_name("Time", p.TIME)
    failed.override_by_name("Restarts", [p.prop("custom.width", 90)])
    failed.override_by_name("Trace", [p.prop("links", p.trace_links()), p.prop("custom.width", 130)])
    return [*[panel.height(4).span(4) for panel in numbers], failed.height(8).span(24), _jobs_table(q)]


def _jobs_table(q: Queries) -> p.Panel:
    by = f"job, {RUN}"
    launchers = f"count by ({by}) ({q.on_hosts(f'last_over_time({q.launchers}[{RANGE}])', RANGE)})"
    table = p.table_panel(
        "Jobs",
        f"Every job that ran in the time range, the last seen on top. State: {shared.STATE_MEANS}. "
        "Restarts: as its launcher with the most counts them. Failures: workers that died by themselves. "
        "Click the run id for the whole job; a column's head filters.",
        p.prom(shared.state(q), ref="State"),
        p.prom(launchers, ref="Launchers"),
        p.prom(f"sum by ({by}) ({q.last(c.METRIC_WORKER_ACTIVE, NOW)})", ref="Workers"),
        p.prom(q.restarts(RANGE), ref="Restarts"),
        p.prom(q.total(c.METRIC_WORKER_FAILURES, RANGE, by), ref="Failures"),
        p.prom(q.availability(RANGE, by), ref="Availability"),
        p.prom(shared.run_time(q, by), ref="Lasted"),
        p.prom(shared.last_seen(q), ref="Seen"),
        empty="No job in this time range",
        sort="Last seen",
        desc=True,
    )
    p.columns(
        table,
        {
            RUN: "Run id",
            "Value #State": "State",
            "Value #Launchers": "Launchers",
            "Value #Workers": "Workers now",
            "Value #Restarts": "Restarts",
            "Value #Failures": "Failures",
            "Value #Availability": "Availability",
            "Value #Lasted": "Lasted",
            "Value #Seen": "Last seen",
            "job": "Service",
        },
    )
    table.override_by_name("Run id", [p.prop("links", JOB_OF_ROW)])
    table.override_by_name("State", [p.prop("mappings", p.states(shared.STATES)), p.COLORED])
    table.override_by_name("Availability", [p.prop("unit", "percentunit"), p.prop("decimals", 1)])
    table.override_by_name("Lasted", [p.prop("unit", "dtdhms")])
    table.override_by_name("Last seen", [p.prop("unit", "dateTimeAsIso")])
    return table.height(11).span(24)


def _jobs_over_time(q: Queries) -> list[p.Panel]:
    chosen = f'{{job=~"$service", {RUN}=~"$run_id"}}'
    active = f"run:torchelastic_worker_active:sum{chosen}"
    waiting = f"run:torchelastic_rendezvous_waiting_seconds:max{chosen}"
    panels = [
        p.graph_panel(
            "Jobs over time",
            "Run ids whose workers run, and those that wait: no worker runs, and a node is in the "
            "rendezvous. Needs the recording rules (torchelastic.rules.yaml), and begins when they were "
            "loaded; the host is not chosen here.",
            p.prom_range(f"sum({active} > bool 0)", "running"),
            p.prom_range(f"count({waiting} > 0 unless {active} > 0) or sum({waiting}) * 0", "waiting", "B"),
        ),
        p.graph_panel(
            "Restarts by cause",
            "Restarts of nodes in each step of the graph. worker_failure: a worker of the node died. "
            "membership_change: a node came, or a peer restarted; one failing worker in a job of N nodes "
            "is one of the first and N-1 of the second.",
            p.prom_range(f"{q.total(c.METRIC_RESTARTS, STEP, CAUSE)} > 0", f"{{{{{CAUSE}}}}}"),
            bars=True,
            interval="1m",
        ),
        *(
            p.graph_panel(
                title,
                description,
                *(
                    p.prom_range(q.quantile(share, metric, STEP), f"p{share * 100:g}", ref, exemplars=True)
                    for ref, share in (("A", 0.5), ("B", 0.95))
                ),
                unit="s",
                points=True,
                interval="5m",
            )
            for title, description, metric in (
                (
                    "Rendezvous time",
                    "How long nodes took to join a round, as percentiles of the attempts that ended in "
                    "each step. A diamond is one attempt: click it for its trace.",
                    c.METRIC_RENDEZVOUS_DURATION,
                ),
                (
                    "Restart time",
                    "From seeing the failure or change to the workers running again, as percentiles of the "
                    "restarts in each step. A diamond is one restart: click it for its trace.",
                    c.METRIC_RESTART_DURATION,
                ),
            )
        ),
    ]
    return [panel.height(8).span(12) for panel in panels]


def _jobs_ranked(q: Queries) -> list[p.Panel]:
    failures = q.increase(c.METRIC_WORKER_FAILURES, RANGE)
    by_host = f"sum by ({HOST}) ({q.with_host(failures, RANGE)})"
    error = label(c.ERROR_TYPE)
    by_error = q.total(c.METRIC_WORKER_FAILURES, RANGE, f"{error}, {label(c.FAILURE_CAUSE)}")
    available = q.availability(RANGE, f"job, {RUN}")
    panels = [
        p.ranking_panel(
            "Hosts that fail most",
            "Workers that died by themselves in the time range, by host: the ten hosts with the most. A host "
            "far ahead of the others is a reason to drain it.",
            p.prom_value(f"sort_desc(topk(10, {by_host} > 0))", f"{{{{{HOST}}}}}"),
            empty="no failure",
        ),
        p.ranking_panel(
            "Errors that kill most",
            "Workers that died by themselves in the time range, by what killed them: exception, signal or "
            "exit code. The ten with the most.",
            p.prom_value(
                f"sort_desc(topk(10, {by_error} > 0))", f"{{{{{label(c.FAILURE_CAUSE)}}}}} {{{{{error}}}}}"
            ),
            empty="no failure",
        ),
        p.ranking_panel(
            "Jobs with the least availability",
            "Share of the launchers' time in the range in which workers ran: the ten jobs with the least.",
            p.prom_value(f"sort(bottomk(10, {available}))", f"{{{{{RUN}}}}}"),
            unit="percentunit",
            steps=p.GOOD_SHARE,
            empty="no job",
        ).max(1),
    ]
    return [panel.height(9).span(8) for panel in panels]


def _bridge(q: Queries) -> list[p.Panel]:
    signal, reason = label(c.OTEL_SIGNAL), label(c.REASON)
    dropped = q.total(c.METRIC_DROPPED, STEP, f"{signal}, {reason}", DROPPED)
    waiting = f"{q.total(c.METRIC_KEPT, STEP, signal)} > 0"
    panels = [
        p.graph_panel(
            "Telemetry delivered",
            "Log records, spans and metric requests of the launchers that the backend took, in each step.",
            p.prom_range(q.total(c.METRIC_EXPORTED, STEP, signal), f"{{{{{signal}}}}}"),
            bars=True,
            interval="1m",
        ),
        p.graph_panel(
            "Telemetry late",
            "Items that the backend did not take at first and that wait in the node's spool, and items that "
            "earlier launchers left there and a later one sent.",
            p.prom_range(waiting, f"kept: {{{{{signal}}}}}"),
            p.prom_range(
                f"{q.total(c.METRIC_REPLAYED, STEP, signal)} > 0", f"replayed: {{{{{signal}}}}}", "B"
            ),
            bars=True,
            interval="1m",
        ),
        p.graph_panel(
            "Telemetry lost over time",
            "Items that are gone, by reason, in each step. Signals that a backend does not take at all are "
            "left out.",
            p.prom_range(f"{dropped} > 0", f"{{{{{signal}}}}}: {{{{{reason}}}}}"),
            bars=True,
            interval="1m",
        ),
    ]
    return [panel.height(7).span(8) for panel in panels]
