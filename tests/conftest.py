"""What all tests share."""

from __future__ import annotations

import logging
import os
import sys
import textwrap
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from otlp_receiver import OtlpReceiver
from tests.support.credentials import Authority
from tests.support.harness import Harness
from tests.support.said import Said
from tests.support.scenarios.job import SCENARIOS
from tests.support.scenarios.running import Run, Runs
from torchelastic_otel._runtime import guard


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
def said(monkeypatch: pytest.MonkeyPatch) -> Iterator[Said]:
    """What the package says in the program's log; what it has said before is forgotten."""
    monkeypatch.setattr(guard, "_said", set())
    logger, handler = guard.logger, Said()
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    """A clean environment for launchers, of the test's own."""
    with Harness(tmp_path / "job") as harness:
        yield harness


@pytest.fixture(scope="session")
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """All scenarios of torchrun that the chosen tests are about; they begin to run with the first of them."""
    wanted = [
        (str(item.callspec.params["name"]), bridge)
        for item in request.session.items
        if isinstance(item, pytest.Function) and hasattr(item, "callspec")
        for fixture, bridge in (("run", True), ("without", False))
        if fixture in item.fixturenames and item.callspec.params.get("name") in SCENARIOS
    ]
    found = Runs(tmp_path_factory.mktemp("scenarios"), wanted)
    yield found
    found.stop()


@pytest.fixture
def run(runs: Runs, name: str) -> Run:
    """Return the scenario that the test is about."""
    return runs.get(name)


@pytest.fixture
def without(runs: Runs, name: str) -> Run:
    """Return the same scenario, run as if the bridge were not installed."""
    return runs.get(name, bridge=False)


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
