"""``torchelastic-otel trace-id``: the id that launchers use, or what to give for one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.trace_ids import NAMELESS, documented_id
from torchelastic_otel.cli import main


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run the command line in this process; return what it prints."""
    assert main(["trace-id", *arguments]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("run_id", NAMELESS)
def test_command_refuses_what_has_no_id(run_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A nameless run id alone is a random trace: no id is printed, and the message says what to give."""
    with pytest.raises(SystemExit) as ended:
        main(["trace-id", run_id])
    out, err = capsys.readouterr()
    assert ended.value.code == 2
    assert out == ""
    assert "--job" in err


@pytest.mark.parametrize("run_id", NAMELESS)
def test_command_takes_the_job_for_a_nameless_run_id(run_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As the launcher does."""
    assert printed(capsys, run_id, "--job", "4711").strip() == documented_id("", "4711", "", "")


def test_command_is_installed() -> None:
    """``torchelastic-otel trace-id`` prints the id, in a process of its own."""
    command = Path(sys.executable).with_name("torchelastic-otel")
    done = subprocess.run(
        [command, "trace-id", "llama-pretrain-7", "--attempt", "1", "--job=4711", "--seed", "s"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == documented_id("llama-pretrain-7", "4711", "1", "s") + "\n"
