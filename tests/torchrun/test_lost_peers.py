"""In a real collective the one that raised is named, and not those who lost their connection to it."""

from __future__ import annotations

import textwrap

import pytest

from otlp_receiver import OtlpReceiver
from tests.support.harness import OTEL, QUICK, Harness, Script, otlp

pytestmark = pytest.mark.e2e

RUNS = 3
TRAIN = """
    import torch
    import torch.distributed as dist
    from torch.distributed.elastic.multiprocessing.errors import record
    from torch.nn.parallel import DistributedDataParallel

    @record
    def main():
        dist.init_process_group("gloo")
        model = DistributedDataParallel(torch.nn.Linear(64, 64))
        for step in range(1_000_000):
            if dist.get_rank() == 1 and step == 20:
                raise ValueError(f"loss is NaN at step {step}")
            model(torch.randn(8, 64)).sum().backward()

    main()
"""


@pytest.mark.parametrize("_number", range(RUNS))
def test_the_rank_that_raised_is_first_and_its_peers_lost_it(
    harness: Harness, receiver: OtlpReceiver, _number: int
) -> None:
    """Torch sees a victim dead first as often as the culprit: what they left behind tells them apart."""
    script = Script(harness.program("train.py", textwrap.dedent(TRAIN)))
    options = [*QUICK, "--standalone", "--nproc-per-node=3", *OTEL]
    agent = harness.torchrun(options, script, env={**otlp(receiver), "OMP_NUM_THREADS": "1"})
    assert agent.wait() == 1
    assert receiver.wait(lambda found: any(r.event_name == "torchelastic.agent.stop" for r in found.logs))
    (stop,) = [record for record in receiver.logs if record.event_name == "torchelastic.agent.stop"]
    assert stop.attributes["torchelastic.first_failure.global_rank"] == 1
    assert "died of ValueError: loss is NaN at step 20" in stop.attributes["torchelastic.verdict"]
    failures = [record for record in receiver.logs if record.event_name == "torchelastic.failure"]
    named = {record.attributes.get("torchelastic.first_failure.global_rank", 1) for record in failures}
    assert named == {1}  # no record says otherwise
    (culprit,) = [r for r in failures if r.attributes["torchelastic.global_rank"] == 1]
    assert culprit.attributes["error.type"] == "ValueError"
    assert "torchelastic.collateral" not in culprit.attributes
    for record in failures:
        lost = record.attributes.get("torchelastic.failure.peer_lost", False)
        stopped = record.attributes.get("torchelastic.collateral", False)
        assert (lost or stopped) is (record is not culprit)
