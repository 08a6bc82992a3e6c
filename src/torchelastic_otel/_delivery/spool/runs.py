"""What a store has, without reading it: which items are left, how large each is, and who waits for whom.

Items that are added together are one run: one row of the store, written by one statement. For each statement,
and each row that is read, SQLite gives the interpreter away and waits until the program's threads give it
back.
"""

from __future__ import annotations

import struct
import zlib
from bisect import bisect_right, insort
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

MOST_BYTES = 1 << 20
"""Of a run, unless one item alone has more."""


@dataclass(slots=True, eq=False)
class Run:
    """Items with ids that follow each other; which of them are gone, and which are held."""

    first: int
    """Id of the first one."""
    signal: str
    scope_id: int
    sizes: Sequence[int]
    """Bytes of each item."""
    payloads: list[bytes] | None = None
    """The items themselves, where memory has them, too."""
    gone: set[int] = field(default_factory=set)
    held: dict[int, str] = field(default_factory=dict)
    """Why, by id."""

    @property
    def end(self) -> int:
        """The id after the last one."""
        return self.first + len(self.sizes)

    @property
    def ids(self) -> list[int]:
        """Those that are left."""
        numbers = range(self.first, self.end)
        return [number for number in numbers if number not in self.gone] if self.gone else list(numbers)

    @property
    def left(self) -> int:
        """How many are left."""
        return len(self.sizes) - len(self.gone)

    @property
    def size(self) -> int:
        """Bytes of the items that are left."""
        return sum(self.sizes) - sum(self.sizes[number - self.first] for number in self.gone)

    def remove(self, ids: Iterable[int]) -> int:
        """Take items that are left out of it; return how many bytes they had."""
        size = self.size
        self.gone.update(ids)
        for number in ids:
            self.held.pop(number, None)
            if self.payloads is not None:
                self.payloads[number - self.first] = b""
        return size - self.size


class Runs:
    """The runs of a store, in order of their ids."""

    def __init__(self) -> None:
        self._runs: dict[int, Run] = {}
        self._firsts: list[int] = []  # in order; may have some that are gone
        self.bytes = 0
        """Of all items that are left."""

    def __iter__(self) -> Iterator[Run]:
        for first in list(self._firsts):
            run = self._runs.get(first)
            if run is not None:
                yield run

    def add(self, run: Run) -> None:
        """Take in a run."""
        self._runs[run.first] = run
        insort(self._firsts, run.first)
        self.bytes += run.size

    def remove(self, run: Run, ids: Iterable[int]) -> int:
        """Forget items of a run, which may be all; return how many bytes they had."""
        freed = run.remove(ids)
        self.bytes -= freed
        if not run.left:
            self.discard(run)
        return freed

    def discard(self, run: Run) -> None:
        """Forget a run, with all that is left of it."""
        if self._runs.pop(run.first, None) is None:
            return
        self.bytes -= run.size
        if len(self._firsts) > 2 * len(self._runs) + 64:
            self._firsts = [first for first in self._firsts if first in self._runs]

    def find(self, number: int) -> Run | None:
        """Return the run that has the item; None if it is gone."""
        place = bisect_right(self._firsts, number) - 1
        run = self._runs.get(self._firsts[place]) if place >= 0 else None
        return run if run is not None and number < run.end and number not in run.gone else None

    def after(self, number: int) -> Iterator[Run]:
        """Yield the runs that may have items with higher ids than ``number``."""
        place = max(0, bisect_right(self._firsts, number) - 1)
        for first in self._firsts[place:]:
            run = self._runs.get(first)
            if run is not None and run.end > number:
                yield run

    def of(self, ids: Iterable[int]) -> dict[int, tuple[Run, list[int]]]:
        """Return the runs of items, by their first id, with those of ``ids`` that are left in each."""
        found: dict[int, tuple[Run, list[int]]] = {}
        for number in ids:
            run = self.find(number)
            if run is not None:
                found.setdefault(run.first, (run, []))[1].append(number)
        return found

    def counts(self) -> Counter[str]:
        """Return how many items are left, by signal."""
        found: Counter[str] = Counter()
        for run in self._runs.values():
            found[run.signal] += run.left
        return found

    def oldest_beyond(self, most_bytes: int, without: Sequence[Run] = ()) -> list[Run]:
        """Return the oldest runs that are too many for ``most_bytes``, once those of ``without`` are gone."""
        excess = self.bytes - sum(run.size for run in without) - most_bytes
        found: list[Run] = []
        for run in self:
            if excess <= 0:
                break
            if run not in without:
                found.append(run)
                excess -= run.size
        return found


def spans(ids: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and last of ids that follow each other."""
    numbers = sorted(ids)
    start = 0
    for place in range(1, len(numbers) + 1):
        if place == len(numbers) or numbers[place] != numbers[place - 1] + 1:
            yield numbers[start], numbers[place - 1]
            start = place


def cut(payloads: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Cut payloads into what can be a run each."""
    start = size = 0
    for place, payload in enumerate(payloads):
        if place > start and size + len(payload) > MOST_BYTES:
            yield payloads[start:place]
            start, size = place, 0
        size += len(payload)
    if start < len(payloads):
        yield payloads[start:]


# How a run is written: the items one after the other, and a frame with the size and a checksum of each. A bad
# disk then costs the item that it spoiled and not its neighbours, and never tells something that nobody said.


def frames_of(run: Run, payloads: Sequence[bytes]) -> bytes:
    """Return the sizes and checksums of a run's items, as they are kept beside them."""
    seed = _seed(run.first, run.signal, run.scope_id)
    checksums = [zlib.crc32(payload, seed) for payload in payloads]
    return struct.pack(f"<{2 * len(payloads)}I", *run.sizes, *checksums)


def sizes_of(frames: bytes, length: int) -> Sequence[int]:
    """Return the sizes of a run's items.

    Args:
        frames: from ``frames_of``, or what a bad disk made of it.
        length: bytes of all items. Where the sizes do not add up to it nobody can tell the items apart, but
            how many they were is still known.
    """
    count = max(1, len(frames) // 8)
    if len(frames) == 8 * count:
        sizes = struct.unpack(f"<{2 * count}I", frames)[:count]
        if sum(sizes) == length:
            return sizes
    return (length, *[0] * (count - 1))


def payloads_of(run: Run, frames: bytes, data: bytes) -> list[bytes | None]:
    """Return a run's items; None for each that is not what was written."""
    if len(frames) != 8 * len(run.sizes) or sum(run.sizes) != len(data):
        return [None] * len(run.sizes)
    checksums = struct.unpack(f"<{2 * len(run.sizes)}I", frames)[len(run.sizes) :]
    seed = _seed(run.first, run.signal, run.scope_id)
    found: list[bytes | None] = []
    start = 0
    for size, checksum in zip(run.sizes, checksums, strict=True):
        payload = data[start : start + size]
        found.append(payload if zlib.crc32(payload, seed) == checksum else None)
        start += size
    return found


def _seed(first: int, signal: str, scope_id: int) -> int:
    """Return what ties items to their run: its own row can be spoiled, too."""
    return zlib.crc32(f"{first} {signal} {scope_id}".encode())


def checksum(*parts: str | int | bytes) -> int:
    """Return a checksum of values of a row."""
    found = 0
    for part in parts:
        data = part if isinstance(part, bytes) else f"{part} ".encode()
        found = zlib.crc32(data, found)
    return found
