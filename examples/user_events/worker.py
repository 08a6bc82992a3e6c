"""A worker that records events of its own, with torch's API: they arrive beside torch's, in the same trace.

torchrun --standalone --nproc-per-node=2 --event-log-handler=otel examples/user_events/worker.py
"""

import os
import time

from torch.distributed.elastic.events import record
from torch.distributed.elastic.events.api import Event, EventSource

import torchelastic_otel  # noqa: F401  # makes the destination "otel" known to torch in this process


def main() -> None:
    """Pretend to train, and say when a checkpoint is saved."""
    rank = int(os.environ["RANK"])
    for step in range(1, 5):
        time.sleep(0.3)
        if rank == 0 and step % 2 == 0:
            event = Event(
                "checkpoint.saved",
                EventSource.WORKER,
                metadata={"step": step, "path": f"/checkpoints/step-{step}.pt", "seconds": 0.3},
            )
            record(event, "otel")


if __name__ == "__main__":
    main()
