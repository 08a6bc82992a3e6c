"""A job goes on without any of the private names that the package uses, and is told as the table says."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from otlp_receiver import OtlpReceiver
from private_names import PRIVATE_NAMES
from tests.support import other_torch as o
from tests.support.harness import Harness
from tests.support.launching import LAUNCH, OF_A_JOB, ONE_JOB, RENDEZVOUS, STATUS, WORKER, answer_and_output

pytestmark = pytest.mark.e2e

TORCH, OTEL = "torch.*", "opentelemetry.*"
UNKNOWN = "this torch is not known to torchelastic-otel"
OF_TORCHS_OWN = {f"{STATUS}{state}" for state in ("RENDEZVOUS", "ASSIGN_WORKER_RANKS", "START", "SUCCEEDED")}
PROGRAMS_PROVIDER = """
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

trace.set_tracer_provider(TracerProvider())
trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
"""


@dataclass(frozen=True)
class Without:
    """A job without some rows of the table."""

    rows: tuple[str, ...]
    """By the names that the table gives them."""
    changes: tuple[tuple[str, str, str], ...] = ()
    """What is renamed: modules, old, new."""
    program: str = ""
    """What runs before the job."""
    said: str = ""
    """What the output has to tell; with none it tells nothing of ours."""
    spans: Mapping[str, int] = field(default_factory=lambda: ONE_JOB)
    records: frozenset[str] = frozenset(OF_A_JOB)
    """Records that come at least."""
    context: bool = True
    """Whether a worker that is a function finds the context of its span."""
    launch: str = "launch"
    env: Mapping[str, str] = field(default_factory=dict)
    announced: str = ""
    """The internal error that it is, as a regular expression."""

    @property
    def id(self) -> str:
        """For pytest."""
        return self.rows[0]


def renamed(row: str, name: str, *, modules: str = TORCH, said: str = UNKNOWN, **more: object) -> Without:
    """Return a job for which an identifier of the row was renamed wherever it is in a package."""
    return Without((row,), ((modules, name, "_renamed"),), said=said, **more)  # type: ignore[arg-type]  # checked where it is used


OWN = frozenset(OF_TORCHS_OWN)

CASES = (
    renamed("events.handlers._log_handlers", "_log_handlers", records=OWN),
    renamed("events._events_loggers", "_events_loggers", records=OWN),
    Without(
        ("events._events_loggers", "events.handlers._log_handlers"),
        ((TORCH, "_events_loggers", "_renamed"), (TORCH, "_log_handlers", "_renamed_too")),
        said=UNKNOWN,
        records=OWN,
    ),
    renamed("events._get_or_create_logger", "_get_or_create_logger", records=OWN),
    renamed("dynamic_rendezvous.construct_and_record_rdzv_event", "construct_and_record_rdzv_event", said=""),
    renamed("dynamic_rendezvous.get_method_name", "get_method_name", said=""),
    renamed("rendezvous.registry.get_rendezvous_handler", "get_rendezvous_handler"),
    renamed("frame `launch_agent`, local `config`", "launch_agent", said=""),
    Without(
        ("frame `launch_agent`, local `config`", "frame `launch_agent`, local `entrypoint_name`"),
        (("torch.distributed.launcher.*", "config", "_config_"), (TORCH, "entrypoint_name", "_renamed")),
    ),
    renamed("local_elastic_agent.start_processes", "start_processes", records=OWN, context=False),
    renamed("metrics.api.put_metric", "put_metric"),
    renamed("SimpleElasticAgent._monitor_workers", "_monitor_workers"),
    renamed("SimpleElasticAgent._restart_workers", "_restart_workers"),
    renamed("SimpleElasticAgent._shutdown", "_shutdown", modules="torch.distributed.elastic.agent.*"),
    renamed("SimpleElasticAgent._exit_barrier", "_exit_barrier"),
    renamed(
        "SubprocessContext.subprocess_handlers", "subprocess_handlers", launch="launch_script", records=OWN
    ),
    renamed("SubprocessContext._running_local_ranks", "_running_local_ranks", launch="launch_script"),
    renamed("MultiprocessContext._pc", "_pc", records=OWN),
    renamed("PContext.error_files, .stdouts, .stderrs", "stdouts"),
    renamed("DynamicRendezvousHandler._state_holder", "_state_holder"),
    renamed("DynamicRendezvousHandler._this_node", "_this_node"),
    renamed("SignalException, .sigval", "SignalException", modules="torch.distributed.*"),
    Without(
        (
            "metrics `*.duration.ms`, `*.success`",
            "logger `torchelastic-events-*`",
            "LocalElasticAgent._uninterruptible_state_*",
            "ProcessException.error_index",
            "RendezvousGracefulExitError, RendezvousTimeoutError, RendezvousClosedError",
            'the texts "has joined round …", "attempts to join the next round"',
            "thread `RendezvousKeepAliveTimer`, method `_keep_alive`",
            'the text "kill worker process"',
            'the text "&lt;NONE&gt;" of failures without an error file',
        ),
        (
            ("torch.distributed.elastic.metrics.api", ".duration.ms", ".took.ms"),
            (o.EVENTS, "torchelastic-events-", "renamed-"),
            (TORCH, "_uninterruptible_state_timeout", "_renamed_timeout"),
            (TORCH, "_uninterruptible_state_first_seen", "_renamed_first"),
            (TORCH, "error_index", "_renamed_index"),
            (TORCH, "RendezvousGracefulExitError", "Renamed1Error"),
            (TORCH, "RendezvousTimeoutError", "Renamed2Error"),
            (TORCH, "RendezvousClosedError", "Renamed3Error"),
            (TORCH, "has joined round", "is in round"),
            (TORCH, "attempts to join the next round", "goes on"),
            (TORCH, "RendezvousKeepAliveTimer", "RenamedTimer"),
            (TORCH, "_keep_alive", "_renamed_alive"),
            (TORCH, "kill worker process", "end it"),
            ("torch.distributed.elastic.multiprocessing.errors", "<NONE>", "<nothing>"),
        ),
    ),
    Without(
        ("context._SUPPRESS_INSTRUMENTATION_KEY",),
        ((OTEL, "_SUPPRESS_INSTRUMENTATION_KEY", "_RENAMED"),),
        said="opentelemetry.context._SUPPRESS_INSTRUMENTATION_KEY is gone",
    ),
    Without(
        ("packages `_logs`, `sdk._logs`",),
        program="""
        import sys
        sys.modules["opentelemetry._logs"] = sys.modules["opentelemetry.sdk._logs"] = None
        """,
        said="The job is not affected",
        announced="ImportError|ModuleNotFoundError",
        spans={},
        records=frozenset(),
    ),
    Without(
        ("MetricExporter._preferred_temporality, ._preferred_aggregation",),
        (
            (OTEL, "_preferred_temporality", "_renamed_temporality"),
            (OTEL, "_preferred_aggregation", "_renamed_aggregation"),
        ),
        env={"OTEL_METRICS_EXPORTER": "console"},
        said="MetricExporter._preferred_temporality is gone",
    ),
    Without(
        ("Span._events",),
        (("opentelemetry.sdk.trace.*", "_events", "_renamed"),),
        env={"OTEL_SPAN_EVENT_COUNT_LIMIT": "1"},
        said="Span._events.dropped is gone",
    ),
    Without(
        ("Tracer.id_generator",),
        (("opentelemetry.sdk.trace", "self.id_generator", "self._renamed"),),
        program=PROGRAMS_PROVIDER,
        said="makes its own ids",
    ),
    Without(
        ("Tracer._span_limits",),
        (("opentelemetry.sdk.trace.*", "_span_limits", "_renamed"),),
        program=PROGRAMS_PROVIDER,
    ),
    Without(
        ("configuration._tracer_provider, ._logger_provider, ._meter_provider, ._resource",),
        (("opentelemetry.configuration.*", "create_tracer_provider", "_renamed"),),
        env={"OTEL_CONFIG_FILE": "otel.yaml"},
        said="cannot be used (ImportError",
    ),
    Without(
        (
            'texts of refusals, as "failed to connect", "SSL_ERROR_SSL"',
            'the text "message larger than max"',
        ),
        program="""
        import re
        from torchelastic_otel._delivery import answer, grpc_sender
        never = re.compile(r"(?!)")
        grpc_sender._UNREACHABLE = grpc_sender._TLS_ERROR = answer._TOO_LARGE = never
        """,
        env={"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
        said="",
        spans={},
        records=frozenset(),
    ),
    Without(
        ("threading._register_atexit", "`sys._current_frames`, frames of `importlib._bootstrap`"),
        program="""
        import concurrent.futures.thread, sys, threading
        del threading._register_atexit, sys._current_frames
        """,
    ),
    Without(
        ("re._parser",),
        program="""
        import sys
        sys.modules["re._parser"] = sys.modules["sre_parse"] = sys.modules["re2"] = None
        """,
        env={"TORCHELASTIC_OTEL_REDACT": "secret"},
        said="TORCHELASTIC_OTEL_REDACT",
        spans={"[redacted]": sum(ONE_JOB.values())},
        records=frozenset(),
    ),
)
NOT_TRIED = {
    'texts of gloo, as "Connection closed by peer"': "compiled into torch",
    "_thread.start_new_thread": "threading does not work without it either",
    "sys._getframe": "in workers alone: it cannot be taken away before their recorder starts",
    "runpy._run_module_as_main": "it is the name of a frame that Python makes, in workers alone",
}


def test_every_row_is_tried() -> None:
    """Or it is said why not."""
    tried = {row for case in CASES for row in case.rows}
    assert {*tried, *NOT_TRIED} == {each.name for each in PRIVATE_NAMES}


@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_a_job_goes_on_without(harness: Harness, receiver: OtlpReceiver, case: Without) -> None:
    """It ends as it would, and its spans and records come, unless the table says otherwise."""
    for each in PRIVATE_NAMES:
        if each.name in case.rows and each.needs and importlib.util.find_spec(each.needs) is None:
            pytest.skip(f"{each.needs} is not installed")
    harness.program("otel.yaml", 'file_format: "1.0"\n')
    context, output = answer_and_output(
        harness,
        receiver,
        o.change(*case.changes),
        case.program,
        LAUNCH,
        f'answer = {case.launch}("otel")',
        announced=case.announced,
        LOGLEVEL="WARNING",
        **case.env,
    )
    assert case.said in output
    if not case.said:
        assert "torchelastic-otel (" not in output
        assert "is gone" not in output
    assert Counter(span.name for span in receiver.spans) == case.spans
    assert {record.event_name for record in receiver.logs} >= case.records
    workers = [span for span in receiver.spans if span.name == WORKER]
    if workers and case.launch == "launch":
        (worker,) = workers
        ids = f"00-{worker.trace_id}-{worker.span_id}"  # the flags also tell whether the first one is random
        assert (context and context.rpartition("-")[0]) == (ids if case.context else None)
    if RENDEZVOUS in case.spans:
        (rendezvous,) = (span for span in receiver.spans if span.name == RENDEZVOUS)
        assert rendezvous.attributes["torchelastic.outcome"] == "succeeded"
