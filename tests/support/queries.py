"""Every query of the dashboards and of the alert rules, taken out of the files that are shipped.

``all_queries()`` returns them with Grafana's variables put in; each can be run against a real backend::

    values = Values(run_id="demo", range_s=900)
    for query in all_queries(values):
        found = run(query, prometheus_url, loki_url, values)
        assert found or query.where in EXPECTED_EMPTY

``EXPECTED_EMPTY`` says which of them rightly have no answer after a job of two nodes in which a worker failed
and that then went well, and why.
"""

from __future__ import annotations

import json
import re
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import yaml

CONFIGS = Path(__file__).parents[2] / "collector-config"
DASHBOARDS = CONFIGS / "grafana" / "dashboards"
RULES = CONFIGS / "prometheus" / "torchelastic.rules.yaml"

ALL = ".*"
"""What the dashboards put in for a variable of which everything is chosen."""

_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::\w+)?\}|(\w+))")
_IN_TEMPLATE = re.compile(r'query \(printf\s+"(.*?)"\s+((?:\$labels\.\w+\s*)+)\)', re.DOTALL)

_JOB_WENT_WELL = "no launcher failed"
_NOTHING_LOST = "the backends took all telemetry at once"
_NO_ALERT = "the job recovered at once and ended well, so that nobody is to be woken"

EXPECTED_EMPTY = {
    "jobs/What failed last/A": _JOB_WENT_WELL,
    "jobs/Telemetry late/A": _NOTHING_LOST,
    "jobs/Telemetry late/B": _NOTHING_LOST,
    "jobs/Telemetry lost over time/A": _NOTHING_LOST,
    "rules/TorchelasticRestartStorm": _NO_ALERT,
    "rules/TorchelasticNoProgressAfterFailure": _NO_ALERT,
    "rules/TorchelasticRendezvousWaiting": _NO_ALERT,
    "rules/TorchelasticRendezvousWaiting/description": _NO_ALERT,
    "rules/instance_run:torchelastic_launcher_open:last30m": "every launcher said that it ended",
    "rules/TorchelasticJobFailed": _NO_ALERT,
    "rules/TorchelasticJobFailed/description": _NO_ALERT,
    "rules/TorchelasticLauncherSilent": _NO_ALERT,
    "rules/TorchelasticHostFailing": _NO_ALERT,
    "rules/TorchelasticTelemetryLost": _NO_ALERT,
    "rules/TorchelasticTelemetryLost/description": _NO_ALERT,
}
"""Queries without an answer after a crash and a recovery, by ``where``, and why."""


@dataclass(frozen=True, slots=True)
class Values:
    """What is chosen at the head of a dashboard."""

    run_id: str = ALL
    service: str = ALL
    host: str = ALL
    range_s: int = 3600
    interval_s: int = 60

    def put_in(self, text: str) -> str:
        """Put the values in for the variables."""
        known = {
            "service": self.service,
            "service_name": ".+" if self.service == ALL else self.service,
            "run_id": self.run_id,
            "host": self.host,
            "__range": f"{self.range_s}s",
            "__interval": f"{self.interval_s}s",
            "__rate_interval": f"{4 * self.interval_s}s",
            "prometheus": "prometheus",
            "loki": "loki",
        }
        return _VARIABLE.sub(lambda found: known[found[1] or found[2]], text)


@dataclass(frozen=True, slots=True)
class Query:
    """A query: ``where`` is dashboard/panel/target, rules/name, or rules/alert/annotation."""

    where: str
    language: Literal["promql", "logql"]
    expression: str
    kind: Literal["instant", "range"]
    options: dict[str, str] = field(default_factory=dict, compare=False)
    """How many records are asked for, and in which direction."""


def dashboards() -> dict[str, dict[str, Any]]:
    """Return the dashboards by the names of their files."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(DASHBOARDS.glob("*.json"))}


def rules() -> list[dict[str, Any]]:
    """Return the recording rules and the alerts."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the panels of a dashboard, those of collapsed rows too."""
    found: list[dict[str, Any]] = []
    for panel in dashboard["panels"]:
        found += panel["panels"] if panel.get("panels") else [panel]
    return [panel for panel in found if panel["type"] != "row"]


def raw_queries() -> Iterator[Query]:
    """Yield every query as the files have it."""
    for name, dashboard in dashboards().items():
        for panel in panels(dashboard):
            for target in panel["targets"]:
                language: Literal["promql", "logql"] = (
                    "logql" if target["datasource"]["type"] == "loki" else "promql"
                )
                instant = bool(target.get("instant")) or target.get("queryType") == "instant"
                where = f"{name}/{panel['title']}/{target['refId']}"
                options = {"limit": str(target["maxLines"])} if "maxLines" in target else {}
                if "direction" in target:
                    options["direction"] = target["direction"]
                yield Query(where, language, target["expr"], "instant" if instant else "range", options)
        for note in dashboard.get("annotations", {}).get("list", []):
            if "expr" in note:
                yield Query(f"{name}/annotation {note['name']}", "logql", note["expr"], "range")
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                selector = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
                assert selector is not None, variable
                expression = f"count by ({selector[2]}) ({selector[1]})"
                yield Query(f"{name}/variable {variable['name']}", "promql", expression, "instant")


def rule_queries() -> Iterator[Query]:
    """Yield every rule's expression, and those that its texts ask."""
    for rule in rules():
        name = rule.get("record") or rule["alert"]
        yield Query(f"rules/{name}", "promql", rule["expr"], "instant")
        for key, text in rule.get("annotations", {}).items():
            for found in _IN_TEMPLATE.finditer(text):
                expression = found[1].replace("=%q", '=~".*"')
                assert "%" not in expression, found[0]
                yield Query(f"rules/{name}/{key}", "promql", expression, "instant")


def all_queries(values: Values | None = None) -> list[Query]:
    """Return every query of the dashboards, with the values put in, and of the rules."""
    values = values or Values()
    chosen = [replace(query, expression=values.put_in(query.expression)) for query in raw_queries()]
    return [*chosen, *rule_queries()]


def run(query: Query, prometheus_url: str, loki_url: str, values: Values, end_s: float = 0) -> list[Any]:
    """Run a query as Grafana would, over the range that ends at ``end_s`` (now); return its result's series.

    A wrong query raises ``HTTPError``; its body says why.
    """
    end_s = end_s or time.time()
    start_s = end_s - values.range_s
    # As much as the panels of a dashboard ask for, and no more than the backends allow.
    step_s = max(values.interval_s, values.range_s // 500, 1)
    if query.language == "promql":
        api = f"{prometheus_url}/api/v1"
        times = {"time": f"{end_s:.3f}"}
        if query.kind == "range":
            times = {"start": f"{start_s:.3f}", "end": f"{end_s:.3f}", "step": str(step_s)}
    else:
        api = f"{loki_url}/loki/api/v1"
        times = {"time": f"{end_s * 1e9:.0f}"}
        if query.kind == "range":
            times = {"start": f"{start_s * 1e9:.0f}", "end": f"{end_s * 1e9:.0f}", "step": str(step_s)}
    form = urllib.parse.urlencode({"query": query.expression, **times, **query.options}).encode()
    address = f"{api}/query_range" if query.kind == "range" else f"{api}/query"
    # Prometheus takes long queries in a form alone.
    request = urllib.request.Request(address, form)
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(request, timeout=60) as answer:
        result: list[Any] = json.load(answer)["data"]["result"]
    return result
