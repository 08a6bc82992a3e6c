"""A job of two nodes, both on this machine, in which a worker fails and the job recovers; and its telemetry.

python examples/demo.py

The telemetry is received here and shown in the terminal. With OTEL_EXPORTER_OTLP_ENDPOINT set, it goes there.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from otlp_receiver import LogRecord, OtlpReceiver
from show import Terminal, is_torchs, receiver_environment, show

NODES, WORKERS = 2, 2
WORKER = Path(__file__).parent / "crash_and_restart" / "worker.py"
LONGEST_S = 180
LIVE = ("torchelastic.agent.start", "torchelastic.agent.stop", "torchelastic.failure", "torchelastic.restart")


def command(run_id: str, port: int) -> list[str]:
    """Return what is started on each node; on a cluster it would be the same line on every host."""
    return [
        *(sys.executable, "-m", "torch.distributed.run"),  # torchrun
        f"--nnodes={NODES}",
        f"--nproc-per-node={WORKERS}",
        "--max-restarts=2",
        f"--rdzv-id={run_id}",
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint=127.0.0.1:{port}",
        "--local-addr=127.0.0.1",
        "--event-log-handler=otel",
        str(WORKER),
    ]


class Job:
    """The job's agents, each writing what torch prints into a file."""

    def __init__(self, env: Mapping[str, str], directory: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.run_id = f"demo-{os.getpid()}-{int(time.time())}"
        self.line = command(self.run_id, port)
        self._logs = [directory / f"node{number}.txt" for number in range(NODES)]
        self._env = {**env, "OMP_NUM_THREADS": "1"}
        self._agents: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Job:
        for log in self._logs:
            with log.open("wb") as out:
                self._agents.append(
                    subprocess.Popen(self.line, env=self._env, stdout=out, stderr=subprocess.STDOUT)
                )
        self._deadline = time.monotonic() + LONGEST_S
        return self

    def __exit__(self, *_: object) -> None:
        """Stop what still runs; torchrun stops its workers when it is told to stop."""
        for agent in self._agents:
            agent.terminate()
        for agent in self._agents:
            agent.wait()

    @property
    def running(self) -> bool:
        """Whether an agent runs, and there is time left."""
        return any(agent.poll() is None for agent in self._agents) and time.monotonic() < self._deadline

    @property
    def succeeded(self) -> bool:
        """Whether every agent ended with 0."""
        return all(agent.poll() == 0 for agent in self._agents)

    @property
    def output(self) -> str:
        """What the agents and workers printed."""
        return "\n".join(log.read_text(errors="replace") for log in self._logs)


def show_here(job_env: Mapping[str, str], receiver: OtlpReceiver, directory: Path) -> int:
    """Run the job, tell its log records as they arrive, then show its trace."""
    with Job(job_env, directory) as job:
        introduce(job)
        print("It takes about 20 seconds. Log records, as they arrive:\n", flush=True)
        told = 0
        begin: int | None = None
        while job.running or told < len(receiver.logs):
            for record in receiver.logs[told:]:
                told += 1
                begin = begin or record.time_ns
                tell(record, begin)
            receiver.wait(lambda r: len(r.logs) > told, timeout=0.2)  # noqa: B023  # it is called here
        print()
        show(receiver.spans, receiver.logs, metrics=receiver.metrics)
        return finish(job)


def tell(record: LogRecord, begin: int) -> None:
    """Print a log record, if it is one that a person waits for."""
    if record.event_name in LIVE or not is_torchs(record):
        start = f"{max(0, record.time_ns - begin) / 1e9:6.1f} s  agent {record.resource.get('process.pid')}  "
        width = Terminal(sys.stdout).width
        print(textwrap.fill(start + str(record.body), width, subsequent_indent=" " * len(start)), flush=True)


def send_elsewhere(directory: Path) -> int:
    """Run the job with the environment as it is, and tell how to find its trace."""
    with Job(os.environ, directory) as job:
        introduce(job)
        print(f"Its telemetry goes to {os.environ['OTEL_EXPORTER_OTLP_ENDPOINT']}. Running…", flush=True)
        while job.running:
            time.sleep(0.2)
        found = re.search(r"torchelastic-otel: trace ([0-9a-f]{32}) ?(\S*)", job.output)
        if found:
            print(f"\nTrace id: {found[1]}\n{found[2]}".rstrip())
            service = os.environ.get("OTEL_SERVICE_NAME", "torchelastic")
            print(
                f"Open it by its id in your tracing backend, or search for the service {service}\n"
                f"and the attribute torchelastic.run_id={job.run_id}."
            )
        return finish(job)


def introduce(job: Job) -> None:
    """Say what is about to happen."""
    print(f"{NODES} nodes (torchrun agents) with {WORKERS} workers each, all on this machine:\n")
    shown = ["torchrun", *job.line[3:-1], os.path.relpath(WORKER)]
    print("  " + " \\\n    ".join(" ".join(part) for part in (shown[:4], shown[4:7], shown[7:])) + "\n")


def finish(job: Job) -> int:
    """Return the exit code; print what the job printed if it did not succeed."""
    if job.succeeded:
        return 0
    print("\nThe job did not succeed. What it printed:\n\n" + job.output[-8000:], file=sys.stderr)
    return 1


def main() -> int:
    """Run the demonstration."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="torchelastic-otel-demo-")))
        if os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
            return send_elsewhere(directory)
        receiver = stack.enter_context(OtlpReceiver())
        return show_here(receiver_environment(receiver), receiver, directory)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
