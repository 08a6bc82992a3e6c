"""What a recorder costs a worker: its start, and an exception that ends it."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

from torchelastic_otel._worker.launching import Memories

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "15")) * 4


def took_ms(program: str, environ: dict[str, str]) -> float:
    """Run a program; return how long it took, in milliseconds."""
    before = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], env=environ, stderr=subprocess.DEVNULL, check=False)
    return (time.perf_counter() - before) * 1000


def main() -> None:
    """Run and print the figures: in turn, so that a machine that gets slower does not count."""
    unset = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
    without = {name: value for name, value in os.environ.items() if name not in unset}
    for what, program in (
        ("a start", "pass"),
        ("a start with threads", "import threading"),
        ("an exception", "import threading, traceback; raise ValueError"),
    ):
        first, second = [], []
        with Memories([0]) as memories:
            recorded = {**without, **memories.environment(0, without)}
            for _ in range(ROUNDS):
                first.append(took_ms(program, without))
                second.append(took_ms(program, recorded))
        more = statistics.median(b - a for a, b in zip(first, second, strict=True))
        print(f"{what:22} without {statistics.median(first):6.2f} ms   a recorder adds {more:5.2f} ms")


if __name__ == "__main__":
    main()
