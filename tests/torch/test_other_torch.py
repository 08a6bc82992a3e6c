"""A torch that is not the one known: the job runs as without the bridge, and what is still known is told."""

from __future__ import annotations

from collections import Counter

import pytest

from otlp_receiver import OtlpReceiver
from tests.support import other_torch as o
from tests.support.harness import Harness
from tests.support.launching import LAUNCH, OF_A_JOB, ONE_JOB, RENDEZVOUS, STATUS, WORKER, answer

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


def renamed(name: str) -> list[tuple[str, str, str]]:
    """Return the changes that rename one of the agent's methods wherever it is."""
    places = (
        (o.AGENT_API, o.AGENT)
        if name in ("_monitor_workers", "_shutdown", "_start_workers")
        else (o.AGENT_API,)
    )
    return [(place, name, "_renamed") for place in places]


@pytest.mark.parametrize(
    "name", ["_start_workers", "_monitor_workers", "_restart_workers", "_shutdown", "_exit_barrier"]
)
def test_each_of_the_agents_methods_falls_back_by_itself(
    harness: Harness, receiver: OtlpReceiver, name: str
) -> None:
    """The others go on telling: the job's spans, and the workers' context, are there without any one."""
    context = answer(harness, receiver, o.change(*renamed(name)), LAUNCH, 'answer = launch("otel")')
    (worker,) = (span for span in receiver.spans if span.name == WORKER)
    assert context == f"00-{worker.trace_id}-{worker.span_id}-01"
    assert Counter(span.name for span in receiver.spans) == ONE_JOB


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


def test_the_end_of_a_rendezvous_is_told_without_its_view(harness: Harness, receiver: OtlpReceiver) -> None:
    """What torch keeps otherwise is left out, and nothing else."""
    change = (o.DYNAMIC, "_this_node", "_renamed")
    answer(harness, receiver, o.change(change), LAUNCH, 'answer = launch("otel")')
    (rendezvous,) = (span for span in receiver.spans if span.name == RENDEZVOUS)
    assert rendezvous.attributes["torchelastic.outcome"] == "succeeded"
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
