"""What is learnt of a signal's way to its place with each answer, as far as the policy asks for it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

from .policy import A_RUN, PERHAPS_ONE, Circumstances, Decision, decide

if TYPE_CHECKING:
    from .answer import Answer

# In a run of refusals the fresh ones may begin anywhere: so many of them at most are refused with the others.
_MOST_IN_A_RUN = 16
_MOST_REMEMBERED = 1024

T = TypeVar("T", bound=Hashable)
"""What names an item."""


class Experience(Generic[T]):
    """One sender's view of one place. For one thread.

    Args:
        own: whether the items were recorded by this process.
        most: items per request.
    """

    def __init__(self, *, own: bool, most: int) -> None:
        self._own = own
        self._most = most
        self.size = most
        """How many items the next request may have: fewer after a failure, for it may be one of them."""
        self.taken = False
        """Whether anything was taken there."""
        self._refused_in_a_row = 0
        self._failed_in_a_row = 0
        self._failures: dict[T, int] = {}  # of items that failed alone: how often
        self._counts: set[T] = set()  # those whose next failure counts, for others were taken meanwhile
        self._later: set[T] = set()  # those that others go before

    def is_alone(self, item: T) -> bool:
        """Tell whether an item is to be sent alone: it failed before."""
        return item in self._failures

    def is_later(self, item: T) -> bool:
        """Tell whether others are to be sent before an item."""
        return item in self._later

    def no_others(self) -> bool:
        """Note that no others are there to be sent first; False if to try these again would tell nothing."""
        self._later.clear()
        if not self._own:  # none will come, so what was taken so far has to do as evidence
            self._counts |= {item for item, failures in self._failures.items() if failures > 1}
        return bool(self._counts)

    def judge(self, answer: Answer, items: Sequence[T], *, in_memory: bool) -> Decision:
        """Return what becomes of the items of a request, and learn from the answer."""
        alone = items[0] if len(items) == 1 else None
        failures = 0
        if alone is not None and answer.kind in PERHAPS_ONE:
            failures = self._failures.get(alone, 0) + (alone in self._counts or alone not in self._failures)
            if alone not in self._counts:
                self._failed_in_a_row += 1
            self._remember(alone, failures)
        decision = decide(
            answer,
            Circumstances(
                own=self._own,
                in_memory=in_memory,
                count=len(items),
                taken_before=self.taken,
                refused_in_a_row=self._refused_in_a_row,
                failed_in_a_row=self._failed_in_a_row,
                failed_alone=failures,
            ),
        )
        if decision.fate == "delivered":
            self._took(items)
        elif decision.fate == "split":
            self.size = max(1, len(items) // 2)
        elif decision.fate in ("held", "dropped"):
            self._gave_up(answer, items)
        elif decision.then == "others first":
            self._later.add(items[0])
        elif decision.then == "back off" and answer.kind in PERHAPS_ONE:
            self.size = max(1, min(self.size, len(items)) // 2)
        return decision

    def _took(self, items: Sequence[T]) -> None:
        self.taken = True
        self.size = min(self._most, self.size * 2)
        self._refused_in_a_row = self._failed_in_a_row = 0
        self._forget(items)
        self._later.clear()
        self._counts = set(self._failures)

    def _gave_up(self, answer: Answer, items: Sequence[T]) -> None:
        if answer.kind in ("rejected", "late"):
            self._refused_in_a_row += len(items)
        if answer.kind == "late" and self._refused_in_a_row >= A_RUN:
            self.size = min(self._most, _MOST_IN_A_RUN, self.size * 2)
        self._forget(items)

    def _remember(self, item: T, failures: int) -> None:
        self._failures[item] = failures
        self._counts.discard(item)
        if len(self._failures) > _MOST_REMEMBERED:
            self._forget([next(iter(self._failures))])

    def _forget(self, items: Sequence[T]) -> None:
        for item in items:
            self._failures.pop(item, None)
            self._counts.discard(item)
            self._later.discard(item)
