"""Torch's modules and destinations by name.

What is used of the objects in them stands in ``surface``.
"""

from __future__ import annotations

from typing import Final

EVENTS: Final = "torch.distributed.elastic.events"
REGISTRY: Final = "torch.distributed.elastic.rendezvous.registry"
METRICS: Final = "torch.distributed.elastic.metrics.api"
DYNAMIC_RENDEZVOUS: Final = "torch.distributed.elastic.rendezvous.dynamic_rendezvous"
AGENT_API: Final = "torch.distributed.elastic.agent.server.api"
AGENT: Final = "torch.distributed.elastic.agent.server.local_elastic_agent"

RENDEZVOUS_DESTINATION: Final = "dynamic_rendezvous"
"""Where torch sends rendezvous events, whatever ``--event-log-handler`` says."""
EVENT_LOGGER: Final = "torchelastic-events-"
"""The name of a destination's logger begins with it."""
