"""This node's name, as torch gives it: looked up on a thread of its own, for names can be slow or wrong."""

from __future__ import annotations

import contextlib
import os
import socket
import threading

from .imports import OWN_THREADS
from .own_thread import start_own_thread

_LONGEST_WAIT_S = 0.5


class _NodeName:
    def __init__(self) -> None:
        self._pid = 0
        self._found = threading.Event()
        self._name = ""

    def look_up(self) -> None:
        """Begin to look the name up, unless that has been done in this process."""
        if self._pid == os.getpid():
            return
        self._pid = os.getpid()
        self._name = socket.gethostname()
        self._found = threading.Event()
        try:
            start_own_thread(f"{OWN_THREADS}-name", self._find)
        except RuntimeError:  # the interpreter is ending
            self._found.set()

    def _find(self) -> None:
        with contextlib.suppress(OSError, UnicodeError):  # IDNA refuses some names that a host may have
            self._name = socket.getfqdn(self._name)
        self._found.set()

    def get(self, wait_s: float) -> str:
        self.look_up()
        self._found.wait(wait_s)
        return self._name


_node_name = _NodeName()


def look_up_node_name() -> None:
    """Begin to look the name up; whoever asks later finds it."""
    _node_name.look_up()


def node_name() -> str:
    """Return the fully qualified name; the short one while nobody has answered. Waits for nothing."""
    return _node_name.get(0)


def node_name_soon() -> str:
    """Return it likewise, after half a second at most: for threads that may wait."""
    return _node_name.get(_LONGEST_WAIT_S)
