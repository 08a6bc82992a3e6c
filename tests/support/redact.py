"""An environment without the extra ``redact``."""

from __future__ import annotations

import sys

import pytest

from torchelastic_otel._config.patterns import compile_pattern


def without_re2(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an import of RE2 fail, as where it is not installed."""
    compile_pattern.cache_clear()
    monkeypatch.setitem(sys.modules, "re2", None)
