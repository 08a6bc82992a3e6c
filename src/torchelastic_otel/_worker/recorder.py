"""The recorder of a worker: leaves what it dies of where its launcher finds it.

It opens no socket and starts no thread; what it does costs nothing until something goes wrong. Whatever fails
here is left out, and the worker goes on as if there were no recorder. What was in force stays in force: hooks
are called that were there before, a hook that the program sets later takes ours away.
"""

from __future__ import annotations

import atexit
import os
import sys

from . import evidence_file as file
from .importing import when_imported
from .progress import Progress

TYPE_CHECKING = False
"""Type checkers know it as true; `typing` takes long to import."""
if TYPE_CHECKING:
    import threading
    from types import FrameType, TracebackType

_HIGH = 500
"""Our descriptor, where that is free and allowed: some programs count on low ones."""
_NEVER_ENDED = ("<module>", "_run_module_as_main")
"""The lowest function of the main thread while its program runs."""

_current: Recorder | None = None


class Recorder:
    """Records one process.

    Args:
        launcher: the process id of its launcher.
        descriptor: the launcher's descriptor of this worker's memory.
    """

    def __init__(self, launcher: int, descriptor: int) -> None:
        self._launcher = launcher
        self._descriptor = descriptor
        self._pid = os.getpid()
        self._memory = _moved_up(file.open_of(launcher, descriptor))
        self._same = _identity(self._memory)
        self._recorded = False
        self._previous = sys.excepthook
        self.progress = Progress(self._open)
        self._hook = self._excepthook  # one object: a bound method is a new one each time

    def start(self) -> None:
        """Put everything in; what does not fit is left out."""
        file.write_number(self._memory, file.RECORDER_PID, self._pid)
        sys.excepthook = self._hook
        for part in (
            self._at_end,
            self._in_threads,
            self._at_crashes,
            self._in_children,
            self.progress.watch,
        ):
            try:
                part()
            except Exception:  # noqa: S112  # without this part, then
                continue

    def _at_end(self) -> None:
        atexit.register(self._ending)

    def _in_threads(self) -> None:
        when_imported("threading", self._watch_threads)

    def _at_crashes(self) -> None:
        import faulthandler

        if not faulthandler.is_enabled():
            os.lseek(self._memory, file.CRASH, os.SEEK_SET)
            faulthandler.enable(self._memory, all_threads=True)

    def _in_children(self) -> None:
        os.register_at_fork(after_in_child=self._leave_child)

    def _leave_child(self) -> None:
        """A forked child is no worker: what it dies of goes where it would go without us."""
        try:
            if self._is_open():
                null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
                os.dup2(null, self._memory, inheritable=False)
                os.close(null)
        except Exception:  # noqa: S110  # nothing can be told here
            pass

    # Exceptions

    def _excepthook(
        self, kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        try:
            if os.getpid() == self._pid and _is_the_end(sys._getframe()):
                self._record(kind, error, traceback)
        except Exception:  # noqa: S110  # nothing can be told here
            pass
        finally:
            self._previous(kind, error, traceback)

    def _ending(self) -> None:
        """The interpreter ends: with an exception that a hook of the program's own has taken?"""
        try:
            error = getattr(sys, "last_value", None)
            if self._recorded or sys.excepthook is self._hook or not isinstance(error, BaseException):
                return
            traceback = error.__traceback__
            uncaught = traceback is not None and traceback.tb_frame.f_code.co_name in _NEVER_ENDED
            if os.getpid() == self._pid and uncaught:
                self._record(type(error), error, traceback)
        except Exception:  # noqa: S110  # nothing can be told here
            pass

    def _record(
        self, kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        self._recorded = True
        memory, ours = self._open()
        try:
            # First what is quick, for a process that is killed in the middle of this.
            file.write_text(memory, file.EXCEPTION_TYPE, kind.__name__)
            file.write_moment(memory, file.RAISED)
            file.write_text(memory, file.EXCEPTION_MESSAGE, _message(error))
            file.write_text(memory, file.EXCEPTION_STACK, _stack(kind, error, traceback))
        finally:
            if ours:
                os.close(memory)

    # Threads

    def _watch_threads(self) -> None:
        import threading

        previous = threading.excepthook

        def excepthook(args: threading.ExceptHookArgs) -> None:
            try:
                if args.exc_type is not SystemExit and os.getpid() == self._pid:
                    self._record_of_thread(args)
            except Exception:  # noqa: S110  # nothing can be told here
                pass
            finally:
                previous(args)

        threading.excepthook = excepthook

    def _record_of_thread(self, args: threading.ExceptHookArgs) -> None:
        name = args.thread.name if args.thread is not None else "unknown"
        error = args.exc_value if args.exc_value is not None else args.exc_type()
        text = _stack(args.exc_type, error, args.exc_traceback)
        memory, ours = self._open()
        try:
            file.write_text(memory, file.THREAD_EXCEPTION, f"Exception in thread {name}:\n{text}")
        finally:
            if ours:
                os.close(memory)

    # The memory

    def _open(self) -> tuple[int, bool]:
        """Return a descriptor of the memory, and whether it is to be closed: programs close descriptors."""
        if self._is_open():
            return self._memory, False
        return file.open_of(self._launcher, self._descriptor), True

    def _is_open(self) -> bool:
        try:
            return _identity(self._memory) == self._same
        except OSError:
            return False


def start(launcher: int, descriptor: int) -> None:
    """Record this process."""
    global _current
    _current = Recorder(launcher, descriptor)
    _current.start()


def progress() -> Progress | None:
    """Return where this process counts its steps; None in one that is not recorded."""
    return None if _current is None else _current.progress


def _moved_up(memory: int) -> int:
    """Return the descriptor as a high one, if that can be had."""
    try:
        os.fstat(_HIGH)
    except OSError:
        try:
            high = os.dup2(memory, _HIGH, inheritable=False)
        except OSError:
            return memory
        os.close(memory)
        return high
    return memory


def _identity(descriptor: int) -> tuple[int, int]:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


def _is_the_end(frame: FrameType) -> bool:
    """Tell whether the hook is called because the program has ended: others call it from within."""
    lowest = frame
    while lowest.f_back is not None:
        lowest = lowest.f_back
    if lowest.f_code.co_name in _NEVER_ENDED:
        return False
    threading = sys.modules.get("threading")
    return threading is None or threading.current_thread() is threading.main_thread()


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return ""


def _stack(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> str:
    """Return the traceback as Python prints it: with causes, notes and groups."""
    from traceback import format_exception

    return "".join(format_exception(kind, error, traceback))
