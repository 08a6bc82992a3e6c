"""Scripts that nobody prepared: what is told of them, and that they end and print as without the bridge."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from otlp_receiver import LogRecord, OtlpReceiver
from tests.support.harness import OTEL, QUICK, Harness, Script, otlp
from tests.support.names import FAILURE

pytestmark = pytest.mark.e2e

# What differs from run to run: times, process ids, ports, addresses, the run id.
_VARIES = re.compile(r"0x[0-9a-f]+|[0-9a-f]{8}-[0-9a-f-]{27}\w*|\d+")
# What the launcher says of the bridge, and torch of an entry point that is hidden.
_OF_THE_BRIDGE = re.compile(r"^torchelastic-otel: |rendezvous/registry\.py:\d+\]")


@dataclass(frozen=True, slots=True)
class Case:
    """A script, and what must be told of its only worker's death; None for what must not be there."""

    script: str
    told: Mapping[str, Any] = field(default_factory=dict)
    says: str = ""
    options: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    under: Sequence[str] = ()
    workers: int = 1


TYPE, MESSAGE, STACK = "exception.type", "exception.message", "exception.stacktrace"
CAUSE, CODE = "torchelastic.failure.cause", "process.exit.code"
STACKS, THREAD = "torchelastic.failure.stacks", "torchelastic.failure.thread_exception"

CASES = {
    "chained, deep in functions": Case(
        """
        def load(shard):
            return {}[shard]
        def train():
            try:
                load("shard-7")
            except KeyError as error:
                raise ValueError("loss is NaN at step 41") from error
        train()
        """,
        {TYPE: "ValueError", CAUSE: "exception", STACK: "direct cause", CODE: 1},
        "died of ValueError: loss is NaN at step 41",
    ),
    "in a thread": Case(
        """
        import sys, threading
        thread = threading.Thread(target=lambda: 1 / 0, name="reader")
        thread.start()
        thread.join()
        sys.exit(4)
        """,
        {TYPE: None, CAUSE: "exit", THREAD: "ZeroDivisionError", CODE: 4},
        "died: exit code 4",
    ),
    "import error": Case(
        "import no_such_module",
        {TYPE: "ModuleNotFoundError", CAUSE: "exception"},
        "died of ModuleNotFoundError: No module named 'no_such_module'",
    ),
    "exit text": Case(
        "import sys\nprint('reading')\nsys.exit('no config file')",
        {TYPE: None, CAUSE: "exit", "torchelastic.failure.stderr_tail": "no config file"},
        "died: exit code 1 (last line of standard error: no config file)",
        ["--tee", "3"],
    ),
    "segmentation fault": Case(
        """
        import ctypes
        def step():
            ctypes.string_at(0)
        step()
        """,
        {CAUSE: "signal", STACKS: " in step\n", "torchelastic.failure.crashed_in": "string_at (__init__.py"},
        "killed by SIGSEGV in string_at",
    ),
    "abort in a thread of C": Case(
        """
        import os, threading, time
        def collective():
            os.abort()
        threading.Thread(target=collective).start()
        time.sleep(60)
        """,
        {CAUSE: "signal", STACKS: "in <module>"},
        "killed by SIGABRT in collective (",
    ),
    "own excepthook": Case(
        "import sys\nsys.excepthook = lambda *error: print('mine')\nraise KeyError('k')",
        {TYPE: "KeyError", CAUSE: "exception"},
        "died of KeyError: 'k'",
    ),
    "own faulthandler": Case(
        "import faulthandler, os\nfaulthandler.enable()\nos.kill(os.getpid(), 11)",
        {STACKS: None, CAUSE: "signal"},
        "killed by SIGSEGV",
    ),
    "own real-time signal": Case(
        "import os, signal\nsignal.signal(signal.SIGRTMIN + 7, lambda *_: print('got it'))\n"
        "os.kill(os.getpid(), signal.SIGRTMIN + 7)\nraise ValueError('after it')",
        {TYPE: "ValueError"},
        "died of ValueError: after it",
    ),
    "exec": Case(
        "import os, sys\nos.execv(sys.executable, [sys.executable, '-c', 'raise ValueError(2)'])",
        {TYPE: None, CAUSE: "exit", CODE: 1},
        "died: exit code 1",
    ),
    "handler that raises": Case(
        """
        import os, signal, sys, time
        def stop(*_):
            raise RuntimeError("told to stop")
        signal.signal(signal.SIGTERM, stop)
        if os.environ["RANK"] == "1":
            time.sleep(1)
            raise ValueError("the first")
        while True:
            time.sleep(1)
        """,
        {TYPE: "ValueError", "torchelastic.first_failure.global_rank": 1},
        "died of ValueError: the first",
        workers=2,
    ),
    "loader's workers": Case(
        """
        import sys
        from torch.utils.data import DataLoader, Dataset
        class Broken(Dataset):
            def __len__(self):
                return 4
            def __getitem__(self, index):
                raise IndexError("shard is empty")
        if __name__ == "__main__":
            for method in ("fork", "spawn", "forkserver"):
                try:
                    next(iter(DataLoader(Broken(), num_workers=1, multiprocessing_context=method)))
                except IndexError:
                    print("caught")
            sys.exit(5)
        """,
        {TYPE: None, CAUSE: "exit", CODE: 5},
        "died: exit code 5",
    ),
    "no Python": Case("exit 6", {TYPE: None, CODE: 6}, "died: exit code 6", ["--no-python"]),
    "under the zero-code loader": Case(
        "raise ValueError('observed')",
        {TYPE: "ValueError"},
        "died of ValueError: observed",
        under=["opentelemetry-instrument"],
    ),
    "more than there is room for": Case(
        "raise ValueError('x' * 1_000_000)",
        {TYPE: "ValueError", MESSAGE: "left out"},
        "died of ValueError: xxx",
    ),
    "switched off": Case(
        "raise ValueError('unseen')",
        {TYPE: None, CODE: 1},
        "died: exit code 1",
        env={"TORCHELASTIC_OTEL_WORKER": "off"},
    ),
}


def console(output: str) -> Counter[str]:
    """Return the lines that torch and the script printed, without what varies."""
    lines = [line for line in output.splitlines() if not _OF_THE_BRIDGE.search(line)]
    return Counter(_VARIES.sub("N", line) for line in lines)


@pytest.mark.parametrize("name", CASES)
def test_a_script_that_nobody_prepared(harness: Harness, receiver: OtlpReceiver, name: str) -> None:
    """Exit code and console are the same; the record tells what there is to know."""
    case = CASES[name]
    shell = "--no-python" in case.options
    source = textwrap.dedent(case.script)
    path = harness.program("train.sh" if shell else "train.py", f"#!/bin/sh\n{source}" if shell else source)
    path.chmod(0o700)
    options = [*QUICK, f"--nproc-per-node={case.workers}", "--standalone", *case.options]
    env = {**otlp(receiver), "OTEL_METRICS_EXPORTER": "none", **case.env}
    ends: list[int] = []
    printed: list[Counter[str]] = []
    for bridge in (True, False):
        agent = harness.torchrun(
            [*(OTEL if bridge else []), *options], Script(path), env=env, bridge=bridge, under=case.under
        )
        ends.append(agent.wait())
        printed.append(console(agent.output))
        if bridge:
            assert "not affected" not in agent.output
    assert ends[0] == ends[1]
    assert (printed[0] - printed[1], printed[1] - printed[0]) == (Counter(), Counter())
    (culprit,) = culprits(receiver)
    assert case.says in culprit.body
    for key, expected in case.told.items():
        found = culprit.attributes.get(key)
        assert expected in found if isinstance(expected, str) and found else found == expected, key
    (stop,) = [record for record in receiver.logs if record.event_name == "torchelastic.agent.stop"]
    assert case.says in stop.attributes["torchelastic.verdict"]


def culprits(receiver: OtlpReceiver) -> list[LogRecord]:
    """Return the failure records of workers that died by themselves."""
    failures = [record for record in receiver.logs if record.event_name == FAILURE]
    return [record for record in failures if "torchelastic.collateral" not in record.attributes]


def test_two_jobs_on_one_node_have_their_own(harness: Harness, receiver: OtlpReceiver) -> None:
    """Each launcher reads what its own workers left."""
    agents = []
    for number in (1, 2):
        path = harness.program(f"train_{number}.py", f"raise ValueError('job {number}')")
        options = [*QUICK, "--standalone", "--nproc-per-node=1", *OTEL]
        agents.append(harness.torchrun(options, Script(path), env=otlp(receiver)))
    assert [agent.wait() for agent in agents] == [1, 1]
    assert {record.attributes[MESSAGE] for record in culprits(receiver)} == {"job 1", "job 2"}


def test_a_restarted_worker_has_a_recorder_of_its_own(
    harness: Harness, receiver: OtlpReceiver, tmp_path: Path
) -> None:
    """Nothing of an earlier generation is told again."""
    source = """
    import os, sys
    if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        raise ValueError("in the first")
    sys.exit(7)
    """
    path = harness.program("train.py", textwrap.dedent(source))
    options = [*QUICK, "--standalone", "--nproc-per-node=1", "--max-restarts=1", *OTEL]
    assert harness.torchrun(options, Script(path), env=otlp(receiver)).wait() == 1
    first, second = culprits(receiver)
    assert first.attributes[TYPE] == "ValueError"
    assert TYPE not in second.attributes
    assert second.attributes[CODE] == 7


def test_work_since_the_last_checkpoint_is_told_at_the_restart(
    harness: Harness, receiver: OtlpReceiver
) -> None:
    """Killed in step 57 after a checkpoint at 40: seventeen steps are done again."""
    source = """
    import os, signal, torch
    import torch.distributed.checkpoint as dcp
    if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        weight = torch.nn.Parameter(torch.zeros(2))
        optimizer = torch.optim.AdamW([weight])
        for step in range(1, 58):
            weight.grad = torch.ones(2)
            optimizer.step()
            if step == 40:
                dcp.save({"weight": weight}, checkpoint_id="saved", no_dist=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    path = harness.program("train.py", textwrap.dedent(source))
    options = [*QUICK, "--standalone", "--nproc-per-node=1", "--max-restarts=1", *OTEL]
    assert harness.torchrun(options, Script(path), env=otlp(receiver)).wait() == 0
    (restart,) = [record for record in receiver.logs if record.event_name == "torchelastic.restart"]
    assert restart.attributes["torchelastic.lost.steps"] == 17
    assert restart.attributes["torchelastic.lost.time"] > 0
    assert "17 steps of work lost since the last checkpoint" in restart.body
