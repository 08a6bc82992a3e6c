"""How far a worker's training is: steps and checkpoints, where its launcher reads them after its death."""

from __future__ import annotations

import functools
import os
import sys
import time

from . import evidence_file as file
from . import torch_names
from .importing import when_imported

TYPE_CHECKING = False
"""Type checkers know it as true; `typing` takes long to import."""
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Progress:
    """Counts in memory that its launcher shares: allocated, and never truncated, so that no write can fail.

    Args:
        open_memory: returns a descriptor of the memory, and whether it is to be closed.
    """

    def __init__(self, open_memory: Callable[[], tuple[int, bool]]) -> None:
        self._open_memory = open_memory
        self._pid = os.getpid()
        self._numbers: memoryview | None = None
        self._of_optimizers: dict[int, int] = {}

    def watch(self) -> None:
        """Count by torch's own hooks, once the program has imported torch."""
        when_imported(torch_names.OPTIMIZER, self._watch_optimizers)
        when_imported(torch_names.CHECKPOINT, self._watch_checkpoints)

    # What the program says

    def step(self, number: int) -> None:
        """The training step of this number is done."""
        numbers = self._mapped()
        if numbers is not None:
            numbers[file.NUMBERED // 8] = 1
            numbers[file.STEPS // 8] = max(0, number)

    def checkpoint(self, number: int | None = None) -> None:
        """A checkpoint is complete; ``number`` is that of the last step that is in it."""
        numbers = self._mapped()
        if numbers is not None:
            numbered = number is not None and numbers[file.NUMBERED // 8]
            self._mark(max(0, number or 0) if numbered else self._steps())

    # What torch shows

    def _watch_optimizers(self) -> None:
        sys.modules[torch_names.OPTIMIZER].register_optimizer_step_post_hook(self._stepped)

    def _stepped(self, optimizer: object, args: object, kwargs: object) -> None:
        numbers = self._numbers if self._numbers is not None else self._mapped()
        if numbers is None or os.getpid() != self._pid or numbers[file.NUMBERED // 8]:
            return
        # Several optimizers are one training: the one that has stepped most often counts its steps.
        count = self._of_optimizers[id(optimizer)] = self._of_optimizers.get(id(optimizer), 0) + 1
        if count > numbers[file.STEPS // 8]:
            numbers[file.STEPS // 8] = count

    def _watch_checkpoints(self) -> None:
        module: Any = sys.modules[torch_names.CHECKPOINT]
        save, async_save = module.save, module.async_save

        @functools.wraps(save)
        def saved(*args: Any, **kwargs: Any) -> Any:
            result = save(*args, **kwargs)
            if self._in_main_thread():  # others are async_save's own
                self._try(self._mark, self._steps())
            return result

        @functools.wraps(async_save)
        def saving(*args: Any, **kwargs: Any) -> Any:
            steps = self._steps()
            result = async_save(*args, **kwargs)
            future = getattr(result, "upload_completion", result)

            def done(ended: Any) -> None:
                if ended.exception() is None:
                    self._mark(steps)

            self._try(future.add_done_callback, done)
            return result

        module.save, module.async_save = saved, saving

    # The memory

    def _mapped(self) -> memoryview | None:
        if self._numbers is None and os.getpid() == self._pid:
            import mmap

            memory, ours = self._open_memory()
            self._numbers = memoryview(mmap.mmap(memory, file.PAGE)).cast("Q")
            if ours:
                os.close(memory)
        return self._numbers if os.getpid() == self._pid else None

    def _steps(self) -> int:
        return 0 if self._numbers is None else int(self._numbers[file.STEPS // 8])

    def _mark(self, steps: int) -> None:
        numbers = self._mapped()
        if numbers is not None:
            numbers[file.CHECKPOINT_STEPS // 8] = steps
            numbers[file.CHECKPOINT // 8 + 1] = time.time_ns()
            numbers[file.CHECKPOINT // 8] = time.monotonic_ns()

    def _in_main_thread(self) -> bool:
        threading = sys.modules["threading"]
        return bool(threading.current_thread() is threading.main_thread())

    def _try(self, function: Callable[..., object], *args: object) -> None:
        """Call it; the checkpoint is what counts, and it is written."""
        try:
            function(*args)
        except Exception:
            return
