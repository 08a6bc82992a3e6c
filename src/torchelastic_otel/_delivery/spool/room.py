"""The bound of the spool's directory: what has to go for all stores together to be within it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from ..._runtime.guard import say_once
from . import files
from .orphans import Closed, adopt


def make_room(directory: Path, max_bytes: int) -> Counter[str]:
    """Delete stores that no living process owns while the directory is beyond its bound, the oldest first.

    Damaged ones go before the others. Those of newer versions stay, and do not count.

    Args:
        directory: made if it is not there; refused if others could put files there.
        max_bytes: bound of all files in it.

    Returns:
        How many items are lost, by signal.

    """
    files.prepare_directory(directory)
    room = _Room(directory, max_bytes)
    for path in files.stores(directory, (files.STORE + files.DAMAGED,)):
        if room.is_there():
            break
        room.delete_damaged(path)
    for path in files.stores(directory):
        if room.is_there():
            break
        room.delete(path)
    room.tell()
    return room.lost


class _Room:
    """What has to go for a directory to be within its bound."""

    def __init__(self, directory: Path, max_bytes: int) -> None:
        self._directory, self._max_bytes = directory, max_bytes
        self._foreign_bytes = self._stores = self._damaged = 0
        self.lost: Counter[str] = Counter()

    def is_there(self) -> bool:
        """Tell whether there is enough."""
        paths = files.stores(self._directory, (files.STORE, files.STORE + files.DAMAGED))
        return sum(map(files.size, paths)) - self._foreign_bytes <= self._max_bytes

    def delete(self, path: Path) -> None:
        """Delete what no living process has and this version can read; count what is in it."""
        closed: list[Closed] = []
        size = files.size(path)
        spool = adopt(path, closed)
        if spool is not None:
            self._stores += 1
            counts = spool.counts()
            self.lost.update(counts)
            self.lost.update(["traces"] * (spool.left() - sum(counts.values())))  # those that never ended
            spool.discard()
        if any(each.why == "foreign" for each in closed):
            self._foreign_bytes += size
        elif files.is_there(files.aside(path)):
            self.delete_damaged(files.aside(path))

    def delete_damaged(self, path: Path) -> None:
        """Delete what nothing can be read of."""
        self._damaged += 1
        files.delete(path)

    def tell(self) -> None:
        """Say what is lost."""
        lost = []
        if self._stores:
            lost.append(f"{self.lost.total()} items that {self._stores} earlier processes could not deliver")
        if self._damaged:
            lost.append(f"{self._damaged} damaged stores")
        if lost:
            say_once(
                f"spool room {self._directory}",
                f"The spool's directory {self._directory} was beyond its bound of {self._max_bytes} bytes: "
                f"{' and '.join(lost)} are lost.",
            )
