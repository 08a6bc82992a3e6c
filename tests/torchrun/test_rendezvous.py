"""Nodes that cannot join, or joined in vain: what their rendezvous and their verdict tell."""

from __future__ import annotations

import pytest

from tests.support.names import AGENT, RENDEZVOUS
from tests.support.scenarios.running import Run, only

pytestmark = pytest.mark.e2e


@only("rendezvous timeout", "rendezvous timeout, two of three")
def test_a_rendezvous_timeout_names_who_had_joined(run: Run) -> None:
    """The rendezvous' span and the verdict name the agents that had come, this one among them."""
    node = run.nodes[0]
    (rendezvous,) = node.named(RENDEZVOUS)
    names = rendezvous.attributes["torchelastic.rendezvous.nodes"]
    assert len(names) == len(run.nodes)
    for name, pid in zip(sorted(names), sorted(node.pid for node in run.nodes), strict=True):
        assert f"_{pid}_" in name
    for name in names:
        assert name in node.agent.attributes["torchelastic.verdict"]
    for span in (rendezvous, node.agent):
        assert span.attributes["torchelastic.rendezvous.nodes"] == names
        waited = span.attributes["torchelastic.rendezvous.waited"]
        assert waited >= span.attributes["torchelastic.rendezvous.timeout"]


@only("late node, shared store")
def test_a_node_that_joined_and_then_failed_did_join(run: Run) -> None:
    """The rendezvous of both succeeded; what failed is what the launchers did next."""
    for node in run.nodes:
        rendezvous = node.named(RENDEZVOUS)[-1]
        assert rendezvous.status_code == "OK"
        assert rendezvous.attributes["torchelastic.group_world_size"] == 2
        assert "exception.stacktrace" in node.agent.attributes


@only("store out of reach")
def test_a_store_out_of_reach_is_told(run: Run) -> None:
    """The agent's span has the exception, and the step in which it was raised."""
    (agent,) = run.named(AGENT)
    assert agent.attributes["exception.type"] == "RendezvousConnectionError"
    assert agent.attributes["error.type"] == "RendezvousConnectionError"
    assert "store" in agent.attributes["torchelastic.step"]
    assert agent.attributes["exception.message"]
    assert "exception.stacktrace" in agent.attributes
