"""Attributes of torch's objects that were replaced, and how to put them back."""

from __future__ import annotations

from collections.abc import Callable


class Patches:
    """What was changed, to be undone in the reverse order."""

    def __init__(self) -> None:
        self._undoings: list[Callable[[], None]] = []

    def replace(self, owner: object, name: str, replacement: object) -> None:
        """Replace an attribute; it is put back only if nobody replaced it again after us."""
        original = getattr(owner, name)
        setattr(owner, name, replacement)

        def undo() -> None:
            if getattr(owner, name) is replacement:
                setattr(owner, name, original)

        self.on_undo(undo)

    def on_undo(self, undo: Callable[[], None]) -> None:
        """Call ``undo`` when all is undone."""
        self._undoings.append(undo)

    def undo(self) -> None:
        """Undo everything."""
        while self._undoings:
            self._undoings.pop()()
