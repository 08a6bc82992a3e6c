"""The alerts of jobs that are over, in a real Prometheus: one failed within seconds, one was killed."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.backends import Prometheus, prometheus
from tests.support.harness import OTEL, QUICK, Agent, Harness, c10d, free_port

pytestmark = pytest.mark.e2e


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Prometheus]:
    """Run a Prometheus in which each minute of the rules is a second."""
    with prometheus(tmp_path / "prometheus", start=False) as metrics:
        [rules] = (metrics.program.directory / "rules").glob("*.rules.yaml")
        rules.write_text(re.sub(r"\b(\d+)m\b", r"\1s", rules.read_text()))
        config = metrics.program.directory / "prometheus.yaml"
        config.write_text(re.sub(r"(evaluation_interval): \S+", r"\1: 1s", config.read_text()))
        metrics.program.start()
        yield metrics


def launch(harness: Harness, metrics: Prometheus, run_id: str, *, fails: bool) -> Agent:
    """Start a job of one worker, which fails or stays."""
    env = {
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"{metrics.otlp_endpoint}/v1/metrics",
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_METRIC_EXPORT_INTERVAL": "1000",
    }
    script = harness.worker(together=1, fail=[0] if fails else [], stay=[] if fails else [0])
    options = [*QUICK, *c10d(free_port(), run_id, nodes=1, per_node=1, restarts=0), *OTEL]
    return harness.torchrun(options, script, env=env)


def fired(metrics: Prometheus) -> set[tuple[str, str]]:
    """Return which alerts have fired so far, and for which job."""
    ever = 'last_over_time(ALERTS{alertstate="firing"}[1h])'
    return {
        (found.labels["alertname"].removeprefix("Torchelastic"), found.labels["torchelastic_run_id"])
        for found in metrics.instant(ever)
    }


def test_a_job_of_seconds_that_fails_and_a_launcher_that_is_killed_are_told(
    quick: Prometheus, tmp_path: Path
) -> None:
    """Each by its own alert, and by no other; a job that is told to stop makes none."""
    with Harness(tmp_path / "jobs") as harness:
        told = launch(harness, quick, "told", fails=False)
        harness.wait_for_gate()
        told.send_signal(signal.SIGTERM)
        assert told.wait() == 1
        assert launch(harness, quick, "failed", fails=True).wait() == 1
        quick.wait_for('ALERTS{alertname="TorchelasticJobFailed", alertstate="firing"}')
        killed = launch(harness, quick, "killed", fails=False)
        harness.wait_for_gate()
        quick.wait_for('torchelastic_launchers_ended_total{torchelastic_run_id="killed"}')
        killed.kill()
        quick.wait_for('ALERTS{alertname="TorchelasticLauncherSilent", alertstate="firing"}')
    assert fired(quick) == {("JobFailed", "failed"), ("LauncherSilent", "killed")}
    # A job that is over is told of for a while, and no longer.
    quick.wait_for("count(ALERTS) or vector(0)", lambda found: [sample.value for sample in found] == [0])
