"""A worker finds the context of its own span, and what it records is under that span."""

from __future__ import annotations

import pytest

from tests.support.names import WORKER
from tests.support.scenarios.job import SCENARIOS
from tests.support.scenarios.running import Run, only, where

pytestmark = pytest.mark.e2e


@where(lambda found: found.whole and any(node.generations for node in found.nodes))
def test_workers_find_their_own_span_in_their_environment(run: Run) -> None:
    """Each worker's TRACEPARENT names the span that is that worker's, in the job's trace."""
    started = [span for span in run.named(WORKER) if "torchelastic.worker_id" in span.attributes]
    spans = {span.attributes["torchelastic.worker_id"]: span for span in started}
    for note in run.notes:
        span = spans[str(note.pid)]
        assert note.env["TRACEPARENT"] == f"00-{span.trace_id}-{span.span_id}-01"
        assert span.attributes["torchelastic.global_rank"] == int(note.env["RANK"])
        assert span.attributes["torchelastic.local_rank"] == int(note.env["LOCAL_RANK"])
    if run.notes:
        assert len(run.notes) == len(spans)


@only(*[name for name in SCENARIOS if name.startswith("LaunchConfig")])
def test_function_workers_find_their_own_span_in_their_environment(run: Run) -> None:
    """Functions started by spawn, fork and forkserver are given the context of their own span."""
    (node,) = run.nodes
    spans = {span.attributes["torchelastic.global_rank"]: span for span in run.named(WORKER)}
    assert len(spans) == 2
    for rank, span in spans.items():
        assert f"hello {rank} 00-{span.trace_id}-{span.span_id}-01" in node.output


@only("own event by torch's events", "own event by ours")
def test_a_workers_own_event_is_under_its_workers_span(run: Run) -> None:
    """A worker's event keeps its metadata as it is, and belongs to the span of that very worker."""
    records = run.records("checkpoint.saved")
    workers = set()
    for record in records:
        span = run.by_id[record.span_id]
        assert span.attributes["torchelastic.worker_id"] == str(record.attributes["pid"])
        assert span.attributes["torchelastic.worker_id"] == str(record.resource["process.pid"])
        assert record.attributes["step"] == 7
        assert str(record.attributes["who"]).endswith(f" {span.attributes['torchelastic.local_rank']}")
        assert record.attributes["torchelastic.source"] == "WORKER"
        workers.add(record.span_id)
    assert len(workers) == 2
