"""Putting something into a torch that may be another one than the hooks were made for."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import ParamSpec

from .._runtime.guard import from_signal_handler, logger, say_once

_P = ParamSpec("_P")


def fits(what: str, function: Callable[_P, object], *args: _P.args, **kwargs: _P.kwargs) -> bool:
    """Call ``function``, which puts something into torch; False, after a word about it, if that fails.

    What torch has moved or renamed costs this one thing. The host's own exceptions pass through.
    """
    try:
        function(*args, **kwargs)
    except Exception as error:
        if from_signal_handler(error):
            raise
        say_unknown(what, error)
        return False
    return True


def say_unknown(what: str, why: Exception | str) -> None:
    """Say once that torch is not what ``what`` expects."""
    shown = f"{type(why).__name__}: {why}" if isinstance(why, Exception) else why
    say_once(
        f"unknown torch: {what}",
        f"this torch is not known to torchelastic-otel ({what}: {shown}); "
        "telemetry of this job is less complete, the job is not affected.",
        exc_info=logger.isEnabledFor(logging.DEBUG),
    )
