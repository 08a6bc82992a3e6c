"""What torch measures of its agents' steps (``@prof`` in ``torch.distributed.elastic.metrics``)."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

from .._contract import OUTCOME_FAILED, OUTCOME_SUCCEEDED
from .._intake.recording import submit_fact
from .._runtime.clock import now
from .._runtime.guard import guarded

_AGENTS = ("SimpleElasticAgent", "LocalElasticAgent")
_DURATION = ".duration.ms"
_OUTCOMES = {"success": OUTCOME_SUCCEEDED, "failure": OUTCOME_FAILED}


class Operations:
    """Puts together what ``@prof`` tells of a step: ``<step>.success`` or ``.failure``, then its duration."""

    def __init__(self, job: int) -> None:
        self._job = job
        self._pid = os.getpid()
        self._step = ""
        self._outcome = ""

    def measured(self, name: str, value: float) -> None:
        """Take a metric; others than those of a step are left alone."""
        if name.endswith(_DURATION):
            step = name.removesuffix(_DURATION)
            outcome = self._outcome if step == self._step else None
            self._step = ""
            agent, _, operation = step.rpartition(".")
            if agent not in _AGENTS or os.getpid() != self._pid:
                return  # a program's own, or a forked worker's
            from .._job import facts as f  # where torch is merely imported, nobody needs them

            # It can wait: one comes with each of the agent's looks at its workers.
            submit_fact(f.Operation(self._job, now(), operation, value / 1000, outcome), quiet=True)
            return
        step, _, how = name.rpartition(".")
        if how in _OUTCOMES:
            self._step, self._outcome = step, _OUTCOMES[how]


def observed(
    put_metric: Callable[..., Any], listening: Callable[[], Operations | None]
) -> Callable[..., Any]:
    """Return torch's ``put_metric``, observed; whoever handles torch's metrics goes on getting them.

    ``listening`` returns the operations of the agent that runs on this thread, if one does.
    """

    @functools.wraps(put_metric)
    def put(metric_name: str, metric_value: int, *args: Any, **kwargs: Any) -> Any:
        result = put_metric(metric_name, metric_value, *args, **kwargs)
        operations = listening()
        if operations is not None:
            guarded(operations.measured, metric_name, metric_value)
        return result

    return put
