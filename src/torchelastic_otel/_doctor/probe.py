"""Sends one record of each signal to where it is configured to go, and looks what comes back."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .._config.environment import Signal
from .._config.otlp import OtlpTarget
from .._contract import SCOPE
from .._delivery.spool import destination_of
from .._runtime.imports import importing
from .._telemetry.log_encoding import encode_attributes
from .._version import __version__
from .advice import Advice
from .network import Address, Listener, address_of, connect, proxy_of, what_listens, within
from .report import Check

if TYPE_CHECKING:
    from .._delivery.answer import Answer

PROBE = f"{SCOPE}.doctor"
"""Name of the span, of the log record's event, and of the metric."""

_LONGEST_S = 10.0
_MARGIN_S = 2.0


class Probes:
    """Makes and sends the probes.

    Args:
        environ: the environment.
        resource: the attributes of who sends.
    """

    def __init__(self, environ: Mapping[str, str], resource: Mapping[str, object]) -> None:
        self._environ = environ
        self._resource = resource
        self._ids = os.urandom(16), os.urandom(8)
        self._connected: dict[Address, str] = {}
        self._listeners: dict[Address, Listener | None] = {}

    def check(self, signal: Signal, target: OtlpTarget) -> Check:
        """Connect, send, and say how that went."""
        address = address_of(target)
        advice = Advice(signal, target, address, self._environ)
        if finding := advice.other_signals_path():
            return Check(signal, "problem", *finding)
        proxy = proxy_of(target, address, self._environ) if address else None
        first = proxy.address if proxy else address
        if unreachable := first and self._connect(first):
            return Check(signal, "problem", *advice.unreachable(unreachable, proxy))
        answer = self._send(signal, target)
        if answer.kind != "delivered" or answer.rejected:
            if proxy:
                return Check(signal, "problem", *advice.behind_proxy(answer, proxy))
            listener = self._listener(address) if address else None
            return Check(signal, "problem", *advice.not_taken(answer, listener))
        way = f" through the proxy {proxy.address} ({proxy.variable})" if proxy else ""
        words = f"; it says: {answer.message.rstrip('.')}" if answer.message else ""
        message = f"{destination_of(target).endpoint} took the probe{way}{words}."
        return Check(signal, "warning" if words else "ok", message)

    def _connect(self, address: Address) -> str:
        if address not in self._connected:
            self._connected[address] = connect(address)
        return self._connected[address]

    def _listener(self, address: Address) -> Listener | None:
        if address not in self._listeners:
            self._listeners[address] = what_listens(address)
        return self._listeners[address]

    def _send(self, signal: Signal, target: OtlpTarget) -> Answer:
        from .._delivery.answer import Answer
        from .._delivery.sender import make_sender

        try:
            sender = make_sender(signal, target)
        except Exception as error:
            return Answer("rejected", f"what would send it cannot be made ({type(error).__name__}: {error})")
        payload, timeout_s = self.payload(signal), min(target.timeout_s, _LONGEST_S)
        try:
            # Beyond the sender's own bound: a credential provider's session may wait for longer.
            answer = within(timeout_s + _MARGIN_S, lambda: sender.send(payload, timeout_s))
        finally:
            sender.close()
        return answer or Answer("retry", f"there was no whole answer within {timeout_s:g} s")

    def payload(self, signal: Signal) -> bytes:
        """Return a request with one log record, span or metric of the name ``PROBE``."""
        with importing:
            from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
            from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
                ExportMetricsServiceRequest,
            )
            from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
        now = time.time_ns()
        trace_id, span_id = self._ids
        request: Any
        if signal == "logs":
            request = ExportLogsServiceRequest()
            group = request.resource_logs.add()
            scope = group.scope_logs.add()
            record = scope.log_records.add(
                time_unix_nano=now,
                observed_time_unix_nano=now,
                severity_number=9,
                severity_text="INFO",
                event_name=PROBE,
                trace_id=trace_id,
                span_id=span_id,
                flags=1,
            )
            record.body.string_value = "A probe of torchelastic-otel doctor."
        elif signal == "traces":
            request = ExportTraceServiceRequest()
            group = request.resource_spans.add()
            scope = group.scope_spans.add()
            times = {"start_time_unix_nano": now - 1_000_000, "end_time_unix_nano": now}
            scope.spans.add(name=PROBE, trace_id=trace_id, span_id=span_id, kind=1, flags=1, **times)
        else:
            request = ExportMetricsServiceRequest()
            group = request.resource_metrics.add()
            scope = group.scope_metrics.add()
            metric = scope.metrics.add(name=PROBE, unit="{probe}", description="Probes of the doctor.")
            metric.gauge.data_points.add(time_unix_nano=now, as_int=1)
        scope.scope.name, scope.scope.version = SCOPE, __version__
        encode_attributes(group.resource.attributes, self._resource.items())
        return bytes(request.SerializeToString())
