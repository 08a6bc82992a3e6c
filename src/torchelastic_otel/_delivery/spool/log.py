"""SQLite's write-ahead log: whether it holds more than SQLite would read of it, and how to have that, too.

The log is a header and frames, each a page of the file with a checksum over it and all before it. Where one
bit is wrong SQLite takes that for the end: what was committed behind it is gone without a word. But every
frame says to which log it belongs (two salts) and whether a transaction ends with it; so a log that goes on
behind a frame that is wrong can be told from one that ends there. Its frames, given the checksums that they
then have, make a log that SQLite reads. What the bit itself spoiled is seen by the checksums of the items.

https://www.sqlite.org/fileformat2.html#the_write_ahead_log
"""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

_HEADER, _FRAME = 32, 24
_MAGIC = 0x377F0682  # one more where the words that are summed are big-endian
_FORMAT = 3007000
_PAGE_BYTES = 4096


def log_of(store: Path) -> Path:
    """Return where SQLite has the log of a store."""
    return store.with_name(store.name + "-wal")


def mended(store: Path) -> bytes | None:
    """Return the whole log of a store whose log SQLite would not read to its end; None if it is well."""
    try:
        log = log_of(store).read_bytes()
    except OSError:
        return None
    page_bytes = _page_bytes(store, log)
    step = _FRAME + page_bytes
    starts = range(_HEADER, len(log) - step + 1, step)
    if not starts:
        return None
    header_is_well = _header_is_well(log, page_bytes)
    salts = log[16:24] if header_is_well else log[_HEADER + 8 : _HEADER + 16]
    last = max((start for start in starts if _ends_a_transaction(log, start, salts)), default=-1)
    wrong = _first_wrong(log, page_bytes, starts, salts) if header_is_well else _HEADER
    if last < wrong:
        return None
    return _rebuilt(log, page_bytes, salts, range(_HEADER, last + 1, step))


def _page_bytes(store: Path, log: bytes) -> int:
    """Return the size of a page: as the log says, else as the file says, else what SQLite takes."""
    found = [int.from_bytes(log[8:12], "big")]
    with contextlib.suppress(OSError), store.open("rb") as file:
        found.append(int.from_bytes(file.read(18)[16:18], "big"))
    return next((size for size in found if 512 <= size <= 32768 and size & (size - 1) == 0), _PAGE_BYTES)


def _header_is_well(log: bytes, page_bytes: int) -> bool:
    magic, version, size = struct.unpack(">3I", log[:12])
    return (
        magic & ~1 == _MAGIC
        and version == _FORMAT
        and size == page_bytes
        and struct.pack(">2I", *_sums(log[:24], magic, (0, 0))) == log[24:32]
    )


def _belongs(log: bytes, start: int, salts: bytes) -> bool:
    """Tell whether a frame is of this log, be it that one salt was spoiled: an earlier log had two others."""
    return log[start + 8 : start + 12] == salts[:4] or log[start + 12 : start + 16] == salts[4:]


def _ends_a_transaction(log: bytes, start: int, salts: bytes) -> bool:
    return _belongs(log, start, salts) and log[start + 4 : start + 8] != bytes(4)


def _first_wrong(log: bytes, page_bytes: int, starts: range, salts: bytes) -> int:
    """Return where the first frame is that SQLite does not read."""
    magic = int.from_bytes(log[:4], "big")
    sums: tuple[int, int] = struct.unpack(">2I", log[24:32])
    for start in starts:
        page = start + _FRAME
        sums = _sums(log[start : start + 8] + log[page : page + page_bytes], magic, sums)
        if log[start + 8 : start + 16] != salts or log[start + 16 : page] != struct.pack(">2I", *sums):
            return start
    return starts.stop


def _rebuilt(log: bytes, page_bytes: int, salts: bytes, starts: range) -> bytes:
    """Return a log of these frames, as far as they are of this log."""
    header = struct.pack(">4I", _MAGIC, _FORMAT, page_bytes, 0) + salts
    sums = _sums(header, _MAGIC, (0, 0))
    parts = [header, struct.pack(">2I", *sums)]
    for start in starts:
        if not _belongs(log, start, salts):
            continue
        page = log[start + _FRAME : start + _FRAME + page_bytes]
        sums = _sums(log[start : start + 8] + page, _MAGIC, sums)
        parts += [log[start : start + 8], salts, struct.pack(">2I", *sums), page]
    return b"".join(parts)


def _sums(data: bytes, magic: int, sums: tuple[int, int]) -> tuple[int, int]:
    """Go on with the two sums of SQLite's checksum."""
    words = struct.unpack(f"{'>' if magic & 1 else '<'}{len(data) // 4}I", data)
    one, two = sums
    for place in range(0, len(words), 2):
        one = (one + words[place] + two) & 0xFFFFFFFF
        two = (two + words[place + 1] + one) & 0xFFFFFFFF
    return one, two
