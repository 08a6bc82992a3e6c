"""Garbage collection in a launcher's process: put off while torchrun starts, never touched elsewhere."""

from __future__ import annotations

import json

import pytest

from otlp_receiver import OtlpReceiver
from tests.support.harness import Harness
from tests.support.launching import LAUNCH, answer

pytestmark = pytest.mark.e2e

WATCH = """
import atexit, gc, json, sys
from torch.distributed.elastic.agent.server.api import SimpleElasticAgent

seen = {}
invoke_run = SimpleElasticAgent._invoke_run

def watched(*args, **kwargs):
    seen["job"] = gc.isenabled()
    return invoke_run(*args, **kwargs)

SimpleElasticAgent._invoke_run = watched

def at_exit():  # registered before the bridge is made, so it runs after the bridge's own
    seen["exit"] = gc.isenabled()
    with open("seen.json", "w") as file:
        json.dump(seen, file)

atexit.register(at_exit)
"""


def test_torchrun_collects_no_garbage_while_it_starts_and_does_as_it_ends(
    harness: Harness, receiver: OtlpReceiver
) -> None:
    """The end of the interpreter is that of a launcher without telemetry."""
    script = harness.program("nothing.py", "")
    program = f"""
    from torch.distributed.run import main
    main(["--standalone", "--nproc-per-node=1", "--event-log-handler=otel", {str(script)!r}])
    answer = None
    """
    assert seen_by(harness, receiver, program) == {"job": False, "exit": True}


@pytest.mark.parametrize(
    "launch",
    [
        f'{LAUNCH}\nlaunch("otel")',
        "from torch.distributed import run\nrun.run(run.get_args_parser().parse_args("
        '["--standalone", "--nproc-per-node=1", "--event-log-handler=otel", "--no-python", "true"]))',
    ],
    ids=["elastic_launch", "run"],
)
def test_a_program_that_launches_by_itself_keeps_its_collection(
    harness: Harness, receiver: OtlpReceiver, launch: str
) -> None:
    """Whether it calls ``elastic_launch`` or torchrun's own ``run``, as accelerate does."""
    assert seen_by(harness, receiver, f"{launch}\nanswer = None") == {"job": True, "exit": True}


def seen_by(harness: Harness, receiver: OtlpReceiver, program: str) -> object:
    """Run a program that launches a job; return what was seen of its collection."""
    path = harness.directory / "seen.json"
    answer(harness, receiver, WATCH.replace('"seen.json"', repr(str(path))), program)
    return json.loads(path.read_text())
