"""The recorders of one job's workers: given to them at their start, read when they have ended."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

from .._job import facts as f
from .._runtime.clock import Moment
from .._runtime.guard import say_once
from .._worker import evidence_file as file
from .._worker.launching import Memories, may_be_python


def _silent(_message: str) -> None:
    """Say nothing: the bridge's thread reads all settings, and says what is wrong with them."""


def _moment(memory: int, offset: int) -> Moment | None:
    # Workers of a node share its monotonic clock.
    found = file.read_moment(memory, offset)
    return None if found is None else Moment(*found)


class Recorders:
    """Those of the generation that runs."""

    def __init__(self) -> None:
        self._memories: Memories | None = None

    # The table of variables is imported when workers start: the bridge's thread has done that by then, as a
    # rule, and the agent does not wait for it as the job begins.

    @cached_property
    def _on(self) -> bool:
        from .._config.otlp_variables import SDK_DISABLED
        from .._config.variables import WORKER

        return WORKER.value(os.environ, _silent) and not SDK_DISABLED.value(os.environ, _silent)

    @cached_property
    def _stderr_bytes(self) -> int:
        from .._config.variables import STDERR

        return STDERR.value(os.environ, _silent)

    # Giving

    def environments(
        self, command: object, arguments: Mapping[int, tuple[Any, ...]], envs: Mapping[int, dict[str, str]]
    ) -> dict[int, dict[str, str]]:
        """Return the variables to set for each worker of a new generation that gets a recorder.

        Args:
            command: what the workers run.
            arguments: its arguments by local rank.
            envs: the variables that each worker gets beside those of this process.
        """
        self.close()
        if not self._on or not isinstance(command, str):
            return {}
        ranks = [rank for rank, given in arguments.items() if may_be_python(command, given)]
        if not ranks:
            return {}
        try:
            self._memories = Memories(ranks)
        except OSError as error:
            say_once("recorders", f"workers run without a recorder ({error}); the job is not affected.")
            return {}
        return {
            rank: self._memories.environment(rank, {**os.environ, **envs.get(rank, {})}) for rank in ranks
        }

    # Reading

    def with_evidence(self, exit_: f.WorkerExit) -> f.WorkerExit:
        """Return how a worker ended, with what it left."""
        if not exit_.exit_code:
            return exit_
        recorded = self._of(exit_.local_rank) or f.Recorded()
        recorded = replace(recorded, stderr_tail=self._tail_of(exit_.stderr))
        return exit_ if recorded == f.Recorded() else replace(exit_, recorded=recorded)

    def of_running(self, codes: Mapping[int, int | None]) -> dict[int, f.Recorded]:
        """Return, by local rank, what workers left that have raised and still run."""
        found = {rank: self._of(rank) for rank, code in codes.items() if code is None}
        return {rank: left for rank, left in found.items() if left is not None and left.raised is not None}

    def _of(self, rank: int) -> f.Recorded | None:
        memory = None if self._memories is None else self._memories.of(rank)
        if memory is None or not file.read_number(memory, file.RECORDER_PID):
            return None
        return f.Recorded(
            file.read_text(memory, file.EXCEPTION_TYPE),
            file.read_text(memory, file.EXCEPTION_MESSAGE),
            file.read_text(memory, file.EXCEPTION_STACK),
            _moment(memory, file.RAISED),
            file.read_text(memory, file.THREAD_EXCEPTION),
            file.read_crash(memory),
            progress=f.Progress(
                file.read_number(memory, file.STEPS),
                bool(file.read_number(memory, file.NUMBERED)),
                _moment(memory, file.CHECKPOINT),
                file.read_number(memory, file.CHECKPOINT_STEPS),
            ),
        )

    def _tail_of(self, path: str) -> str:
        """Return the last whole lines of a worker's standard error, where that is a file."""
        most = self._stderr_bytes
        if not most or not path or not os.path.isfile(path):
            return ""
        try:
            with open(path, "rb") as output:
                end = output.seek(0, os.SEEK_END)
                output.seek(max(0, end - most))
                text = output.read(most)
        except OSError:
            return ""
        if end > most:
            text = text.partition(b"\n")[2] or text
        return text.decode("utf-8", "replace")

    def close(self) -> None:
        """The generation is over: what its workers left is not needed any more."""
        memories, self._memories = self._memories, None
        if memories is not None:
            memories.close()
