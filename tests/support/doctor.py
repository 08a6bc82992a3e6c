"""Runs ``torchelastic-otel doctor`` in a clean environment, and reads what it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otlp_receiver import OtlpReceiver

SOURCE = Path(__file__).parents[2] / "src"
SECRET = "s3cr3t-t0ken"


@dataclass
class Found:
    """What the doctor said."""

    code: int
    out: str
    err: str

    @property
    def last_line(self) -> str:
        """The verdict for people."""
        return self.out.splitlines()[-1]

    @property
    def report(self) -> dict[str, Any]:
        """The JSON object."""
        report: dict[str, Any] = json.loads(self.out)
        return report

    def checks(self, name: str) -> list[dict[str, str]]:
        """Return all checks of that name."""
        return [check for check in self.report["checks"] if check["name"] == name]

    def check(self, name: str) -> tuple[str, str, str]:
        """Return the status, message and advice of the one check of that name."""
        (found,) = self.checks(name)
        return found["status"], found["message"], found["advice"]

    def says(self, name: str, status: str, message: str, advice: str = "") -> bool:
        """Tell whether there is such a check."""
        return any(
            (check["status"], message in check["message"], advice in check["advice"]) == (status, True, True)
            for check in self.checks(name)
        )


@dataclass
class Doctor:
    """Runs the command with a clean environment."""

    folder: Path

    @property
    def spool(self) -> Path:
        """Its spool."""
        return self.folder / f"torchelastic-otel-{os.geteuid()}"

    def __call__(
        self,
        variables: Mapping[str, str] | None = None,
        /,
        *,
        arguments: tuple[str, ...] = ("--json",),
        python: tuple[str, ...] = (),
        path: tuple[Path, ...] = (),
    ) -> Found:
        """Run ``torchelastic-otel doctor --json``, or with other arguments."""
        environ = {
            "PATH": os.environ["PATH"],
            "TORCHELASTIC_OTEL_SPOOL_DIR": str(self.spool),
            "PYTHONPATH": os.pathsep.join(map(str, (*path, SOURCE))),
            **(variables or {}),
        }
        done = subprocess.run(
            [sys.executable, *python, "-m", "torchelastic_otel.cli", "doctor", *arguments],
            env=environ,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
        )
        return Found(done.returncode, done.stdout, done.stderr)


def port_of(endpoint: str) -> str:
    """Return the port of a URL."""
    return endpoint.rpartition(":")[2]


def endpoint_of(receiver: OtlpReceiver, protocol: str) -> str:
    """Return the receiver's endpoint."""
    return receiver.grpc_endpoint if protocol == "grpc" else receiver.http_endpoint


def to(endpoint: str, protocol: str = "http/protobuf") -> dict[str, str]:
    """Return the variables that lead there."""
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
