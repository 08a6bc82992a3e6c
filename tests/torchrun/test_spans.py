"""The spans of a job: their tree, times and links, and what is drawn on them (contract, section 4)."""

from __future__ import annotations

import itertools
import json
from collections import Counter

import pytest

from otlp_receiver import Span
from tests.support.names import AGENT, GROUP, RENDEZVOUS, WORKER
from tests.support.scenarios.running import Run, every, only, where, whole
from torchelastic_otel._job.identity import hash_trace_id

pytestmark = pytest.mark.e2e


@whole
def test_spans_form_the_tree_of_the_contract(run: Run) -> None:
    """Rendezvous and worker groups are under their agent, workers under their group, and all are there."""
    assert {span.name for span in run.spans} <= {AGENT, RENDEZVOUS, GROUP, WORKER}
    ids = [span.span_id for span in run.spans]
    assert len(set(ids)) == len(ids)
    assert run.launchers == {span.resource["process.pid"] for span in run.spans}
    for node in run.nodes:
        rendezvous, generations = node.expected.rendezvous, node.expected.generations
        agents = node.named(AGENT)
        assert len(agents) == run.scenario.jobs
        for agent in agents:
            assert agent.parent_span_id == ""
            assert len(node.children(agent, RENDEZVOUS)) == len(rendezvous)
            groups = node.children(agent, GROUP)
            assert len(groups) == len(generations)
            for group, generation in zip(groups, generations, strict=True):
                ranks = [worker.attributes["torchelastic.local_rank"] for worker in node.workers(group)]
                assert ranks == list(range(len(generation.workers)))
        below = len(rendezvous) + sum(1 + len(generation.workers) for generation in generations)
        assert len(node.spans) == run.scenario.jobs * (1 + below), Counter(span.name for span in node.spans)


@whole
def test_no_span_has_a_parent_that_nobody_sends(run: Run) -> None:
    """Each parent is a span that was received, of the same trace and process."""
    for span in run.spans:
        if span.parent_span_id:
            parent = run.by_id[span.parent_span_id]
            assert (parent.trace_id, parent.resource) == (span.trace_id, span.resource)


@whole
def test_times_of_spans_are_sane(run: Run) -> None:
    """A span ends after it starts, starts within its parent, and does not outlast it."""
    for span in run.spans:
        assert run.began_ns <= span.start_ns <= span.end_ns <= run.ended_ns, span.name
        for event in span.events:
            assert run.began_ns <= event.time_ns <= run.ended_ns
        if span.parent_span_id:
            parent = run.by_id[span.parent_span_id]
            assert parent.start_ns <= span.start_ns <= span.end_ns <= parent.end_ns, span.name
    for agent in run.named(AGENT):
        for name in (RENDEZVOUS, GROUP):
            spans = run.children(agent, name)
            for before, after in itertools.pairwise(spans):
                assert before.end_ns <= after.start_ns, name


@every
def test_no_span_is_an_orphan_and_times_are_sane(run: Run) -> None:
    """Each parent was received, starts before its children, and does not end before them."""
    for node in run.alive:
        assert len(node.by_id) == len(node.spans)
        for span in node.spans:
            assert span.start_ns <= span.end_ns
            if span.name == AGENT:
                assert span.parent_span_id == ""
                continue
            parent = node.by_id[span.parent_span_id]
            assert parent.trace_id == span.trace_id
            assert parent.name == (GROUP if span.name == WORKER else AGENT)
            assert parent.start_ns <= span.start_ns <= span.end_ns <= parent.end_ns
        for record in node.logs:
            span = node.by_id[record.span_id]
            assert record.trace_id == span.trace_id
            assert record.observed_ns >= record.time_ns - 1_000_000


@every
def test_each_generation_links_to_the_one_before(run: Run) -> None:
    """A worker group's only link is to the group before it on its node; the first has none."""
    for agent in run.named(AGENT):
        previous: Span | None = None
        for number, group in enumerate(run.children(agent, GROUP), 1):
            links = [(link.trace_id, link.span_id) for link in group.links]
            assert links == ([] if previous is None else [(previous.trace_id, previous.span_id)])
            assert group.attributes["torchelastic.generation"] == number
            previous = group
    assert all(span.links == [] for span in run.spans if span.name != GROUP)


@where(lambda found: found.whole and not found.waits)
def test_each_event_is_also_drawn_on_its_span(run: Run) -> None:
    """Every event of the launcher is a span event of its record's span, with the same time and attributes.

    A worker's span is not held back for as long as an agent may wait before it tells of the worker's end.
    """
    drawn = Counter(
        (span.span_id, event.name, event.time_ns, json.dumps(event.attributes, sort_keys=True))
        for span in run.spans
        for event in span.events
    )
    expected: Counter[tuple[str, str, int, str]] = Counter()
    for record in run.from_launchers:
        attributes = {key: value for key, value in record.attributes.items() if key != "log.record.uid"}
        text = json.dumps(attributes, sort_keys=True)
        expected[(record.span_id, record.event_name, record.time_ns, text)] += 1
    assert expected - drawn == Counter()
    assert drawn - expected == Counter()
    assert all(span.dropped_events_count == 0 for span in run.spans)


@every
def test_all_nodes_are_in_one_trace(run: Run) -> None:
    """All spans of a job have the trace id that is the hash of its run id."""
    traces = {span.trace_id for span in run.spans}
    if run.scenario.jobs > 1:
        expected = {f"{hash_trace_id(run.run_id + name):032x}" for name in ("", "-other")}
        assert traces == expected
    elif run.scenario.shared_trace:
        assert traces == {f"{hash_trace_id(run.run_id):032x}"}
    else:
        assert len(traces) == 1


@only("an agent killed, the other has the store")
def test_workers_end_when_they_end_and_not_after_the_exit_barrier(run: Run) -> None:
    """The spans of workers that ended have arrived before torch tells of them, which the barrier delays."""
    assert run.facts["torch has told of the survivor's worker"] is False
