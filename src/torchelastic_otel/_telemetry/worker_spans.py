"""A tracer provider for a worker's own spans, which leave the process as the bridge's own telemetry does.

Import this after ``sdk_objects.import_trace_sdk``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.trace import Link, Status

from .._config.environment import Warn
from .._config.settings import Settings
from .._delivery.encoding import encode_spans
from .._delivery.outboxes import Outboxes
from .._runtime.ending import LOAD_S, call_at_end
from .._runtime.guard import say_once
from . import sdk_objects
from .batcher import Batcher
from .redaction import Redaction
from .sdk_resource import build_resource
from .span_ids import NextIds
from .ways_out import WaysOut, export_by

if TYPE_CHECKING:
    from .._delivery.outbox import Outbox

_KEEP_S = 0.2
"""Longest time that an ended span waits before it is in the spool, in seconds."""


def worker_tracer_provider(
    environ: Mapping[str, str], warn: Warn, settings: Settings, attributes: Mapping[str, str]
) -> TracerProvider:
    """Return a provider of the SDK's; see ``torchelastic_otel.worker_tracer_provider``."""
    redaction = Redaction(settings.redact)
    provider = TracerProvider(
        resource=build_resource(environ, warn, redaction).merge(Resource(dict(attributes))),
        sampler=sdk_objects.sampler_from_env(environ, warn),
        # The SDK's own goes by Python's `random`: workers that are seeded alike would have the same ids.
        id_generator=sdk_objects.id_generator_from_env(environ, warn) or NextIds(),
        span_limits=sdk_objects.span_limits_from_env(environ, warn),
    )
    outboxes = Outboxes(settings, warn)
    ways_out = WaysOut(environ, warn, outboxes)
    outbox, batchers = ways_out.of("traces", lambda exporter: export_by(exporter, list))
    if outbox is not None:
        batchers = [_to_spool(outbox), *batchers]
    if batchers:
        provider.add_span_processor(EndedSpans(batchers, ways_out, outboxes, redaction, settings))
    return provider


def _to_spool(outbox: Outbox) -> Batcher[ReadableSpan]:
    """Return what takes spans to the spool, on a thread of its own: training does not wait for the disk."""

    def keep(batch: Sequence[ReadableSpan]) -> bool:
        outbox.keep(encode_spans(batch), time.time_ns(), recorded=len(batch))
        return True

    return Batcher("traces", lambda: keep, delay_s=_KEEP_S, max_batch=512, max_queue=1 << 14)


class EndedSpans(SpanProcessor):
    """Hands ended, sampled spans on, and lets the end of the process wait no longer than the bridge does."""

    def __init__(
        self,
        batchers: Sequence[Batcher[ReadableSpan]],
        ways_out: WaysOut,
        outboxes: Outboxes,
        redaction: Redaction,
        settings: Settings,
    ) -> None:
        self._batchers = batchers
        self._ways_out = ways_out
        self._outboxes = outboxes
        self._redaction = redaction if settings.redact else None
        self._exit_timeout_s = settings.exit_timeout_s
        self._pid = os.getpid()
        os.register_at_fork(after_in_child=outboxes.disown)
        call_at_end(self._finish)

    def on_end(self, span: ReadableSpan) -> None:
        """Queue the span if it was sampled; in a forked child nothing takes it."""
        if os.getpid() == self._pid and span.context is not None and span.context.trace_flags.sampled:
            for batcher in self._batchers:
                batcher.put(span if self._redaction is None else _redacted(span, self._redaction))

    def shutdown(self) -> None:
        """Send what is left, and give up the spool if that is all."""
        self._finish()
        if os.getpid() == self._pid:
            self._outboxes.close(self._exit_timeout_s)

    def _finish(self) -> None:
        """Send what is left, as long as the process's end may take for it; the rest stays in the spool."""
        if os.getpid() != self._pid:
            return
        self._ways_out.wait_loaded(time.monotonic() + LOAD_S)
        if not self._flush(time.monotonic() + self._exit_timeout_s):
            say_once("spans left", self._outboxes.summary() or "spans were not all sent in time.")

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what is queued; False if that took longer."""
        return os.getpid() != self._pid or self._flush(time.monotonic() + timeout_millis / 1000)

    def _flush(self, deadline: float) -> bool:
        handed_on = [batcher.flush(deadline) for batcher in self._batchers]
        return self._ways_out.flush(deadline, lambda: True) and all(handed_on)


def _redacted(span: ReadableSpan, redaction: Redaction) -> ReadableSpan:
    events = [
        Event(redaction.text(event.name), redaction.attributes(dict(event.attributes or {})), event.timestamp)
        for event in span.events
    ]
    links = [Link(link.context, redaction.attributes(dict(link.attributes or {}))) for link in span.links]
    described = span.status.description
    return ReadableSpan(
        name=redaction.text(span.name),
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=redaction.attributes(dict(span.attributes or {})),
        events=events,
        links=links,
        kind=span.kind,
        status=Status(span.status.status_code, described and redaction.text(described)),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )
