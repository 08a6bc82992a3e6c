"""Trace identity: the same trace on all nodes of a job, with no communication between them.

The trace id is a hash of what every node of a job knows: the run id, the scheduler's job id and attempt, and
a seed that the user may set. ``docs/trace-identity.md`` has the exact bytes and test vectors.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from .._config.schedulers import scheduler_job

DOMAIN = b"torchelastic-otel/trace-id/v1"

_NAMELESS = {"", "none"}
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?\Z")


@dataclass(frozen=True, slots=True)
class ParentContext:
    """A span of another process: W3C trace context as parsed from ``TRACEPARENT``."""

    trace_id: int
    span_id: int
    flags: int


@dataclass(frozen=True, slots=True)
class TraceIdentity:
    """The trace of a job. ``random`` is true where nothing identifies the job to its other nodes."""

    trace_id: int
    parent: ParentContext | None = None
    random: bool = False


def _netstring(text: str) -> bytes:
    try:
        data = text.encode("utf-8", "surrogateescape")  # the bytes as the command line had them
    except UnicodeEncodeError:
        data = text.encode("utf-8", "surrogatepass")
    return b"%d:%b," % (len(data), data)


def hash_trace_id(run_id: str, job: str = "", attempt: str = "", seed: str = "") -> int:
    """Return the trace id: the first 16 bytes of SHA-256 over the domain and four netstrings.

    Args:
        run_id: torchrun's ``--rdzv-id``, "" where it identifies nothing.
        job: the scheduler's job id, "" if there is none.
        attempt: how often the scheduler has restarted that job, "" if it does not say.
        seed: ``TORCHELASTIC_OTEL_TRACE_SEED``, "" if unset.
    """
    data = DOMAIN + b"".join(map(_netstring, (run_id, job, attempt, seed)))
    return int.from_bytes(hashlib.sha256(data).digest()[:16], "big") or 1


def identifies(run_id: str) -> bool:
    """Tell whether a run id identifies a job; torch's own "none", and "", do not."""
    return run_id.strip().lower() not in _NAMELESS


def parse_traceparent(text: str) -> ParentContext | None:
    """Parse a W3C ``traceparent``; None if it is not valid (W3C Trace Context, section 3.2)."""
    match = _TRACEPARENT.match(text.strip())
    if match is None or match[1] == "ff" or (match[1] == "00" and match[5]):
        return None
    trace_id, span_id = int(match[2], 16), int(match[3], 16)
    if not trace_id or not span_id:
        return None
    return ParentContext(trace_id, span_id, int(match[4], 16) & 1)


def identify(run_id: str, environ: Mapping[str, str], seed: str = "") -> TraceIdentity:
    """Return the identity of the job ``run_id`` in this environment.

    A valid ``TRACEPARENT`` wins; a run id that identifies nothing is never hashed alone.
    """
    parent = parse_traceparent(environ.get("TRACEPARENT", ""))
    if parent is not None:
        return TraceIdentity(parent.trace_id, parent)
    job, attempt = scheduler_job(environ)
    named = identifies(run_id)
    if not named and not job and not seed:
        return TraceIdentity(int.from_bytes(os.urandom(16), "big") or 1, random=True)
    return TraceIdentity(hash_trace_id(run_id if named else "", job, attempt, seed))


def new_span_id() -> int:
    """Return a random span id; from the system, so that ``random.seed`` in the program cannot repeat it."""
    return int.from_bytes(os.urandom(8), "big") or 1


def format_traceparent(trace_id: int, span_id: int, flags: int) -> str:
    """Return the W3C ``traceparent`` (version 00)."""
    return f"00-{trace_id:032x}-{span_id:016x}-{flags & 1:02x}"
