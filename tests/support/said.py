"""What the package says in the program's log."""

from __future__ import annotations

import logging
import threading

from tests.support.waiting import LONG_S


class Said(logging.Handler):
    """What the package's logger said, as it is said."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.texts: list[str] = []
        self._changed = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message."""
        with self._changed:
            self.texts.append(record.getMessage())
            self._changed.notify_all()

    def having(self, words: str) -> list[str]:
        """Return the messages that contain these words."""
        return [text for text in self.texts if words in text]

    def wait(self, words: str) -> list[str]:
        """Wait for a message that contains these words; return all that do."""
        with self._changed:
            self._changed.wait_for(lambda: self.having(words), LONG_S)
        return self.having(words)
