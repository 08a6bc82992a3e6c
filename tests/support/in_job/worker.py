"""What a worker of a job does: it notes what it finds in its environment, then follows its plan.

The plan is JSON in the first argument. ``acts`` has for each attempt who does what; the last one is for all
attempts that follow. Who is not named ends well. It starts in milliseconds: torch is imported by those acts
alone that are about torch.
"""

from __future__ import annotations

import importlib
import json
import os
import pathlib
import signal
import socket
import sys
from typing import Any

KEPT = (
    "TRACEPARENT",
    "RANK",
    "LOCAL_RANK",
    "WORLD_SIZE",
    "TEST_NODE",
    "TORCHELASTIC_RESTART_COUNT",
    "TORCHELASTIC_RUN_ID",
)
LOCAL_RANK = os.environ["LOCAL_RANK"]
NODE = os.environ.get("TEST_NODE", "1")
NAMES = (f"{NODE}.{LOCAL_RANK}", f"rank {os.environ['RANK']}", f"local rank {LOCAL_RANK}", NODE, "*")
"""What a plan may call this worker; the first that it has counts."""

plan: dict[str, Any] = json.loads(sys.argv[1])


def act_of(attempt: int) -> dict[str, Any]:
    """Return what this worker is to do."""
    acts: dict[str, dict[str, Any]] = plan["acts"][min(attempt, len(plan["acts"]) - 1)]
    return next((acts[name] for name in NAMES if name in acts), {"do": "end"})


def wait(name: str) -> str:
    """Wait until the test lets go; return what it says."""
    with socket.socket(socket.AF_UNIX) as waiting:
        try:
            waiting.connect("\0" + name)
            return waiting.recv(64).decode()
        except OSError:
            return ""


def write_note() -> None:
    """Tell the test about this process."""
    notes = pathlib.Path(plan["notes"])
    found = {name: os.environ[name] for name in KEPT if name in os.environ}
    partial = notes / f"{os.getpid()}.partial"
    partial.write_text(json.dumps({"pid": os.getpid(), "env": found}))
    partial.rename(notes / f"{os.getpid()}.json")


def stay() -> None:
    """Wait to be stopped."""
    while True:
        signal.pause()


def fail() -> None:
    """Raise an exception."""
    raise ValueError("the loss is not a number")


def sleep_uninterruptibly() -> None:
    """Sleep as a process does that waits for a disk."""
    import ctypes

    libc = ctypes.CDLL(None)
    if libc.vfork() == 0:  # the parent is in that state for as long as the child is there
        libc.prctl(1, signal.SIGKILL)
        libc.sleep(600)
        libc._exit(0)


if act_of(0).get("deaf"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
write_note()
number = 0
if plan["gate"]:
    # All workers of an attempt leave the gate at once, and are told its number.
    answer = wait(plan["gate"])
    if not answer:
        stay()
    number = int(answer)
elif plan["by_world_size"]:
    number = int(os.environ["WORLD_SIZE"]) - 1
act = act_of(number)
what = act["do"]
# What takes long to import is there before the others are let go.
if what == "record":
    from torch.distributed.elastic.multiprocessing.errors import record
elif what == "watchdog":
    timer: Any = importlib.import_module("torch.distributed.elastic.timer")
if act.get("after"):
    wait(act["after"])

if what == "stay":
    stay()
elif what == "exit":
    sys.exit(act["code"])
elif what == "kill":
    os.kill(os.getpid(), act["signal"])
elif what == "raise":
    fail()
elif what == "record":
    record(fail)()
elif what == "watchdog":
    timer.configure(timer.FileTimerClient(os.environ["TORCHELASTIC_TIMER_FILE"]))
    with timer.expires(after=1, scope="training step"):
        stay()
elif what == "stuck":
    sleep_uninterruptibly()
