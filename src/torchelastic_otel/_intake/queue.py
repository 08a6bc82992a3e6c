"""The queue between the host's threads and the bridge's own.

The host's side is one ``put`` of a queue in C, which is atomic and re-entrant, so that a signal that the
host turns into an exception between any two instructions leaves everything usable.
"""

from __future__ import annotations

import contextlib
import queue
from typing import TypeVar

from .messages import AgentFact, Flush, Message, Question, size_of

MOST_QUEUED = 100_000
"""Messages that wait for the bridge's thread at most; what is recorded beyond it is dropped and counted."""

MOST_BYTES = 64 << 20
"""Bytes of text in them at most, likewise."""

MOST_QUIET = 1_000
"""Messages beyond which quiet ones are left out, and counted."""

_LINGER_S = 0.02
_MOST_LINGERS = 4

T = TypeVar("T")


class MessageQueue:
    """Messages in the order in which they came, within bounds; every drop is counted."""

    def __init__(self) -> None:
        self._messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._awaited: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._urgent: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._bytes = 0
        self.dropped = {"logs": 0, "metrics": 0}
        """How much was dropped here so far, by signal."""

    def __len__(self) -> int:
        """Return how many messages wait."""
        return self._messages.qsize()

    # The host's side

    def put(self, message: Message, *, wakes: bool = True, urgent: bool = False, quiet: bool = False) -> bool:
        """Append a message, without blocking; False if it was dropped.

        Args:
            message: what happened; what the agent did and who asks or flushes is dropped only if ``quiet``.
            wakes: the bridge's thread is to take it now; else with the next one that does, or its next tick.
            urgent: somebody waits: the thread does not linger for more to come.
            quiet: it is left out while much is waiting.
        """
        if quiet:
            if len(self) >= MOST_QUIET:
                self.dropped["metrics"] += 1  # somebody is in trouble: what is queued says more
                return False
        elif not isinstance(message, (AgentFact, Question, Flush)):
            size = size_of(message)
            if len(self) >= MOST_QUEUED or self._bytes + size > MOST_BYTES:
                self.dropped["logs"] += 1
                return False
            self._bytes += size
        self._messages.put(message)
        # The thread empties this before it takes messages: an entry still there wakes it for this one, too.
        # Should a signal's exception come in between, the message waits for the next tick.
        if wakes and self._awaited.empty():
            self._awaited.put(None)
        if urgent:
            self._urgent.put(None)
        return True

    # The bridge's side

    def wait(self, timeout_s: float) -> bool:
        """Wait for a message that wakes; False if none came within ``timeout_s`` seconds."""
        try:
            self._awaited.get(timeout=timeout_s)
        except queue.Empty:
            return False
        _drain(self._awaited)
        return True

    def linger(self) -> None:
        """Let the agent finish what it is doing: its events come in bursts, and it is in a hurry."""
        for _ in range(_MOST_LINGERS):
            queued = len(self)
            try:
                self._urgent.get(timeout=_LINGER_S)
                break
            except queue.Empty:
                if len(self) == queued:
                    break
        _drain(self._urgent)

    def take(self) -> Message | None:
        """Return the next message; None if there is none."""
        try:
            message = self._messages.get_nowait()
        except queue.Empty:
            self._bytes = 0
            return None
        if not isinstance(message, (AgentFact, Question, Flush)):
            self._bytes = max(0, self._bytes - size_of(message))
        return message

    def clear(self) -> None:
        """Forget all that waits."""
        _drain(self._messages)


def _drain(queued: queue.SimpleQueue[T]) -> None:
    with contextlib.suppress(queue.Empty):
        while True:
            queued.get_nowait()
