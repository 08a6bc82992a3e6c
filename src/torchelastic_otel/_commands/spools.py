"""What the commands share: which spool is meant, and the stores in it that nobody owns any more."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from .._config.settings import read_settings
from .._delivery.spool import Spool, default_directory, directory_of, orphans


def spool_directory(given: str, environ: Mapping[str, str]) -> Path:
    """Return the spool that is meant: the one given, else the one that jobs with this environment use."""
    setting = given or read_settings(environ, warn).spool_dir
    return directory_of(setting, environ) or default_directory(environ)


def left_stores(directory: Path) -> Iterator[Spool]:
    """Yield the stores of processes that are gone, oldest first; each is given up after its turn.

    What was held is free to be sent again then, and spans left open are closed.
    """
    for spool in orphans(directory):
        try:
            spool.release_held()
            spool.truncate_open_spans()
            yield spool
        finally:
            spool.close()


def warn(text: str) -> None:
    """Say what is wrong with the environment."""
    sys.stderr.write(f"{text}\n")
