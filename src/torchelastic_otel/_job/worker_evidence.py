"""What a dead worker left, as attributes and as a time: its error file, and its recorder's words. Pure."""

from __future__ import annotations

import re

from .. import _contract as c
from .._values import Attributes, clean_text
from .evidence import Interval, at, written
from .exceptions import error_file_time, exception_from_error_file
from .facts import WorkerError, WorkerExit

CRASHES = (-4, -6, -7, -8, -11)
"""Exit codes of SIGILL, SIGABRT, SIGBUS, SIGFPE and SIGSEGV: Python's stacks at that moment may be known."""
_CRASHED_IN = re.compile(r'^Current thread .*\n  File "([^"\n]*)", line (\d+) in (\S+)', re.MULTILINE)


def exception_of(exit_: WorkerExit) -> Attributes:
    """Return the exception that a worker died of; {} where nothing tells of one.

    The recorder saw it last, where it ended the program. The error file may be of one that was caught later.
    """
    recorded = exit_.recorded
    if recorded is not None and recorded.type:
        attributes: Attributes = {c.EXCEPTION_TYPE: clean_text(recorded.type)}
        if recorded.message:
            attributes[c.EXCEPTION_MESSAGE] = clean_text(recorded.message)
        if recorded.stacktrace:
            attributes[c.EXCEPTION_STACKTRACE] = clean_text(recorded.stacktrace)
        return attributes
    return exception_from_error_file(exit_.error.json) if exit_.error is not None else {}


def has_raised(exit_: WorkerExit) -> bool:
    """Tell whether the worker left anything of an exception."""
    return exit_.error is not None or (exit_.recorded is not None and bool(exit_.recorded.raised_ns))


def last_word_ns(exit_: WorkerExit) -> int:
    """Return when it wrote the last of that, as it says itself."""
    written_ns = exit_.error.written_ns if exit_.error is not None else None
    raised_ns = exit_.recorded.raised_ns if exit_.recorded is not None else 0
    return max(written_ns or 0, raised_ns)


def left_by(exit_: WorkerExit) -> Attributes:
    """Return what else the worker left: stacks of a crash, the exception of a thread, its last words."""
    recorded = exit_.recorded
    if recorded is None:
        return {}
    stacks = recorded.crash if exit_.exit_code in CRASHES else ""
    found = {
        c.FAILURE_STACKS: stacks,
        c.FAILURE_CRASHED_IN: crashed_in(stacks),
        c.FAILURE_THREAD_EXCEPTION: recorded.thread_exception,
        c.FAILURE_STDERR_TAIL: recorded.stderr_tail,
    }
    return {name: clean_text(text) for name, text in found.items() if text}


def when_raised(exit_: WorkerExit, seen: Interval) -> Interval:
    """Return when a worker died by what it left; ``seen`` where that does not tell."""
    recorded = exit_.recorded
    file = error_written(exit_.error, seen) if exit_.error is not None else seen
    if recorded is None or not 0 < recorded.raised_ns <= seen.latest_ns:
        return file
    if file is not seen and file.earliest_ns <= recorded.raised_ns:
        # The error file came first, since ``@record`` is within what the recorder sees.
        return Interval(file.earliest_ns, min(file.latest_ns, recorded.raised_ns), file.told_ns)
    return at(recorded.raised_ns)


def error_written(error: WorkerError, seen: Interval) -> Interval:
    """Return when an error file was written, ``seen`` at the latest.

    Its time counts where it fits the whole second that the worker noted in it: a file server's clock may be
    another one, or know whole seconds alone.
    """
    noted = error_file_time(error.json)
    if error.written_ns is not None and error.written_ns % 1_000_000_000:
        when = written(error.written_ns)
        fits = noted is None or noted.earliest_ns <= when.told_ns <= noted.latest_ns
        if fits and when.told_ns <= seen.latest_ns:
            return when
    return seen if noted is None or noted.earliest_ns > seen.latest_ns else noted


def crashed_in(stacks: str) -> str:
    """Return where the thread was that crashed, as "step (train.py:88)"; "" if nothing says so."""
    found = _CRASHED_IN.search(stacks)
    return "" if found is None else f"{found[3]} ({found[1].rpartition('/')[2]}:{found[2]})"
