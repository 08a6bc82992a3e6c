"""A job ends as it would without the bridge, and a job that does not ask for it is left alone."""

from __future__ import annotations

from collections import Counter
from importlib.metadata import entry_points

import pytest

from otlp_receiver import OtlpReceiver
from tests.support.harness import TORCHRUN, Harness, c10d, otlp
from tests.support.scenarios.running import Run, every, only, where

pytestmark = pytest.mark.e2e


@every
def test_the_launcher_ends_with_the_exit_code_that_torch_gives_it(run: Run) -> None:
    """Exit codes are torch's, and nothing goes wrong inside of the bridge."""
    assert [node.exit_code for node in run.nodes] == [node.expected.exit_code for node in run.nodes], (
        run.nodes[0].output
    )
    for node in run.nodes:
        assert "internal error" not in node.output
        assert "not known to torchelastic-otel" not in node.output


@where(lambda found: bool(found.what) or any(node.exit_code for node in found.nodes))
def test_exit_codes_are_those_of_the_same_job_without_the_bridge(run: Run, without: Run) -> None:
    """Where a worker dies, or a launcher fails or is stopped, the telemetry does not change how it ends."""
    assert without.requests == []
    assert run.requests
    expected = [node.expected.exit_code for node in run.nodes]
    assert [node.exit_code for node in without.nodes] == expected
    assert [node.exit_code for node in run.nodes] == expected


@pytest.mark.parametrize("handler", [[], ["--event-log-handler", "console"]], ids=["default", "console"])
def test_a_job_that_does_not_ask_for_otel_exports_nothing(
    harness: Harness, receiver: OtlpReceiver, handler: list[str]
) -> None:
    """Without ``otel`` there is no request, no thread's word, and no rendezvous event is even built."""
    options = [*handler, *c10d(0, "not-asked", nodes=1, per_node=1)]
    agent = harness.torchrun(options, harness.worker(), env=otlp(receiver))
    assert agent.wait() == 0
    assert receiver.requests == []
    kinds = Counter(event.kind for event in agent.recorded)
    assert kinds["asked"] > 0
    assert kinds["event"] > 0
    assert kinds["rdzv"] == 0
    assert "torchelastic-otel" not in agent.output
    (note,) = harness.worker_notes()
    assert "TRACEPARENT" not in note.env


def test_otel_as_a_rendezvous_backend_is_refused_with_what_to_write(
    harness: Harness, receiver: OtlpReceiver
) -> None:
    """``--rdzv-backend otel`` fails, and the message names the option that was meant."""
    agent = harness.torchrun(["--rdzv-backend", "otel"], harness.worker(), env=otlp(receiver))
    assert agent.wait() == 1
    assert "--event-log-handler otel" in agent.output
    assert receiver.requests == []


def test_the_torchrun_script_is_the_module_that_the_tests_run() -> None:
    """``torchrun`` calls the main function of the module that these tests start with ``-m``."""
    (script,) = entry_points(group="console_scripts", name="torchrun")
    assert script.value == f"{TORCHRUN}:main"


@only("opentelemetry-instrument, console")
def test_the_console_is_left_as_it_is(run: Run) -> None:
    """``--event-log-handler console`` under opentelemetry-instrument prints all that it prints without."""
    (node,) = run.nodes
    recorded = [event.text for event in node.recorded if event.kind == "event"]
    assert recorded
    printed = [line for line in node.output.splitlines() if line.startswith('{"name": ')]
    assert printed == recorded
