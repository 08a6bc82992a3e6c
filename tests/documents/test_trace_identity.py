"""Every id and example of ``docs/trace-identity.md`` is true."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping

import pytest

from tests.support.trace_ids import DOCUMENT, documented_id, documented_vectors
from torchelastic_otel._job.identity import hash_trace_id, identify, parse_traceparent
from torchelastic_otel.cli import main

VECTORS = documented_vectors()


def shell_blocks() -> list[str]:
    """Return the document's shell code."""
    return re.findall(r"^```sh\n(.*?)^```$", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def sh(script: str, *, env: Mapping[str, str] | None = None) -> str:
    """Run a POSIX shell script; return what it prints."""
    shell, path = shutil.which("sh"), "/usr/local/bin:/usr/bin:/bin"
    assert shell is not None
    done = subprocess.run(
        [shell, "-eu", "-c", script],
        env={"PATH": path, **(env or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip()


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run the command line in this process; return what it prints."""
    assert main(["trace-id", *arguments]) == 0
    return capsys.readouterr().out


def test_the_document_has_test_vectors() -> None:
    """The table has at least four rows, no two with the same parts or the same id."""
    assert len(VECTORS) >= 4
    assert all(len(row) == 5 for row in VECTORS)
    assert len({row[:4] for row in VECTORS}) == len({row[4] for row in VECTORS}) == len(VECTORS)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda row: "/".join(row[:4]))
def test_documented_vector(vector: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """Each row's id is what the documented bytes, the package, and the command give."""
    *parts, trace_id = vector
    assert documented_id(*parts) == trace_id
    assert f"{hash_trace_id(*parts):032x}" == trace_id
    run_id, job, attempt, seed = parts
    options = [*("--job", job), *("--attempt", attempt), *("--seed", seed)]
    assert printed(capsys, run_id, *options) == trace_id + "\n"


@pytest.mark.parametrize("vector", VECTORS, ids=lambda row: "/".join(row[:4]))
def test_documented_shell_function_gives_the_documented_id(vector: tuple[str, ...]) -> None:
    """A reader with a shell and sha256sum alone gets the same ids."""
    function = next(block for block in shell_blocks() if "trace_id()" in block)
    env = dict(zip(("RUN_ID", "JOB", "ATTEMPT", "SEED"), vector, strict=False))
    assert sh(function, env=env) == vector[4]


def test_documented_one_liner_is_the_first_vector() -> None:
    """The spelled-out bytes are those of the table's first row."""
    one_liner = next(block for block in shell_blocks() if "trace_id()" not in block)
    assert sh(one_liner) == VECTORS[0][4]


def test_documented_example_of_the_command_is_true(capsys: pytest.CaptureFixture[str]) -> None:
    """The console example prints what the document shows below it."""
    text = DOCUMENT.read_text(encoding="utf-8")
    found = re.search(r"^\$ torchelastic-otel trace-id (.+)\n([0-9a-f]{32})$", text, re.MULTILINE)
    assert found is not None
    assert printed(capsys, *found[1].split()).strip() == found[2]


def test_documented_schedulers_are_those_that_are_read() -> None:
    """Each variable of the document's table has its effect, and a scheduler's attempt is its own."""
    text = DOCUMENT.read_text(encoding="utf-8")
    rows = re.findall(r"^\| [\w ]+ \| `([A-Z_]+)`[^|]* \| (?:`([A-Z_]+)`|none) \|$", text, re.MULTILINE)
    assert len(rows) == 5
    for job, attempt in rows:
        assert identify("r", {job: "j"}).trace_id == int(documented_id("r", "j", "", ""), 16)
        if attempt:
            both = identify("r", {job: "j", attempt: "1"})
            assert both.trace_id == int(documented_id("r", "j", "1", ""), 16)


def test_documented_traceparent_is_valid() -> None:
    """The document's example is one that works."""
    found = re.search(r"^TRACEPARENT=(\S+)$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    assert parse_traceparent(found[1]) is not None
