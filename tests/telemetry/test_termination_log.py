"""The file whose text Kubernetes shows in the status of a pod."""

from __future__ import annotations

from pathlib import Path

import pytest

from torchelastic_otel._config.settings import Settings
from torchelastic_otel._telemetry import termination_log
from torchelastic_otel._telemetry.telemetry import Telemetry

OFF = {f"OTEL_{signal}_EXPORTER": "none" for signal in ("TRACES", "LOGS", "METRICS")}


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in its place."""
    path = tmp_path / "termination-log"
    path.touch()
    monkeypatch.setattr(termination_log, "PATH", str(path))
    return path


def leave(text: str, **settings: bool | str) -> None:
    """Leave a verdict."""
    chosen = Settings(spool_dir="off", **settings)  # type: ignore[arg-type]  # each has its own type
    Telemetry(OFF, pytest.fail, settings=chosen).leave_verdict(text)


def test_a_verdict_is_written_once_and_redacted(log: Path) -> None:
    """What another one has written stays."""
    leave("failed: Worker 1 died of ValueError: password=hunter2", redact=r"password=\S+")
    assert log.read_text() == "failed: Worker 1 died of ValueError: [redacted]"
    leave("failed: another")
    assert log.read_text() == "failed: Worker 1 died of ValueError: [redacted]"


def test_the_termination_log_can_be_left_alone(log: Path) -> None:
    """TORCHELASTIC_OTEL_TERMINATION_LOG=off."""
    leave("failed", termination_log=False)
    assert log.read_text() == ""


def test_the_file_is_not_made(log: Path) -> None:
    """Outside of Kubernetes there is none."""
    log.unlink()
    leave("failed")
    assert not log.exists()


def test_no_link_is_followed(log: Path, tmp_path: Path) -> None:
    """The file is what the kubelet has put there, or nothing is written."""
    other = tmp_path / "other"
    other.touch()
    log.unlink()
    log.symlink_to(other)
    leave("failed")
    assert other.read_text() == ""


def test_no_more_is_written_than_is_shown(log: Path) -> None:
    """The kubelet reads 4096 bytes."""
    leave("é" * 5000)
    assert log.stat().st_size <= 4096
