"""What a dead worker left, as attributes and as a time: its error file, and its recorder's words. Pure."""

from __future__ import annotations

import re

from .. import _contract as c
from .._runtime.clock import Moment
from .._values import Attributes, clean_text
from .evidence import Interval, at, within_second, written
from .exceptions import error_file_second, exception_from_error_file
from .facts import WorkerError, WorkerExit

_SECOND_NS = 1_000_000_000
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
    return exit_.error is not None or (exit_.recorded is not None and exit_.recorded.raised is not None)


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


def when_raised(exit_: WorkerExit, seen: Interval, before: Moment) -> Interval:
    """Return when a worker died by what it left; ``seen`` where that does not tell. ``before``: see below."""
    raised = exit_.recorded.raised if exit_.recorded is not None else None
    file = error_written(exit_.error, seen, before) if exit_.error is not None else seen
    if raised is None or raised > seen.latest:
        return file
    if file is not seen and file.earliest <= raised:
        # The error file came first, since ``@record`` is within what the recorder sees.
        return Interval(file.earliest, min(file.latest, raised), file.told, file.source)
    return at(raised)


def error_written(error: WorkerError, seen: Interval, before: Moment) -> Interval:
    """Return when an error file was written, ``seen`` at the latest.

    Its time counts where it fits the whole second that the worker noted in it: a file server's clock may be
    another one, or know whole seconds alone. Neither counts where the wall clock was set since ``before``:
    nobody knows whether they were told before or after that.
    """
    look = seen.latest
    if look.set_since(before):
        return seen
    second = error_file_second(error.json)
    noted = None if second is None else within_second(look.at_wall(second * _SECOND_NS))
    if error.written_ns is not None and error.written_ns % _SECOND_NS:
        when = written(look.at_wall(error.written_ns))
        fits = noted is None or noted.earliest <= when.told <= noted.latest
        if fits and when.told <= look:
            return when
    return seen if noted is None or noted.earliest > look else noted


def crashed_in(stacks: str) -> str:
    """Return where the thread was that crashed, as "step (train.py:88)"; "" if nothing says so."""
    found = _CRASHED_IN.search(stacks)
    return "" if found is None else f"{found[3]} ({found[1].rpartition('/')[2]}:{found[2]})"
