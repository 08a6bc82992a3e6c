"""A job whose last worker fails at its first attempt; torchrun restarts all of them, and the job succeeds.

torchrun --standalone --nproc-per-node=2 --max-restarts=1 --event-log-handler=otel \
    examples/crash_and_restart/worker.py
"""

import os
import time

from torch.distributed.elastic.multiprocessing.errors import record


@record  # tells torchrun, and so the telemetry, which exception it was
def main() -> None:
    """Take a few steps."""
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    attempt = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
    if rank == 0:
        print("TRACEPARENT", os.environ.get("TRACEPARENT", ""), flush=True)
    for step in range(10):
        time.sleep(0.2)
        if step == 5 and rank == world_size - 1 and attempt == 0:
            raise RuntimeError(f"the loss is NaN at step {step}")


if __name__ == "__main__":
    main()
