"""Stores that no living process owns: to be sent, or set aside."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..._runtime.guard import say_once
from . import files
from .files import SpoolError, StoreLock
from .log import log_of, mended
from .spool import Spool
from .sqlite import DamagedError, ForeignError


@dataclass(frozen=True, slots=True)
class Closed:
    """A store that was not opened."""

    path: Path
    why: Literal["in use", "foreign", "damaged", "unusable"]
    """Somebody has it; a newer version made it; nothing of it can be read; it cannot be had now."""
    message: str


def orphans(directory: Path, closed: list[Closed] | None = None) -> Iterator[Spool]:
    """Yield the stores in ``directory`` that no living process owns, opened, oldest first.

    Those that another process has or takes meanwhile are left to it, those of newer versions are left alone,
    empty ones deleted. Damaged ones of which nothing can be read are renamed to ``*.damaged`` with a warning.

    Args:
        directory: the spool.
        closed: is given all stores that were not opened and are still there.
    """
    if not os.path.lexists(directory):
        return
    files.check_directory(directory)
    files.remove_lone_locks(directory)
    closed = [] if closed is None else closed
    for path in files.stores(directory):
        spool = adopt(path, closed)
        if spool is not None:
            yield spool


def stores_in(directory: Path) -> tuple[list[Path], list[Path]]:
    """Return the stores in ``directory``, be they in use, and those that were set aside as damaged."""
    return files.stores(directory), files.stores(directory, (files.STORE + files.DAMAGED,))


def open_store(path: Path) -> Spool | None:
    """Take over the store of a process that is gone, or a copy of one; None if its owner lives.

    Raises:
        ForeignError: a newer version made it.
        DamagedError: nothing of it can be read.
        SpoolError: it is not there, or cannot be had now.
    """
    files.check_directory(path.parent)
    if not files.is_there(path):
        raise SpoolError(f"{path} is not there.")
    owner = StoreLock.take(path)
    if owner is None:
        return None
    try:
        return _opened(path, owner)
    except BaseException:
        owner.release()
        raise


def _opened(path: Path, owner: StoreLock) -> Spool:
    """Open a store whose lock is ``owner``, with all that its log holds."""
    files.check_files(path)
    log = mended(path)
    if log is None:
        return Spool.take_over(path, owner)
    try:
        return _opened_with(log, path, owner)
    except OSError as error:
        why = files.reason(error)
        raise SpoolError(f"{path} has a damaged log, and cannot be copied ({why}).") from error


def _opened_with(log: bytes, path: Path, owner: StoreLock) -> Spool:
    """Open a store of which ``log`` is the whole log; as it is, it is set aside.

    If nothing can be read with that log, then without the last of it, as SQLite would.
    """
    what, aside = f"The log of {path} is damaged.", files.aside(path)
    spool = _copied(path, log)
    if spool is None:
        for old, new in zip(files.parts(path), files.parts(aside), strict=True):
            if files.is_there(old):
                shutil.copy2(old, new)
        say_once(f"spool {path}", f"{what} {aside} is a copy of it; the last of it cannot be read.")
        return Spool.take_over(path, owner)
    refusal = files.set_aside(path)
    if refusal:
        spool.discard()
        raise SpoolError(f"{what} It cannot be renamed ({refusal}).")
    owner.release(remove=True)
    say_once(f"spool {path}", f"{what} It is now {aside}, and what can be read goes on in {spool.path}.")
    return spool


def _copied(path: Path, log: bytes) -> Spool | None:
    """Open a copy of a store with another log; None if nothing can be read of it."""
    copy, lock = files.new_store(path.parent)
    try:
        files.make_file(copy)
        shutil.copyfile(path, copy)
        files.make_file(log_of(copy))
        log_of(copy).write_bytes(log)
        spool = Spool.take_over(copy, lock)
    except BaseException as error:
        files.delete(copy)
        lock.release(remove=True)
        if isinstance(error, DamagedError):
            return None
        raise
    if spool.damage and not spool.left():
        spool.discard()
        return None
    return spool


def adopt(path: Path, closed: list[Closed]) -> Spool | None:
    """Open the store of a dead process; None if nothing is in it, or with a word in ``closed``."""
    try:
        owner = StoreLock.take(path)
        if owner is None:
            closed.append(Closed(path, "in use", f"{path} belongs to a process that runs."))
            return None
        if not files.is_there(path):  # somebody has delivered it meanwhile
            owner.release(remove=True)
            return None
        try:
            spool = _opened(path, owner)
        except DamagedError as error:
            refusal = files.set_aside(path)
            owner.release(remove=not refusal)
            it = f"cannot be renamed ({refusal})" if refusal else f"is now {files.aside(path)}"
            _leave(path, "damaged", f"{error} It {it}, and nothing of it can be sent.", closed)
            return None
        except BaseException:
            owner.release()
            raise
        if spool.left() or spool.damage:
            return spool
        spool.close()
    except ForeignError as error:
        _leave(path, "foreign", str(error), closed)
    except SpoolError as error:
        _leave(path, "unusable", f"{error} What is in it is not sent now.", closed)
    return None


def _leave(
    path: Path, why: Literal["foreign", "damaged", "unusable"], message: str, closed: list[Closed]
) -> None:
    closed.append(Closed(path, why, message))
    say_once(f"spool {path}", message)
