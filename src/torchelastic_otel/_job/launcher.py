"""What the launcher is doing, and what ends it."""

from __future__ import annotations

from collections.abc import Sequence

from .. import _contract as c
from . import sentences
from .event import Event
from .exceptions import tells_no_failure
from .facts import Raised, RunEnded
from .torch_words import UNHEALTHY
from .verdict import (
    Failure,
    Verdict,
    job_failed_by_launcher,
    job_failed_by_workers,
    job_failed_to_join,
    job_let_go,
    job_succeeded,
    job_terminated,
)


class Launcher:
    """Follows the launcher's steps, and says how the job ends."""

    def __init__(self) -> None:
        self.step = c.STEP_BEFORE
        """What it does now, of the contract's steps."""
        self.stop_signal: str | None = None
        """The signal that has reached it."""
        self.verdict: Verdict | None = None
        """How the job ends, once that is known."""
        self._raising = False
        self._max_restarts: int | None = None
        self._closing_error: Raised | None = None

    # What happened

    def allowed(self, max_restarts: int | None) -> None:
        """This many restarts are allowed, if that is known."""
        if max_restarts is not None:
            self._max_restarts = max_restarts

    def reached(self, step: str) -> None:
        """A step begins."""
        self.step = step

    def stopping_workers(self) -> None:
        """It begins to stop workers: a step of its own, unless it cleans up after one that failed."""
        if self.step == c.STEP_RUNNING and self.stop_signal is None and not self._raising:
            self.step = c.STEP_STOPPING

    def signalled(self, signal: str) -> None:
        """A signal has reached it."""
        self.stop_signal = signal

    def raising(self) -> None:
        """The agent's run is about to raise: what torch does from here on is cleaning up."""
        self._raising = True

    def no_store(self, error: Raised) -> None:
        """No rendezvous handler could be made."""
        if error.signal:
            self.verdict = job_terminated(error.signal, c.STEP_STORE)
        else:
            self.verdict = job_failed_by_launcher(error, c.STEP_STORE)

    def run_ended(
        self,
        fact: RunEnded,
        *,
        rendezvous_failure: Verdict | None,
        first_deaths: Sequence[Failure],
        culprits: Sequence[Failure],
        watchdog_victims: Sequence[Failure],
        restarts: int,
    ) -> None:
        """The agent's run returned or raised: from what is known then follows how the job ends."""
        error = fact.error
        if error is not None and error.signal is not None:
            if watchdog_victims:
                # The watchdog sends its own agent the signal that it sent the worker: no preemption.
                self.verdict = job_failed_by_workers(first_deaths, culprits, sentences.agent_killed_too())
            else:
                self.verdict = job_terminated(error.signal, self.step)
        elif rendezvous_failure is not None and (error is not None or not fact.state):
            self.verdict = job_failed_to_join(rendezvous_failure)
        elif error is not None:
            self.verdict = job_failed_by_launcher(error, self.step)
        elif not fact.state:
            self.verdict = job_let_go()
        elif fact.state == "SUCCEEDED":
            self.verdict = job_succeeded(restarts)
        elif fact.state == UNHEALTHY:
            self.verdict = job_failed_by_workers(first_deaths, culprits, sentences.no_restart_when_stuck())
        else:
            tail = sentences.no_more_restarts(self._max_restarts, restarts)
            self.verdict = job_failed_by_workers(first_deaths, culprits, tail)

    def torch_said_run_ended(self, event: Event, watchdog_victims: Sequence[Failure]) -> None:
        """Torch's event alone tells the end: that run raised, or that it returned, which does not say how."""
        if event.state != "FAILED":
            self.verdict = None
        elif tells_no_failure(event) and not watchdog_victims:
            self.verdict = Verdict(c.OUTCOME_TERMINATED, event.body)
        else:
            self.verdict = Verdict(c.OUTCOME_FAILED, event.body)

    def closing_raised(self, error: Raised) -> None:
        """Closing the rendezvous raised: whether that ends the launcher differs by torch's version."""
        self._closing_error = error

    def gone(self, uncaught: Raised | None) -> Verdict | None:
        """Nothing more will be heard; return how the job ended, None where nobody knows.

        Args:
            uncaught: the exception that ends the process, where it is known.
        """
        closing = self._closing_error
        if closing is not None and uncaught is not None and uncaught.type == closing.type:
            self.verdict = job_failed_by_launcher(closing, c.STEP_CLOSING)
        elif self.verdict is None and self.stop_signal is not None:
            self.verdict = job_terminated(self.stop_signal, self.step)
        elif self.verdict is None and uncaught is not None:
            self.verdict = job_failed_by_launcher(uncaught, self.step)
        return self.verdict

    # What is known

    @property
    def let_go(self) -> bool:
        """Whether its end is no failure of the job: a signal, or a spare node that was not needed."""
        terminated = self.verdict is not None and self.verdict.outcome == c.OUTCOME_TERMINATED
        return terminated or self.stop_signal is not None

    @property
    def succeeded(self) -> bool:
        """Whether all workers of this node succeeded."""
        return self.verdict is not None and self.verdict.outcome == c.OUTCOME_SUCCEEDED
