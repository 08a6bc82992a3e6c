"""What a recorder leaves for its launcher: the layout of its memory, and how both sides use it.

The launcher makes one piece of memory for each worker (``memfd_create``): of a fixed size, allocated before
the worker starts, sealed so that nobody can make it larger or smaller. It has no name in any file system,
outlives the worker whatever ends it, and is gone with the launcher. The worker opens it through its parent's
``/proc``.
"""

from __future__ import annotations

import os
import time

MAGIC = b"teotel01"
"""Says that this memory is ours, and how it is laid out."""
SIZE = 256 * 1024
"""Bytes of each worker."""

# Numbers of eight bytes, at these offsets.
RECORDER_PID = 8
"""Process that records; 0 until its recorder runs."""
RAISED = 16
"""When the exception that ends the process reached the recorder: by the monotonic clock, then by the wall
clock (ns); 0 if none did."""
STEPS = 32
"""Training steps: how many this process has done, or the number that the program gave the last."""
NUMBERED = 40
"""1 where the program gives its steps numbers."""
CHECKPOINT = 48
"""When the last checkpoint was complete, by both clocks; 0 if there was none."""
CHECKPOINT_STEPS = 64
"""``STEPS`` as the checkpoint has it."""
PAGE = 4096
"""All numbers are in it: what a process that counts maps."""

# Texts, each with its length in eight bytes before it: offset, and room with the length.
EXCEPTION_TYPE = (4 * 1024, 1024)
EXCEPTION_MESSAGE = (5 * 1024, 27 * 1024)
EXCEPTION_STACK = (32 * 1024, 64 * 1024)
THREAD_EXCEPTION = (96 * 1024, 32 * 1024)
CRASH = 128 * 1024
"""From here to the end: what ``faulthandler`` writes."""

_NUMBER = 8
_LEFT_OUT = "\n[... left out ...]\n"


def make() -> int:
    """Make the memory of a worker; return its descriptor. OSError where the system has none to give."""
    import fcntl

    memory = os.memfd_create("torchelastic-otel", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.posix_fallocate(memory, 0, SIZE)
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, seals)
        os.pwrite(memory, MAGIC, 0)
    except BaseException:
        os.close(memory)
        raise
    return memory


def open_of(launcher: int, descriptor: int) -> int:
    """Open a launcher's memory for writing, as one of its workers; OSError if it is none of ours."""
    memory = os.open(f"/proc/{launcher}/fd/{descriptor}", os.O_RDWR | os.O_CLOEXEC)
    if os.pread(memory, len(MAGIC), 0) != MAGIC:
        os.close(memory)
        raise OSError("this is not a recorder's memory")
    return memory


def write_number(memory: int, offset: int, number: int) -> None:
    """Write a number."""
    os.pwrite(memory, number.to_bytes(_NUMBER, "little"), offset)


def read_number(memory: int, offset: int) -> int:
    """Read a number."""
    return int.from_bytes(os.pread(memory, _NUMBER, offset), "little")


def write_moment(memory: int, offset: int) -> None:
    """Write the time by both clocks; that it is there is what the first of them says."""
    monotonic_ns, wall_ns = time.monotonic_ns(), time.time_ns()
    write_number(memory, offset + _NUMBER, wall_ns)
    write_number(memory, offset, monotonic_ns)


def read_moment(memory: int, offset: int) -> tuple[int, int] | None:
    """Read a time by both clocks; None if none was written."""
    monotonic_ns = read_number(memory, offset)
    return (monotonic_ns, read_number(memory, offset + _NUMBER)) if monotonic_ns else None


def write_text(memory: int, place: tuple[int, int], text: str) -> None:
    """Write a text; of a long one the first third and the end. Its length comes last: then it is whole."""
    offset, room = place
    most = room - _NUMBER
    encoded = text.encode("utf-8", "backslashreplace")
    if len(encoded) > most:
        mark = _LEFT_OUT.encode()
        head = most // 3
        encoded = encoded[:head] + mark + encoded[len(encoded) - (most - head - len(mark)) :]
    write_number(memory, offset, 0)
    os.pwrite(memory, encoded, offset + _NUMBER)
    write_number(memory, offset, len(encoded))


def read_text(memory: int, place: tuple[int, int]) -> str:
    """Read a text; "" if none was written."""
    offset, room = place
    length = min(read_number(memory, offset), room - _NUMBER)
    return os.pread(memory, length, offset + _NUMBER).decode("utf-8", "replace")


def read_crash(memory: int) -> str:
    """Read what ``faulthandler`` wrote; "" if nothing."""
    return os.pread(memory, SIZE - CRASH, CRASH).rstrip(b"\0").decode("utf-8", "replace")
