"""What the user does not want to leave the process: the last thing that happens to a text."""

from __future__ import annotations

import re
from typing import Any

REDACTED = "[redacted]"


class Redaction:
    """Replaces what a pattern finds, in bodies, attributes and descriptions.

    Args:
        pattern: a regular expression; "" for none.
    """

    def __init__(self, pattern: str = "") -> None:
        self._pattern = re.compile(pattern) if pattern else None

    def text(self, text: str) -> str:
        """Return ``text`` with every match replaced."""
        return text if self._pattern is None else self._pattern.sub(REDACTED, text)

    def attributes(self, attributes: dict[str, Any]) -> dict[str, Any]:
        """Return attributes with every match in their values replaced; the names stay."""
        if self._pattern is None:
            return attributes
        return {name: self._value(value) for name, value in attributes.items()}

    def _value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self._value(item) for item in value]
        return value
