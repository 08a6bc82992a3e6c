"""The items of a store: what is known of them in memory, and the file that outlives the process.

For one thread at a time: ``Spool`` says whose it is.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..encoding import truncated
from . import tables
from .files import UnreadableError
from .items import Destination, Item
from .reading import read_tables
from .runs import Run, Runs, cut, payloads_of
from .sqlite import DamagedError, Database, Statement
from .tables import OpenSpan

_MOST_CACHED = 4 << 20
"""Bytes of items that memory has beside the disk: what is sent soon is not read again."""
_NO_SCOPE = 0
UNREADABLE = "it cannot be read: a disk or a power failure spoiled it"


@dataclass(frozen=True, slots=True)
class Held:
    """How many items of a signal wait for somebody to act, and why."""

    signal: str
    why: str
    count: int


class Store:
    """Items, their headers, and spans that have begun.

    Args:
        path: of the file, for messages.
        database: the file; None to have all of it in memory alone.
        max_bytes: bound of the items' bytes.
        destinations: where each signal is to go.
    """

    def __init__(
        self, path: Path, database: Database | None, max_bytes: int, destinations: Mapping[str, Destination]
    ) -> None:
        self.path = path
        self.database = database
        self.destinations = dict(destinations)
        self.drops: Counter[str] = Counter()
        self.damage = ""
        self.max_bytes = max_bytes
        self._scopes: dict[int, tuple[str, bytes]] = {}
        self._scope_ids: dict[tuple[str, bytes], int] = {}
        self._runs = Runs()
        self._open_spans: dict[str, OpenSpan] = {}
        self._cached = self._last_ns = 0
        self._next_id = 1
        self._unwritten: list[Statement] = []  # what has become of items, where the disk has not taken it yet

    def read(self) -> None:
        """Read what an earlier process left in the file."""
        assert self.database is not None  # noqa: S101 - that is where it left it
        found = read_tables(self.database)
        if found is None:  # its process died at once
            tables.make_tables(self.database, 0, {})
            return
        self.max_bytes, self._last_ns, self.damage = found.max_bytes, found.last_ns, found.damage
        self.destinations = found.destinations
        self.drops[""] = found.dropped
        for number, scope in found.scopes.items():
            self._scopes[number], self._scope_ids[scope] = scope, number
        for run in found.runs:
            if run.left:
                self._runs.add(run)
            self._next_id = max(self._next_id, run.end)
        self._open_spans = found.open_spans

    @property
    def left(self) -> int:
        """How many items and open spans there are."""
        return sum(self._runs.counts().values()) + len(self._open_spans)

    # What is recorded

    def scope(self, signal: str, header: bytes) -> int:
        """Return the id of a header, the same for the same bytes."""
        number = self._scope_ids.get((signal, header))
        if number is None:
            number = max(self._scopes, default=0) + 1
            self._change([tables.add_scope(number, signal, header)])
            self._scopes[number] = (signal, header)
            self._scope_ids[signal, header] = number
        return number

    def add(
        self, signal: str, scope_id: int, payloads: Sequence[bytes], last_ns: int, ended: Sequence[str]
    ) -> list[int]:
        """Keep items; return their ids."""
        ended = [span_id for span_id in ended if span_id in self._open_spans]
        forget = (tables.FORGET_OPEN_SPAN, [(span_id,) for span_id in ended])
        ids = self._add(signal, scope_id, payloads, last_ns, [forget])
        for span_id in ended:
            del self._open_spans[span_id]
        return ids

    def replace_metrics(self, payload: bytes) -> int:
        """Keep a request in place of the one before it; return its id."""
        old = [run for run in self._runs if run.signal == "metrics"]
        return self._add("metrics", 0, [payload], 0, tables.remove_runs(old), old)[0]

    def _add(
        self,
        signal: str,
        scope_id: int,
        payloads: Sequence[bytes],
        last_ns: int,
        statements: Sequence[Statement],
        removed: Sequence[Run] = (),
    ) -> list[int]:
        """Write items with other statements; ``removed`` are the runs that those remove."""
        number = self._next_id
        first = number + self._too_many(payloads)
        new = _cut(first, signal, scope_id, payloads[first - number :])
        oldest = self._runs.oldest_beyond(self.max_bytes - sum(run.size for run, _ in new), removed)
        drops = Counter([signal] * (first - number))
        for run in oldest:
            drops[run.signal] += run.left
        lost = drops.total()
        self._change(
            [
                *statements,
                *tables.remove_runs(oldest),
                tables.add_runs(new, last_ns),
                *([tables.set_dropped(self.drops.total() + lost)] if lost else []),
            ]
        )
        for run in (*removed, *oldest):
            self._forget(run)
        for run, kept in new:
            self._take_in(run, kept)
        self.drops.update(drops)
        self._last_ns = max(self._last_ns, last_ns)
        self._next_id = number + len(payloads)
        return list(range(number, self._next_id))

    def _too_many(self, payloads: Sequence[bytes]) -> int:
        """Return how many of the first of these are too many for the bound, though all else went."""
        size = sum(map(len, payloads))
        for number, payload in enumerate(payloads):
            if size <= self.max_bytes:
                return number
            size -= len(payload)
        return len(payloads)

    def _change(self, statements: Sequence[Statement]) -> None:
        if self.database is not None:
            with self._noting_damage():
                self.database.change(statements)

    @contextlib.contextmanager
    def _noting_damage(self) -> Iterator[None]:
        try:
            yield
        except DamagedError as error:
            self.damage = self.damage or str(error)
            raise

    def _take_in(self, run: Run, payloads: Sequence[bytes]) -> None:
        self._runs.add(run)
        if self.database is None or self._cached + run.size <= _MOST_CACHED:
            run.payloads = list(payloads)
            self._cached += run.size

    def _forget(self, run: Run) -> None:
        self._runs.discard(run)
        if run.payloads is not None:
            self._cached -= run.size
            run.payloads = None

    # Spans that have not ended

    def keep_open_span(self, span_id: str, scope_id: int, payload: bytes) -> None:
        """Keep a span that has begun, in place of what was known of it."""
        span = {span_id: OpenSpan(scope_id, payload)}
        self._change([tables.add_open_spans(span)])
        self._open_spans.update(span)

    def forget_open_spans(self, span_ids: Sequence[str]) -> None:
        """Forget spans that have ended."""
        known = [span_id for span_id in span_ids if span_id in self._open_spans]
        self._change([(tables.FORGET_OPEN_SPAN, [(span_id,) for span_id in known])])
        for span_id in known:
            del self._open_spans[span_id]

    def truncate_open_spans(self) -> int:
        """Make an item of each span that never ended; return how many. What a bad disk spoiled is held."""
        new: list[tuple[Run, Sequence[bytes]]] = []
        number, spoiled = self._next_id, []
        for span in self._open_spans.values():
            ended = truncated(span.payload, self._last_ns) if span.sound else None
            if ended is None:
                spoiled.append(number)
            new += _cut(number, "traces", span.scope_id, [ended or span.payload])
            number += 1
        marks = [tables.mark_items([each], UNREADABLE) for each in spoiled]
        if new:
            self._change([tables.add_runs(new), *marks, (tables.FORGET_OPEN_SPANS, [()])])
        for run, payloads in new:
            run.held = dict.fromkeys(set(spoiled) & set(run.ids), UNREADABLE)
            self._take_in(run, payloads)
        self._next_id = number
        self._open_spans = {}
        return len(new) - len(spoiled)

    # What is sent

    def header(self, scope_id: int) -> bytes:
        """Return the header of that id; UnreadableError if it is not there as it was written."""
        if scope_id not in self._scopes:
            raise UnreadableError(f"{self.path} has no scope {scope_id}.")
        return self._scopes[scope_id][1]

    def pending(self, signal: str, after_id: int, limit: int) -> list[int]:
        """Return the ids of the oldest items after ``after_id`` that are not held, at most ``limit``."""
        ids: list[int] = []
        for run in self._runs.after(after_id):
            if len(ids) >= limit:
                break
            if run.signal == signal:
                ids += [number for number in run.ids if number > after_id and number not in run.held]
        return ids[:limit]

    def load(self, ids: Sequence[int]) -> list[Item]:
        """Return the items that are still there, in order."""
        found = self._runs.of(ids)
        read = self._read_payloads([run for run, _ in found.values() if run.payloads is None])
        items = {}
        for first, (run, numbers) in found.items():
            payloads: Sequence[bytes | None] = read[first] if run.payloads is None else run.payloads
            for number in numbers:
                payload = payloads[number - first]
                items[number] = Item(number, run.signal, run.scope_id, payload or b"", payload is None)
        return [items[number] for number in ids if number in items]

    def _read_payloads(self, runs: Sequence[Run]) -> dict[int, list[bytes | None]]:
        """Return the items of runs, None for those that a bad disk spoiled."""
        if self.database is None or not runs:
            return {}
        rows: dict[int, tuple[bytes, bytes]] = {}
        try:
            with self._noting_damage():
                rows = tables.read_runs(self.database, runs)
        except DamagedError:
            for run in runs:  # one by one: a part of the file may be well
                with contextlib.suppress(DamagedError):
                    rows.update(tables.read_runs(self.database, [run]))
        return {run.first: payloads_of(run, *rows.get(run.first, (b"", b""))) for run in runs}

    def has(self, number: int) -> bool:
        """Tell whether an item is still there."""
        return self._runs.find(number) is not None

    def waiting(self, signal: str) -> int:
        """Return how many items of a signal are not held."""
        return sum(run.left - len(run.held) for run in self._runs if run.signal == signal)

    def counts(self) -> dict[str, int]:
        """Return how many items there are, by signal."""
        return dict(self._runs.counts())

    # What became of it

    def remove(self, ids: Sequence[int]) -> int:
        """Forget items; return how many were there."""
        statements, finished, count = list(self._unwritten), [], 0
        for run, numbers in self._runs.of(ids).values():
            count += len(set(numbers))
            freed = self._runs.remove(run, numbers)
            self._cached -= freed if run.payloads is not None else 0
            if run.left:
                statements.append(tables.mark_items(numbers, None))
            else:
                finished.append(run)
        self._write_fate([*statements, *tables.remove_runs(finished)])
        return count

    def hold(self, ids: Sequence[int], why: str) -> None:
        """Keep items without sending them."""
        statements = list(self._unwritten)
        for run, numbers in self._runs.of(ids).values():
            run.held.update(dict.fromkeys(numbers, why))
            statements.append(tables.mark_items(numbers, why))
        self._write_fate(statements)

    def _write_fate(self, statements: list[Statement]) -> None:
        """Write what has become of items, with the next ones if the disk refuses."""
        self._unwritten = statements
        with contextlib.suppress(DamagedError):  # this process knows it, and sets the file aside in the end
            self._change(statements)
        self._unwritten = []

    def held(self) -> list[Held]:
        """Return how many items are held, by signal and reason."""
        counts = Counter((run.signal, why) for run in self._runs for why in run.held.values())
        return [Held(signal, why, count) for (signal, why), count in counts.items()]

    def release_held(self) -> None:
        """Make all held items pending again."""
        held = [run for run in self._runs if run.held]
        if held:
            self._change([(tables.RELEASE_HELD, [()])])
        for run in held:
            run.held = {}

    # Another file

    def move_to(self, disk: Store) -> None:
        """Write all that is in memory to the empty store ``disk``, and be in its file from now on."""
        runs = list(self._runs)
        for run in runs:
            run.sizes = [len(payload) for payload in run.payloads or []]  # nothing of what is gone
        disk._change(
            [
                *(tables.add_scope(number, *scope) for number, scope in self._scopes.items()),
                tables.add_runs([(run, run.payloads or []) for run in runs], self._last_ns),
                *(tables.mark_items(sorted(run.gone), None) for run in runs),
                *(tables.mark_items([number], why) for run in runs for number, why in run.held.items()),
                tables.add_open_spans(self._open_spans),
                tables.set_dropped(self.drops.total()),
            ]
        )
        self.drops.update(disk.drops)
        self.path, self.database, self.destinations = disk.path, disk.database, disk.destinations
        self.max_bytes = disk.max_bytes
        for run in runs:
            if self._cached > _MOST_CACHED:
                self._cached -= run.size
                run.payloads = None

    def rescue_to(self, disk: Store) -> int:
        """Write to ``disk`` what can be read of all that is left; return how many items cannot."""
        spoiled = 0
        scopes = {number: disk.scope(*scope) for number, scope in self._scopes.items()}
        for run in self._runs:
            items = self.load(run.ids)
            whole = [item for item in items if not item.spoiled]
            spoiled += len(items) - len(whole)
            if whole:
                scope_id = scopes.get(run.scope_id, _NO_SCOPE)
                ids = disk.add(run.signal, scope_id, [item.payload for item in whole], self._last_ns, ())
                for number, item in zip(ids, whole, strict=True):
                    if item.id in run.held:
                        disk.hold([number], run.held[item.id])
        for span_id, span in self._open_spans.items():
            if span.sound:
                disk.keep_open_span(span_id, scopes.get(span.scope_id, _NO_SCOPE), span.payload)
            else:
                spoiled += 1
        return spoiled


def _cut(
    first: int, signal: str, scope_id: int, payloads: Sequence[bytes]
) -> list[tuple[Run, Sequence[bytes]]]:
    """Make runs of items, the first of which has the id ``first``."""
    found: list[tuple[Run, Sequence[bytes]]] = []
    for part in cut(payloads):
        found.append((Run(first, signal, scope_id, [len(payload) for payload in part]), part))
        first += len(part)
    return found
