"""What earlier processes of this user left on this node: sent to where it was going, in the background.

Only a store that no living process owns is taken, and only what was recorded for the same destination: the
endpoint, its protocol and its headers, which tell tenants apart.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from .._config.environment import Signal
from .._runtime.guard import logger, note_internal_error, say_once
from .._runtime.own_thread import as_own_thread
from .policy import Circumstances, decide, refused_items
from .spool import Destination, Item, Spool, SpoolError, assemble_readable, fitting, orphans

if TYPE_CHECKING:
    from .sender import Sender

_MOST_ITEMS = 512
_TIMEOUT_S = 10.0


@dataclass(slots=True)
class Sent:
    """What became of the items of stores, by signal."""

    delivered: Counter[Signal] = field(default_factory=Counter)
    rejected: Counter[Signal] = field(default_factory=Counter)
    held: Counter[Signal] = field(default_factory=Counter)
    message: str = ""
    """The last error."""
    stopped: bool = False
    """The backend could not be reached: what is left is still there."""


def batches(spool: Spool, signal: str) -> Iterator[list[Item]]:
    """Yield the pending items of a store, as many at a time as fit into one request."""
    after = 0
    while items := fitting(spool.pending(signal, after, _MOST_ITEMS)):
        yield items
        after = items[-1].id


def send_store(
    spool: Spool,
    senders: Mapping[Signal, Sender],
    sent: Sent,
    progress: Callable[[int], bool] = lambda count: True,
    timeout_s: float = _TIMEOUT_S,
) -> None:
    """Send what a store holds, in order; what is delivered or refused for good leaves it.

    Args:
        spool: the store, its open spans already truncated.
        senders: by signal; a signal without one is left in the store.
        sent: is added to.
        progress: called with the number of items dealt with; False to stop there.
        timeout_s: for each request, in seconds.
    """
    for signal, sender in senders.items():
        for items in batches(spool, signal):
            if not _send(spool, signal, sender, items, sent, timeout_s):
                break
            if not progress(len(items)):
                sent.stopped = True
                break
        if sent.stopped:
            return


def _send(
    spool: Spool, signal: Signal, sender: Sender, items: list[Item], sent: Sent, timeout_s: float
) -> bool:
    """Send some items; False if no more of this signal can be sent now."""
    request, unreadable = assemble_readable(signal, items, spool.header)
    if unreadable:
        spool.remove([item.id for item in unreadable])
        sent.rejected[signal] += len(unreadable)
        sent.message = f"{len(unreadable)} in {spool.path} could not be read"
        items = [item for item in items if item not in unreadable]
    if not items:
        return True
    answer = sender.send(request, timeout_s)
    ids = [item.id for item in items]
    decision = decide(
        answer,
        Circumstances(
            own=False,
            in_memory=spool.in_memory,
            count=len(items),
            taken_before=sent.delivered[signal] > 0,
        ),
    )
    if decision.fate == "split":
        half = len(items) // 2
        return all(
            _send(spool, signal, sender, part, sent, timeout_s) for part in (items[:half], items[half:])
        )
    if decision.fate == "delivered":
        spool.remove(ids)
        refused = refused_items(answer, signal, len(ids))
        sent.delivered[signal] += len(ids) - refused
        sent.rejected[signal] += refused
    else:
        sent.message = answer.message
    if decision.fate == "dropped":
        spool.remove(ids)
        sent.rejected[signal] += len(ids)
    elif decision.fate == "held":
        spool.hold(ids, answer.message)
        sent.held[signal] += len(ids)
    if decision.then == "stop":
        sent.stopped = True
    return decision.then == "go on"


class Recovery:
    """Sends, once and on a thread of its own, what earlier processes left for the same destinations."""

    def __init__(
        self,
        directory: Path,
        destinations: Mapping[str, Destination],
        senders: Callable[[], Mapping[Signal, Sender]],
    ) -> None:
        self._directory = directory
        self._destinations = destinations
        self._senders = senders
        self._begun = threading.Lock()
        self._stopping = False
        self._ended = threading.Event()
        self.sent = Sent()

    def begin(self) -> None:
        """Begin, unless that was done before; never waits."""
        if self._begun.acquire(blocking=False):
            try:
                threading.Thread(target=self._run, name="torchelastic-otel-recovery", daemon=True).start()
            except RuntimeError:  # the interpreter is ending: the next job does it
                self._ended.set()

    def stop(self, timeout_s: float) -> None:
        """End after the request under way, and wait for that at most ``timeout_s`` seconds."""
        self._stopping = True
        if self._begun.acquire(blocking=False):
            return  # it never began, and no longer can
        self._ended.wait(timeout_s)

    def _run(self) -> None:
        as_own_thread()
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
                if self.sent.stopped or self._stopping:
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
            send_store(spool, senders, self.sent, lambda count: not self._stopping)
