"""Whose providers take a job's telemetry: those handed in, the program's own, else the bridge's."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from otlp_receiver import OtlpReceiver
from tests.support.harness import Harness
from tests.support.launching import LAUNCH, OF_A_JOB, ONE_JOB, answer

pytestmark = pytest.mark.e2e

MEMORY = """
import torchelastic_otel
from opentelemetry import _logs, metrics, trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

spans, logs = InMemorySpanExporter(), InMemoryLogRecordExporter()
resource = Resource({"service.name": "of the program"})
tracers = TracerProvider(resource=resource)
tracers.add_span_processor(SimpleSpanProcessor(spans))
loggers = LoggerProvider(resource=resource)
loggers.add_log_record_processor(SimpleLogRecordProcessor(logs))

def global_providers():
    return [type(p).__name__ for p in (trace.get_tracer_provider(), _logs.get_logger_provider(),
                                       metrics.get_meter_provider())]

before = global_providers()

def seen(context):
    return {
        "spans": [span.name for span in spans.get_finished_spans()],
        "worker": [f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-01"
                   for span in spans.get_finished_spans() if span.name == "torchelastic.worker"],
        "logs": [log.log_record.event_name for log in logs.get_finished_logs()],
        "traces": sorted({log.log_record.trace_id for log in logs.get_finished_logs()}
                         | {span.context.trace_id for span in spans.get_finished_spans()}),
        "services": sorted({item.resource.attributes["service.name"]
                            for item in [*spans.get_finished_spans(), *logs.get_finished_logs()]}),
        "context": context,
        "global": [before, global_providers()],
    }
"""


def check_memory(seen: dict[str, Any]) -> None:
    """Check that a whole job is in the program's own exporters."""
    assert Counter(seen["spans"]) == ONE_JOB
    assert set(seen["logs"]) >= OF_A_JOB
    assert len(seen["traces"]) == 1
    assert seen["services"] == ["of the program"]
    assert seen["worker"] == [seen["context"]]


@pytest.mark.parametrize(
    ("put_in", "take_out"),
    [
        (
            "torchelastic_otel.instrument(tracer_provider=tracers, logger_provider=loggers)",
            "torchelastic_otel.uninstrument()",
        ),
        (
            "from torchelastic_otel.instrumentor import TorchElasticInstrumentor as Instrumentor\n"
            "Instrumentor().instrument(tracer_provider=tracers, logger_provider=loggers)",
            "Instrumentor().uninstrument()",
        ),
    ],
    ids=["instrument", "instrumentor"],
)
def test_providers_that_are_handed_in_are_used(
    harness: Harness, receiver: OtlpReceiver, put_in: str, take_out: str
) -> None:
    """Spans and records go to the given providers and nowhere else, and none is set globally."""
    program = f'context = launch("null")\n{take_out}\nanswer = seen(context)'
    found = answer(harness, receiver, LAUNCH, MEMORY, put_in, program, OTEL_METRICS_EXPORTER="none")
    check_memory(found)
    assert found["global"][0] == found["global"][1]
    assert receiver.requests == []


def test_providers_that_the_program_has_set_are_used(harness: Harness, receiver: OtlpReceiver) -> None:
    """The program's global providers take everything, by ``event_log_handler="otel"`` alone."""
    program = """
    trace.set_tracer_provider(tracers)
    _logs.set_logger_provider(loggers)
    context = launch("otel")
    torchelastic_otel.flush()
    answer = seen(context)
    """
    found = answer(harness, receiver, LAUNCH, MEMORY, program, OTEL_METRICS_EXPORTER="none")
    check_memory(found)
    assert receiver.requests == []


def test_no_global_provider_is_set(harness: Harness, receiver: OtlpReceiver) -> None:
    """A job that is exported by the environment's variables leaves the program's global providers unset."""
    found = answer(
        harness,
        receiver,
        LAUNCH,
        MEMORY,
        'context = launch("otel")\ntorchelastic_otel.flush()\nanswer = seen(context)',
    )
    assert found["global"][0] == found["global"][1]
    assert found["spans"] == []
    assert Counter(span.name for span in receiver.spans) == ONE_JOB
