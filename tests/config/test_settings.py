"""The package's own settings: what ``read_settings`` makes of ``TORCHELASTIC_OTEL_*``."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from otlp_receiver import OtlpReceiver
from tests.support.harness import otlp
from tests.support.recording import record_job
from torchelastic_otel._config.settings import Settings, read_settings
from torchelastic_otel._config.variables import PREFIX
from torchelastic_otel._telemetry.redaction import Redaction


def settings_of(**variables: str) -> tuple[Settings, list[str]]:
    """Return the settings from variables given without their prefix, and what was warned of."""
    warnings: list[str] = []
    environ = {PREFIX + name: value for name, value in variables.items()}
    return read_settings(environ, warnings.append), warnings


def test_settings_by_default() -> None:
    """Nothing need be set; what is read cannot be changed."""
    settings, warnings = settings_of()
    assert settings == Settings("metric", True, "", "", 0.5, "", "", 64 * 1024 * 1024, True, 8192, True)
    assert warnings == []
    with pytest.raises(FrozenInstanceError):
        settings.heartbeats = "log"  # type: ignore[misc]


def test_each_variable_is_read_into_its_setting() -> None:
    """In the units that the document says."""
    settings, warnings = settings_of(
        HEARTBEATS="log",
        SPAN_EVENTS="off",
        TRACE_SEED=" a b ",
        TRACE_URL="https://tempo.example/{trace_id}",
        EXIT_TIMEOUT="0.25",
        REDACT="pass(word)?=.*",
        WORKER="off",
        STDERR="16KiB",
        TERMINATION_LOG="off",
        SPOOL_DIR="/data/spool",
        SPOOL_MAX_BYTES="1000000",
    )
    assert settings == Settings(
        heartbeats="log",
        span_events=False,
        trace_seed=" a b ",
        trace_url="https://tempo.example/{trace_id}",
        exit_timeout_s=0.25,
        redact="pass(word)?=.*",
        worker=False,
        stderr_bytes=16384,
        termination_log=False,
        spool_dir="/data/spool",
        spool_max_bytes=1_000_000,
    )
    assert warnings == []


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("HEARTBEATS", "span", "'metric' or 'log'; 'metric' is used."),
        ("SPAN_EVENTS", "maybe", "true or false; true is used."),
        (
            "TRACE_URL",
            "https://tempo.example/",
            "a link with '{trace_id}' where the trace id goes; no link is given.",
        ),
        ("EXIT_TIMEOUT", "3601", "seconds above 0 and up to 3600; 0.5 is used."),
        ("WORKER", "maybe", "true or false; true is used."),
        ("STDERR", "64KiB", "a whole number of bytes from 1 to 32768 or 'off'; 8192 is used."),
        ("SPOOL_MAX_BYTES", "lots", "a whole number of bytes from 1 to 1099511627776; 67108864 is used."),
    ],
)
def test_a_wrong_setting_is_one_warning_and_the_default(name: str, value: str, said: str) -> None:
    """It names the variable, the value, and what would be accepted."""
    settings, warnings = settings_of(**{name: value})
    assert settings == Settings()
    assert warnings == [f"{PREFIX}{name}={value!r} is not accepted: expected {said}"]


def test_a_wrong_expression_redacts_everything() -> None:
    """Nobody knows what it was to hide."""
    settings, [warning] = settings_of(REDACT="(")
    assert warning.startswith(f"{PREFIX}REDACT='(' is not accepted: expected a regular expression (")
    assert warning.endswith("); all texts are redacted.")
    assert Redaction(settings.redact).text("secret\nand more") == "[redacted]"


# --- what they do, where no other test is about it ------------------------------------------------


def test_the_end_of_a_process_waits_no_longer_than_it_may(receiver: OtlpReceiver) -> None:
    """TORCHELASTIC_OTEL_EXIT_TIMEOUT: a slow server is waited for, one that never answers is not."""
    receiver.respond(delay=1.5)
    assert record_job({**otlp(receiver), "TORCHELASTIC_OTEL_EXIT_TIMEOUT": "60"}) == ""
    receiver.respond(delay=300)
    said = record_job({**otlp(receiver), "TORCHELASTIC_OTEL_EXIT_TIMEOUT": "0.1"})
    assert "could not be delivered" in said
