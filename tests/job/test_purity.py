"""The model of a job knows neither OpenTelemetry's SDK nor torch."""

from __future__ import annotations

from pathlib import Path

from tests.support import fresh_python

ROOT = str(Path(__file__).parents[2])

PLAY = """
import sys

for name in ("torch", "opentelemetry.sdk", "opentelemetry.exporter", "grpc", "requests"):
    sys.modules[name] = None  # whoever imports it fails

sys.path.insert(0, sys.argv[1])
from tests.support.job_world import running

world = running()
world.die(10, {1: 3}, stopped={0: -15})
world.restart(11)
world.succeed(20)
print(world.verdict())
print([name for name in sys.modules if name.startswith(("torch.", "opentelemetry.sdk."))])
"""

IMPORT = """
import pkgutil, sys

for name in ("torch", "opentelemetry", "grpc", "requests"):
    sys.modules[name] = None

import torchelastic_otel._job as job

names = [module.name for module in pkgutil.iter_modules(job.__path__)]
for name in names:
    __import__(f"torchelastic_otel._job.{name}")
print(len(names))
"""


def test_a_whole_job_is_played_without_the_sdk_and_without_torch() -> None:
    """A worker's death, a restart and the end are understood where neither can be imported."""
    done = fresh_python.run(PLAY, ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "('succeeded', 'The launcher ends: succeeded after 1 restart')",
        "[]",
    ]


def test_its_modules_need_nothing_but_the_standard_library() -> None:
    """Not even OpenTelemetry's API is imported when they are."""
    done = fresh_python.run(IMPORT)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 15
