"""Writes the Grafana dashboards from the project's names: ``python collector-config/grafana/dashboards.py``.

With ``--check`` it writes nothing and exits with 1 where the files are not what the code says. It needs Python
3.11 and grafana-foundation-sdk (see requirements/tools.txt); who only uses the dashboards needs the files alone.

**Jobs** answers "what is wrong, and where?" over all jobs, **Job** "what happened?" of one run id.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models

import dashboard_parts as p
from dashboard_names import CAUSE, HOST, NOW, RUN, Queries, label, prometheus_name
from torchelastic_otel import _contract as c

DIRECTORY: Final = Path(__file__).with_name("dashboards")
JOBS_UID: Final = "torchelastic-jobs"
JOB_UID: Final = "torchelastic-job"
RANGE: Final = "$__range"
STEP: Final = "$__interval"

FAILED: Final = f' | {label(c.OUTCOME)}="{c.OUTCOME_FAILED}"'
DROPPED: Final = f'{label(c.REASON)}!="unsupported"'
JOB_OF_ROW: Final = [
    p.link(
        "Open the job",
        f"/d/{JOB_UID}?${{service:queryparam}}&var-run_id=${{__value.raw}}&${{__url_time_range}}",
    )
]
WAITS: Final = prometheus_name(c.METRIC_RENDEZVOUS_WAITING)

ENDED, LOST, WAITING, RUNNING = "0", "1", "2", "3"
STATES: Final = {
    RUNNING: ("running", "green"),
    WAITING: ("waiting", "orange"),
    LOST: ("went silent", "red"),
    ENDED: ("ended", "text"),
}
STATE_MEANS: Final = (
    "**running**: workers run. **waiting**: no worker runs, and a node waits in the rendezvous. **went silent**: "
    "a launcher's last word was that it ran or waited, and nothing came since: killed, or cut off. **ended**: "
    "every launcher said goodbye"
)


def state(q: Queries) -> str:
    """Return each job's state as a number."""
    by = f"by (job, {RUN})"
    active, waiting = c.METRIC_WORKER_ACTIVE, c.METRIC_RENDEZVOUS_WAITING
    launchers = q.last(active, RANGE)
    silent = f"sum {by} ({launchers} unless on (job, instance) {q.metric(active)}) > 0"
    return (
        f"(sum {by} ({q.now(active)}) > 0) * 0 + {RUNNING} "
        f"or (max {by} ({q.now(waiting)}) > 0) * 0 + {WAITING} "
        f"or ({silent}) * 0 + {LOST} "
        f"or max {by} ({launchers}) * 0"
    )


def last_seen(q: Queries) -> str:
    """Return when each job's last sample was taken, in ms. A step of 5 minutes misses no series."""
    by = f"max by (job, {RUN})"
    samples = f"timestamp({q.metric(c.METRIC_WORKER_ACTIVE)})"
    return f"({by} ({samples}) or max_over_time({by} ({samples})[{RANGE}:{NOW}])) * 1000"


def run_time(q: Queries, by: str) -> str:
    """Return how long each job has lasted up to now: the longest of its launchers."""
    each = f"sum by (job, instance, {RUN})"
    spent = f"{each} ({q.last(c.METRIC_UPTIME, RANGE)}) + {each} ({q.last(c.METRIC_DOWNTIME, RANGE)})"
    return f"max by ({by}) ({spent})"


def jobs() -> dashboard.Dashboard:
    """Return the dashboard of all jobs."""
    q = Queries(one_run=False)
    built = (
        _dashboard("torchelastic: Jobs", JOBS_UID, "What is wrong with the training jobs, and where?")
        .time("now-6h", "now")
        .with_variable(_run_variable(several=True))
        .with_variable(_host_variable())
        .link(
            dashboard.DashboardLink("Job")
            .type(models.DashboardLinkType.LINK)
            .url(f"/d/{JOB_UID}")
            .keep_time(True)
        )
    )
    for panel in (*_jobs_first(q), *_jobs_over_time(q), *_jobs_ranked(q), *_bridge(q)):
        built.with_panel(panel)
    return built


def _jobs_first(q: Queries) -> list[p.Panel]:
    by_job = f"by (job, {RUN})"
    stops = q.logs(c.EVENT_AGENT_STOP, where=FAILED)
    running = f"sum {by_job} ({q.now(c.METRIC_WORKER_ACTIVE)}) > 0"
    waiting = f"max {by_job} ({q.now(c.METRIC_RENDEZVOUS_WAITING)}) > 0"
    numbers = [
        p.stat_panel(
            "Jobs that failed",
            "Run ids of which a launcher ended as failed in the time range. The table below says why. From the "
            "logs: metrics don't tell a job's outcome.",
            p.counted(f"count(sum by ({RUN}) (count_over_time({stops} [{RANGE}])))", over_time=False),
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
            "Log records, spans and metric requests that the bridge had to give up in the time range. Signals "
            "that a backend does not take at all are left out.",
            p.prom_value(f"{q.total(c.METRIC_DROPPED, RANGE, '', DROPPED)} or vector(0)"),
            steps=p.BAD_FROM_ONE,
        ),
    ]
    failed = p.table_panel(
        "What failed last",
        "One row for each launcher that ended as failed, the latest on top, with its verdict. A launcher knows "
        "its own node only: of several rows of one job, the one with a worker's death says more than those "
        "that lost a peer. Click the run id for the whole job.",
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
    failed.override_by_name("Time", [p.prop("custom.width", 190)])
    failed.override_by_name("Restarts", [p.prop("custom.width", 90)])
    failed.override_by_name("Trace", [p.prop("links", p.trace_links("Trace")), p.prop("custom.width", 130)])
    return [*[panel.height(4).span(4) for panel in numbers], failed.height(8).span(24), _jobs_table(q)]


def _jobs_table(q: Queries) -> p.Panel:
    by = f"job, {RUN}"
    launchers = f"count by ({by}) (count by (job, instance, {RUN}) ({q.last(c.METRIC_WORKER_ACTIVE, RANGE)}))"
    table = p.table_panel(
        "Jobs",
        f"Every job that ran in the time range, the last seen on top. State: {STATE_MEANS}. Restarts: as its "
        "launcher with the most counts them. Failures: workers that died by themselves. Click the run id for "
        "the whole job; a column's head filters.",
        p.prom(state(q), ref="State"),
        p.prom(launchers, ref="Launchers"),
        p.prom(f"sum by ({by}) ({q.last(c.METRIC_WORKER_ACTIVE, NOW)})", ref="Workers"),
        p.prom(q.restarts(RANGE), ref="Restarts"),
        p.prom(q.total(c.METRIC_WORKER_FAILURES, RANGE, by), ref="Failures"),
        p.prom(q.availability(RANGE, by), ref="Availability"),
        p.prom(run_time(q, by), ref="Lasted"),
        p.prom(last_seen(q), ref="Seen"),
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
    table.override_by_name("State", [p.prop("mappings", p.states(STATES)), p.COLORED])
    table.override_by_name("Availability", [p.prop("unit", "percentunit"), p.prop("decimals", 1)])
    table.override_by_name("Lasted", [p.prop("unit", "dtdurations")])
    table.override_by_name("Last seen", [p.prop("unit", "dateTimeAsIso")])
    return table.height(11).span(24)


def _jobs_over_time(q: Queries) -> list[p.Panel]:
    chosen = f'{{job=~"$service", {RUN}=~"$run_id"}}'
    panels = [
        p.graph_panel(
            "Jobs over time",
            "Run ids whose workers run, and those that wait: no worker runs, and a node is in the rendezvous. "
            "Needs the recording rules (torchelastic.rules.yaml), and begins when they were loaded; the host "
            "is not chosen here.",
            p.prom_range(f"count(run:torchelastic_worker_active:sum{chosen} > 0)", "running"),
            p.prom_range(
                f"count(run:torchelastic_rendezvous_waiting_seconds:max{chosen} > 0 "
                f"unless run:torchelastic_worker_active:sum{chosen} > 0)",
                "waiting",
                "B",
            ),
        ),
        p.graph_panel(
            "Restarts by cause",
            "Restarts of nodes in each step of the graph. worker_failure: a worker of the node died. "
            "membership_change: a node came, or a peer restarted; one failing worker in a job of N nodes is one "
            "of the first and N-1 of the second.",
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
                    for ref, share in (("A", 0.5), ("B", 0.95), ("C", 0.99))
                ),
                unit="s",
                points=True,
                interval="5m",
            )
            for title, description, metric in (
                (
                    "Rendezvous time",
                    "How long nodes took to join a round, as percentiles of the attempts that ended in each step. "
                    "A diamond is one attempt: click it for its trace.",
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
            "Workers that died by themselves in the time range, by what killed them: exception, signal or exit "
            "code. The ten with the most.",
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
            "Telemetry lost",
            "Items that are gone, by reason, in each step. Signals that a backend does not take at all are left "
            "out.",
            p.prom_range(f"{dropped} > 0", f"{{{{{signal}}}}}: {{{{{reason}}}}}"),
            bars=True,
            interval="1m",
        ),
    ]
    return [panel.height(7).span(8) for panel in panels]


def job() -> dashboard.Dashboard:
    """Return the dashboard of one job."""
    q = Queries(one_run=True)
    built = (
        _dashboard("torchelastic: Job", JOB_UID, "What happened to one training job, and why?")
        .time("now-24h", "now")
        .with_variable(_run_variable(several=False))
        .with_variable(_host_variable())
        .link(
            dashboard.DashboardLink("Jobs")
            .type(models.DashboardLinkType.LINK)
            .url(f"/d/{JOBS_UID}")
            .keep_time(True)
        )
    )
    for name, event, color in (
        ("Failures", c.EVENT_FAILURE, "red"),
        ("Restarts", c.EVENT_RESTART, "orange"),
        ("Launchers", c.EVENT_AGENT_STOP, "blue"),
    ):
        marks = (
            dashboard.AnnotationQuery().name(name).datasource(p.LOKI).icon_color(color).expr(q.logs(event))
        )
        built.annotation(marks)
    for panel in (*_job_now(q), *_job_story(q), *_job_time(q), *_job_details(q)):
        built.with_panel(panel)
    return built


def _job_now(q: Queries) -> list[p.Panel]:
    panels = [
        p.stat_panel(
            "State",
            f"{STATE_MEANS}.",
            p.prom_value(f"max({state(q)})"),
            empty="unknown",
            steps=((None, "text"),),
        ).mappings(_mappings()),
        p.stat_panel(
            "Nodes in the round",
            "Nodes of the round that was joined last, as the launchers were told.",
            p.prom_value(f"max({q.last(c.METRIC_WORLD_SIZE, RANGE)})"),
            empty="none",
        ),
        p.stat_panel(
            "Workers now",
            "Workers that run now, on the chosen hosts.",
            p.prom_value(f"sum({q.last(c.METRIC_WORKER_ACTIVE, NOW)}) or vector(0)"),
        ),
        p.stat_panel(
            "Restarts",
            "How often the workers were started anew since the job began, as its launcher with the most counts.",
            p.prom_value(f"max(sum by (job, instance) ({q.last(c.METRIC_RESTARTS, RANGE)})) or vector(0)"),
            steps=p.WARN_FROM_ONE,
        ),
        p.stat_panel(
            "Failures",
            "Workers that died by themselves since the job began. Those that their agents stopped don't count.",
            p.prom_value(f"sum({q.last(c.METRIC_WORKER_FAILURES, RANGE)}) or vector(0)"),
            steps=p.BAD_FROM_ONE,
        ),
        p.stat_panel(
            "Availability",
            "Share of the launchers' time in the range in which their workers ran: uptime / (uptime + "
            "downtime). What comes after the last workers (the exit barrier) is left out.",
            p.prom_value(q.availability(RANGE)),
            unit="percentunit",
            steps=p.GOOD_SHARE,
            empty="unknown",
            decimals=1,
        ),
    ]
    return [panel.height(4).span(4) for panel in panels]


def _job_story(q: Queries) -> list[p.Panel]:
    verdict = p.table_panel(
        "Verdict",
        "How each launcher ended, in one sentence; failed ones on top. A launcher knows its own node only. A "
        "launcher that runs has no verdict yet, and one that was killed never has. The trace is one for the "
        "whole job: any row leads to it.",
        p.records(q.logs(c.EVENT_AGENT_STOP)),
        empty="No launcher has ended in this time range: the job runs, or its launchers were killed",
        sort="Outcome",
        desc=False,
    )
    p.record_columns(
        verdict,
        {
            label(c.OUTCOME): "Outcome",
            label(c.VERDICT): "Verdict",
            HOST: "Host",
            label(c.RESTARTS): "Restarts",
            "Time": "Time",
            "trace_id": "Trace",
        },
    )
    outcomes = {
        c.OUTCOME_FAILED: ("failed", "red"),
        c.OUTCOME_TERMINATED: ("terminated", "orange"),
        c.OUTCOME_SUCCEEDED: ("succeeded", "green"),
    }
    verdict.override_by_name(
        "Outcome", [p.prop("mappings", p.states(outcomes)), p.COLORED, p.prop("custom.width", 110)]
    )
    failures = p.table_panel(
        "Failures, the earliest on top",
        "Each worker that died, on all nodes in order of time. The first row that is not collateral is where to "
        "look: what comes after it is often its consequence. Between hosts the order is as good as their clocks: "
        "rows of different hosts within a second or so may be in any order; ask their own logs. Collateral: its "
        "agent stopped it because of another's death, whatever its exit code says.",
        p.records(q.logs(c.EVENT_FAILURE), earliest=True),
        empty="No worker died in this time range",
        sort="Time",
        desc=False,
    )
    p.record_columns(
        failures,
        {
            "Time": "Time",
            label(c.GLOBAL_RANK): "Rank",
            HOST: "Host",
            label(c.LOCAL_RANK): "Local rank",
            label(c.FAILURE_CAUSE): "Cause",
            label(c.PROCESS_EXIT_CODE): "Exit code",
            label(c.WORKER_SIGNAL): "Signal",
            label(c.EXCEPTION_TYPE): "Exception",
            label(c.EXCEPTION_MESSAGE): "Message",
            label(c.COLLATERAL): "Collateral",
            label(c.FAILURE_OOM_KILL): "OOM kill",
            label(c.GENERATION): "Generation",
            "Line": "What happened",
            "trace_id": "Trace",
        },
    )
    for table in (verdict, failures):
        table.override_by_name("Time", [p.prop("unit", "dateTimeAsIso"), p.prop("custom.width", 190)])
        table.override_by_name(
            "Trace", [p.prop("links", p.trace_links("Trace")), p.prop("custom.width", 130)]
        )
    for name, width in (("Rank", 70), ("Local rank", 90), ("Exit code", 90), ("Collateral", 90)):
        failures.override_by_name(name, [p.prop("custom.width", width)])
    return [verdict.height(6).span(24), failures.height(9).span(24)]


def _job_time(q: Queries) -> list[p.Panel]:
    event = label(c.EVENT)
    told = q.logs(c.EVENT_AGENT_START, c.EVENT_FAILURE, c.EVENT_RESTART, c.EVENT_AGENT_STOP)
    rounds = q.logs(where=f' | {label(c.ROUND)}!="" | unwrap {label(c.ROUND)}')
    active = f"sum by ({HOST}) ({q.with_host(q.now(c.METRIC_WORKER_ACTIVE), NOW)})"
    down = q.total(c.METRIC_DOWNTIME, STEP, CAUSE)
    panels = [
        p.graph_panel(
            "Rounds and restarts",
            "The number of the rendezvous round as a line, and bars for what the launchers told of in each step: "
            "their starts and ends, workers' deaths, restarts. Exact in time, since it comes from the records.",
            p.counted(f"max(max_over_time({rounds} [{STEP}]))", "round", over_time=True),
            p.counted(
                f"sum by ({event}) (count_over_time({told} [{STEP}]))",
                f"{{{{{event}}}}}",
                over_time=True,
                ref="B",
            ),
            step=True,
            points=True,
        ).override_by_query("B", [p.prop("custom.drawStyle", "bars"), p.prop("custom.fillOpacity", 60)]),
        p.graph_panel(
            "Workers by host",
            "Workers that run on each host: the twenty hosts with the most at each moment; choose hosts above for "
            "others. A dip that is shorter than the interval of the metrics (a minute) may not show here.",
            p.prom_range(f"topk(20, {active})", f"{{{{{HOST}}}}}"),
            step=True,
        ),
        p.graph_panel(
            "Time without workers, by cause",
            "Seconds in which launchers had no running workers, in each step: startup (before the first ran), "
            "worker_failure, membership_change, shutdown (after the last).",
            p.prom_range(f"{down} > 0", f"{{{{{CAUSE}}}}}"),
            unit="s",
            bars=True,
            interval="1m",
        ),
        p.graph_panel(
            "Waiting in the rendezvous",
            "How long each host has waited to join a round, while it waits: the twenty that wait longest.",
            p.prom_range(
                f"topk(20, max by ({HOST}) ({q.with_host(q.now(c.METRIC_RENDEZVOUS_WAITING), NOW)}))",
                f"{{{{{HOST}}}}}",
            ),
            unit="s",
        ),
    ]
    return [panel.height(8).span(12) for panel in panels]


def _job_details(q: Queries) -> list[p.Panel]:
    def by_host(metric: str) -> str:
        return f"sum by ({HOST}) ({q.with_host(q.last(metric, RANGE), RANGE)})"

    active = f"sum by ({HOST}) ({q.with_host(q.last(c.METRIC_WORKER_ACTIVE, NOW), NOW)})"
    waits = f"max by ({HOST}) ({q.with_host(q.last(c.METRIC_RENDEZVOUS_WAITING, NOW), NOW)})"
    hosts = p.table_panel(
        "Hosts",
        "What each host's launchers count since they began; the host with the most failures on top.",
        p.prom(by_host(c.METRIC_WORKER_FAILURES), ref="Failures"),
        p.prom(by_host(c.METRIC_RESTARTS), ref="Restarts"),
        p.prom(active, ref="Workers"),
        p.prom(waits, ref="Waits"),
        p.prom(by_host(c.METRIC_UPTIME), ref="Up"),
        p.prom(by_host(c.METRIC_DOWNTIME), ref="Down"),
        empty="No metrics of this job in this time range",
        sort="Failures",
        desc=True,
    )
    p.columns(
        hosts,
        {
            HOST: "Host",
            "Value #Failures": "Failures",
            "Value #Restarts": "Restarts",
            "Value #Workers": "Workers now",
            "Value #Waits": "Waits now",
            "Value #Up": "Time with workers",
            "Value #Down": "Time without",
        },
    )
    for name in ("Waits now", "Time with workers", "Time without"):
        hosts.override_by_name(name, [p.prop("unit", "dtdurations")])
    starts = p.table_panel(
        "Launchers that began",
        "Each launcher of the job, the earliest on top, with what it was told. A running job has its trace here: "
        "spans show there as they end.",
        p.records(q.logs(c.EVENT_AGENT_START), earliest=True),
        empty="No launcher began in this time range",
        sort="Time",
        desc=False,
    )
    p.record_columns(
        starts,
        {
            "Time": "Time",
            HOST: "Host",
            label(c.RDZV_BACKEND): "Rendezvous",
            label(c.MIN_NODES): "Min nodes",
            label(c.MAX_NODES): "Max nodes",
            label(c.MAX_RESTARTS): "Max restarts",
            label(c.ENTRY_POINT): "Runs",
            "trace_id": "Trace",
        },
    )
    starts.override_by_name("Time", [p.prop("unit", "dateTimeAsIso"), p.prop("custom.width", 190)])
    starts.override_by_name("Trace", [p.prop("links", p.trace_links("Trace"))])
    records = p.logs_panel(
        "Records",
        "Every record of the job's launchers and torch's events, the earliest on top; of more than 500, the latest. "
        "Open one for its attributes; its trace id leads to the trace.",
        p.records(q.logs()),
    )
    return [hosts.height(8).span(12), starts.height(8).span(12), records.height(14).span(24)]


def _mappings() -> list[models.ValueMapping]:
    options = {
        value: models.ValueMappingResult(text=text, color=color, index=index)
        for index, (value, (text, color)) in enumerate(STATES.items())
    }
    return [models.ValueMap(options=options)]


def _dashboard(title: str, uid: str, description: str) -> dashboard.Dashboard:
    series = prometheus_name(c.METRIC_WORKER_ACTIVE)
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
        .with_variable(p.datasource_variable("prometheus", "Prometheus", "prometheus"))
        .with_variable(p.datasource_variable("loki", "Loki", "loki"))
        .with_variable(p.datasource_variable("tempo", "Tempo", "tempo"))
        .with_variable(p.datasource_variable("jaeger", "Jaeger", "jaeger"))
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


def _run_variable(*, several: bool) -> dashboard.QueryVariable:
    query = f'label_values({prometheus_name(c.METRIC_WORKER_ACTIVE)}{{job=~"$service"}}, {RUN})'
    return p.choice("run_id", "Run id", "torchrun's --rdzv-id", query, several=several)


def _host_variable() -> dashboard.QueryVariable:
    query = f'label_values(target_info{{job=~"$service"}}, {HOST})'
    return p.choice("host", "Host", "host.name of the launchers", query, several=True)


def rendered() -> dict[Path, str]:
    """Return each file's text."""
    return {
        DIRECTORY / f"{name}.json": json.dumps(made.build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"
        for name, made in (("jobs", jobs()), ("job", job()))
    }


def main() -> int:
    """Write or check the files."""
    files = rendered()
    if "--check" in sys.argv[1:]:
        stale = [path.name for path, text in files.items() if not path.exists() or path.read_text() != text]
        if stale:
            sys.stderr.write(f"{', '.join(stale)}: not what the code says; run python {__file__}\n")
        return 1 if stale else 0
    DIRECTORY.mkdir(exist_ok=True)
    for path, text in files.items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
