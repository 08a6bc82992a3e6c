"""What a torchrun job that does nothing costs with the bridge, without it, and with it merely installed.

The cases run in turn, and each is compared with the first case of its own round, so that a machine that gets
slower does not count. Telemetry goes to a receiver in another process, as to a node's own collector.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))

from otlp_receiver import OtlpReceiver  # the path comes first

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "15"))

LAUNCH = """
import importlib.metadata, random, runpy, sys
hidden, found = {hidden!r}, importlib.metadata.entry_points
def entry_points(**selection):
    points = found(**selection)
    keep = [p for p in points if not (hidden and p.value.startswith("torchelastic_otel"))]
    return importlib.metadata.EntryPoints(keep)
importlib.metadata.entry_points = entry_points
random.seed({seed})  # torch waits up to 0.3 s at random before it joins: as long in all cases of a round
sys.argv = ["torchrun", *{arguments!r}]
runpy.run_module("torch.distributed.run", run_name="__main__")
"""


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run(arguments: list[str], environment: dict[str, str], *, seed: int, hidden: bool = False) -> float:
    """Run one job; return how long it took, in seconds."""
    code = LAUNCH.format(hidden=hidden, arguments=arguments, seed=seed)
    before = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return time.perf_counter() - before


def main() -> None:
    """Run and print the figures."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "PET_"))}
    with tempfile.TemporaryDirectory() as folder, OtlpReceiver() as receiver:
        script = Path(folder) / "nothing.py"
        script.write_text("")
        grpc = {
            **clean,
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.grpc_endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        }
        http = {**clean, "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.http_endpoint}
        otel = ["--event-log-handler", "otel"]
        for backend in ("c10d", "static"):
            times: dict[str, list[float]] = {}
            for seed in range(ROUNDS):
                rendezvous = ["--rdzv-backend", backend, "--rdzv-id", "bench"]
                if backend == "c10d":
                    rendezvous += ["--rdzv-endpoint", f"localhost:{free_port()}"]
                else:
                    rendezvous += ["--master-port", str(free_port())]
                for name, more, environment, hidden in (
                    ("installed, not asked for", [], clean, False),
                    ("not installed", [], clean, True),
                    ("otel over gRPC", otel, grpc, False),
                    ("otel over HTTP", otel, http, False),
                ):
                    took = run([*rendezvous, *more, str(script)], environment, seed=seed, hidden=hidden)
                    times.setdefault(name, []).append(took)
            first = times["installed, not asked for"]
            for name, figures in times.items():
                ratio = statistics.median(figure / base for figure, base in zip(figures, first, strict=True))
                print(f"{backend:7} {name:26} median {statistics.median(figures):6.3f} s   ratio {ratio:.3f}")
        print(f"received: {len(receiver.logs)} records, {len(receiver.spans)} spans")


if __name__ == "__main__":
    main()
