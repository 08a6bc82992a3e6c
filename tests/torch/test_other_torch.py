"""A torch that is not the one known: the job runs as without the bridge, and what is still known is told."""

from __future__ import annotations

from collections import Counter

import pytest

from otlp_receiver import OtlpReceiver
from tests.support import other_torch as o
from tests.support.harness import Harness
from tests.support.launching import LAUNCH, OF_A_JOB, ONE_JOB, STATUS, answer

pytestmark = pytest.mark.e2e

OF_TORCHS_OWN = {f"{STATUS}{state}" for state in ("RENDEZVOUS", "ASSIGN_WORKER_RANKS", "START", "SUCCEEDED")}


@pytest.mark.parametrize(
    ("changes", "records"),
    [
        ([(o.EVENTS, "_events_loggers", "_renamed")], OF_TORCHS_OWN),
        ([(o.HANDLERS, "_log_handlers", "_renamed")], OF_TORCHS_OWN),
        (
            [(o.EVENTS, "_events_loggers", "_renamed"), (o.HANDLERS, "_log_handlers", "_renamed")],
            OF_TORCHS_OWN,
        ),
        ([(o.EVENTS, "_get_or_create_logger", "_renamed")], OF_TORCHS_OWN),
        ([(o.DYNAMIC, "get_method_name", "_renamed")], OF_A_JOB),
    ],
    ids=["loggers", "handlers", "both tables", "get or create", "method name"],
)
def test_a_private_name_that_is_gone_costs_no_job(
    harness: Harness, receiver: OtlpReceiver, changes: list[tuple[str, str, str]], records: set[str]
) -> None:
    """A job that asks for ``otel`` runs, and has its spans and torch's own events, at any LOGLEVEL."""
    context = answer(
        harness, receiver, o.change(*changes), LAUNCH, 'answer = launch("otel")', LOGLEVEL="WARNING"
    )
    assert context
    assert Counter(span.name for span in receiver.spans) == ONE_JOB
    assert {record.event_name for record in receiver.logs} >= records


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
