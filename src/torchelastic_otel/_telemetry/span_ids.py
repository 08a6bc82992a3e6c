"""Ids of the bridge's spans: those that were promised to others, else random ones.

Import this after ``sdk_objects.import_trace_sdk``.
"""

from __future__ import annotations

import os

from opentelemetry.sdk.trace.id_generator import IdGenerator

from .._job.identity import new_span_id


class NextIds(IdGenerator):
    """Ids for the spans to come: those chosen beforehand, else random from the system."""

    def __init__(self) -> None:
        self.trace_id = 0
        self.span_id = 0

    def generate_span_id(self) -> int:
        """Return the chosen span id once, then random ones."""
        chosen, self.span_id = self.span_id, 0
        return chosen or new_span_id()

    def generate_trace_id(self) -> int:
        """Return the chosen trace id once, then random ones."""
        chosen, self.trace_id = self.trace_id, 0
        return chosen or int.from_bytes(os.urandom(16), "big") or 1

    def is_trace_id_random(self) -> bool:
        """Return False: a hash of the run id is no random number."""
        return False
