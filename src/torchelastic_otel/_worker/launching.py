"""The launcher's side of a recorder: the memories of a generation, and what workers need to find theirs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from shutil import which

from . import evidence_file as file

_SITE = str(Path(__file__).with_name("site"))
_VARIABLE = "_TORCHELASTIC_OTEL_RECORDER"


class Memories:
    """The memories of the workers of one generation, by local rank. OSError where there is no room."""

    def __init__(self, ranks: Iterable[int]) -> None:
        self._descriptors: dict[int, int] = {}
        try:
            for rank in ranks:
                self._descriptors[rank] = file.make()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Memories:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def of(self, rank: int) -> int | None:
        """Return the descriptor of a worker's memory."""
        return self._descriptors.get(rank)

    def environment(self, rank: int, environ: Mapping[str, str]) -> dict[str, str]:
        """Return the variables to set for a worker whose environment would be ``environ``."""
        before = environ.get("PYTHONPATH")
        told = f"{os.getpid()} {self._descriptors[rank]} {'unset' if before is None else 'set'}"
        return {"PYTHONPATH": f"{_SITE}{os.pathsep}{before}" if before else _SITE, _VARIABLE: told}

    def close(self) -> None:
        """Let go of them; a worker that still runs keeps its own until it ends."""
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])


def may_be_python(command: str, arguments: Sequence[object]) -> bool:
    """Tell whether a command may run Python: by a name in it, or because it is a script of some kind."""
    if any("python" in os.path.basename(str(part)) for part in (command, *arguments)):
        return True
    try:
        with open(which(command) or command, "rb") as program:
            return program.read(2) == b"#!"
    except OSError:
        return False
