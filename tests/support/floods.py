"""Programs that record more than anybody can send, and what became of each event.

    flood = storm(directory, threads=8, each=10_000)
    assert flood.recorded == flood.delivered + flood.kept + flood.lost

Each event is delivered (a receiver has it), kept (it is in the spool), or lost, which the process says in its
last words.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from otlp_receiver import OtlpReceiver
from tests.support.harness import otlp
from tests.support.node import DEAD
from tests.support.recording import environment_of
from torchelastic_otel import _contract as c
from torchelastic_otel._delivery.spool import orphans

_LOST = re.compile(
    r"(\d+) (?:events had not been processed|events came faster|log records(?: and \d+ \w+)* had no room)"
    r"|(\d+) log records[^.]* and are lost"
)
_KEPT = re.compile(r"(\d+) log records could not be delivered yet")
_LAST_S = 300.0

_HEAD = """
import itertools, re, sys, threading, time
from torchelastic_otel import events

def record(**metadata):
    events.record(events.Event("flood", events.EventSource.WORKER, metadata=metadata), "otel")
"""
_STORM = """
threads, each, size, seconds = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
recorded = [0] * threads
started = time.monotonic()

def storm(thread):
    text = "x" * size
    for number in range(each) if each else itertools.count():
        record(number=number, text=f"{text}{number}")
        recorded[thread] += 1
        if seconds and time.monotonic() > started + seconds:
            break

workers = [threading.Thread(target=storm, args=(number,)) for number in range(threads)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
# Not ru_maxrss, which begins with what the parent of a process has.
with open("/proc/self/status") as status:
    peak_kib = re.search(r"VmHWM:\\s+(\\d+) kB", status.read())[1]
print(sum(recorded), time.monotonic() - started, peak_kib, flush=True)
"""
_BESIDE_WORK = """
import os, signal
from torchelastic_otel._intake.lifecycle import bridge

busy, each, pause_s, wait_s = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])

def work():
    while True:
        sum(range(1000))

for _ in range(busy):
    threading.Thread(target=work, daemon=True).start()
for number in range(each):
    record(number=number)
    time.sleep(pause_s)
if wait_s:
    time.sleep(wait_s)
else:
    bridge().secure(60)
os.kill(os.getpid(), signal.SIGKILL)
"""


@dataclass(frozen=True)
class Flood:
    """What became of the events."""

    recorded: int
    took_s: float
    """How long recording took."""
    peak_bytes: int
    """Most memory that the process had."""
    delivered: int
    """Different ones, at the receiver."""
    twice: int
    """How many arrived that were there already."""
    kept: int
    """In the spool."""
    kept_said: int
    """Likewise, by the process's last words."""
    lost: int
    """Not kept, by its last words."""
    dropped: int
    """By the last metrics that arrived."""
    said: str


def storm(
    directory: Path,
    *,
    threads: int,
    each: int = 0,
    size: int = 0,
    seconds: float = 0.0,
    variables: Mapping[str, str] | None = None,
) -> Flood:
    """Record as fast as can be, with an empty spool and a receiver that takes all, until the process ends.

    Args:
        directory: an empty one.
        threads: how many record.
        each: events of each thread; 0 for as many as it can in ``seconds``.
        size: characters of text in each event.
        seconds: longest time; 0 for any.
        variables: of the process.
    """
    spool = directory / "spool"
    with OtlpReceiver() as receiver:
        env = {
            **otlp(receiver, "http/protobuf"),
            "TORCHELASTIC_OTEL_SPOOL_DIR": str(spool),
            **(variables or {}),
        }
        done = subprocess.run(
            [sys.executable, "-c", _HEAD + _STORM, *map(str, (threads, each, size, seconds))],
            env=environment_of(env),
            capture_output=True,
            text=True,
            timeout=_LAST_S,
            check=True,
        )
        uids = Counter(record.attributes["log.record.uid"] for record in receiver.logs)
        last = {
            tuple(sorted(point.attributes.items())): point.value or 0
            for point in receiver.metrics
            if point.name == c.METRIC_DROPPED and point.attributes[c.OTEL_SIGNAL] == "logs"
        }
    recorded, took_s, peak_kib = done.stdout.split()
    last_words = done.stderr.strip().rpartition("\n")[2]
    return Flood(
        recorded=int(recorded),
        took_s=float(took_s),
        peak_bytes=int(peak_kib) * 1024,
        delivered=len(uids),
        twice=uids.total() - len(uids),
        kept=kept_in(spool),
        kept_said=sum(int(number) for number in _KEPT.findall(last_words)),
        lost=sum(int(number) for found in _LOST.findall(last_words) for number in found if number),
        dropped=int(sum(last.values())),
        said=done.stderr,
    )


def kept_in(spool: Path) -> int:
    """Count the log records of a spool that no living process owns."""
    count = 0
    if spool.exists():
        for store in orphans(spool):
            count += store.counts().get("logs", 0)
            store.close()
    return count


def killed_beside_work(
    directory: Path, *, busy: int, each: int, pause_s: float = 0.0, wait_s: float = 0.0
) -> int:
    """Record beside threads that only compute, nobody answering, until SIGKILL; return how many are kept.

    Args:
        directory: an empty one.
        busy: how many threads compute.
        each: events.
        pause_s: time between two of them, in seconds.
        wait_s: time from the last one to the end, in seconds; 0 for as long as the bridge needs.
    """
    spool = directory / "spool"
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": DEAD, "TORCHELASTIC_OTEL_SPOOL_DIR": str(spool)}
    done = subprocess.run(
        [sys.executable, "-c", _HEAD + _BESIDE_WORK, *map(str, (busy, each, pause_s, wait_s))],
        env=environment_of(env),
        stderr=subprocess.DEVNULL,
        timeout=_LAST_S,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    return kept_in(spool)
