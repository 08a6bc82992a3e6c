"""Programs that launch a job by themselves, each in a process of its own.

Which modules are imported, and in what order, matters to the hooks.
"""

from __future__ import annotations

import json
import sys
import textwrap
from typing import Any

from otlp_receiver import OtlpReceiver
from tests.support.harness import Harness, otlp

AGENT, RENDEZVOUS = "torchelastic.agent", "torchelastic.rendezvous"
GROUP, WORKER = "torchelastic.worker_group", "torchelastic.worker"
ONE_JOB = {AGENT: 1, RENDEZVOUS: 1, GROUP: 1, WORKER: 1}
STATUS = "torchelastic.worker.status."
OF_A_JOB = {
    "torchelastic.agent.start",
    f"{STATUS}RENDEZVOUS",
    f"{STATUS}ASSIGN_WORKER_RANKS",
    f"{STATUS}START",
    f"{STATUS}SUCCEEDED",
    "torchelastic.agent.stop",
    "dynamic_rendezvous.py:DynamicRendezvousHandler.next_rendezvous",
}

WITHOUT_ENTRY_POINT = """
# As if the package were not installed with its entry point: nothing is put into torch but by import.
import importlib.metadata
_entry_points = importlib.metadata.entry_points

def entry_points(**chosen):
    found = _entry_points(**chosen)
    return type(found)(()) if chosen.get("group") == "torchrun.handlers" else found

importlib.metadata.entry_points = entry_points
"""

LAUNCH = """
def train():
    import os
    return os.environ.get("TRACEPARENT")

def config_for(handler):
    from torch.distributed.launcher.api import LaunchConfig
    return LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=1, run_id="hooks", rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0", local_addr="127.0.0.1", event_log_handler=handler,
        start_method="fork", monitor_interval=0.1, max_restarts=0)

def launch(handler):
    from torch.distributed.launcher.api import elastic_launch
    return elastic_launch(config_for(handler), train)()[0]

def launch_script(handler):
    import sys
    from torch.distributed.launcher.api import elastic_launch
    return elastic_launch(config_for(handler), sys.executable)("-c", "import time; time.sleep(0.5)")[0]
"""


def answer(harness: Harness, receiver: OtlpReceiver, *sources: str, announced: str = "", **env: str) -> Any:
    """Run a program made of ``sources``; return what it put into ``answer``, after its end.

    Internal errors fail the test unless they are ``announced``.
    """
    return answer_and_output(harness, receiver, *sources, announced=announced, **env)[0]


def answer_and_output(
    harness: Harness, receiver: OtlpReceiver, *sources: str, announced: str = "", **env: str
) -> tuple[Any, str]:
    """Likewise, and return what it printed, too."""
    source = "\n".join(textwrap.dedent(part) for part in sources)
    answer_file = harness.directory / "answer.json"
    program = f"{source}\nimport json\nopen({str(answer_file)!r}, 'w').write(json.dumps(answer))\n"
    # Several lines, so that what it starts by spawn does not run it again.
    path = harness.program("main.py", f"if __name__ == '__main__':\n{textwrap.indent(program, '    ')}\n")
    agent = harness.run(
        [sys.executable, str(path)],
        env={**otlp(receiver, "http/protobuf"), **env, "TORCHRUN_HARNESS_SOCKET": ""},
    )
    assert agent.wait() == 0, agent.output
    harness.announced += [announced] if announced else []
    assert announced or "internal error" not in agent.output
    return json.loads(answer_file.read_text()), agent.output
