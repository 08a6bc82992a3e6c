"""This node's attempts to join a round of the rendezvous."""

from __future__ import annotations

from .. import _contract as c
from .._runtime.clock import Moment
from .._values import Attributes, AttributeValue, present
from .event import Event
from .facts import RendezvousEnded
from .measures import JobMeasures
from .output import OpenSpan, Output
from .verdict import UNKNOWN, Verdict, rendezvous_verdict


class Rendezvous:
    """The attempt that is open, and what is known from those before it.

    Args:
        output: where spans go.
        measures: the job's metrics.
        agent: the parent of the spans.
    """

    def __init__(self, output: Output, measures: JobMeasures, agent: OpenSpan) -> None:
        self._output = output
        self._measures = measures
        self._agent = agent
        self._joined: Event | None = None
        self.attempt: OpenSpan | None = None
        """Span of the attempt that is open."""
        self.failure: Verdict | None = None
        """Why the last attempt was not joined, if it was not."""
        self.participants: list[str] = []
        """Who was in the round that this node joined last, where the backend shares that."""

    def asked(self, moment: Moment, shared: Attributes) -> None:
        """This node asks to join a round; an attempt that is still open ends without an outcome."""
        self._joined = self.failure = None
        self.over(moment, UNKNOWN)
        self.attempt = self._output.start_span(c.SPAN_RENDEZVOUS, moment, dict(shared), parent=self._agent)
        self._measures.rendezvous_started(moment)

    def torch_said_joined(self, event: Event) -> None:
        """Torch has recorded that this node joined; what it does next may still raise."""
        if self.attempt is not None:
            self._joined = event

    def returned(self, fact: RendezvousEnded) -> bool:
        """``next_rendezvous`` is over; return whether this node has joined."""
        joined, self._joined = self._joined, None
        if self.attempt is None:
            return False
        if fact.error is not None and joined is None:
            self.failure = rendezvous_verdict(fact.error, fact.moment.since(self.attempt.start), fact.view)
            self.over(fact.moment, self.failure)
            return False
        known: dict[str, AttributeValue | None] = {
            c.GROUP_RANK: fact.rank,
            c.GROUP_WORLD_SIZE: fact.world_size,
        }
        if fact.view is not None:
            self.participants = fact.view.participants
            known[c.ROUND] = fact.view.round
            known[c.NODES_JOINED_NAMES] = fact.view.participants or None
        if joined is None:
            self.joined(fact.moment, present(known))
        else:
            self.joined(joined.moment, {**present(known), **round_of(joined)})
        return True

    def joined(self, moment: Moment, known: Attributes) -> None:
        """This node is in the round."""
        if self.attempt is not None:
            known = {**known, c.RENDEZVOUS_WAITED: round(moment.since(self.attempt.start), 3)}
            self.over(moment, Verdict(c.OUTCOME_SUCCEEDED, "joined", known))

    def over(self, moment: Moment, verdict: Verdict) -> None:
        """The open attempt ends, if there is one."""
        span, self.attempt = self.attempt, None
        if span is not None:
            span.set(verdict.attributes)
            span.end(moment, verdict.outcome, verdict.sentence)
            self._measures.rendezvous_ended(span, moment, verdict.outcome, verdict.attributes)


def round_of(joined: Event) -> Attributes:
    """Return what torch's event says of the round: its number, the node's rank, the number of nodes."""
    return {name: joined.attributes[name] for name in (c.GROUP_RANK, c.GROUP_WORLD_SIZE, c.ROUND)}
