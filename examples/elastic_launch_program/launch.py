"""A program that launches workers by itself; they are functions here, and torchrun is not used.

python examples/elastic_launch_program/launch.py
"""

import os
import time

from torch.distributed.launcher.api import LaunchConfig, elastic_launch

import torchelastic_otel


def work(greeting: str) -> str:
    """Run in each worker process; what it returns comes back to the launcher."""
    time.sleep(0.5)
    return f"{greeting} from worker {os.environ['RANK']} of {os.environ['WORLD_SIZE']}"


def main() -> None:
    """Launch two workers."""
    torchelastic_otel.instrument()
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=2,
        run_id=f"greetings-{int(time.time())}",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    results = elastic_launch(config, work)("hello")
    for _, result in sorted(results.items()):
        print(result)


if __name__ == "__main__":  # the workers import this file as well
    main()
