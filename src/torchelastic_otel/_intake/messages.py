"""What is queued on the host's threads and taken on the bridge's own.

A message is made in one go and never changed: what the host does next does not reach it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

    from .._job.engine import Engine
    from .._job.facts import Fact
    from .._runtime.clock import Moment

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LoggedText:
    """What a logging handler was given: an event as JSON, or any other text.

    ``span`` is the recording program's own.
    """

    text: str
    recorded: Moment
    thread: str | None
    span: SpanContext | None


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """An event by its fields, of whatever types they are: the program may have put in anything."""

    name: object
    source: object
    timestamp: object
    metadata: object
    recorded: Moment
    span: SpanContext | None


@dataclass(frozen=True, slots=True)
class RecordedRendezvousEvent:
    """A rendezvous event by its fields, likewise."""

    fields: Mapping[str, object]
    recorded: Moment
    thread: str | None


@dataclass(frozen=True, slots=True)
class AgentFact:
    """What the agent did."""

    fact: Fact


class Answer(Generic[T]):
    """What a host's thread waits for, with a bound."""

    __slots__ = ("_given", "_value")

    def __init__(self) -> None:
        self._value: T | None = None
        # A bare lock: waiting on it is one interruptible call, releasing it one instruction.
        self._given = threading.Lock()
        self._given.acquire()

    def give(self, make: Callable[[], T]) -> None:
        """Answer with what ``make`` returns, with None if it raises: nobody is left waiting."""
        try:
            self._value = make()
        finally:
            self._given.release()

    def wait(self, timeout_s: float) -> T | None:
        """Return the answer; None if there is none within ``timeout_s`` seconds."""
        return self._value if self._given.acquire(timeout=max(0.0, timeout_s)) else None


@dataclass(frozen=True, slots=True)
class Question:
    """A host's thread asks; ``answer`` answers it, on the bridge's thread."""

    answer: Callable[[Engine], None]


@dataclass(frozen=True, slots=True)
class Flush:
    """A host's thread wants all that was queued before to be sent by ``deadline`` (monotonic, seconds).

    ``ending`` ends all jobs first: the process is about to end.
    """

    deadline: float
    ending: bool
    answer: Answer[bool]


Recorded = LoggedText | RecordedEvent | RecordedRendezvousEvent
"""What a program recorded."""

Message = Recorded | AgentFact | Question | Flush


def size_of(message: Recorded) -> int:
    """Return about how much memory a message's texts take, in bytes."""
    if isinstance(message, LoggedText):
        return len(message.text)
    values = message.metadata if isinstance(message, RecordedEvent) else message.fields
    if not isinstance(values, dict):
        return 0
    return sum(len(value) for value in values.values() if type(value) is str)


def fields_of(event: RecordedEvent) -> tuple[object, object, object, object]:
    """Return the fields of an event, in the order of torch's."""
    return (event.name, event.source, event.timestamp, event.metadata)


def shown(message: Recorded | AgentFact) -> str:
    """Return a message as text, for the record of one that cannot be read otherwise."""
    if isinstance(message, LoggedText):
        return message.text
    if isinstance(message, RecordedEvent):
        fields: object = fields_of(message)
    else:
        fields = message.fields if isinstance(message, RecordedRendezvousEvent) else message.fact
    return repr(fields)[:4096]
