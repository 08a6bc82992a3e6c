"""Workers that their agent stopped because of another one's death."""

from __future__ import annotations

import pytest

from tests.support.job_player import STATUS
from tests.support.job_world import first_failure, running, times
from torchelastic_otel._job.event import ERROR, WARN


@pytest.mark.parametrize("code", [-15, -9, 1, 0])
def test_stopped_by_its_agent_is_collateral(code: int) -> None:
    """Whatever exit code torch reports for it: a warning, terminated, never the first failure."""
    world = running()
    world.die(10, {1: 3}, stopped={0: code})
    culprit, collateral = world.told("torchelastic.failure")
    assert culprit.attributes["torchelastic.global_rank"] == 1
    assert collateral.attributes["torchelastic.global_rank"] == 0
    assert collateral.attributes["torchelastic.collateral"] is True
    assert (culprit.severity, collateral.severity) == (ERROR, WARN)
    assert first_failure(collateral.attributes)["global_rank"] == 1
    world.worker_event(11, "FAILED", 0, code)
    world.worker_event(11, "FAILED", 1, 3)
    world.end(12, "FAILED")
    spans = world.by_rank()
    assert spans[0].outcome == "terminated"
    assert spans[1].outcome == "failed"
    assert spans[0].attributes["torchelastic.collateral"] is True
    assert times(spans[0]) == (2, 11)
    assert times(spans[1]) == (2, 10)
    torchs = {r.attributes["torchelastic.local_rank"]: r for r in world.told(STATUS + "FAILED")}
    assert (torchs[0].severity, torchs[1].severity) == (WARN, ERROR)
    assert torchs[0].attributes["torchelastic.collateral"] is True
    assert "torchelastic.collateral" not in torchs[1].attributes
