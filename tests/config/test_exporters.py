"""Which exporters the variables ask for, seen at a receiver or before anything is imported."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from otlp_receiver import OtlpReceiver
from tests.support.harness import otlp
from tests.support.plans import target_of
from tests.support.programs import python
from tests.support.recording import record_job
from torchelastic_otel._config.environment import SIGNALS, Signal
from torchelastic_otel._config.exporters import ExporterPlan, plan_exporters
from torchelastic_otel._config.otlp_variables import EXPORTER

each_signal = pytest.mark.parametrize("signal", SIGNALS)


def names_of(signal: Signal, text: str) -> tuple[list[str], list[str]]:
    """Return the exporters that ``text`` asks for, and what was warned of."""
    warnings: list[str] = []
    plans = plan_exporters(signal, {EXPORTER.of(signal): text}, warnings.append)
    return [plan.name for plan in plans], warnings


def test_the_exporters_name_says_what_is_sent_how(receiver: OtlpReceiver) -> None:
    """The two long names fix the protocol, ``otlp`` leaves it to the other variables."""
    variables = {
        "OTEL_TRACES_EXPORTER": "otlp_proto_http",
        "OTEL_LOGS_EXPORTER": "otlp_proto_grpc",
        "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": receiver.grpc_endpoint,
        "OTEL_METRICS_EXPORTER": "OTLP",
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc",
    }
    assert record_job({**otlp(receiver, "http/protobuf"), **variables}) == ""
    assert {request.signal: request.protocol for request in receiver.requests} == {
        "traces": "http/protobuf",
        "logs": "grpc",
        "metrics": "http/protobuf",
    }


def test_no_exporter_means_otlp(receiver: OtlpReceiver) -> None:
    """The SDK by itself would send nothing."""
    assert record_job(otlp(receiver)) == ""
    assert {request.signal for request in receiver.requests} == set(SIGNALS)


@each_signal
def test_several_exporters_are_all_made_once(signal: Signal) -> None:
    """Two names for the same are one."""
    assert names_of(signal, "otlp, console,otlp_proto_grpc,") == (["otlp", "console"], [])


@each_signal
def test_otlp_goes_one_way(signal: Signal) -> None:
    """Two protocols for one signal would send everything twice: the second is told and left out."""
    names, (warning,) = names_of(signal, "otlp_proto_grpc,otlp_proto_http")
    assert names == ["otlp"]
    assert warning.startswith(f"OTEL_{signal.upper()}_EXPORTER: {signal} go by OTLP once")
    assert "'otlp_proto_http' beside it is ignored" in warning


@each_signal
def test_a_third_partys_exporter_is_found(third_party: Callable[[str, str], None], signal: Signal) -> None:
    """An installed entry point is an exporter's name like any other."""
    third_party(f"[opentelemetry_{signal}_exporter]\nvendor = vendor_stuff:Exporter", "class Exporter: pass")
    assert names_of(signal, "vendor") == (["vendor"], [])


def test_an_unknown_exporter_is_one_warning(receiver: OtlpReceiver) -> None:
    """It names what is installed; the others in the list still work."""
    said = record_job({**otlp(receiver), "OTEL_LOGS_EXPORTER": "otlp,jaeger"})
    assert said.count("OTEL_LOGS_EXPORTER='jaeger' is not accepted: expected one that is installed (") == 1
    assert "console" in said
    assert said.endswith(" or none; logs are not sent there.\n")
    assert len(receiver.logs) == 1


def test_an_exporter_that_raises_costs_its_own_signal_alone(
    receiver: OtlpReceiver, third_party: Callable[[str, str], None]
) -> None:
    """The variable is told once, with what was raised."""
    third_party(
        "[opentelemetry_logs_exporter]\nvendor = vendor_stuff:Exporter",
        "class Exporter:\n    def __init__(self): raise RuntimeError('no licence')",
    )
    said = record_job({**otlp(receiver), "OTEL_LOGS_EXPORTER": "vendor"})
    assert (
        said.count("OTEL_LOGS_EXPORTER: the exporter 'vendor' cannot be made (RuntimeError: no licence)") == 1
    )
    assert {request.signal for request in receiver.requests} == {"traces", "metrics"}


def test_none_beside_another_exporter_is_one_warning() -> None:
    """It is contradictory; what is named is sent."""
    names, [warning] = names_of("logs", "none,otlp")
    assert names == ["otlp"]
    assert warning.startswith("OTEL_LOGS_EXPORTER: 'none' next to")


# --- planning -------------------------------------------------------------------------------------


def test_planning_imports_nothing_heavy() -> None:
    """Problems can be told where the job starts, at no cost."""
    printed = python(
        """
        import sys, os
        from torchelastic_otel._config.exporters import plan_exporters
        from torchelastic_otel._config.settings import read_settings
        read_settings(os.environ, print)
        for signal in ("traces", "logs", "metrics"):
            plan_exporters(signal, os.environ, print)
        print(sorted({"grpc", "requests", "opentelemetry.sdk.trace", "google.protobuf"} & set(sys.modules)))
        """,
        OTEL_EXPORTER_OTLP_ENDPOINT="http://collector:4318",
    )
    assert printed.strip() == "[]"


def test_a_plan_keeps_headers_out_of_its_text() -> None:
    """A plan may be logged; credentials may not."""
    target, _ = target_of(OTEL_EXPORTER_OTLP_HEADERS="authorization=tok3n")
    assert target.headers == (("authorization", "tok3n"),)
    assert "tok3n" not in repr(ExporterPlan("logs", "otlp", target))


def test_warnings_about_general_variables_are_the_same_for_all_signals() -> None:
    """So that each can be told once: by its text."""
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json",
        "OTEL_EXPORTER_OTLP_HEADERS": "nonsense",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "soon",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "zip",
    }
    traces, logs, metrics = (target_of(environ, signal=signal)[1] for signal in SIGNALS)
    assert traces == logs == metrics
    assert len(set(traces)) == 5


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_signals_may_be_loaded_in_parallel(protocol: str) -> None:
    """Each on its own thread, as the first thing that imports OpenTelemetry in the process."""
    printed = python(
        """
        import os, threading
        from torchelastic_otel._config.exporters import plan_exporters
        from torchelastic_otel._delivery.sender import make_sender
        together, made = threading.Barrier(3), []
        def load(signal):
            together.wait()
            made.extend(make_sender(signal, plan.otlp) for plan in plan_exporters(signal, os.environ, print))
        threads = [threading.Thread(target=load, args=[signal]) for signal in ("traces", "logs", "metrics")]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        print(len(made))
        """,
        OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
    )
    assert printed.strip() == "3"
