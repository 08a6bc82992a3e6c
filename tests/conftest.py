"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest


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
