"""What earlier processes of this user left on this node: sent to where it was going, in the background.

Only a store that no living process owns is taken, and only what was recorded for the same destination: the
endpoint, its protocol and its headers, which tell tenants apart.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from .._config.environment import Signal
from .._runtime.guard import logger, note_internal_error, say_once
from .._runtime.own_thread import as_own_thread, start_own_thread
from .backoff import Backoff
from .experience import Experience
from .policy import Decision, refused_items
from .spool import Destination, Item, Spool, SpoolError, assemble_readable, fitting, orphans

if TYPE_CHECKING:
    from .answer import Answer
    from .sender import Sender

_MOST_ITEMS = 512
_TIMEOUT_S = 10.0


def _experience() -> Experience[tuple[Path, int]]:
    return Experience(own=False, most=_MOST_ITEMS)


@dataclass(slots=True)
class Way:
    """What is known of where a signal goes, from store to store."""

    backoff: Backoff = field(default_factory=Backoff)
    experience: Experience[tuple[Path, int]] = field(default_factory=_experience)
    """Items have the names of their store and their id."""
    left: bool = False
    """No more of this signal can be sent now."""


@dataclass(slots=True)
class Sent:
    """What became of the items of stores, by signal."""

    delivered: Counter[Signal] = field(default_factory=Counter)
    rejected: Counter[Signal] = field(default_factory=Counter)
    held: Counter[Signal] = field(default_factory=Counter)
    message: str = ""
    """The last error."""
    stopped: bool = False
    """No more of anything can be sent now: what is left is still there."""
    ways: dict[Signal, Way] = field(default_factory=dict)


def batches(spool: Spool, signal: str) -> Iterator[list[Item]]:
    """Yield the pending items of a store, as many at a time as fit into one request."""
    after = 0
    while items := fitting(spool.pending(signal, after, _MOST_ITEMS)):
        yield items
        after = items[-1].id


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return True


def send_store(
    spool: Spool,
    senders: Mapping[Signal, Sender],
    sent: Sent,
    progress: Callable[[int], bool] = lambda count: True,
    timeout_s: float = _TIMEOUT_S,
    pause: Callable[[float], bool] = _sleep,
) -> None:
    """Send what a store holds, in order; what is delivered or refused for good leaves it.

    Args:
        spool: the store, its open spans already truncated.
        senders: by signal; a signal without one is left in the store.
        sent: is added to; one for all stores.
        progress: called with the number of items dealt with; False to stop there.
        timeout_s: for each request, in seconds.
        pause: waits for so many seconds; False to stop there.
    """
    for signal, sender in senders.items():
        way = sent.ways.setdefault(signal, Way())
        if not way.left:
            _StoreOfOne(spool, signal, sender, way, sent, progress, timeout_s, pause).send()
        if sent.stopped:
            return


@dataclass(slots=True)
class _StoreOfOne:
    """A store's items of one signal, on their way."""

    spool: Spool
    signal: Signal
    sender: Sender
    way: Way
    sent: Sent
    progress: Callable[[int], bool]
    timeout_s: float
    pause: Callable[[float], bool]

    def send(self) -> None:
        """Send them as far as that can be done now."""
        after, some_are_later = 0, False
        while not (self.way.left or self.sent.stopped):
            items = self._next(after)
            if items:
                decision = self._send(items)
                if decision is not None and decision.then == "others first":
                    after, some_are_later = items[0].id, True
            elif some_are_later:
                # What failed before is all that is left of it: once more from the start.
                after, some_are_later = 0, False
                if not self.way.experience.no_others():
                    return
                self._wait(self.way.backoff.wait_s(time.monotonic()))
            else:
                return

    def _next(self, after: int) -> list[Item]:
        """Return the items of the next request."""
        items = fitting(self.spool.pending(self.signal, after, self.way.experience.size))
        for number, item in enumerate(items):
            if self.way.experience.is_alone(self._name(item)):
                return items[: max(1, number)]
        return items

    def _name(self, item: Item) -> tuple[Path, int]:
        return self.spool.path, item.id

    def _send(self, items: list[Item]) -> Decision | None:
        request, unreadable = assemble_readable(self.signal, items, self.spool.header)
        if unreadable:
            self.spool.hold([item.id for item in unreadable], "unreadable")
            self.sent.held[self.signal] += len(unreadable)
            self.sent.message = f"{len(unreadable)} in {self.spool.path} could not be read"
            self._did(len(unreadable))
            items = [item for item in items if item not in unreadable]
        if not items or not self._wait(self.way.backoff.wait_s(time.monotonic(), urgent=True)):
            return None
        answer = self.sender.send(request, self.timeout_s)
        decision = self.way.experience.judge(answer, [self._name(item) for item in items], in_memory=False)
        self._act_on(answer, decision, [item.id for item in items])
        return decision

    def _act_on(self, answer: Answer, decision: Decision, ids: list[int]) -> None:
        """Do what the policy says."""
        if decision.then == "go on":
            self.way.backoff.succeeded()
        elif answer.kind == "unreachable":
            self.way.backoff.unreachable(time.monotonic())
        else:
            self.way.backoff.failed(time.monotonic(), answer.retry_after_s)
        if decision.fate != "delivered":
            self.sent.message = answer.message
        if decision.fate == "delivered":
            self.spool.remove(ids)
            refused = refused_items(answer, self.signal, len(ids))
            self.sent.delivered[self.signal] += len(ids) - refused
            self.sent.rejected[self.signal] += refused
        elif decision.fate == "dropped":
            self.spool.remove(ids)
            self.sent.rejected[self.signal] += len(ids)
        elif decision.fate == "held":
            self.spool.hold(ids, answer.message)
            self.sent.held[self.signal] += len(ids)
        if decision.fate in ("delivered", "dropped", "held"):
            self._did(len(ids))
        self.way.left = self.way.left or decision.then == "leave signal"
        self.sent.stopped = self.sent.stopped or decision.then == "stop"

    def _did(self, count: int) -> None:
        if not self.progress(count):
            self.sent.stopped = True

    def _wait(self, seconds: float) -> bool:
        """Wait if there is something to wait for; False if that is cut short."""
        if seconds > 0 and not self.pause(seconds):
            self.sent.stopped = True
            return False
        return True


class Recovery:
    """Sends, once and on a thread of its own, what earlier processes left for the same destinations."""

    def __init__(
        self,
        directory: Path,
        destinations: Mapping[str, Destination],
        senders: Callable[[], Mapping[Signal, Sender]],
        backoffs: Mapping[Signal, Backoff],
    ) -> None:
        self._directory = directory
        self._destinations = destinations
        self._senders = senders
        self._backoffs = backoffs
        self._begun = threading.Lock()
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self.sent = Sent()

    def begin(self) -> None:
        """Begin, unless that was done before; never waits."""
        if self._begun.acquire(blocking=False):
            try:
                start_own_thread("torchelastic-otel-recovery", self._run)
            except RuntimeError:  # the interpreter is ending: the next job does it
                self._ended.set()

    def stop(self, timeout_s: float) -> None:
        """End after the request under way, and wait for that at most ``timeout_s`` seconds."""
        self._stopping.set()
        if self._begun.acquire(blocking=False):
            self._ended.set()  # it never began, and no longer can
        self._ended.wait(timeout_s)

    def _run(self) -> None:
        as_own_thread()
        self.sent.ways.update({signal: Way(backoff) for signal, backoff in self._backoffs.items()})
        senders: Mapping[Signal, Sender] | None = None
        try:
            for spool in orphans(self._directory):
                senders = self._senders() if senders is None else senders
                try:
                    self._recover(spool, senders)
                except SpoolError as error:  # that store's own trouble; the next may be well
                    say_once(f"recovery {spool.path}", f"{error} What is in it stays there.")
                finally:
                    spool.close()
                if self.sent.stopped or self._stopping.is_set():
                    break
        except SpoolError:
            pass  # of the directory itself, which was said when this job could not have its own there
        except Exception as error:
            note_internal_error("sending what earlier jobs left", error)
        finally:
            self._ended.set()
        total = sum(self.sent.delivered.values())
        if total:
            logger.info("%d items that earlier jobs on this node left in the spool were sent.", total)

    def _recover(self, spool: Spool, senders: Mapping[Signal, Sender]) -> None:
        senders = {
            signal: sender
            for signal, sender in senders.items()
            if spool.destinations.get(signal) == self._destinations.get(signal)
        }
        if senders:
            spool.truncate_open_spans()
            send_store(
                spool,
                senders,
                self.sent,
                progress=lambda count: not self._stopping.is_set(),
                pause=lambda seconds: not self._stopping.wait(seconds),
            )
