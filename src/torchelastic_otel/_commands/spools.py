"""What the commands share: which spool is meant, the stores in it that nobody owns, and what is left."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

from .._config.settings import read_settings
from .._delivery.spool import (
    Closed,
    Spool,
    SpoolError,
    default_directory,
    directory_of,
    orphans,
    stores_in,
)

NOTHING_LEFT, SOMETHING_LEFT, NOT_SEEN = 0, 1, 2
"""Exit statuses: something could not be looked at, or could not even be tried; the highest one counts."""


def spool_directory(given: str, environ: Mapping[str, str]) -> Path:
    """Return the spool that is meant: the one given, else the one that jobs with this environment use."""
    setting = given or read_settings(environ, warn).spool_dir
    return directory_of(setting, environ) or default_directory(environ)


def is_there(directory: Path) -> bool:
    """Tell whether there is a spool; SpoolError if that cannot be told."""
    try:
        os.lstat(directory)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise SpoolError(f"{directory} cannot be looked at ({error.strerror}).") from error
    return True


class Round:
    """A look at each store of a spool that no process owns.

    Args:
        directory: the spool.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._closed: list[Closed] = []
        self._visited: set[Path] = set()

    def visit(self, do: Callable[[Spool], None]) -> None:
        """Open one store after the other, the oldest first, and give it up after its turn.

        What was held is free to be sent again then, and spans left open are closed. A store that is in
        trouble keeps back no other.
        """
        for spool in orphans(self._directory, self._closed):
            self._visited.add(spool.path)
            try:
                spool.release_held()
                spool.truncate_open_spans()
                do(spool)
            except SpoolError as error:
                warn(f"{error} What is left in it stays there.")
                self._closed.append(Closed(spool.path, "unusable", str(error)))
            finally:
                spool.close()

    def tell(self, out: IO[str], *, seen_is_left: bool) -> int:
        """Say what nobody has looked at; return the exit status.

        Args:
            out: where it is said.
            seen_is_left: a store counts as left though it was looked at.
        """
        stores, damaged = stores_in(self._directory)
        in_use = [each for each in self._closed if each.why == "in use"]
        unseen = [each for each in self._closed if each.why not in ("in use", "damaged")]
        if in_use:
            out.write(f"{_stores(len(in_use))} in use: its process runs, or is sending it\n")
        if unseen:
            out.write(
                f"{_stores(len(unseen))} not looked at: if {self._directory} cannot be written, give a copy "
                "of it as --spool\n"
            )
        if damaged:
            out.write(f"{_stores(len(damaged))} damaged, and cannot be read any further: *.damaged\n")
        if unseen or damaged:
            return NOT_SEEN
        left = stores if seen_is_left else [path for path in stores if path not in self._visited]
        return SOMETHING_LEFT if left else NOTHING_LEFT


def _stores(count: int) -> str:
    return "1 store is" if count == 1 else f"{count} stores are"


def warn(text: str) -> None:
    """Say what is wrong with the environment."""
    sys.stderr.write(f"{text}\n")
