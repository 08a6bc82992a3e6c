"""``python -m benchmarks``: all of them."""

from __future__ import annotations

import subprocess
import sys

for name in ("record", "worker", "job", "flood"):
    print(f"--- {name}", flush=True)
    subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=True)
