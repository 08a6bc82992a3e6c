"""Stores that no living process owns: to be sent, set aside, or deleted where there is no room for them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ..._runtime.guard import say_once
from . import files
from .files import SpoolError, StoreLock
from .spool import Spool
from .sqlite import DamagedError


def orphans(directory: Path) -> Iterator[Spool]:
    """Yield the stores in ``directory`` that no living process owns, opened, oldest first.

    Those that another process takes meanwhile are left to it, empty ones deleted, damaged ones renamed to
    ``*.damaged`` with a warning.
    """
    if not os.path.lexists(directory):
        return
    files.check_directory(directory)
    files.remove_lone_locks(directory)
    for path in files.stores(directory):
        spool = _adopt(path)
        if spool is not None:
            yield spool


def _adopt(path: Path) -> Spool | None:
    """Open the store of a dead process; None if it has an owner, nothing is in it, or it cannot be read."""
    try:
        owner = StoreLock.take(path)
        if owner is None:
            return None
        try:
            if not os.path.lexists(path):  # somebody has delivered it meanwhile
                owner.release(remove=True)
                return None
            spool = Spool.open_owned(path, owner)
        except DamagedError as error:
            _set_aside(path, error)
            owner.release(remove=True)
            return None
        except BaseException:
            owner.release()
            raise
        if spool.left():
            return spool
        spool.close()
    except SpoolError as error:
        say_once(f"spool {path}", f"{error} What is in it is not sent.")
    return None


def _set_aside(path: Path, error: SpoolError) -> None:
    try:
        what = f"It is now {files.set_aside(path)}, and"
    except OSError as refusal:
        what = f"It cannot be renamed ({files.reason(refusal)}), and"
    say_once(f"spool {path}", f"{error} {what} what is in it is not sent.")


def make_room(directory: Path, max_bytes: int) -> None:
    """Delete the oldest stores that no living process owns while the directory is beyond its bound.

    Args:
        directory: made if it is not there; refused if others could put files there.
        max_bytes: bound of all files in it.
    """
    files.prepare_directory(directory)
    paths = files.stores(directory, (files.STORE, files.STORE + files.DAMAGED))
    sizes = {path: files.size(path) for path in paths}
    excess = sum(sizes.values()) - max_bytes
    stores = lost = 0
    for path in paths:
        if excess <= 0:
            break
        if path.name.endswith(files.DAMAGED):
            files.delete(path)
        else:
            spool = _adopt(path)
            if spool is not None:
                stores, lost = stores + 1, lost + spool.left()
                spool.discard()
        excess -= sizes[path] - files.size(path)
    if stores:
        say_once(
            f"spool room {directory}",
            f"The spool's directory {directory} was beyond its bound of {max_bytes} bytes: {lost} items "
            f"that {stores} earlier processes could not deliver are lost.",
        )
