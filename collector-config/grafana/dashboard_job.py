"""The dashboard **Job**: what happened to one training job, and why?"""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as models

import dashboard_parts as p
import dashboard_shared as shared
from dashboard_names import CAUSE, HOST, NOW, Queries, label
from dashboard_shared import RANGE, STEP
from torchelastic_otel import _contract as c


def job() -> dashboard.Dashboard:
    """Return the dashboard of one job."""
    q = Queries(one_run=True)
    built = (
        shared.dashboard_of(
            "torchelastic: Job", shared.JOB_UID, "What happened to one training job, and why?"
        )
        .time("now-24h", "now")
        .with_variable(shared.run_variable(several=False))
        .with_variable(shared.host_variable())
        .link(
            dashboard.DashboardLink("Jobs")
            .type(models.DashboardLinkType.LINK)
            .url(f"/d/{shared.JOBS_UID}")
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
    return shared.filled(built, [*_job_now(q), *_job_story(q), *_job_time(q), *_job_details(q)])


def _job_now(q: Queries) -> list[p.Panel]:
    panels = [
        p.stat_panel(
            "State",
            f"{shared.STATE_MEANS}.",
            p.prom_value(f"max({shared.state(q)})"),
            empty="unknown",
            steps=((None, "text"),),
        ).mappings(p.states(shared.STATES)),
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
            "How often the workers were started anew since the job began, as its launcher with the most "
            "counts.",
            p.prom_value(f"max(sum by (job, instance) ({q.last(c.METRIC_RESTARTS, RANGE)})) or vector(0)"),
            steps=p.WARN_FROM_ONE,
        ),
        p.stat_panel(
            "Failures",
            "Workers that died by themselves since the job began. Those that their agents stopped don't "
            "count.",
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
        p.records(q.logs(c.EVENT_AGENT_STOP), earliest=True),
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
        "Each worker that died, on all nodes, by the time that its evidence tells. The first row that is "
        "neither collateral nor a lost peer is where to look: what comes after it is often its consequence. "
        "Where all rows are one of the two, a worker hangs, or a node sent nothing. Between hosts the order "
        "is as good as their clocks: rows of different hosts within a second or so may be in any order. "
        "Collateral: its agent stopped it because of another's death, whatever its exit code says. Lost "
        "peer: its error says that another rank was gone, or did not come.",
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
            label(c.FAILURE_PEER_LOST): "Lost peer",
            label(c.FAILURE_OOM_KILL): "OOM kill",
            label(c.GENERATION): "Generation",
            "Line": "What happened",
            "trace_id": "Trace",
        },
    )
    for table in (verdict, failures):
        table.override_by_name("Time", p.TIME)
        table.override_by_name("Trace", [p.prop("links", p.trace_links()), p.prop("custom.width", 130)])
    for name, width in (
        ("Rank", 70),
        ("Local rank", 90),
        ("Exit code", 90),
        ("Collateral", 90),
        ("Lost peer", 90),
    ):
        failures.override_by_name(name, [p.prop("custom.width", width)])
    return [verdict.height(6).span(24), failures.height(9).span(24)]


def _job_time(q: Queries) -> list[p.Panel]:
    event = label(c.EVENT)
    told = q.logs(c.EVENT_AGENT_START, c.EVENT_FAILURE, c.EVENT_RESTART, c.EVENT_AGENT_STOP)
    rounds = q.logs(where=f' | {label(c.ROUND)}!="" | unwrap {label(c.ROUND)}')
    active = f"sum by ({HOST}) ({q.with_host(q.now(c.METRIC_WORKER_ACTIVE), NOW)})"
    idle = f"sum by ({HOST}) ({q.with_host(q.last(c.METRIC_DOWNTIME, RANGE), RANGE)})"
    waits = f"max by ({HOST}) ({q.with_host(q.now(c.METRIC_RENDEZVOUS_WAITING), NOW)})"
    longest = q.on_hosts(f"max_over_time({q.metric(c.METRIC_RENDEZVOUS_WAITING)}[{RANGE}])", RANGE)
    waited = f"max by ({HOST}) ({q.with_host(longest, RANGE)})"
    down = q.total(c.METRIC_DOWNTIME, STEP, CAUSE)
    panels = [
        p.graph_panel(
            "Rounds and restarts",
            "The number of the rendezvous round as a line, and bars for what the launchers told of in each "
            "step: their starts and ends, workers' deaths, restarts. Exact in time, since it comes from "
            "the records.",
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
            "Workers that run on each host: of the twenty hosts that were without workers longest; choose "
            "hosts above for others. A dip that is shorter than the interval of the metrics (a minute) may "
            "not show here.",
            p.prom_range(q.of_the_most(active, HOST, idle, RANGE), f"{{{{{HOST}}}}}"),
            step=True,
        ),
        p.graph_panel(
            "Time without workers, by cause",
            "Seconds in which launchers had no running workers, in each step: startup (before the first "
            "ran), worker_failure, membership_change, shutdown (after the last).",
            p.prom_range(f"{down} > 0", f"{{{{{CAUSE}}}}}"),
            unit="s",
            bars=True,
            interval="1m",
        ),
        p.graph_panel(
            "Waiting in the rendezvous",
            "How long each host has waited to join a round, while it waits: of the twenty that waited "
            "longest.",
            p.prom_range(q.of_the_most(waits, HOST, waited, RANGE), f"{{{{{HOST}}}}}"),
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
        hosts.override_by_name(name, [p.prop("unit", "dtdhms")])
    starts = p.table_panel(
        "Launchers that began",
        "Each launcher of the job, the earliest on top, with what it was told. A running job has its trace "
        "here: spans show there as they end.",
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
    starts.override_by_name("Time", p.TIME)
    starts.override_by_name("Trace", [p.prop("links", p.trace_links())])
    records = p.logs_panel(
        "Records",
        "Every record of the job's launchers and torch's events, the earliest on top; of more than 500, "
        "the latest. Open one for its attributes; its trace id leads to the trace.",
        p.records(q.logs()),
    )
    return [hosts.height(8).span(12), starts.height(8).span(12), records.height(14).span(24)]
