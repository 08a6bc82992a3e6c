"""A torch that is not the one known: the job runs as without the bridge, and what is still known is told."""

from __future__ import annotations

from collections import Counter

import pytest

from otlp_receiver import OtlpReceiver
from tests.support.harness import Harness
from tests.support.launching import LAUNCH, ONE_JOB, answer

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("hook", ["_hook_agent_class", "_hook_start_processes", "_adopt_agent"])
def test_a_job_whose_agent_is_not_seen_is_told_from_events(
    harness: Harness, receiver: OtlpReceiver, hook: str
) -> None:
    """Not less than with no hook at all: the workers that torch's events tell of have their spans."""
    program = f"""
    from torchelastic_otel._torch.hooks import TorchHooks

    def does_not_fit(*args):
        raise LookupError("not this torch")

    TorchHooks.{hook} = does_not_fit
    """
    answer(
        harness, receiver, program, LAUNCH, 'answer = launch("otel")', announced="does_not_fit: LookupError"
    )
    assert Counter(span.name for span in receiver.spans) == ONE_JOB


def test_no_exception_of_ours_leaves_an_import_of_torch(harness: Harness, receiver: OtlpReceiver) -> None:
    """Whatever type it is of: merely having the package installed never fails torch's import."""
    program = """
    import torchelastic_otel
    from torchelastic_otel._torch import hooks

    class Strange(Exception):
        pass

    def fail(*args, **kwargs):
        raise Strange

    hooks.Patches.replace = fail
    import torch.distributed.run
    answer = launch("null") is None
    """
    assert answer(harness, receiver, LAUNCH, program) is True
