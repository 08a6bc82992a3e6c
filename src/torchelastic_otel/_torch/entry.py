"""The entry point that torch loads when its rendezvous package is imported.

It runs in every launcher before arguments are parsed, ``--help`` included, and in some workers: so it only
leaves hooks, loads no SDK, and decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn


def register() -> Callable[[object], NoReturn]:
    """Put the ``otel`` destination into torch; return what torch registers as a rendezvous backend."""
    from .hooks import hooks

    hooks.install()
    hooks.keep()
    return _not_a_backend


def _not_a_backend(params: object) -> NoReturn:
    """Refuse ``--rdzv-backend otel``."""
    raise ValueError(
        "otel is no rendezvous backend but an event log handler: "
        "give --event-log-handler otel, and --rdzv-backend c10d or static."
    )
