"""A plugin of coverage: before Python 3.12 it sees no thread that was started by ``_thread`` itself.

The bridge's own is one. Measured processes find this module by a file that ``make coverage`` puts into the
environment's site-packages.
"""

from __future__ import annotations

import _thread
import sys
import threading
from collections.abc import Callable
from typing import Any


def coverage_init(registry: object, options: object) -> None:
    """Let such threads begin as those of ``threading`` do."""
    if sys.version_info >= (3, 12):
        return  # there coverage is told by the interpreter
    start = _thread.start_new_thread

    def start_traced(function: Callable[..., object], arguments: Any, *more: Any) -> int:
        def traced(*given: Any, **named: Any) -> object:
            sys.settrace(threading.gettrace())
            return function(*given, **named)

        return start(traced, arguments, *more)

    _thread.start_new_thread = start_traced
