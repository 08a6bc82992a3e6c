"""Names and numbers that the tests expect, spelled out once more: a change in the code is to be seen."""

from __future__ import annotations

AGENT, RENDEZVOUS = "torchelastic.agent", "torchelastic.rendezvous"
GROUP, WORKER = "torchelastic.worker_group", "torchelastic.worker"
"""Spans."""
STATUS = "torchelastic.worker.status."
"""What torch's names of agents' and workers' events begin with."""
FAILURE, RESTART = "torchelastic.failure", "torchelastic.restart"
"""Records of the bridge's own."""
FIRST = "torchelastic.first_failure."
"""What attributes about a node's first failure begin with."""
INFO, WARN, ERROR = 9, 13, 17
"""Severities."""
