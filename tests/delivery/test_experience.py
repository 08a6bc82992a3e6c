"""A sender learns which items are at fault, and never from a place that is out of order as such."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torchelastic_otel._delivery.answer import Answer, AnswerKind
from torchelastic_otel._delivery.experience import Experience
from torchelastic_otel._delivery.policy import A_RUN, MOST_ALONE

Server = Callable[[Sequence[int]], AnswerKind]


class Line:
    """Items on their way to a server, sent as ``Outbox`` does: in order, but for those that are to wait."""

    def __init__(self, count: int, *, most: int = 512) -> None:
        self.line = list(range(count))
        self.experience: Experience[int] = Experience(own=True, most=most)
        self.ends: dict[int, str] = {}
        """What became of items: "delivered", or why they are held or dropped."""
        self.requests: list[list[int]] = []

    def next(self) -> list[int]:
        """Return what the next request holds; none if all items are to wait for others."""
        found: list[int] = []
        for item in self.line:
            if self.experience.is_later(item):
                continue
            if len(found) == self.experience.size or (found and self.experience.is_alone(item)):
                break
            found.append(item)
            if self.experience.is_alone(item):
                break
        return found

    def send(self, server: Server, attempts: int = 10_000) -> None:
        """Send until nothing is left, at most so many times."""
        for _ in range(attempts):
            items = self.next()
            if not items:
                if not self.line:
                    return
                self.experience.no_others()
                continue
            self.requests.append(items)
            answer = Answer(server(items))
            decision = self.experience.judge(answer, items, in_memory=False)
            if decision.fate in ("delivered", "held", "dropped"):
                self.line = [item for item in self.line if item not in items]
                self.ends |= dict.fromkeys(items, decision.reason or decision.fate)


def breaking_over(*bad: int, kind: AnswerKind = "retry") -> Server:
    """Return a server that answers so where one of these items is in a request."""
    return lambda items: kind if set(bad) & set(items) else "delivered"


def test_one_item_is_at_fault_and_the_others_are_taken() -> None:
    """Wherever it is in the line, and however it is refused."""
    kinds: tuple[AnswerKind, ...] = ("retry", "shut", "foreign")
    for bad in (0, 1, 100, 450):
        for kind in kinds:
            line = Line(512)
            line.send(breaking_over(bad, kind=kind))
            assert line.ends == {**dict.fromkeys(range(512), "delivered"), bad: "poison"}
            assert len(line.requests) < 60


def test_several_items_are_at_fault() -> None:
    """One after the other, too."""
    bad = (3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 200, 450)
    line = Line(512)
    line.send(breaking_over(*bad))
    assert {item for item, end in line.ends.items() if end == "poison"} == set(bad)
    assert len(line.ends) == 512


def test_the_last_one_waits_for_others_to_tell() -> None:
    """It holds up nobody, and nothing says yet that it is at fault."""
    line = Line(8)
    line.send(breaking_over(7), attempts=200)
    assert line.line == [7]
    for another in range(8, 8 + MOST_ALONE):
        line.line.append(another)
        line.send(breaking_over(7), attempts=10)
    assert line.ends[7] == "poison"


def test_a_server_that_is_out_of_order_loses_nothing() -> None:
    """However long that lasts; what was tried alone meanwhile is taken afterwards."""
    line = Line(100)
    line.send(lambda items: "retry", attempts=1000)
    assert line.ends == {}
    line.send(lambda items: "delivered")
    assert line.ends == dict.fromkeys(range(100), "delivered")


def test_a_server_that_goes_and_comes_is_told_from_an_item() -> None:
    """Between any two failures of an item that count, others were taken."""
    line = Line(400, most=4)

    def server(_items: Sequence[int]) -> AnswerKind:
        return "retry" if len(line.requests) // 20 % 2 else "delivered"

    line.send(server)
    assert set(line.ends.values()) == {"delivered"}
    assert len(line.ends) == 400


def test_a_refused_batch_costs_the_culprit_alone() -> None:
    """It is halved until that is found."""
    line = Line(512)
    line.send(breaking_over(77, kind="rejected"))
    assert line.ends == {**dict.fromkeys(range(512), "delivered"), 77: "rejected"}
    assert len(line.requests) < 40


def test_a_server_that_refuses_everything_is_not_asked_for_each_item_in_turn() -> None:
    """After a run of them there is a back-off between two, and what is refused stays in the spool."""
    line = Line(20)
    line.send(lambda items: "rejected")
    assert set(line.ends.values()) == {"rejected"}
    decision = line.experience.judge(Answer("rejected"), [0], in_memory=False)
    assert (decision.fate, decision.then) == ("held", "back off")


def test_after_an_absence_what_is_too_old_is_found_in_few_requests() -> None:
    """And hardly anything fresh is held with it."""
    line = Line(5000)
    line.send(lambda items: "late" if items[0] < 4321 else "delivered")
    late = [item for item, end in line.ends.items() if end == "late"]
    assert set(range(4321)) <= set(late)
    assert len(late) < 4321 + 2 * A_RUN
    assert len(line.requests) < 400
