"""What becomes of items for each answer is one table, here written out a second time."""

from __future__ import annotations

import itertools
from typing import get_args

import pytest

from torchelastic_otel._config.environment import Signal
from torchelastic_otel._delivery.answer import Answer, AnswerKind
from torchelastic_otel._delivery.policy import (
    A_RUN,
    MOST_ALONE,
    PATIENCE,
    PERHAPS_ONE,
    POLICY,
    Circumstances,
    Decision,
    Fate,
    Then,
    decide,
    refused_items,
)

KINDS: tuple[AnswerKind, ...] = get_args(AnswerKind)
# What was left is on a disk: a process's memory ends with it.
PLACES = [(True, False), (True, True), (False, False)]
EVERY = [
    (
        Answer(kind, too_large=too_large),
        Circumstances(own, in_memory, count, taken, refused, failed, alone),
    )
    for kind, too_large, (own, in_memory), count, taken, refused, failed, alone in itertools.product(
        KINDS,
        (False, True),
        PLACES,
        (1, 2, 512),
        (False, True),
        (0, A_RUN - 1, A_RUN),
        (0, PATIENCE - 1, PATIENCE, A_RUN),
        (0, 1, 2, MOST_ALONE),
    )
]


def expected(answer: Answer, known: Circumstances) -> Decision:
    """Return what is to be done, by cases."""
    several = known.count > 1
    a_run = known.refused_in_a_row >= A_RUN
    away: Fate = "dropped" if known.in_memory else "held"
    wait: Then = "back off" if known.own else "leave signal"
    if several and answer.too_large:
        return Decision("split")
    if answer.kind == "delivered":
        return Decision("delivered")
    if answer.kind == "rejected":
        if several:
            return Decision("split")
        if a_run:
            return Decision(away, "rejected", wait) if known.own else Decision("kept", then=wait)
        return Decision("dropped" if known.taken_before else away, "rejected")
    if answer.kind == "late":
        return Decision("split") if several and not a_run else Decision(away, "late")
    if answer.kind == "busy":
        return Decision("kept", then=wait)
    if answer.kind == "unreachable":
        return Decision("kept", then="back off" if known.own else "stop")
    if not known.taken_before and answer.kind != "retry":
        if not known.own:
            return Decision("kept", then="leave signal")
        if answer.kind == "unsupported":
            return Decision("kept", then="signal off")
    if several:
        return Decision("kept", then="back off") if known.own else Decision("split")
    if known.failed_alone >= MOST_ALONE:
        return Decision(away, "poison")
    if not known.own and known.failed_in_a_row >= A_RUN:
        return Decision("kept", then="leave signal")
    if known.own and known.failed_alone <= 1 and known.failed_in_a_row < PATIENCE:
        return Decision("kept", then="back off")
    return Decision("kept", then="others first")


@pytest.mark.parametrize("kind", KINDS)
def test_the_policy_is_the_table(kind: AnswerKind) -> None:
    """In all circumstances there are."""
    cases = [(answer, known) for answer, known in EVERY if answer.kind == kind]
    assert [decide(*case) for case in cases] == [expected(*case) for case in cases]


def test_every_row_decides_something_and_none_is_left_over() -> None:
    """A row that another one hides would be believed and never used."""
    used = [next(row for row in POLICY if row.fits(*case)) for case in EVERY]
    assert [row for row in POLICY if row not in used] == []


def test_nothing_is_lost_that_may_be_taken_later() -> None:
    """Only what a server refused for what is in it is dropped, or what has no disk to be set aside on."""
    for answer, known in EVERY:
        decision = decide(answer, known)
        if decision.fate == "dropped":
            assert answer.kind in ("rejected", "late") or known.in_memory
            assert answer.kind != "late" or known.in_memory
            assert known.taken_before or known.in_memory
            assert known.count == 1 or answer.kind == "late"


def test_what_is_decided_can_be_done() -> None:
    """Who sends its own items waits while they are kept; who sends those of others leaves them."""
    afterwards: dict[bool, set[tuple[Fate, Then]]] = {True: set(), False: set()}
    for answer, known in EVERY:
        decision = decide(answer, known)
        afterwards[known.own].add((decision.fate, decision.then))
        assert bool(decision.reason) == (decision.fate in ("held", "dropped"))
        assert not (decision.fate == "held" and known.in_memory), "memory holds nothing beyond the process"
        assert not (decision.then == "others first" and known.count > 1)
        assert decision.then != "others first" or answer.kind in PERHAPS_ONE
    going_on: set[tuple[Fate, Then]] = {
        ("delivered", "go on"),
        ("split", "go on"),
        ("held", "go on"),
        ("dropped", "go on"),
        ("kept", "others first"),
    }
    own: set[tuple[Fate, Then]] = {
        ("kept", "back off"),
        ("held", "back off"),
        ("dropped", "back off"),
        ("kept", "signal off"),
    }
    assert afterwards[True] <= going_on | own
    assert afterwards[False] <= going_on | {("kept", "stop"), ("kept", "leave signal")}


@pytest.mark.parametrize(
    ("signal", "told", "refused"),
    [("logs", 0, 0), ("logs", 3, 3), ("traces", 1000, 10), ("metrics", 3, 0)],
)
def test_refused_items_are_never_more_than_there_were(signal: Signal, told: int, refused: int) -> None:
    """Of metrics a backend refuses points, of which a request has many."""
    assert refused_items(Answer("delivered", rejected=told), signal, 10) == refused
