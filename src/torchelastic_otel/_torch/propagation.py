"""The trace context that a worker finds in its environment: that of its own span."""

from __future__ import annotations

import os
import sys

from .._intake.lifecycle import bridge
from .._job import facts as f
from .._job.identity import TraceIdentity, format_traceparent
from .._runtime.otel_api import is_real

_LONGEST_WAIT_S = 1.0


def worker_environments(
    job: int, generation: f.WorkersStarting, identity: TraceIdentity
) -> dict[int, dict[str, str]]:
    """Return the variables to add for each local rank; {} where no span of ours will be exported.

    The ids were chosen beforehand, so nothing is waited for, unless the program's own OpenTelemetry or a
    sampler has a say in them: then the bridge's thread is asked, for a second at most.
    """
    environ = os.environ
    if not bridge().exports_spans:
        return {}
    if _others_decide():
        return bridge().ask(lambda engine: engine.worker_contexts(job), _LONGEST_WAIT_S) or {}
    if environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() == "none":
        # A parent that nobody exports is worse than none.
        return {}
    flags = 1 if identity.parent is None else identity.parent.flags
    if environ.get("OTEL_TRACES_SAMPLER", "").strip() == "always_on":
        flags = 1
    return {
        slot.local_rank: {"TRACEPARENT": format_traceparent(identity.trace_id, slot.span_id, flags)}
        for slot in generation.workers
    }


def _others_decide() -> bool:
    environ = os.environ
    if bridge().has_providers or environ.get("OTEL_CONFIG_FILE") or environ.get("OTEL_PROPAGATORS"):
        return True
    if environ.get("OTEL_TRACES_SAMPLER", "").strip() not in ("", "always_on", "parentbased_always_on"):
        return True
    if environ.get("OTEL_PYTHON_ID_GENERATOR", "").strip() not in ("", "random"):
        return True
    # The bridge's own thread may be importing it at this moment: then nobody else has set it up.
    get_provider = getattr(sys.modules.get("opentelemetry.trace"), "get_tracer_provider", None)
    return get_provider is not None and is_real(get_provider())
