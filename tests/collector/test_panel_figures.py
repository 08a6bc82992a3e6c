"""What the panels count, tried by promtool on series whose figures are known.

A job of ten seconds has two samples, and what it counts is there with the last one only; a job of days has
counted much before the time that is looked at. ``increase()`` gets neither right.
"""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.backends import tool
from tests.support.queries import Values, all_queries

DAY = "24h"

Labels = dict[str, str]


def matched(labels: Labels) -> str:
    """Return labels as PromQL has them."""
    return "{" + ", ".join(f'{key}="{value}"' for key, value in labels.items()) + "}"


def series(name: str, run_id: str, values: str, **labels: str) -> dict[str, str]:
    """Return a series of one launcher of a job, as promtool takes it."""
    every = {"job": "train", "instance": f"{run_id}-0", "torchelastic_run_id": run_id, **labels}
    return {"series": name + matched(every), "values": values}


def job(run_id: str, host: str, figures: dict[str, str]) -> list[dict[str, str]]:
    """Return the series of a job of one launcher; ``figures`` are values by the names below."""
    down, cause = "torchelastic_worker_group_downtime_seconds_total", "torchelastic_restart_cause"
    bucket = "torchelastic_rendezvous_duration_seconds_bucket"
    return [
        {
            "series": f'target_info{{job="train", instance="{run_id}-0", host_name="{host}"}}',
            "values": figures["there"],
        },
        series("torchelastic_worker_group_uptime_seconds_total", run_id, figures["up"]),
        series(down, run_id, figures["startup"], **{cause: "startup"}),
        series(down, run_id, figures["failure"], **{cause: "worker_failure"}),
        series(down, run_id, figures["shutdown"], **{cause: "shutdown"}),
        series("torchelastic_restarts_total", run_id, figures["restarts"], **{cause: "worker_failure"}),
        series("torchelastic_restarts_total", run_id, figures["zero"], **{cause: "membership_change"}),
        series(
            "torchelastic_worker_failures_total", run_id, figures["zero"], torchelastic_failure_cause="exit"
        ),
        series(
            "torchelastic_worker_failures_total",
            run_id,
            figures["failures"],
            torchelastic_failure_cause="exit",
            error_type="3",
        ),
        series("torchelastic_worker_active", run_id, figures["active"], torchelastic_role="default"),
        series("torchelastic_rendezvous_waiting_seconds", run_id, figures["zero"]),
        *(
            series(
                "torchelastic_launchers_ended_total",
                run_id,
                figures["ended"] if outcome == figures["outcome"] else figures["zero"],
                torchelastic_outcome=outcome,
            )
            for outcome in ("succeeded", "failed", "terminated")
        ),
        *(
            series(bucket, run_id, figures[name], le=le)
            for name, le in (("zero", "0.5"), ("once", "1"), ("once", "+Inf"))
        ),
    ]


def before(steps: int, rest: str) -> str:
    """Return values that begin after so many steps."""
    return f"_x{steps} {rest}"


LONG = {
    # Restarts after 2 h 47 min and 22 h 13 min; the last 6 hours of the day begin at step 6480.
    "there": "1x8640",
    "up": "0+10x8640",
    "startup": "5x8640",
    "failure": "0x1000 30x6999 90x640",
    "shutdown": "0x8640",
    "restarts": "0x1000 1x6999 2x640",
    "zero": "0x8640",
    "failures": "_x1000 1x6999 2x640",
    "active": "8x8640",
    "once": "1x8640",
    "ended": "0x8640",
    "outcome": "succeeded",
}
SHORT = {
    "there": before(8000, "1 1"),
    "up": before(8000, "0 8"),
    "startup": before(8000, "2 2"),
    "failure": before(8000, "0 0"),
    "shutdown": before(8000, "0 1"),
    "restarts": before(8000, "0 1"),
    "zero": before(8000, "0 0"),
    "failures": before(8001, "1"),
    "active": before(8000, "0 0"),
    "once": before(8001, "1"),
    "ended": before(8000, "0 1"),
    "outcome": "succeeded",
}
EARLIER = {name: values.replace("_x800", "_x300") for name, values in SHORT.items()}
KILLED = {
    **SHORT,
    "active": before(8000, "0 8"),
    "restarts": before(8000, "0 0"),
    "failures": before(8000, "0 0"),
    "ended": before(8000, "0 0"),
}
FAILED = {**SHORT, "restarts": before(8000, "0 0"), "failures": before(8000, "0 0"), "outcome": "failed"}
INPUT = [
    *job("long", "node1", LONG),
    *job("short", "node2", SHORT),
    *job("earlier", "node2", EARLIER),
    *job("killed", "node3", KILLED),
    *job("failed", "node4", FAILED),
    # A second launcher that failed makes no second job.
    {
        "series": 'target_info{job="train", instance="failed-1", host_name="node4"}',
        "values": SHORT["there"],
    },
    series(
        "torchelastic_launchers_ended_total",
        "failed",
        before(8000, "0 1"),
        instance="failed-1",
        torchelastic_outcome="failed",
    ),
]


def of(run_id: str) -> Labels:
    """Return the labels of a job's row."""
    return {"job": "train", "torchelastic_run_id": run_id}


JOBS: dict[str, list[tuple[Labels, float]]] = {
    "jobs/Jobs that failed/A": [({}, 1)],
    "jobs/Jobs that run/A": [({}, 1)],
    "jobs/Jobs that wait/A": [({}, 0)],
    "jobs/Jobs that restarted/A": [({}, 2)],
    "jobs/Availability/A": [({}, 21624 / (21624 + 66))],
    "jobs/Jobs/State": [(of("long"), 3), (of("short"), 0), (of("killed"), 1), (of("failed"), 4)],
    "jobs/Jobs/Launchers": [(of(run_id), 1) for run_id in ("long", "short", "killed", "failed")],
    "jobs/Jobs/Workers": [(of("long"), 8)],
    "jobs/Jobs/Restarts": [(of("long"), 1), (of("short"), 1), (of("killed"), 0), (of("failed"), 0)],
    "jobs/Jobs/Failures": [(of("long"), 1), (of("short"), 1), (of("killed"), 0), (of("failed"), 0)],
    "jobs/Jobs/Availability": [
        (of("long"), 21600 / 21660),
        *((of(run_id), 0.8) for run_id in ("short", "killed", "failed")),
    ],
    "jobs/Jobs/Lasted": [
        (of("long"), 86400 + 95),
        *((of(run_id), 11) for run_id in ("short", "killed", "failed")),
    ],
    "jobs/Jobs/Seen": [
        (of("long"), 86400e3),
        *((of(run_id), 80010e3) for run_id in ("short", "killed", "failed")),
    ],
    "jobs/Restarts by cause/A": [({"torchelastic_restart_cause": "worker_failure"}, 2)],
    # Two attempts between 0.5 s and 1 s; that of the long job was before the range.
    "jobs/Rendezvous time/A": [({}, 0.75)],
    "jobs/Hosts that fail most/A": [({"host_name": "node1"}, 1), ({"host_name": "node2"}, 1)],
    "jobs/Errors that kill most/A": [({"error_type": "3", "torchelastic_failure_cause": "exit"}, 2)],
}
"""What the last 6 hours of a day come to, by the place of the query."""

ON_NODE2: dict[str, list[tuple[Labels, float]]] = {
    "jobs/Jobs that restarted/A": [({}, 1)],
    "jobs/Jobs/Restarts": [(of("short"), 1)],
    "jobs/Jobs/State": [(of("short"), 0)],
    "jobs/Availability/A": [({}, 0.8)],
    "jobs/Hosts that fail most/A": [({"host_name": "node2"}, 1)],
}

ONE_JOB: dict[str, list[tuple[Labels, float]]] = {
    "job/State/A": [({}, 3)],
    "job/Workers now/A": [({}, 8)],
    "job/Restarts/A": [({}, 2)],
    "job/Failures/A": [({}, 2)],
    "job/Hosts/Failures": [({"host_name": "node1"}, 2)],
    "job/Hosts/Up": [({"host_name": "node1"}, 86400)],
    "job/Hosts/Down": [({"host_name": "node1"}, 95)],
    "job/Workers by host/A": [({"host_name": "node1"}, 8)],
}
"""What a job comes to since it began, whatever the range."""

SIX_HOURS = Values(range_s=6 * 3600, interval_s=6 * 3600)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (SIX_HOURS, JOBS),
        (replace(SIX_HOURS, host="node2"), ON_NODE2),
        (replace(SIX_HOURS, run_id="long"), ONE_JOB),
    ],
    ids=["all jobs", "one host", "one job"],
)
def test_panels_count_exactly(
    tmp_path: Path, values: Values, expected: dict[str, list[tuple[Labels, float]]]
) -> None:
    """Short jobs count with all they did, long ones with what they did in the range."""
    queries = {query.where: query.expression for query in all_queries(values)}
    asked: list[dict[str, Any]] = [
        {
            "expr": queries[where],
            "eval_time": DAY,
            "exp_samples": [{"labels": matched(labels), "value": value} for labels, value in samples],
        }
        for where, samples in expected.items()
    ]
    file = tmp_path / "panels.yaml"
    test = {"interval": "10s", "input_series": INPUT, "promql_expr_test": asked}
    file.write_text(yaml.safe_dump({"rule_files": [], "fuzzy_compare": True, "tests": [test]}))
    command = [str(tool("promtool")), "test", "rules", str(file)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
