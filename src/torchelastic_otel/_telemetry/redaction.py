"""What the user does not want to leave the process: the last thing that happens to a text."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from .. import _contract as c
from .._config import schedulers
from .._config.patterns import compile_pattern

REDACTED = "[redacted]"

_SHORT = 128
_MOST_REMEMBERED = 64
_NAMES = frozenset(
    (
        *(value for value in vars(c).values() if isinstance(value, str)),
        *c.TORCH_KEYS.values(),
        *("service.name", "service.instance.id", "host.name", "process.pid"),
        *("telemetry.sdk.language", "telemetry.sdk.name", "telemetry.sdk.version"),
        *schedulers.KUBERNETES,
        *schedulers.KUBERNETES_IN_A_POD,
        *schedulers.SLURM,
        *schedulers.SLURM_NUMBERS,
    )
)
"""Names that the contract fixes: they are no text of anybody's."""


class Redaction:
    """Replaces what a pattern finds: in bodies, names, attributes and descriptions.

    A long text, such as a traceback that several spans and records quote, is searched once.

    Args:
        pattern: a regular expression that ``Settings`` has accepted; "" for none.
    """

    def __init__(self, pattern: str = "") -> None:
        self._pattern = compile_pattern(pattern) if pattern else None
        self._long = lru_cache(_MOST_REMEMBERED)(self._searched)

    def text(self, text: str) -> str:
        """Return ``text`` with every match replaced."""
        if self._pattern is None:
            return text
        return self._searched(text) if len(text) <= _SHORT else self._long(text)

    def attributes(self, attributes: dict[str, Any]) -> dict[str, Any]:
        """Return attributes with every match replaced in their values, and in names not of the contract."""
        if self._pattern is None:
            return attributes
        redacted: dict[str, Any] = {}
        for name, value in attributes.items():
            redacted[self._name(name, redacted)] = self._value(value)
        return redacted

    def _name(self, name: str, taken: Mapping[str, object]) -> str:
        if name in _NAMES:
            return name
        shown = self.text(name)
        if shown != name:
            # Names that became the same must not cost each other's values.
            number = 2
            whole = shown
            while shown in taken:
                shown, number = f"{whole}.{number}", number + 1
        return shown

    def _value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list | tuple):
            return [self._value(item) for item in value]
        return value

    def _searched(self, text: str) -> str:
        if self._pattern is None:
            return text
        try:
            return self._pattern.sub(REDACTED, text)
        except UnicodeEncodeError:  # RE2 reads UTF-8, in which half a character cannot be written
            return self._pattern.sub(REDACTED, text.encode(errors="replace").decode())
