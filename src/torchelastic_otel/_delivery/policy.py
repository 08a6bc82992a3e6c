"""What becomes of items when a server has answered: one table for all who send.

Sending (``outbox``), what earlier processes left (``recovery``) and the command ``replay`` ask ``decide`` and
do what it says. The table in docs/delivery.md is made from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from .._config.environment import Signal

if TYPE_CHECKING:  # it is loaded when something is sent
    from .answer import Answer, AnswerKind

Fate = Literal["delivered", "kept", "split", "held", "dropped"]
"""What becomes of the items of a request.

- ``delivered``: the server has them. They leave the spool, and are counted.
- ``kept``: they stay where they are, to be sent again.
- ``split``: likewise, in smaller requests.
- ``held``: they stay in the spool, until somebody has seen to it and runs ``replay``.
- ``dropped``: they leave the spool, and are counted.
"""

Then = Literal["go on", "back off", "signal off", "leave signal", "stop"]
"""What becomes of the items behind them.

- ``go on``: they are sent; the place answers, so the back-off begins anew.
- ``back off``: they wait for the next attempt, too.
- ``signal off``: this process neither sends nor keeps anything of this signal any more.
- ``leave signal``: those of this signal stay in this store.
- ``stop``: all that earlier processes left stays where it is.
"""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What is known of a request beside the answer to it."""

    own: bool
    """Its items were recorded by the process that sends them; else an earlier process left them."""
    in_memory: bool
    """They are in memory, not on a disk, and end with the process."""
    count: int
    """How many they are."""
    taken_before: bool
    """Something of this signal was taken there before: that place is not wrong for it as such."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done."""

    fate: Fate
    reason: str = ""
    """Why items are held or dropped, as they are counted; "" for other fates."""
    then: Then = "go on"


@dataclass(frozen=True, slots=True)
class Row:
    """A decision, and when it is made; None stands for whatever it is."""

    answer: AnswerKind | None
    decision: Decision
    divisible: bool | None = None
    """The request was too large, and has more than one item."""
    own: bool | None = None
    in_memory: bool | None = None
    taken_before: bool | None = None

    def fits(self, answer: Answer, known: Circumstances) -> bool:
        """Tell whether this row is about such a request and its answer."""
        return (
            self.answer in (None, answer.kind)
            and self.divisible in (None, answer.too_large and known.count > 1)
            and self.own in (None, known.own)
            and self.in_memory in (None, known.in_memory)
            and self.taken_before in (None, known.taken_before)
        )


POLICY: tuple[Row, ...] = (
    Row(None, Decision("split"), divisible=True),
    Row("delivered", Decision("delivered")),
    Row("retry", Decision("kept", then="back off"), own=True),
    Row("retry", Decision("kept", then="stop"), own=False),
    # The data are wrong. Of what was left that is believed only of a place that has taken some.
    Row("rejected", Decision("dropped", "rejected"), own=True),
    Row("rejected", Decision("dropped", "rejected"), own=False, taken_before=True),
    Row("rejected", Decision("held", "rejected"), own=False, taken_before=False),
    # The place is wrong, for now or for these: somebody is to see to it.
    Row("held", Decision("dropped", "held"), in_memory=True),
    Row("held", Decision("held", "held"), in_memory=False),
    Row("late", Decision("dropped", "late"), in_memory=True),
    Row("late", Decision("held", "late"), in_memory=False),
    # It is the wrong place for this signal; for what was left perhaps the wrong address.
    Row("unsupported", Decision("dropped", "unsupported", then="signal off"), own=True),
    Row("unsupported", Decision("kept", then="leave signal"), own=False),
)
"""The first row that fits is what is done. One fits each case."""


def decide(answer: Answer, known: Circumstances) -> Decision:
    """Return what becomes of the items of a request."""
    return next(row.decision for row in POLICY if row.fits(answer, known))


def refused_items(answer: Answer, signal: Signal, count: int) -> int:
    """Return how many of the ``count`` items of a delivered request the server refused.

    Of metrics none: a request of them is one item, and what is refused are some of its many points.
    """
    return 0 if signal == "metrics" else min(answer.rejected, count)
