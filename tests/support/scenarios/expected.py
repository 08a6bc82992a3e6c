"""What must be told of a job: of each launcher, its generations, and each worker's death."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

NO_RESTARTS = "no restarts were allowed"


@dataclass(frozen=True, slots=True)
class Death:
    """A worker's death, as ``torchelastic.failure`` is to tell it."""

    local_rank: int
    cause: str = "exit"
    exit_code: int | None = None
    signal: str | None = None
    exception: str | None = None
    message: str | None = None
    error_type: str = ""
    collateral: bool = False
    first: bool | None = None
    """Whether it is its node's first failure; None where several are tied."""


def exited(local_rank: int, code: int = 3, *, first: bool | None = True) -> Death:
    """Ended with an exit code."""
    return Death(local_rank, "exit", code, error_type=str(code), first=first)


def raised(local_rank: int, *, first: bool | None = True) -> Death:
    """Ended by an exception that ``@record`` wrote down."""
    text = "the loss is not a number"
    return Death(local_rank, "exception", 1, None, "ValueError", text, "ValueError", first=first)


def killed(local_rank: int, name: str = "SIGKILL", *, first: bool | None = True) -> Death:
    """Ended by a signal that was not its agent's."""
    return Death(local_rank, "signal", -signal.Signals[name], name, error_type=name, first=first)


def stopped(local_rank: int, name: str = "SIGTERM") -> Death:
    """Stopped by its agent because of another's death."""
    return replace(killed(local_rank, name, first=False), collateral=True)


@dataclass(frozen=True, slots=True)
class Generation:
    """A generation of local workers: how it ended, how each worker ended, who died."""

    outcome: str = "succeeded"
    workers: tuple[str, ...] = ("succeeded", "succeeded")
    deaths: tuple[Death, ...] = ()
    restart: str | None = None
    """Cause of the restart that led to it."""


GOOD = Generation()
ONE_GOOD = Generation("succeeded", ("succeeded",))
TERMINATED = Generation("terminated", ("terminated", "terminated"))
INTERRUPTED = Generation("interrupted", ("interrupted", "interrupted"))
FAILED_BY_EXIT = Generation("failed", ("terminated", "failed"), (exited(1), stopped(0)))


@dataclass(frozen=True, slots=True)
class Expected:
    """What must be told of one launcher."""

    outcome: str = "failed"
    """Of the agent's span; "" where the launcher was killed and cannot send it."""
    generations: tuple[Generation, ...] = (GOOD,)
    rendezvous: tuple[str, ...] = ("succeeded",)
    """How each attempt to join ended."""
    says: tuple[str, ...] = ()
    """What the verdict must say."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """What the agent's span must have."""
    exit_code: int = 1
    node: str = ""
    """Which node it is, for the document."""


WELL = Expected("succeeded", exit_code=0)
"""Two workers, and all goes well."""
ONE_WELL = replace(WELL, generations=(ONE_GOOD,))
"""One worker, and all goes well."""
