"""The dashboards as they are shipped: what Grafana, Prometheus and Loki must find in them.

That every query has an answer from real jobs is tried where the backends run (see ``queries.py``). What
Grafana makes of the files is not: it is not among the tools.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from dashboard_names import LOKI_LABELS, PROMETHEUS_METRICS, label, prometheus_name
from tests.support.backends import loki, tool
from tests.support.promql_names import unknown_in_logql, unknown_in_promql
from tests.support.queries import (
    CONFIGS,
    EXPECTED_EMPTY,
    Values,
    all_queries,
    dashboards,
    panels,
    raw_queries,
    rules,
    run,
)
from torchelastic_otel import _contract as c

GENERATOR = CONFIGS / "grafana" / "dashboards.py"
DASHBOARDS = dashboards()
PANELS = [(f"{name}/{panel['title']}", panel) for name, made in DASHBOARDS.items() for panel in panels(made)]
each_panel = pytest.mark.parametrize(
    "panel", [panel for _, panel in PANELS], ids=[where for where, _ in PANELS]
)
each_dashboard = pytest.mark.parametrize("dashboard", DASHBOARDS.values(), ids=DASHBOARDS.keys())
generates = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="grafana-foundation-sdk needs Python 3.11 or later"
)

FEW_VALUES = {
    *(label(name) for name in (c.RESTART_CAUSE, c.FAILURE_CAUSE, c.OTEL_SIGNAL, c.REASON, c.EVENT)),
    label(c.ERROR_TYPE),
}
"""Labels of which there are a handful of values; of error types the panel takes ten."""

BUILT_IN = {
    "__range",
    "__interval",
    "__rate_interval",
    "__from",
    "__to",
    "__url_time_range",
    "__value",
    "__data",
}


def recorded() -> dict[str, frozenset[str]]:
    """Return the series that the rules record, with their labels."""
    found = {}
    for rule in rules():
        if "record" in rule:
            grouped = re.search(r"(?:sum|max|count) by \(([^)]*)\)", rule["expr"])
            assert grouped is not None, rule
            found[rule["record"]] = frozenset(grouped[1].split(", "))
    return found


METRICS = {**PROMETHEUS_METRICS, **recorded()}


@generates
def test_the_files_are_what_the_code_says() -> None:
    """Who changes a name or a panel must write the dashboards anew."""
    done = subprocess.run([sys.executable, GENERATOR, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@generates
def test_a_file_that_is_not_what_the_code_says_is_told(tmp_path: Path) -> None:
    """The check sees a change, and writing mends it."""
    copy = tmp_path / "grafana"
    shutil.copytree(GENERATOR.parent, copy)
    changed = copy / "dashboards" / "job.json"
    changed.write_text(changed.read_text().replace("Verdict", "Verdikt"))
    command = [sys.executable, str(copy / "dashboards.py")]
    done = subprocess.run([*command, "--check"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "job.json" in done.stderr
    subprocess.run(command, check=True)
    assert changed.read_text() == (GENERATOR.parent / "dashboards" / "job.json").read_text()


def test_names_in_prometheus_are_those_that_it_makes() -> None:
    """The mapping of names, by examples of each kind that were seen in a real Prometheus."""
    assert prometheus_name(c.METRIC_RESTARTS) == "torchelastic_restarts_total"
    assert prometheus_name(c.METRIC_UPTIME) == "torchelastic_worker_group_uptime_seconds_total"
    assert prometheus_name(c.METRIC_WORKER_ACTIVE) == "torchelastic_worker_active"
    assert prometheus_name(c.METRIC_RENDEZVOUS_WAITING) == "torchelastic_rendezvous_waiting_seconds"
    assert prometheus_name(c.METRIC_DROPPED) == "torchelastic_otel_dropped_total"
    assert "torchelastic_rendezvous_duration_seconds_bucket" in PROMETHEUS_METRICS


def test_every_name_in_every_query_is_one_of_the_project() -> None:
    """A metric or attribute that is renamed can't leave a dead panel or alert."""
    unknown = {}
    for query in all_queries():
        if query.language == "promql":
            found = unknown_in_promql(query.expression, METRICS)
        else:
            found = unknown_in_logql(query.expression, LOKI_LABELS)
        if found:
            unknown[query.where] = found
    assert unknown == {}


def test_a_name_that_nobody_has_is_seen() -> None:
    """The test above can fail."""
    chosen = 'torchelastic_restarts_total{job="a", torchelastic_cause="x"}'
    assert unknown_in_promql(f"sum by (jobs) ({chosen})", METRICS) == {
        "jobs",
        "torchelastic_restarts_total{torchelastic_cause}",
    }
    assert unknown_in_promql("torchelastic_restart_total", METRICS) == {"torchelastic_restart_total"}
    assert unknown_in_logql('{service_name="a"} | torchelastic_rnk="1"', LOKI_LABELS) == {"torchelastic_rnk"}


def test_every_variable_in_a_query_is_defined() -> None:
    """No query and no link asks for a variable that the dashboard does not have."""
    for name, dashboard in DASHBOARDS.items():
        known = {variable["name"] for variable in dashboard["templating"]["list"]} | BUILT_IN
        text = str(dashboard["panels"])
        used = {found[0] or found[1] for found in re.findall(r"\$(?:\{(\w+)[^}]*\}|(\w+))", text)}
        assert used - known == set(), name
        unused = {"service", "run_id", "host", "service_name", "prometheus", "loki", "tempo", "jaeger"} - used
        assert unused == set(), name


@each_panel
def test_a_panel_says_what_it_shows(panel: dict[str, Any]) -> None:
    """Every panel has a title, a description, a unit, a data source by variable, and queries with it."""
    assert panel["title"]
    assert len(panel["description"]) > 20
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"]["uid"] in ("${prometheus}", "${loki}")
    assert panel["targets"]
    for target in panel["targets"]:
        assert target["datasource"] == panel["datasource"]
        assert target["expr"]
    references = [target["refId"] for target in panel["targets"]]
    assert len(references) == len(set(references))


@each_panel
def test_what_a_panel_says_of_a_column_is_of_one_that_it_has(panel: dict[str, Any]) -> None:
    """Columns are attributes that records have or results of the panel's queries; settings name columns."""
    organize = [step["options"] for step in panel.get("transformations", []) if step["id"] == "organize"]
    overrides = panel["fieldConfig"].get("overrides") or []
    shown: set[str] = set()
    for options in organize:
        columns = set(options["indexByName"])
        results = {f"Value #{target['refId']}" for target in panel["targets"]}
        if panel["datasource"]["type"] == "loki":
            assert columns <= LOKI_LABELS | {"Time", "Line"}
        else:
            labels = frozenset().union(*METRICS.values())
            assert columns <= labels | results
            assert results <= columns
        shown = {options["renameByName"].get(name, name) for name in columns}
        assert len(shown) == len(columns)
        sorted_by = {column["displayName"] for column in panel["options"]["sortBy"]}
        assert sorted_by <= shown
    for override in overrides:
        if override["matcher"]["id"] == "byName":
            assert override["matcher"]["options"] in shown


@each_panel
def test_a_panel_of_many_jobs_stays_readable(panel: dict[str, Any]) -> None:
    """What has a line or bar for each host or job shows the few that matter; tables have pages, filters."""
    if panel["type"] == "table":
        assert panel["options"]["footer"]["enablePagination"]
        assert panel["fieldConfig"]["defaults"]["custom"]["filterable"]
    if panel["type"] in ("timeseries", "bargauge"):
        for target in panel["targets"]:
            if re.search(r"torchelastic_run_id|host_name|instance", target["legendFormat"]):
                few = r"topk\(20, .*@ end\(\)" if panel["type"] == "timeseries" else r"(?:top|bottom)k\(10, "
                assert re.search(few, target["expr"])
            else:
                assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= FEW_VALUES


@each_dashboard
def test_panels_fill_the_grid_and_cover_no_other(dashboard: dict[str, Any]) -> None:
    """Each place of the grid has one panel, none reaches over its edge, and no row has a hole."""
    taken: dict[tuple[int, int], str] = {}
    for panel in panels(dashboard):
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]
    height = max(y for _, y in taken) + 1
    assert len(taken) == 24 * height


@each_dashboard
def test_a_dashboard_can_be_provisioned(dashboard: dict[str, Any]) -> None:
    """Its uid is readable, Grafana gives it its id, panels have numbers, variables choose data sources."""
    assert dashboard["uid"] in ("torchelastic-jobs", "torchelastic-job")
    assert dashboard.get("id") is None
    numbers = [panel["id"] for panel in panels(dashboard)]
    assert numbers == list(range(1, len(numbers) + 1))
    titles = [panel["title"] for panel in panels(dashboard)]
    assert len(titles) == len(set(titles))
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    for kind in ("prometheus", "loki", "tempo", "jaeger"):
        assert variables[kind]["type"] == "datasource"
        assert variables[kind]["query"] == kind
    for name in ("service", "run_id", "host"):
        assert variables[name]["datasource"]["uid"] == "${prometheus}"
    for note in dashboard.get("annotations", {}).get("list", []):
        assert note["datasource"]["uid"] == "${loki}"


def test_what_may_be_empty_is_there() -> None:
    """The list of queries that have no answer after a good recovery names queries that there are."""
    places = [query.where for query in all_queries()]
    assert len(places) == len(set(places))
    assert set(EXPECTED_EMPTY) <= set(places)


def test_every_promql_query_is_understood_by_prometheus(tmp_path: Path) -> None:
    """Prometheus' own tool takes every query of every panel and variable, and of every rule."""
    made = [
        {"record": "tried", "expr": query.expression}
        for values in (Values(), Values(run_id="a-1", service="team/train", host="node1|node2"))
        for query in all_queries(values)
        if query.language == "promql"
    ]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "tried", "rules": made}]}))
    command = [str(tool("promtool")), "check", "rules", "--lint=none", str(file)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(made)} rules found" in done.stdout


@pytest.mark.e2e
def test_every_logql_query_is_understood_by_loki(tmp_path: Path) -> None:
    """A real Loki takes every query of every panel and annotation, with everything chosen and with one."""
    asked = 0
    with loki(tmp_path / "loki") as logs:
        for values in (Values(), Values(run_id="a-1", service="train", host="node1|node2")):
            for query in all_queries(values):
                if query.language == "logql":
                    assert run(query, "", logs.url, values) == []
                    asked += 1
    assert asked == 2 * sum(query.language == "logql" for query in raw_queries()) > 0
