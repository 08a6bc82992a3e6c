"""What all tests share."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from otlp_receiver import OtlpReceiver
from tests.support.credentials import Authority
from tests.support.harness import Harness
from tests.support.scenarios import Run, Runs


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that renews a document from what the tests observe."""
    parser.addoption("--write-failures", action="store_true", help="renew the table in docs/failures.md")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where the backends must be there (TORCHELASTIC_OTEL_REQUIRE_TOOLS=1), a test that lacks one fails."""
    report = yield
    required = os.environ.get("TORCHELASTIC_OTEL_REQUIRE_TOOLS") == "1"
    if required and report.skipped and ".tools" in str(report.longrepr):
        report.outcome = "failed"
    return report


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    """A receiver of the test's own, without TLS."""
    with OtlpReceiver() as receiver:
        yield receiver


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority; its certificates are made once."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    """A clean environment for launchers, of the test's own."""
    with Harness(tmp_path / "job") as harness:
        yield harness


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """All scenarios of torchrun, each run when it is first looked at."""
    return Runs(tmp_path_factory.mktemp("torchrun"))


@pytest.fixture
def run(runs: Runs, name: str) -> Run:
    """Return the scenario that the test is about."""
    return runs[name]


@pytest.fixture
def third_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Return a function that installs a distribution: its entry points and its one module's source."""

    def install(entry_points: str, source: str) -> None:
        (tmp_path / "vendor_stuff.py").write_text(textwrap.dedent(source))
        info = tmp_path / "vendor_stuff-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vendor-stuff\nVersion: 1\n")
        (info / "entry_points.txt").write_text(textwrap.dedent(entry_points))
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "vendor_stuff", raising=False)

    return install
