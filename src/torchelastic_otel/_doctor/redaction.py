"""How long the user's redaction takes with a long text."""

from __future__ import annotations

import time

from .._config.patterns import compile_pattern
from .._config.variables import REDACT
from .._values import MAX_TEXT
from .report import Check

_SLOW_S = 0.1
_TEXTS = ("x", " ", '  File "train.py", line 7, in step\n    raise ValueError("a=b, c: user@host")\n')
"""What a text of full length is made of: no blank in it, nothing but blanks, and a traceback."""


def redaction_checks(pattern: str) -> list[Check]:
    """Return what is to be said of the pattern: nothing if there is none."""
    if not pattern:
        return []
    search = compile_pattern(pattern).sub
    longest_s = 0.0
    for part in _TEXTS:
        text = (part * MAX_TEXT)[:MAX_TEXT]
        began = time.perf_counter()
        search("", text)
        longest_s = max(longest_s, time.perf_counter() - began)
    took = f"{REDACT.name} takes up to {longest_s * 1000:.1f} ms for a text of {MAX_TEXT} characters."
    if longest_s < _SLOW_S:
        return [Check("redaction", "ok", took)]
    return [
        Check(
            "redaction", "warning", took, "Give its repeats bounds, as in x{1,64}, and fewer ways to match."
        )
    ]
