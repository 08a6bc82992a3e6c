"""Starts the servers that tests need, kills them, starts them again, and asks them by HTTP.

    with ended(Program([str(tool("prometheus")), …], directory, f"{url}/-/ready")) as server:
        server.kill()
        server.start()

Programs are looked for in .tools/ (``TORCHELASTIC_OTEL_TOOLS`` names another directory); a test whose
program is not there is skipped.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from tests.support.harness import TIMEOUT_S, clean_environment

Found = TypeVar("Found")


def tool(name: str) -> Path:
    """Return the path of a real backend's program; skip the test where it is not there."""
    directory = Path(os.environ.get("TORCHELASTIC_OTEL_TOOLS") or Path(__file__).parents[2] / ".tools")
    path = directory / name
    if not path.is_file():
        pytest.skip(f"{name} is not in .tools/ nor in the directory that TORCHELASTIC_OTEL_TOOLS names")
    return path


class Program:
    """A server that can be ended and started again, on the same ports and with the same data.

    Args:
        command: what to run.
        directory: where it runs and has its data.
        ready: a line of its standard error, or a URL that answers 200, once it can be used.
        environ: variables to add.
    """

    def __init__(
        self, command: Sequence[str], directory: Path, ready: str, environ: Mapping[str, str] | None = None
    ) -> None:
        self.command = list(command)
        self.directory = directory
        self._ready = ready
        self._environ = clean_environment() | dict(environ or {})
        self._process: subprocess.Popen[str] | None = None
        self._lines: list[str] = []
        self._reader: threading.Thread | None = None

    @property
    def output(self) -> str:
        """What it said on its standard error so far, in all its lives."""
        return "".join(self._lines)

    def start(self) -> None:
        """Start it; it is ready when this returns."""
        self.directory.mkdir(parents=True, exist_ok=True)
        process = subprocess.Popen(
            self.command,
            cwd=self.directory,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        self._process = process
        said, stderr = threading.Event(), process.stderr
        assert stderr is not None
        first = len(self._lines)

        def read() -> None:
            with stderr:
                for line in stderr:
                    self._lines.append(line)
                    if self._ready in line:
                        said.set()
            said.set()

        self._reader = threading.Thread(target=read, name="backend", daemon=True)
        self._reader.start()
        if "://" in self._ready:
            self._await_url(process)
        elif not said.wait(TIMEOUT_S) or not any(self._ready in line for line in self._lines[first:]):
            self.stop()
            pytest.fail(f"{self.command[0]} does not start:\n{self.output}")

    def _await_url(self, process: subprocess.Popen[str]) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            with contextlib.suppress(OSError):  # it does not listen yet, or says 503
                fetch(self._ready)
                return
            if process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                pytest.fail(f"{self.command[0]} does not start:\n{self.output}")
            with contextlib.suppress(subprocess.TimeoutExpired):  # it tells nobody when it is ready
                process.wait(0.05)

    def kill(self) -> None:
        """End it as a power switch would: SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """End it as an operator would: SIGTERM, and SIGKILL if that takes too long."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
        if self._reader is not None:
            self._reader.join(TIMEOUT_S)

    def __enter__(self) -> Program:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@contextlib.contextmanager
def ended(program: Program, start: bool = True) -> Iterator[Program]:
    """Start a program, now or when the caller does; it is ended in any case."""
    try:
        if start:
            program.start()
        yield program
    finally:
        program.stop()


def backend(command: Sequence[str], directory: Path, environ: Mapping[str, str] | None = None) -> Program:
    """Return a program that is a distribution of the OpenTelemetry Collector, to be started by ``with``."""
    return Program(command, directory, "Everything is ready", environ)


def fetch(url: str, query: Mapping[str, str] | None = None) -> bytes:
    """Return what a server of this machine answers, whatever proxies the environment names."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(f"{url}?{urllib.parse.urlencode(query)}" if query else url, timeout=TIMEOUT_S) as answer:
        body: bytes = answer.read()
        return body


def poll(ask: Callable[[], Found], enough: Callable[[Found], bool], what: str) -> Found:
    """Ask until the answer is enough: a backend tells nobody when it has got something."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        found = ask()
        if enough(found):
            return found
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not in {TIMEOUT_S:g} s, only {found!r}")
        time.sleep(0.1)  # so as not to keep it busy with questions


def python(code: str, **variables: str) -> str:
    """Run ``code`` in a new process, where nothing is imported yet; return what it printed."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": path, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
