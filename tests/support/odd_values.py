"""Values and texts that nobody expects: for tests of what they cost."""

from __future__ import annotations

import enum
import json

from hypothesis import strategies as st

from tests.support.job_player import Player
from torchelastic_otel._job import facts as f
from torchelastic_otel._values import MAX_TEXT

ODD = "\udcff\ud800 \0"
"""A text that is not UTF-8."""

NO_EVENTS = [
    "",
    "plain words",
    "[1, 2]",
    "null",
    "7",
    '{"a": 1}',
    '{"metadata": {}}',
    '{"node_state": "RUNNING"}',
    '{"name": "x", "source": "AGENT", "metadata": {}',
    '{"name": "x", "source": "AGENT", "metadata": {}} and more',
    "[" * 100_000,
    '{"metadata":' * 50_000,
    "\ud800",
    "x" * (MAX_TEXT + 1),
]
"""Texts that reach a logging handler and are no event."""


class Level(enum.IntEnum):
    """An int that is none exactly."""

    HIGH = 3


class Name(str):
    """A text that is none exactly, and lies about it."""

    __slots__ = ()

    def __str__(self) -> str:
        return "another text"


class Real(float):
    """A float that is none exactly, like numpy's."""

    __slots__ = ()


class Odd(int):
    """An int that cannot be had."""

    def __int__(self) -> int:
        raise ValueError("no number")

    def __repr__(self) -> str:
        return "Odd()"


class Mute:
    """Its text cannot be had; what tests print of it can."""

    def __str__(self) -> str:
        raise ValueError("no text")

    def __repr__(self) -> str:
        return "Mute()"


short = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
int64 = st.integers(-(1 << 63), (1 << 63) - 1)
scalars = st.booleans() | int64 | st.floats(allow_nan=False, allow_infinity=False) | short
"""Values that OTLP carries as they are."""

anything = st.text(st.characters(exclude_categories=()))
"""Any text, lone surrogates included."""

nested = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | anything
    | st.binary()
    | st.sampled_from([Mute(), object(), Level.HIGH, Odd(7), Real(0.5), Name("n")]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(anything | st.integers() | st.tuples(anything), inner, max_size=4)
    ),
    max_leaves=10,
)
"""Any value of Python's."""

jsonable = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | anything,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(anything, inner, max_size=4),
    max_leaves=10,
)
"""Any value that JSON has a form for."""


def odd_facts(job: Player) -> None:
    """Play a job whose file names, arguments and messages are not UTF-8."""
    job.start(0, run_id=f"r{ODD}", backend=ODD, role=ODD, entry_point=ODD)
    job.tell(f.AgentCreated, 0, ODD, 3, 2, ODD)
    job.attempt(0)
    view = f.RendezvousView(0, [ODD], [ODD], 1, 1, 60.0)
    job.tell(f.RendezvousEnded, 1, rank=0, world_size=1, view=view)
    job.workers(2)
    error = f.WorkerError(ODD, json.dumps({"message": f"E: {ODD}"}), 1)
    job.tell(f.WorkersExited, 3, [job.exit(0, 1, stdout=ODD, stderr=ODD, error=error)])
    job.tell(f.WorkersStopped, 4, [job.exit(1, -15, stdout=ODD)])
    job.tell(f.RestartStarted, 4, "HEALTHY", [ODD])
    job.tell(f.Operation, 4, ODD, 1.0, ODD)
    job.attempt(5)
    job.tell(f.RendezvousEnded, 6, f.Raised(ODD, ODD, ODD), view=view)
    job.end(7, "", f.Raised(ODD, ODD, ODD))
    job.settle()


def odd_events(job: Player) -> None:
    """Play a job of which only events are heard, with texts of that kind."""
    job.run_id = f"r{ODD}"
    job.asks(0)
    job.joined(1)
    job.worker_event(2, "START", 0, role=ODD, hostname=ODD)
    job.worker_event(3, "FAILED", 0, 1, raw_error=json.dumps({"message": f"E: {ODD}"}))
    job.event(4, "FAILED", raw_error=f"Traceback (most recent call last):\nE: {ODD}\n")
    job.settle()
