"""The spool's directory: whose it is, who owns a store in it, and which files a store has.

A store is ``<host>-<pid>-<random>.spool`` with what SQLite puts beside it. Its owner holds a lock of the
operating system on ``<store>.lock``, which ends with the process however that ends; a process id would not
do, for containers that share a directory repeat them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path

from ..._config.environment import read

STORE = ".spool"
DAMAGED = ".damaged"
_LOCK = ".lock"
_PARTS = ("", "-wal", "-shm", "-journal")
_ELSEWHERE = "name another directory in TORCHELASTIC_OTEL_SPOOL_DIR"
_NETWORK = re.compile(
    r"(fuse\.)?(9p|acfs|afs|beegfs|ceph|cephfs|cifs|coda|daos|dfuse|gfs2?|glusterfs|gpfs|juicefs|lustre|ncpfs|nfs4?|"
    r"ocfs2|orangefs|panfs|pvfs2|quobyte|s3fs|smb3|smbfs|sshfs|virtiofs|wekafs)"
)


class SpoolError(Exception):
    """The spool cannot be used; the text is a sentence that says what, where and what to do."""


class ClosedError(SpoolError):
    """This process has given the store up; what is left in its file is for others."""


class UnreadableError(SpoolError):
    """What is asked for is not in the store as it was written, and never will be."""


def default_directory(environ: Mapping[str, str]) -> Path:
    """Return where the spool is if nobody says: a directory of the user's own for temporary files.

    ``/var/tmp`` comes first: it outlives a reboot, and a scheduler that sets TMPDIR for a job may delete that
    with it.
    """
    parent = read(environ, "TMPDIR")
    if os.access("/var/tmp", os.W_OK | os.X_OK):  # noqa: S108 - the directory in it is checked
        parent = "/var/tmp"  # noqa: S108
    if not parent:
        import tempfile

        parent = tempfile.gettempdir()
    return Path(os.path.abspath(parent), f"torchelastic-otel-{os.geteuid()}")


def directory_of(setting: str, environ: Mapping[str, str]) -> Path | None:
    """Return the directory that ``Settings.spool_dir`` names: "" is the default one, "off" is none."""
    if setting == "off":
        return None
    return Path(setting) if setting else default_directory(environ)


def on_network_filesystem(path: Path) -> str:
    """Return the type of the network file system that ``path`` is or would be on; "" if it is on none."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
    except OSError:
        return ""
    return network_type(os.path.realpath(path), mounts)


def network_type(path: str, mounts: str) -> str:
    """Return the type of the network file system that ``path`` is on; "" if it is on none.

    Args:
        path: absolute, without links.
        mounts: as in ``/proc/self/mountinfo``.
    """
    found, kind = "", ""
    for line in mounts.splitlines():
        before, separator, after = line.partition(" - ")
        if not separator:
            continue
        # Blanks and the like are octal there.
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), before.split()[4])
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(found):  # a later mount hides an earlier one
            found, kind = point, after.split()[0]
    return kind if _NETWORK.fullmatch(kind) else ""


def prepare_directory(directory: Path) -> None:
    """Make ``directory`` for this user alone, or check the one there is; SpoolError if it will not do."""
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            directory.mkdir(mode=0o700)
    except OSError as error:
        raise SpoolError(
            f"The spool's directory {directory} cannot be made ({reason(error)}): {_ELSEWHERE}."
        ) from error
    check_directory(directory)


def check_directory(directory: Path) -> None:
    """Raise SpoolError unless ``directory`` is this user's and nobody else can put files there."""
    try:
        status = os.lstat(directory)
    except OSError as error:
        raise SpoolError(
            f"The spool's directory {directory} cannot be used ({reason(error)}): {_ELSEWHERE}."
        ) from error
    if stat.S_ISLNK(status.st_mode):
        raise SpoolError(
            f"The spool's directory {directory} is a symbolic link, which is not followed: "
            "name the directory that it points to in TORCHELASTIC_OTEL_SPOOL_DIR."
        )
    if not stat.S_ISDIR(status.st_mode):
        raise SpoolError(f"The spool's directory {directory} is no directory: {_ELSEWHERE}.")
    if status.st_uid != os.geteuid():
        raise SpoolError(
            f"The spool's directory {directory} belongs to user {status.st_uid} and this is user "
            f"{os.geteuid()}: run as that user, or {_ELSEWHERE}."
        )
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise SpoolError(
            f"The spool's directory {directory} can be written by others (mode "
            f"{stat.S_IMODE(status.st_mode):04o}): run chmod go-w on it, or {_ELSEWHERE}."
        )


def check_files(store: Path) -> None:
    """Raise SpoolError if a file of ``store`` is a link or somebody else's; absent ones are fine."""
    for path in parts(store):
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise SpoolError(f"{path} cannot be read ({reason(error)}).") from error
        if not stat.S_ISREG(status.st_mode):
            what = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "no regular file"
            raise SpoolError(f"{path} is {what} and is not opened: remove it.")
        if status.st_uid != os.geteuid():
            raise SpoolError(
                f"{path} belongs to user {status.st_uid} and this is user {os.geteuid()}: run as that user."
            )


def new_store(directory: Path) -> tuple[Path, StoreLock]:
    """Return a path for a store of this process that nobody else uses, and its lock."""
    host = re.sub(r"[^A-Za-z0-9.-]", "_", os.uname().nodename)
    while True:  # one that removes lone locks may have taken this one for such
        path = directory / f"{host}-{os.getpid()}-{secrets.token_hex(4)}{STORE}"
        owner = StoreLock.take(path)
        if owner is not None:
            return path, owner


def make_file(store: Path) -> None:
    """Make the file of a new store, for this user alone."""
    try:
        os.close(os.open(store, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise SpoolError(f"{store} cannot be made ({reason(error)}): {_ELSEWHERE}.") from error


def parts(store: Path) -> list[Path]:
    """Return the files that a store may have, the lock's apart."""
    return [store.with_name(store.name + part) for part in _PARTS]


def stores(directory: Path, suffixes: tuple[str, ...] = (STORE,)) -> list[Path]:
    """Return the stores in ``directory``, those last written longest ago first; none if it is not there."""
    found = []
    for path in _listed(directory):
        if path.name.endswith(suffixes):
            found.append((max((status.st_mtime_ns for status in _statuses(path)), default=0), path))
    return [path for _, path in sorted(found)]


def size(store: Path) -> int:
    """Return how many bytes the files of ``store`` have."""
    return sum(status.st_size for status in _statuses(store))


def delete(store: Path) -> None:
    """Delete the files of ``store``; the caller has its lock."""
    for path in parts(store):
        with contextlib.suppress(OSError):
            path.unlink()


def aside(store: Path) -> Path:
    """Return the name of ``store`` under which nobody takes it for one any more."""
    return store.with_name(store.name + DAMAGED)


def set_aside(store: Path) -> str:
    """Rename the files of ``store`` so; the caller has its lock. Return why that cannot be, else ""."""
    for old, new in zip(parts(store), parts(aside(store)), strict=True):
        try:
            old.rename(new)
        except FileNotFoundError:
            continue
        except OSError as error:
            return reason(error)
    return ""


def is_there(store: Path) -> bool:
    """Tell whether a store has a file, be it a link."""
    return os.path.lexists(store)


def remove_lone_locks(directory: Path) -> None:
    """Remove lock files whose store is gone."""
    for path in _listed(directory):
        store = path.with_name(path.name.removesuffix(_LOCK))
        if not path.name.endswith(STORE + _LOCK) or store.exists():
            continue
        with contextlib.suppress(SpoolError):
            lock = StoreLock.take(store)
            if lock is not None:
                lock.release(remove=not store.exists())


def reason(error: OSError) -> str:
    """Return the system's words for ``error``, without the path."""
    return error.strerror or str(error)


def _listed(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SpoolError(f"The spool's directory {directory} cannot be read ({reason(error)}).") from error


def _statuses(store: Path) -> list[os.stat_result]:
    found = []
    for path in parts(store):
        with contextlib.suppress(OSError):
            found.append(os.lstat(path))
    return found


# Where locks are kept per process and file (flock on NFS), a second descriptor would get the lock as well,
# and give it up for both when it is closed. So this process knows by itself which stores it has.
_mine: dict[str, StoreLock] = {}


class StoreLock:
    """Says that this process owns a store. Made by ``take``."""

    def __init__(self, store: Path) -> None:
        self._path = store.with_name(store.name + _LOCK)
        self._key = os.path.realpath(self._path)
        self._descriptor = -1

    @classmethod
    def take(cls, store: Path) -> StoreLock | None:
        """Lock ``store`` without waiting; None if it has a living owner, be it this process."""
        lock = cls(store)
        if _mine.setdefault(lock._key, lock) is not lock:
            return None
        try:
            lock._descriptor = _locked(lock._path)
        except OSError as error:
            raise SpoolError(f"{lock._path} cannot be locked ({reason(error)}): {_ELSEWHERE}.") from error
        finally:
            if lock._descriptor < 0:
                del _mine[lock._key]
        return lock if lock._descriptor >= 0 else None

    def release(self, *, remove: bool = False) -> None:
        """Give the store up; with ``remove`` the lock file goes, too."""
        if remove:
            with contextlib.suppress(OSError):
                self._path.unlink()
        self.disown()

    def disown(self) -> None:
        """Close the descriptor: in a forked child that leaves the lock to the parent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            del _mine[self._key]


def leave_to_parent() -> None:
    """In a forked child: give up the locks of all the parent's stores, which else outlive it."""
    for lock in list(_mine.values()):
        lock.disown()


def _locked(path: Path) -> int:
    """Return a descriptor of ``path`` that holds its lock, -1 if another process does."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Its last owner may have removed it meanwhile, and the next one made another of the same name.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.lstat(path)):
                    return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return -1
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
