"""More events than anybody can send: each is delivered, kept, or said to be lost, and memory has a bound."""

from __future__ import annotations

from pathlib import Path

from tests.support.floods import killed_beside_work, storm
from tests.support.node import DEAD

MOST_TAKEN = 512
"""Events that the bridge has in its hands at most when a process ends before they are kept."""


def test_events_of_many_threads_all_arrive_once(tmp_path: Path) -> None:
    """Where the end of the process may take as long as it needs."""
    flood = storm(tmp_path, threads=8, each=1500)
    assert (flood.recorded, flood.delivered, flood.twice) == (12_000, 12_000, 0)
    assert (flood.kept, flood.lost, flood.dropped, flood.said) == (0, 0, 0, "")


def test_large_texts_take_bounded_memory_and_each_that_is_dropped_is_counted(tmp_path: Path) -> None:
    """In the last words and in the metric alike, and none of the others is lost."""
    flood = storm(tmp_path, threads=2, each=12_500, size=20_000)
    assert flood.recorded == 25_000
    assert flood.lost > 0
    assert flood.recorded == flood.delivered + flood.kept + flood.lost, flood
    assert (flood.twice, flood.kept, flood.dropped) == (0, 0, flood.lost)
    # 500 MB of text were recorded: the queue holds 64 MiB of it, and the spool as much.
    assert flood.peak_bytes < 300_000_000, flood


def test_what_a_short_end_leaves_is_kept_or_said_to_be_lost(tmp_path: Path) -> None:
    """A process that ends at once, nobody answering, with a queue that is full of events."""
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": DEAD, "TORCHELASTIC_OTEL_EXIT_TIMEOUT": "0.1"}
    flood = storm(tmp_path, threads=2, each=40_000, variables=variables)
    assert (flood.recorded, flood.delivered) == (80_000, 0)
    # Its thread goes on until the last moment, so that more may be kept than the last words know.
    assert flood.recorded - flood.kept - flood.lost <= MOST_TAKEN, flood
    assert flood.kept_said <= flood.kept


def test_what_is_recorded_beside_busy_threads_outlives_the_process(tmp_path: Path) -> None:
    """The interpreter is contended for, the backend is away, and the process is killed."""
    assert killed_beside_work(tmp_path, busy=8, each=200) == 200
