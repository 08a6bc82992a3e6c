"""The recording rules and alerts, tried by promtool, and their runbook."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.backends import tool
from tests.support.queries import RULES, rules

TESTS = RULES.with_name("torchelastic.rules.test.yaml")
RUNBOOK = Path(__file__).parents[2] / "docs" / "runbook.md"
ALERTS = [rule for rule in rules() if "alert" in rule]
RUNBOOK_URL = "https://wiki.example.com/torchelastic/runbook.md"
GRAFANA_URL = "http://localhost:3000"
"""What the links of the alerts begin with until a user has put in their own."""
each_alert = pytest.mark.parametrize("alert", ALERTS, ids=[alert["alert"] for alert in ALERTS])


def paragraphs() -> dict[str, str]:
    """Return the runbook's sections by the anchors that a browser finds them with."""
    parts = re.split(r"^## (.+)$", RUNBOOK.read_text(), flags=re.MULTILINE)[1:]
    return {
        title.lower().replace(" ", "-"): text for title, text in zip(parts[::2], parts[1::2], strict=True)
    }


def test_the_rules_do_what_their_tests_say() -> None:
    """Prometheus' own tool finds the rules well formed, and what they say of the tests' series is right."""
    for command in (["check", "rules", str(RULES)], ["test", "rules", str(TESTS)]):
        done = subprocess.run([str(tool("promtool")), *command], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


@each_alert
def test_an_alert_is_tried_both_ways(alert: dict[str, Any]) -> None:
    """The unit tests see it fire, and see it silent while samples come that nearly make it fire."""
    fires = silent = 0
    for test in yaml.safe_load(TESTS.read_text())["tests"]:
        for tried in test.get("alert_rule_test", []):
            if tried["alertname"] == alert["alert"]:
                fires += bool(tried["exp_alerts"])
                silent += not tried["exp_alerts"]
    assert fires >= 1
    assert silent >= 2


@each_alert
def test_an_alert_has_its_paragraph_in_the_runbook(alert: dict[str, Any]) -> None:
    """The link of an alert leads to a section that says what to look at, what to do, and when to sleep on."""
    path, _, anchor = alert["annotations"]["runbook_url"].partition("#")
    assert path == RUNBOOK_URL
    text = paragraphs()[anchor]
    for part in ("What it means", "Look first", "Usual causes", "What to do", "False alarm"):
        assert f"**{part}" in text
    assert alert["alert"].lower() == anchor


def test_the_runbook_tells_of_no_alert_that_is_gone() -> None:
    """Every section that is named like an alert is of one."""
    named = {anchor for anchor in paragraphs() if anchor.startswith("torchelastic")}
    assert named == {alert["alert"].lower() for alert in ALERTS}


@each_alert
def test_an_alert_says_who_and_how_bad(alert: dict[str, Any]) -> None:
    """It has a severity, a summary that names the job, host or service, and a dashboard."""
    assert alert["labels"]["severity"] in ("critical", "warning")
    summary = alert["annotations"]["summary"]
    assert re.search(r"\$labels\.(torchelastic_run_id|host_name|job)\b", summary)
    assert alert["annotations"]["description"]
    assert alert["annotations"]["dashboard_url"].startswith(f"{GRAFANA_URL}/d/torchelastic-job")


def test_links_are_absolute_and_lead_where_the_user_says() -> None:
    """The command in the head of the file puts the user's addresses in for the two that stand there."""
    head = re.search(r"^#   sed (.*?) > ", RULES.read_text(), re.MULTILINE | re.DOTALL)
    assert head is not None
    command = "sed " + head[1].replace("\n#  ", "\n")
    done = subprocess.run(
        ["bash", "-ec", command], cwd=RULES.parent, capture_output=True, text=True, check=True
    )
    made = [rule for group in yaml.safe_load(done.stdout)["groups"] for rule in group["rules"]]
    links = [rule["annotations"] for rule in made if "alert" in rule]
    assert len(links) == len(ALERTS)
    for link in links:
        assert link["runbook_url"].startswith("https://wiki.example.org/jobs#")
        assert link["dashboard_url"].startswith("https://grafana.example.com/d/")


def test_what_is_recorded_is_used() -> None:
    """Each recording rule serves an alert, another rule or a panel."""
    files = [RULES, *(RULES.parent.parent / "grafana" / "dashboards").glob("*.json")]
    text = "\n".join(file.read_text() for file in files)
    for rule in rules():
        if "record" in rule:
            assert text.count(rule["record"]) > 1, rule["record"]
