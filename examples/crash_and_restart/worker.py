"""A job whose last worker fails at its first attempt; torchrun restarts all of them, and the job succeeds.

torchrun --standalone --nproc-per-node=2 --max-restarts=1 --event-log-handler=otel \
    examples/crash_and_restart/worker.py
"""

import os
import time

from torch.distributed import TCPStore  # type: ignore[attr-defined]  # not in its __all__
from torch.distributed.elastic.multiprocessing.errors import record


@record  # tells torchrun, and so the telemetry, which exception it was
def main() -> None:
    """Take a few steps, each of which needs the last worker, as a collective operation would."""
    is_last = int(os.environ["RANK"]) == int(os.environ["WORLD_SIZE"]) - 1
    is_first_attempt = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
    store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    for step in range(10):
        time.sleep(0.2)
        if not is_last:
            store.get(f"step {step}")  # waits
        elif step == 5 and is_first_attempt:
            raise RuntimeError(f"the loss is NaN at step {step}")
        else:
            store.set(f"step {step}", "done")


if __name__ == "__main__":
    main()
