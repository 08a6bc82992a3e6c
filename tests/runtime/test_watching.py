"""No test passes over an internal error that it did not mean: the tests' own watch on the guard."""

from __future__ import annotations

import pytest

from tests.support.guard import assert_none_in, judge, taken
from torchelastic_otel._runtime.guard import guarded


def wrong() -> None:
    """Fail as the package might."""
    raise LookupError("no such thing")


def judged(*announced: str) -> list[str]:
    """Return what a test would fail with that announced this, after an internal error."""
    guarded(wrong)
    failures: list[str] = []
    judge(taken(), announced, failures.append)
    return failures


def test_an_error_that_was_not_announced_fails_with_its_traceback() -> None:
    """Also one that the program's log has had before, and says no more."""
    for _ in range(2):
        [failure] = judged("another")[:1]
        assert "wrong: LookupError: no such thing" in failure
        assert 'raise LookupError("no such thing")' in failure


def test_an_announced_error_passes() -> None:
    """By a part of what it says."""
    assert judged("LookupError: no such", "^wrong") == []


def test_an_announced_error_that_does_not_come_fails() -> None:
    """So that an announcement does not outlive its reason."""
    assert judged("LookupError", "flushing") == ["announced, and did not come: ['flushing']"]


def test_what_another_process_says_of_it_is_found() -> None:
    """On its standard error, in the words of the guard."""
    assert_none_in("all is well")
    with pytest.raises(pytest.fail.Exception, match="flushing: ValueError: wrong"):
        assert_none_in("W internal error in flushing: ValueError: wrong. The job is not affected\n")
