"""A launcher's signals: before torch handles them, and as the exception that it makes of them.

Until the first workers start, SIGTERM ends a launcher without a word. The default action stays what it is:
the same signal ends the process, with the same exit status, after a bounded moment in which the bridge says
so. Python's own handlers run only between two instructions of the main thread, which may sit in a store call
for minutes; so the signal is also read from a wake-up pipe.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType

from .._job.torch_words import SIGNAL_EXCEPTION
from .._runtime.own_thread import this_thread, threads_are_real

_WATCHED = (signal.SIGTERM, signal.SIGHUP)


def is_signal(error: BaseException) -> bool:
    """Tell torch's exception for a signal, by its name: nobody imports torch to ask."""
    return type(error).__name__ == SIGNAL_EXCEPTION


def signal_behind(error: BaseException) -> str | None:
    """Return the name of the signal that an exception stands for, None if it stands for none."""
    if is_signal(error):
        name: str | None = getattr(getattr(error, "sigval", None), "name", None)
        return name
    return "SIGINT" if isinstance(error, KeyboardInterrupt) else None


class SignalWatch:
    """Calls ``tell(signal name)`` before a fatal signal takes its default action.

    Only signals whose action is the default are watched, and only where this is the main thread: a program's
    own handlers are left alone, also those that it sets later.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._signals: list[int] = []
        self._dying = threading.Lock()
        self._dying_thread = 0
        self._over = False
        self._pipe: tuple[int, int] | None = None
        self._handler = self._handle  # one object: a bound method is a new one each time

    def install(self) -> None:
        """Begin to watch."""
        if threading.current_thread() is not threading.main_thread():
            return
        _watches.add(self)
        for number in _WATCHED:
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, self._handler)
                self._signals.append(number)
        if not self._signals or not threads_are_real():
            return  # a thread that reads would stop the program
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        taken = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        if taken != -1:  # an event loop's
            signal.set_wakeup_fd(taken, warn_on_full_buffer=False)
            os.close(reader)
            os.close(writer)
            return
        self._pipe = (reader, writer)
        threading.Thread(
            target=self._watch, args=(reader,), name="torchelastic-otel-signals", daemon=True
        ).start()

    def remove(self) -> None:
        """Give the signals back; torch is about to handle them itself, or the launch is over."""
        self._over = True
        if threading.current_thread() is not threading.main_thread():
            return  # what is left of it does what the default action does
        writer = self._give_back()
        if writer is not None:
            os.close(writer)  # ends the watching thread

    def leave_in_child(self) -> None:
        """In a forked child: a signal to it is none to the launcher, whose pipe it has inherited."""
        self._over = True
        pipe = self._pipe
        self._give_back()
        for end in pipe or ():
            os.close(end)

    def _give_back(self) -> int | None:
        """Put handlers and wake-up descriptor back where they are ours; return the pipe's writing end."""
        for number in self._signals:
            if self._is_ours(number):
                signal.signal(number, signal.SIG_DFL)
        _watches.discard(self)
        if self._pipe is None:
            return None
        (_, writer), self._pipe = self._pipe, None
        current = signal.set_wakeup_fd(-1)
        if current not in (writer, -1):
            signal.set_wakeup_fd(current)  # somebody else's by now
        return writer

    def _is_ours(self, number: int) -> bool:
        return signal.getsignal(number) is self._handler

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._die(number)

    def _watch(self, reader: int) -> None:
        this_thread.own = True
        while data := os.read(reader, 1):
            if data[0] in self._signals and not self._over:
                self._die(data[0])
        os.close(reader)

    def _die(self, number: int) -> None:
        if self._dying_thread == threading.get_ident():
            return  # another signal while this thread is saying so of the first
        # Another thread that comes second waits here for the end.
        with self._dying:
            if not self._is_ours(number):
                return  # the program, or torch, handles it by now
            self._dying_thread = threading.get_ident()
            try:
                if not self._over:
                    self._tell(signal.Signals(number).name)
            finally:
                if threading.current_thread() is threading.main_thread():
                    signal.signal(number, signal.SIG_DFL)
                else:
                    ctypes.CDLL(None).signal(number, 0)
                os.kill(os.getpid(), number)
                signal.pause()


# Forks

_watches: set[SignalWatch] = set()
_masks: list[set[int]] = []


def _before_fork() -> None:
    if _watches:
        # A signal to the child before it has let go of the pipe would be written into it.
        _masks.append({*signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)})


def _after_fork() -> None:
    if _masks:
        signal.pthread_sigmask(signal.SIG_SETMASK, _masks.pop())


def _after_fork_in_child() -> None:
    for watch in list(_watches):
        watch.leave_in_child()
    _after_fork()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
