"""Which expressions may search texts: those that no text makes slow."""

from __future__ import annotations

import sys

import pytest

from tests.support.redact import without_re2
from torchelastic_otel._config.environment import Warn
from torchelastic_otel._config.patterns import compile_pattern
from torchelastic_otel._config.settings import Settings, read_settings
from torchelastic_otel._telemetry.redaction import Redaction

BOUNDED = [
    r"password=\S+",
    r"(?i)(api[_-]?key|token|secret|password)\s*[:=]\s*\S+",
    r"(?i)bearer\s+\S+",
    r"pass(word)?=.*",
    r"(?<=password=)\S+",
    r"(?s).+",
    r"\d{1,3}(\.\d{1,3}){3}",
    r"\b\d{13,16}\b",
    r"[\w.+-]{1,64}@[\w.-]+",
    r"<[^<>]*>",
    r"=\w+=",
    r"//[^/@]*@",
]
UNBOUNDED = [
    r"[\w.+-]+@[\w.-]+",  # begins anywhere and reads to the end
    r"\S+@\S+",
    r".*secret.*",
    r"\s+$",
    r"(a+)+b",
    r"(a|a)*b",
    r"(a|ab)(c|bcd)(d*)x",
    r"a*a*b",
    r"<[^>]*>",  # what begins it is in the class
    r"x{1,1000}y",
    r"(?i:x+)y",
    r"\w+?@",
]
ONLY_RE = [r"(?=.*x)y", r"(\w)\1+z", r"(?:a{64}){64}"]
if sys.version_info >= (3, 11):
    ONLY_RE.append(r"a++b")  # possessive, but from each place anew


@pytest.mark.parametrize("pattern", BOUNDED)
def test_what_is_bounded_needs_nothing(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The expressions that most people write are run by ``re``."""
    without_re2(monkeypatch)
    assert type(compile_pattern(pattern)).__module__ == "re"


@pytest.mark.parametrize("pattern", UNBOUNDED)
def test_what_is_not_is_run_by_re2(pattern: str) -> None:
    """It takes a time that grows as the text does."""
    assert type(compile_pattern(pattern)).__module__.startswith("re2")


@pytest.mark.parametrize("pattern", [UNBOUNDED[0], *ONLY_RE])
def test_without_re2_it_is_refused(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One warning says why, and what would run it; all texts are redacted."""
    without_re2(monkeypatch)
    settings, [warning] = read({"TORCHELASTIC_OTEL_REDACT": pattern})
    assert warning.startswith(f"TORCHELASTIC_OTEL_REDACT={pattern!r} is not accepted: ")
    assert "could hold up the job" in warning
    assert warning.endswith("pip install 'torchelastic-otel[redact]'); all texts are redacted.")
    assert compile_pattern(settings.redact).sub("-", "one\ntwo") == "-"


@pytest.mark.parametrize("pattern", ONLY_RE)
def test_what_re2_refuses_too_is_refused(pattern: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Its own words stand in the warning, and nowhere else."""
    settings, [warning] = read({"TORCHELASTIC_OTEL_REDACT": pattern})
    assert "; and RE2 says: " in warning
    assert compile_pattern(settings.redact).sub("-", "one\ntwo") == "-"
    assert capfd.readouterr().err == ""


def test_a_python_that_hides_its_parser_is_no_reason_to_trust(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then nothing is known of an expression, and RE2 runs it."""
    compile_pattern.cache_clear()
    for name in ("re._parser", "sre_parse"):
        monkeypatch.setitem(sys.modules, name, None)
    assert type(compile_pattern("hunter2")).__module__.startswith("re2")


def read(environ: dict[str, str]) -> tuple[Settings, list[str]]:
    """Return the settings, and what was warned of."""
    said: list[str] = []
    warn: Warn = said.append
    return read_settings(environ, warn), said


def test_all_texts_are_hidden_where_no_expression_can_be_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a Python that hides its parser, without RE2: nothing leaks, and telemetry goes on."""
    without_re2(monkeypatch)
    for name in ("re._parser", "sre_parse"):
        monkeypatch.setitem(sys.modules, name, None)
    warnings: list[str] = []
    settings = read_settings({"TORCHELASTIC_OTEL_REDACT": "secret"}, warnings.append)
    assert len(warnings) == 1
    assert Redaction(settings.redact).text("some\ntext") == "[redacted]"
