"""The rules and dashboards for those who run Prometheus and Grafana by operators, as kubectl builds them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.backends import CONFIGS, README_BLOCKS
from tests.support.queries import DASHBOARDS, RULES, rules

PROMETHEUS = CONFIGS / "prometheus"


def built(directory: Path) -> dict[str, Any]:
    """Return the only object that a kustomization comes to."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl, which builds kustomizations, is not on this machine")
    ran = subprocess.run([kubectl, "kustomize", str(directory)], capture_output=True, text=True, check=True)
    [found] = yaml.safe_load_all(ran.stdout)
    assert isinstance(found, dict)
    return found


def test_the_operators_rules_are_the_rules() -> None:
    """Group for group, as the generator writes them."""
    generator = [sys.executable, str(PROMETHEUS / "prometheus_rule.py"), "--check"]
    assert subprocess.run(generator, check=False).returncode == 0, "run: make generate"
    found = yaml.safe_load((PROMETHEUS / "prometheus-rule.yaml").read_text())
    assert (found["apiVersion"], found["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert found["spec"] == yaml.safe_load(RULES.read_text())


def test_a_kustomization_has_the_rules() -> None:
    """In a namespace, under the label that a Prometheus asks for."""
    found = built(PROMETHEUS)
    assert found["spec"] == yaml.safe_load(RULES.read_text())
    assert found["metadata"]["namespace"] == "monitoring"
    assert found["metadata"]["labels"].keys() == {"release"}


def test_a_kustomization_has_the_dashboards() -> None:
    """Every file byte for byte, under the label that Grafana's sidecar looks for, and no more than fits."""
    found = built(DASHBOARDS)
    assert found["kind"] == "ConfigMap"
    assert found["metadata"]["labels"] == {"grafana_dashboard": "1"}
    assert found["data"] == {path.name: path.read_text() for path in DASHBOARDS.glob("*.json")}
    assert sum(map(len, found["data"].values())) < 1 << 20


def test_the_readmes_command_puts_the_users_addresses_in() -> None:
    """In every alert's links, and in nothing else."""
    [command] = [text for marks, text in README_BLOCKS if marks == ["monitoring"]]
    assert command.count("kubectl apply -f -") == 1
    before = built(PROMETHEUS)
    ran = subprocess.run(
        ["bash", "-ec", command.replace("kubectl apply -f -", "cat")],
        cwd=CONFIGS,
        capture_output=True,
        text=True,
        check=True,
    )
    after = yaml.safe_load(ran.stdout)
    alerts = [rule for group in after["spec"]["groups"] for rule in group["rules"] if "alert" in rule]
    assert len(alerts) == len([rule for rule in rules() if "alert" in rule])
    for alert in alerts:
        links = alert["annotations"]
        assert links["runbook_url"].startswith("https://wiki.example.org/jobs#")
        assert links["dashboard_url"].startswith("https://grafana.example.com/d/")
    for found in (before, after):
        for rule in (rule for group in found["spec"]["groups"] for rule in group["rules"]):
            for link in ("runbook_url", "dashboard_url"):
                rule.get("annotations", {}).pop(link, None)
    assert after == before
