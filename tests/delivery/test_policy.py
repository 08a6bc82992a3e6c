"""What becomes of items for each answer is one table, here written out a second time."""

from __future__ import annotations

import itertools
from typing import get_args

import pytest

from torchelastic_otel._config.environment import Signal
from torchelastic_otel._delivery.answer import Answer, AnswerKind
from torchelastic_otel._delivery.policy import (
    POLICY,
    Circumstances,
    Decision,
    Fate,
    Then,
    decide,
    refused_items,
)

OWN_ON_DISK = {
    "delivered": Decision("delivered"),
    "retry": Decision("kept", then="back off"),
    "rejected": Decision("dropped", "rejected"),
    "held": Decision("held", "held"),
    "late": Decision("held", "late"),
    "unsupported": Decision("dropped", "unsupported", then="signal off"),
}
OWN_IN_MEMORY = {
    **OWN_ON_DISK,
    "held": Decision("dropped", "held"),
    "late": Decision("dropped", "late"),
}
LEFT = {
    **OWN_ON_DISK,
    "retry": Decision("kept", then="stop"),
    "rejected": Decision("held", "rejected"),
    "unsupported": Decision("kept", then="leave signal"),
}
LEFT_AND_OTHERS_TAKEN = {**LEFT, "rejected": Decision("dropped", "rejected")}

KINDS: tuple[AnswerKind, ...] = get_args(AnswerKind)
# What was left is on a disk: a process's memory ends with it.
PLACES = [(True, False), (True, True), (False, False)]
EVERY = [
    (
        Answer(kind, too_large=too_large),
        Circumstances(own=own, in_memory=in_memory, count=count, taken_before=taken),
    )
    for kind, too_large, (own, in_memory), count, taken in itertools.product(
        KINDS, (False, True), PLACES, (1, 2, 512), (False, True)
    )
]


def expected(answer: Answer, known: Circumstances) -> Decision:
    """Return what the tables above say."""
    if answer.too_large and known.count > 1:
        return Decision("split")
    if known.own:
        return (OWN_IN_MEMORY if known.in_memory else OWN_ON_DISK)[answer.kind]
    return (LEFT_AND_OTHERS_TAKEN if known.taken_before else LEFT)[answer.kind]


@pytest.mark.parametrize("kind", KINDS)
def test_the_policy_is_the_table(kind: AnswerKind) -> None:
    """In all circumstances there are."""
    cases = [(answer, known) for answer, known in EVERY if answer.kind == kind]
    assert [decide(*case) for case in cases] == [expected(*case) for case in cases]


def test_every_row_decides_something_and_none_is_left_over() -> None:
    """A row that another one hides would be believed and never used."""
    used = [next(row for row in POLICY if row.fits(*case)) for case in EVERY]
    assert [row for row in POLICY if row not in used] == []


def test_what_is_decided_can_be_done() -> None:
    """Who sends its own items waits while they are kept; who sends those of others leaves them."""
    afterwards: dict[bool, set[tuple[Fate, Then]]] = {True: set(), False: set()}
    for answer, known in EVERY:
        decision = decide(answer, known)
        afterwards[known.own].add((decision.fate, decision.then))
        assert bool(decision.reason) == (decision.fate in ("held", "dropped"))
        assert not (decision.fate == "held" and known.in_memory), "memory holds nothing beyond the process"
    going_on: set[tuple[Fate, Then]] = {
        ("delivered", "go on"),
        ("split", "go on"),
        ("held", "go on"),
        ("dropped", "go on"),
    }
    assert afterwards[True] <= going_on | {("kept", "back off"), ("dropped", "signal off")}
    assert afterwards[False] <= going_on | {("kept", "stop"), ("kept", "leave signal")}


@pytest.mark.parametrize(
    ("signal", "told", "refused"),
    [("logs", 0, 0), ("logs", 3, 3), ("traces", 1000, 10), ("metrics", 3, 0)],
)
def test_refused_items_are_never_more_than_there_were(signal: Signal, told: int, refused: int) -> None:
    """Of metrics a backend refuses points, of which a request has many."""
    assert refused_items(Answer("delivered", rejected=told), signal, 10) == refused
