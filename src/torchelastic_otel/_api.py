"""The public functions: what ``torchelastic_otel`` offers to programs.

Nothing heavy is imported before a function is called: importing the package is cheap in every process.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from ._torch.hooks import hooks

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextvars import Token

    from opentelemetry._logs import LoggerProvider
    from opentelemetry.context import Context
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider


def instrument(
    *,
    tracer_provider: TracerProvider | None = None,
    logger_provider: LoggerProvider | None = None,
    meter_provider: MeterProvider | None = None,
) -> None:
    """Export the events of every job that this process launches, whatever their event log handler.

    A job's own handler (``console``, say) goes on as before.

    Args:
        tracer_provider: takes the spans; default: the program's global provider if it has set one, else one
            built from the ``OTEL_*`` variables and set nowhere.
        logger_provider: takes the log records; likewise.
        meter_provider: takes the measurements; likewise.
    """
    from ._intake.lifecycle import use_providers

    if tracer_provider is not None or logger_provider is not None or meter_provider is not None:
        from ._telemetry.providers import Providers

        use_providers(Providers(tracer_provider, logger_provider, meter_provider))
    hooks.install()
    hooks.follow_every_job()


def uninstrument() -> None:
    """Undo ``instrument``: torch is as it was before. What was recorded is sent first."""
    from ._intake.lifecycle import use_providers

    hooks.release()
    use_providers(None)


def flush(timeout_s: float = 5.0) -> bool:
    """Send what was recorded so far; False if that took longer than ``timeout_s`` seconds.

    Not needed at the end of a process, which flushes by itself.
    """
    from ._intake.lifecycle import bridge

    return bridge().flush(timeout_s)


def step(number: int) -> None:
    """In a worker: the training step ``number`` is done. Nothing outside of a job that is followed.

    For programs without an optimizer of torch's, or to give steps the program's own numbers.
    """
    progress = _progress()
    if progress is not None:
        progress.step(number)


def checkpoint(step: int | None = None) -> None:
    """In a worker: a checkpoint is complete. Nothing outside of a job that is followed.

    Args:
        step: number of the last step that is in it, for programs that call ``step``; else the last one done.
    """
    progress = _progress()
    if progress is not None:
        progress.checkpoint(step)


def _progress() -> Any:
    recorder = sys.modules.get("_torchelastic_otel_worker.recorder")
    return None if recorder is None else recorder.progress()


def attach_worker_context() -> Token[Context]:
    """In a worker: make the worker's span the parent of the script's own spans and logs.

    Reads the context that the agent put into this process's environment (``TRACEPARENT``, ``TRACESTATE``,
    ``BAGGAGE``; OpenTelemetry's specification of environment variables as propagation carriers), with the
    propagators of ``OTEL_PROPAGATORS``. Where there is none, the current context stays.

    Returns:
        A token for ``opentelemetry.context.detach``; most scripts need no detaching.
    """
    from opentelemetry import context, propagate

    carrier = {key.lower().replace("_", "-"): value for key, value in os.environ.items()}
    return context.attach(propagate.extract(carrier, context.get_current()))


def worker_tracer_provider(attributes: Mapping[str, str] | None = None) -> TracerProvider:
    """In a worker: return a tracer provider for the script's own spans, which go where the bridge's go.

    Endpoint, protocol, sampler, limits and redaction are the bridge's, by the same variables. What no backend
    takes is kept in the spool, and the end of the process waits for one at most
    ``TORCHELASTIC_OTEL_EXIT_TIMEOUT``; nothing has to be called at the end. Each call makes another provider:
    call it once. It is not set as the global one::

        trace.set_tracer_provider(torchelastic_otel.worker_tracer_provider({"service.name": "trainer"}))

    Args:
        attributes: of the resource, in place of what the environment says, or beside it.
    """
    from ._config.settings import read_settings
    from ._runtime.guard import warn_once
    from ._telemetry.sdk_objects import import_trace_sdk

    import_trace_sdk()
    from ._telemetry import worker_spans

    settings = read_settings(os.environ, warn_once)
    return worker_spans.worker_tracer_provider(os.environ, warn_once, settings, attributes or {})
