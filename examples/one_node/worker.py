"""The smallest job: two workers on one node.

torchrun --standalone --nproc-per-node=2 --event-log-handler=otel examples/one_node/worker.py
"""

import os
import time

if __name__ == "__main__":
    print(f"worker {os.environ['RANK']} of {os.environ['WORLD_SIZE']}", flush=True)
    time.sleep(1)
