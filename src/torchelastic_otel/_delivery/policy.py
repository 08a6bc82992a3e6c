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

Then = Literal["go on", "back off", "others first", "signal off", "leave signal", "stop"]
"""What becomes of the items behind them.

- ``go on``: they are sent.
- ``back off``: they wait, too.
- ``others first``: likewise, and are sent before these are tried again.
- ``signal off``: nothing of this signal is kept any more until it is asked for again, after minutes.
- ``leave signal``: those of this signal that earlier processes left stay where they are.
- ``stop``: all that earlier processes left stays where it is.
"""

MOST_ALONE = 5
"""So often an item may fail alone while others are taken; then it is the item."""
A_RUN = 8
"""So many items refused, or failing, one after the other with none taken in between are not each wrong by
themselves."""
PATIENCE = 3
"""So often the first item is tried alone before others are tried in its place: they are sent in order."""
ASK_AGAIN_S = 300.0
"""So long a place that does not take a signal is not asked again, in seconds."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What is known of a request beside the answer to it."""

    own: bool
    """Its items were recorded by the process that sends them; else an earlier process left them."""
    in_memory: bool
    """They are in memory, not on a disk, and end with the process."""
    count: int
    """How many they are."""
    taken_before: bool = False
    """Something of this signal was taken there before: that place is not wrong for it as such."""
    refused_in_a_row: int = 0
    """Items of this signal that were refused for what is in them since one was taken, before this request."""
    failed_in_a_row: int = 0
    """Attempts with one item of this signal that failed since one was taken, with this one."""
    failed_alone: int = 0
    """How often this one item failed alone while others of its signal were taken, with this time."""


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

    answer: AnswerKind | tuple[AnswerKind, ...] | None
    decision: Decision
    too_large: bool | None = None
    several: bool | None = None
    """The request has more than one item."""
    own: bool | None = None
    in_memory: bool | None = None
    taken_before: bool | None = None
    in_a_run: bool | None = None
    """``A_RUN`` items or more were refused before this one, and none taken since."""
    hopeless: bool | None = None
    """``A_RUN`` attempts with one item or more failed, this one included, and none was taken since."""
    poison: bool | None = None
    """It failed alone ``MOST_ALONE`` times or more while others were taken."""
    in_turn: bool | None = None
    """Nothing says yet that it is this item, and fewer than ``PATIENCE`` attempts were made."""

    def answers(self) -> tuple[AnswerKind, ...]:
        """Return the kinds of answers that it is about; none for all of them."""
        if self.answer is None:
            return ()
        return self.answer if isinstance(self.answer, tuple) else (self.answer,)

    def fits(self, answer: Answer, known: Circumstances) -> bool:
        """Tell whether this row is about such a request and its answer."""
        return (self.answer is None or answer.kind in self.answers()) and all(
            wanted is None or wanted == found
            for wanted, found in (
                (self.too_large, answer.too_large),
                (self.several, known.count > 1),
                (self.own, known.own),
                (self.in_memory, known.in_memory),
                (self.taken_before, known.taken_before),
                (self.in_a_run, known.refused_in_a_row >= A_RUN),
                (self.hopeless, known.failed_in_a_row >= A_RUN),
                (self.poison, known.failed_alone >= MOST_ALONE),
                (self.in_turn, known.failed_alone <= 1 and known.failed_in_a_row < PATIENCE),
            )
        )


PERHAPS_ONE: tuple[AnswerKind, ...] = ("retry", "shut", "foreign", "unsupported")
"""Answers that may be one item's fault, though nobody says so: a server breaks over it, or a gateway does not
let it pass."""

POLICY: tuple[Row, ...] = (
    Row(None, Decision("split"), too_large=True, several=True),
    Row("delivered", Decision("delivered")),
    # The data are wrong, be it one item of them: smaller requests find out which.
    Row("rejected", Decision("split"), several=True),
    Row(
        "rejected", Decision("dropped", "rejected", then="back off"), own=True, in_memory=True, in_a_run=True
    ),
    Row("rejected", Decision("held", "rejected", then="back off"), own=True, in_a_run=True),
    Row("rejected", Decision("kept", then="leave signal"), own=False, in_a_run=True),
    Row("rejected", Decision("dropped", "rejected"), taken_before=True),
    Row("rejected", Decision("dropped", "rejected"), in_memory=True),
    Row("rejected", Decision("held", "rejected")),  # or the place is: nothing was ever taken there
    # They are too old. After an absence many are, and then smaller requests find out little.
    Row("late", Decision("split"), several=True, in_a_run=False),
    Row("late", Decision("dropped", "late"), in_memory=True),
    Row("late", Decision("held", "late")),
    # It is about the server alone.
    Row("busy", Decision("kept", then="back off"), own=True),
    Row("busy", Decision("kept", then="leave signal"), own=False),
    Row("unreachable", Decision("kept", then="back off"), own=True),
    Row("unreachable", Decision("kept", then="stop"), own=False),
    # It is the wrong place for this signal, or for what was left.
    Row("unsupported", Decision("kept", then="signal off"), own=True, taken_before=False),
    Row(
        ("shut", "foreign", "unsupported"),
        Decision("kept", then="leave signal"),
        own=False,
        taken_before=False,
    ),
    # It may be one item's fault. That one is tried alone, others first, and set aside if it fails while they
    # are taken.
    Row(PERHAPS_ONE, Decision("dropped", "poison"), several=False, poison=True, in_memory=True),
    Row(PERHAPS_ONE, Decision("held", "poison"), several=False, poison=True),
    Row(PERHAPS_ONE, Decision("kept", then="back off"), own=True, several=True),
    Row(PERHAPS_ONE, Decision("split"), own=False, several=True),
    Row(PERHAPS_ONE, Decision("kept", then="leave signal"), own=False, hopeless=True),
    Row(PERHAPS_ONE, Decision("kept", then="back off"), own=True, in_turn=True),
    Row(PERHAPS_ONE, Decision("kept", then="others first")),
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
