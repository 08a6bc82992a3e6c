"""What the environment says is what arrives: each honoured variable is observed at a real OTLP receiver.

``COVERED`` at the end names the test of every variable in docs/configuration.md.
"""

from __future__ import annotations

import logging
import math
import os
import re
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.trace import Link

from otlp_receiver import MetricPoint, OtlpReceiver, Request
from tests.support.credentials import PROVIDER_POINTS, PROVIDERS, Authority
from tests.support.harness import free_port
from tests.support.programs import python
from torchelastic_otel._config.environment import Signal
from torchelastic_otel._config.exporters import ExporterPlan, plan_exporters
from torchelastic_otel._config.limits import (
    BatchSettings,
    LogLimits,
    batch_settings,
    metric_export_interval_s,
)
from torchelastic_otel._config.limits import log_limits as log_limits_from_env
from torchelastic_otel._config.resource import resource_attributes
from torchelastic_otel._config.settings import Settings, read_settings
from torchelastic_otel._delivery.answer import Answer
from torchelastic_otel._delivery.credentials import CredentialError
from torchelastic_otel._delivery.encoding import encode_logs, encode_spans
from torchelastic_otel._delivery.sender import make_sender
from torchelastic_otel._delivery.spool import Item, assemble
from torchelastic_otel._telemetry.exporters import load_exporter
from torchelastic_otel._telemetry.metric_export import metric_exporter
from torchelastic_otel._telemetry.redaction import Redaction
from torchelastic_otel._telemetry.resource import build_resource
from torchelastic_otel._telemetry.sdk_objects import (
    exemplar_filter_from_env,
    id_generator_from_env,
    sampler_from_env,
    span_limits_from_env,
)

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"
SIGNALS: tuple[Signal, ...] = get_args(Signal)
PROTOCOLS = ("http/protobuf", "grpc")
FORMS = ("general", "own")

each_signal = pytest.mark.parametrize("signal", SIGNALS)
each_protocol = pytest.mark.parametrize("protocol", PROTOCOLS)
each_form = pytest.mark.parametrize("form", FORMS)


# --- help -----------------------------------------------------------------------------------------


class SetEnv(Protocol):
    """Set variables; None unsets."""

    def __call__(self, variables: Mapping[str, str | None] | None = None, /, **more: str | None) -> None:
        """Do it."""


@pytest.fixture(autouse=True)
def env(monkeypatch: pytest.MonkeyPatch) -> SetEnv:
    """Start without any variable that matters, and without a proxy in the way."""
    for name in list(os.environ):
        if re.match(
            r"(OTEL|TORCHELASTIC|SLURM|KUBERNETES|K8S|MY_POD|POD|GRPC)_|.*_PROXY$|.*CA_BUNDLE$", name, re.I
        ):
            monkeypatch.delenv(name)
    monkeypatch.setenv("TORCHELASTIC_OTEL_SPOOL_DIR", "off")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1,localhost")

    def set_env(variables: Mapping[str, str | None] | None = None, /, **more: str | None) -> None:
        for name, value in {**(variables or {}), **more}.items():
            if value is None:
                monkeypatch.delenv(name, raising=False)
            else:
                monkeypatch.setenv(name, value)

    return set_env


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Make the certificates once."""
    return Authority(tmp_path_factory.mktemp("authority"))


def own_name(signal: str, what: str) -> str:
    """Return the signal's own variable."""
    return f"OTEL_EXPORTER_OTLP_{signal.upper()}_{what}"


def named(form: str, signal: str, what: str, value: str, other: str | None = None) -> dict[str, str]:
    """Return the general variable, or the signal's own, beside which the general one says ``other``."""
    if form == "general":
        return {f"OTEL_EXPORTER_OTLP_{what}": value}
    general = {} if other is None else {f"OTEL_EXPORTER_OTLP_{what}": other}
    return {own_name(signal, what): value, **general}


def endpoint_of(receiver: OtlpReceiver, protocol: str) -> dict[str, str]:
    """Return the variables that lead to ``receiver``."""
    endpoint = receiver.grpc_endpoint if protocol == "grpc" else receiver.http_endpoint
    return {"OTEL_EXPORTER_OTLP_PROTOCOL": protocol, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}


class Sending:
    """What the bridge does with OTLP, in the SDK's form of an exporter: encode, assemble, send."""

    def __init__(self, plan: ExporterPlan) -> None:
        assert plan.otlp is not None
        self._signal, self._timeout_s = plan.signal, plan.otlp.timeout_s
        self._sender = make_sender(plan.signal, plan.otlp)
        self.answers: list[Answer] = []

    def export(self, batch: Sequence[Any]) -> None:
        """Send a batch."""
        for header, payloads in (encode_logs if self._signal == "logs" else encode_spans)(batch):
            items = [Item(number, self._signal, 1, payload) for number, payload in enumerate(payloads)]
            self.send(assemble(self._signal, items, {1: header}.__getitem__))

    def send(self, request: bytes, *, last_only: bool = True) -> None:
        """Send a request."""
        self.answers.append(self._sender.send(request, self._timeout_s))

    def shutdown(self) -> None:
        """Close the connections."""
        self._sender.close()

    def force_flush(self, timeout_millis: int = 0) -> bool:
        """Do nothing: it is sent already."""
        return True


def load(signal: Signal, warn: Callable[[str], None] | None = None) -> tuple[list[Any], list[str]]:
    """Return the exporters that the environment asks for, and what was warned of."""
    warnings: list[str] = []
    warn = warn or warnings.append
    exporters = []
    for plan in plan_exporters(signal, os.environ, warn):
        if plan.otlp is None:
            exporters.append(load_exporter(plan, warn))
            continue
        try:
            sending = Sending(plan)
        except CredentialError as error:
            warn(str(error))
            continue
        exporters.append(metric_exporter(sending.send, warn) if signal == "metrics" else sending)
    return [exporter for exporter in exporters if exporter is not None], warnings


def export(signal: Signal, exporters: Sequence[Any], resource: Resource | None = None) -> None:
    """Send one log record, span or counter through ``exporters``, and shut them down."""
    if signal == "logs":
        log_provider = LoggerProvider(resource=resource, shutdown_on_exit=False)
        for exporter in exporters:
            log_provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
        log_provider.get_logger("test").emit(timestamp=1, body="hello", attributes={"a": 1})
        log_provider.shutdown()
    elif signal == "traces":
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        for exporter in exporters:
            provider.add_span_processor(SimpleSpanProcessor(exporter))
        provider.get_tracer("test").start_span("hello", attributes={"a": 1}).end()
        provider.shutdown()
    else:
        readers = [PeriodicExportingMetricReader(exporter, math.inf) for exporter in exporters]
        meter_provider = MeterProvider(readers, resource or Resource({}), shutdown_on_exit=False)
        meter_provider.get_meter("test").create_counter("hello").add(1)
        meter_provider.get_meter("test").create_histogram("world").record(1)
        meter_provider.force_flush()
        meter_provider.shutdown()


def send(signal: Signal) -> list[str]:
    """Load what the environment asks for, send one item, and return the warnings."""
    exporters, warnings = load(signal)
    export(signal, exporters)
    return warnings


def only_request(receiver: OtlpReceiver, signal: Signal) -> Request:
    """Return the one request that has arrived, which must be of ``signal``."""
    [request] = receiver.requests
    assert request.signal == signal
    return request


def plan_one(signal: Signal = "logs") -> tuple[ExporterPlan, list[str]]:
    """Return the one plan for ``signal``, and what was warned of."""
    warnings: list[str] = []
    [plan] = plan_exporters(signal, os.environ, warnings.append)
    return plan, warnings


def assert_refused(signal: Signal, *names: str) -> str:
    """Assert that ``signal`` is not exported, for one reason that names ``names``; return the warning."""
    exporters, warnings = load(signal)
    assert exporters == []
    [warning] = warnings
    for name in names:
        assert name in warning
    return warning


# --- which exporters ------------------------------------------------------------------------------


@each_signal
@pytest.mark.parametrize("name", ["otlp", "otlp_proto_http", "otlp_proto_grpc"])
def test_exporter_name_chooses_what_is_sent_how(
    env: SetEnv, receiver: OtlpReceiver, signal: Signal, name: str
) -> None:
    """OTEL_*_EXPORTER names the exporter; ``otlp`` leaves the protocol to the other variables."""
    protocol = "grpc" if name == "otlp_proto_grpc" else "http/protobuf"
    env(endpoint_of(receiver, protocol), OTEL_EXPORTER_OTLP_PROTOCOL=None if name != "otlp" else protocol)
    env({f"OTEL_{signal.upper()}_EXPORTER": name})
    assert send(signal) == []
    assert only_request(receiver, signal).protocol == protocol


@each_signal
def test_signal_with_exporter_none_goes_nowhere(env: SetEnv, receiver: OtlpReceiver, signal: Signal) -> None:
    """``none`` makes nothing and says nothing, for that signal alone."""
    env(endpoint_of(receiver, "http/protobuf"))
    env({f"OTEL_{signal.upper()}_EXPORTER": "none"})
    for other in SIGNALS:
        assert send(other) == []
    assert {request.signal for request in receiver.requests} == set(SIGNALS) - {signal}


@each_signal
def test_unset_exporter_means_otlp(env: SetEnv, receiver: OtlpReceiver, signal: Signal) -> None:
    """With no exporter named, telemetry goes out over OTLP (the SDK by itself would send nothing)."""
    env(endpoint_of(receiver, "grpc"))
    env({f"OTEL_{signal.upper()}_EXPORTER": ""})
    assert send(signal) == []
    assert only_request(receiver, signal).protocol == "grpc"


@each_signal
def test_several_exporters_are_all_made_once(env: SetEnv, receiver: OtlpReceiver, signal: Signal) -> None:
    """A comma list makes each exporter; two names for the same make one."""
    env(endpoint_of(receiver, "http/protobuf"))
    env({f"OTEL_{signal.upper()}_EXPORTER": "otlp, console,otlp_proto_http,"})
    exporters, warnings = load(signal)
    assert warnings == []
    assert sorted(type(exporter).__name__[:4] for exporter in exporters) == [
        "Cons",
        "Outb" if signal == "metrics" else "Send",
    ]


@each_signal
def test_third_partys_exporter_is_found(
    env: SetEnv, third_party: Callable[[str, str], None], signal: Signal
) -> None:
    """An installed entry point is an exporter's name like any other."""
    third_party(f"[opentelemetry_{signal}_exporter]\nvendor = vendor_stuff:Exporter", "class Exporter: pass")
    env({f"OTEL_{signal.upper()}_EXPORTER": "vendor"})
    [exporter], warnings = load(signal)
    assert (type(exporter).__name__, warnings) == ("Exporter", [])


@each_signal
def test_unknown_exporter_is_one_warning(env: SetEnv, receiver: OtlpReceiver, signal: Signal) -> None:
    """It names the variable and what is installed; the others in the list still work."""
    name = f"OTEL_{signal.upper()}_EXPORTER"
    env(endpoint_of(receiver, "http/protobuf"))
    env({name: "otlp,jaeger"})
    [warning] = send(signal)
    assert name in warning
    assert "'jaeger'" in warning
    assert "console" in warning
    assert only_request(receiver, signal).accepted


def test_exporter_that_raises_is_one_warning(env: SetEnv, third_party: Callable[[str, str], None]) -> None:
    """A third party's constructor cannot hurt the job."""
    third_party(
        "[opentelemetry_logs_exporter]\nvendor = vendor_stuff:Exporter",
        "class Exporter:\n    def __init__(self): raise RuntimeError('no licence')",
    )
    env(OTEL_LOGS_EXPORTER="vendor")
    warning = assert_refused("logs", "OTEL_LOGS_EXPORTER", "'vendor'")
    assert "no licence" in warning


def test_none_beside_another_exporter_is_one_warning(env: SetEnv, receiver: OtlpReceiver) -> None:
    """It is contradictory; what is named is sent."""
    env(endpoint_of(receiver, "http/protobuf"), OTEL_LOGS_EXPORTER="none,otlp")
    [warning] = send("logs")
    assert "OTEL_LOGS_EXPORTER" in warning
    assert len(receiver.logs) == 1


def test_disabled_sdk_makes_nothing(env: SetEnv, receiver: OtlpReceiver) -> None:
    """OTEL_SDK_DISABLED=true: no exporter, no plan, no word, for any signal."""
    env(endpoint_of(receiver, "http/protobuf"), OTEL_SDK_DISABLED="True")
    assert [load(signal) for signal in SIGNALS] == [([], [])] * 3
    env(OTEL_SDK_DISABLED="false")
    assert send("logs") == []
    assert len(receiver.logs) == 1


def test_disabled_sdk_with_a_wrong_value_is_one_warning(env: SetEnv, receiver: OtlpReceiver) -> None:
    """What is not true is false, as the specification has it, and it is said."""
    env(endpoint_of(receiver, "http/protobuf"), OTEL_SDK_DISABLED="yes")
    [warning] = send("logs")
    assert warning.startswith("OTEL_SDK_DISABLED='yes'")
    assert len(receiver.logs) == 1


# --- where to, and how ----------------------------------------------------------------------------


@each_signal
@each_form
@each_protocol
def test_endpoint_is_where_it_goes(
    env: SetEnv, receiver: OtlpReceiver, signal: Signal, form: str, protocol: str
) -> None:
    """HTTP adds /v1/<signal> to the general endpoint and takes the signal's own as it is."""
    endpoint = receiver.grpc_endpoint if protocol == "grpc" else receiver.http_endpoint
    if protocol != "grpc" and form == "own":
        endpoint += f"/v1/{signal}"
    nowhere = f"http://127.0.0.1:{free_port()}"
    env(named(form, signal, "ENDPOINT", f" {endpoint} ", other=nowhere), OTEL_EXPORTER_OTLP_PROTOCOL=protocol)
    assert send(signal) == []
    assert only_request(receiver, signal).protocol == protocol


def test_path_of_the_general_http_endpoint_is_kept(env: SetEnv) -> None:
    """A collector behind a path is reached; slashes are not doubled."""
    env(OTEL_EXPORTER_OTLP_ENDPOINT="http://gateway:4318/otlp/")
    plan, _ = plan_one("traces")
    assert plan.otlp
    assert plan.otlp.endpoint == "http://gateway:4318/otlp/v1/traces"


@each_signal
@each_form
@each_protocol
def test_protocol_is_what_is_spoken(
    env: SetEnv, receiver: OtlpReceiver, signal: Signal, form: str, protocol: str
) -> None:
    """OTEL_EXPORTER_OTLP_PROTOCOL and each signal's own, which counts first."""
    other = "grpc" if protocol == "http/protobuf" else "http/protobuf"
    env(endpoint_of(receiver, protocol), OTEL_EXPORTER_OTLP_PROTOCOL=None)
    env(named(form, signal, "PROTOCOL", protocol, other=other))
    assert send(signal) == []
    assert only_request(receiver, signal).protocol == protocol


@pytest.mark.parametrize(
    ("endpoint", "protocol"),
    [
        (None, "grpc"),
        ("", "grpc"),
        ("http://collector:4317", "grpc"),
        ("http://collector:4317/", "grpc"),
        ("https://collector:4317", "grpc"),
        ("http://[::1]:4317", "grpc"),
        ("http://collector:4317/v1/logs", "http/protobuf"),
        ("http://collector:4318", "http/protobuf"),
        ("http://collector:4318/", "http/protobuf"),
        ("https://collector", "http/protobuf"),
        ("https://collector/otlp", "http/protobuf"),
        ("http://collector:55680", "http/protobuf"),
        ("collector:4317", "grpc"),
        ("collector:4318", "http/protobuf"),
        ("10.0.0.1:4317", "grpc"),
        ("dns:///collector:4317", "grpc"),
        ("unix:/run/collector.sock", "grpc"),
    ],
)
@each_form
def test_endpoint_decides_where_no_protocol_is_named(
    env: SetEnv, endpoint: str | None, protocol: str, form: str
) -> None:
    """A path or port 4318 means HTTP, port 4317 or nothing at all gRPC, anything else HTTP."""
    other = "http://collector:4317" if protocol == "http/protobuf" else "http://collector:4318"
    if not endpoint:
        env(OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_EXPORTER_OTLP_LOGS_ENDPOINT=endpoint)
    else:
        env(named(form, "logs", "ENDPOINT", endpoint, other=other))
    plan, _ = plan_one()
    assert plan.otlp
    assert plan.otlp.protocol == protocol


@each_form
@pytest.mark.parametrize("value", ["http/json", "udp"])
def test_unknown_protocol_is_one_warning_and_the_endpoint_decides(
    env: SetEnv, receiver: OtlpReceiver, form: str, value: str
) -> None:
    """Telemetry still goes out."""
    variables = named(form, "logs", "PROTOCOL", value)
    env(endpoint_of(receiver, "http/protobuf"), OTEL_EXPORTER_OTLP_PROTOCOL=None)
    env(variables)
    [warning] = send("logs")
    assert warning.startswith(f"{next(iter(variables))}={value!r}")
    assert "'http/protobuf'" in warning
    assert only_request(receiver, "logs").protocol == "http/protobuf"


def test_warning_about_a_general_variable_is_the_same_for_all_signals(env: SetEnv) -> None:
    """So that it can be told once: by its text."""
    env(
        OTEL_EXPORTER_OTLP_ENDPOINT="collector:4318",
        OTEL_EXPORTER_OTLP_PROTOCOL="http/json",
        OTEL_EXPORTER_OTLP_HEADERS="nonsense",
        OTEL_EXPORTER_OTLP_TIMEOUT="soon",
        OTEL_EXPORTER_OTLP_COMPRESSION="zip",
    )
    each = []
    for signal in SIGNALS:
        exporters, warnings = load(signal)
        each.append(warnings)
        for exporter in exporters:
            exporter.shutdown()
    assert each[0] == each[1] == each[2]
    assert len(each[0]) == len(set(each[0])) == 5


@pytest.mark.parametrize(
    "endpoint", ["http://", "http://collector:port", "http://coll ector", "http://c:99999"]
)
@each_protocol
@each_form
def test_unusable_endpoint_is_one_warning(env: SetEnv, endpoint: str, protocol: str, form: str) -> None:
    """There is nowhere to send to, and nothing is sent elsewhere."""
    variables = named(form, "logs", "ENDPOINT", endpoint)
    env(variables, OTEL_EXPORTER_OTLP_PROTOCOL=protocol)
    assert_refused("logs", next(iter(variables)), repr(endpoint))


def test_scheme_that_http_does_not_have_is_one_warning(env: SetEnv) -> None:
    """Only http and https can be posted to."""
    env(OTEL_EXPORTER_OTLP_ENDPOINT="tcp://collector:4318")
    assert_refused("logs", "OTEL_EXPORTER_OTLP_ENDPOINT", "http://")


@each_signal
def test_http_endpoint_without_scheme_works_with_a_warning(
    env: SetEnv, receiver: OtlpReceiver, signal: Signal
) -> None:
    """``host:port`` is taken for http://."""
    env(endpoint_of(receiver, "http/protobuf"))
    env(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.http_endpoint.removeprefix("http://"))
    [warning] = send(signal)
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in warning
    assert "http://" in warning
    assert only_request(receiver, signal).accepted


@each_signal
@each_form
def test_insecure_grpc_endpoint_without_scheme(
    env: SetEnv, receiver: OtlpReceiver, signal: Signal, form: str
) -> None:
    """OTEL_EXPORTER_OTLP_INSECURE=true makes ``host:port`` a plain connection."""
    env(endpoint_of(receiver, "grpc"))
    env(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc_endpoint.removeprefix("http://"))
    env(named(form, signal, "INSECURE", "true", other="false"))
    assert send(signal) == []
    assert only_request(receiver, signal).accepted


def test_grpc_endpoint_without_scheme_uses_tls(
    env: SetEnv, receiver: OtlpReceiver, authority: Authority
) -> None:
    """The specification's default; it is said where nothing shows that it is meant."""
    env(OTEL_EXPORTER_OTLP_PROTOCOL="grpc", OTEL_EXPORTER_OTLP_TIMEOUT="0.3")
    env(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc_endpoint.removeprefix("http://"))
    [warning] = send("logs")
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in warning
    assert "OTEL_EXPORTER_OTLP_INSECURE=true" in warning
    assert receiver.requests == []
    with authority.server() as with_tls:
        env(OTEL_EXPORTER_OTLP_ENDPOINT=with_tls.grpc_endpoint.removeprefix("https://"))
        env(OTEL_EXPORTER_OTLP_CERTIFICATE=str(authority.ca), OTEL_EXPORTER_OTLP_TIMEOUT=None)
        assert send("logs") == []
        assert len(with_tls.logs) == 1


def test_https_wins_over_insecure(env: SetEnv, authority: Authority) -> None:
    """A scheme of https cannot be downgraded by OTEL_EXPORTER_OTLP_INSECURE=true."""
    with authority.server() as with_tls:
        env(endpoint_of(with_tls, "grpc"), OTEL_EXPORTER_OTLP_CERTIFICATE=str(authority.ca))
        env(OTEL_EXPORTER_OTLP_INSECURE="true", OTEL_EXPORTER_OTLP_LOGS_INSECURE="true")
        assert send("logs") == []
        assert len(with_tls.logs) == 1


def test_http_scheme_with_insecure_false_is_one_warning_and_tls(env: SetEnv, receiver: OtlpReceiver) -> None:
    """What is contradictory does not go out in the clear."""
    env(endpoint_of(receiver, "grpc"), OTEL_EXPORTER_OTLP_INSECURE="false", OTEL_EXPORTER_OTLP_TIMEOUT="0.3")
    [warning] = send("logs")
    assert "OTEL_EXPORTER_OTLP_INSECURE=false" in warning
    assert receiver.requests == []


@each_form
def test_wrong_insecure_is_one_warning_and_tls(env: SetEnv, form: str) -> None:
    """Only true gives up encryption."""
    variables = named(form, "logs", "INSECURE", "1")
    env(variables, OTEL_EXPORTER_OTLP_ENDPOINT="collector:4317")
    plan, [warning] = plan_one()
    assert warning.startswith(f"{next(iter(variables))}='1'")
    assert plan.otlp
    assert not plan.otlp.insecure


@each_signal
@each_form
@each_protocol
def test_headers_are_sent(
    env: SetEnv, receiver: OtlpReceiver, signal: Signal, form: str, protocol: str
) -> None:
    """Values are percent-decoded; the signal's own replace the general ones."""
    env(endpoint_of(receiver, protocol))
    text = "Authorization=Bearer%20abc%3D, x-team = ml=1,,x-plain=two words"
    env(named(form, signal, "HEADERS", text, other="x-other=1"))
    assert send(signal) == []
    headers = only_request(receiver, signal).headers
    assert headers["authorization"] == "Bearer abc="
    assert headers["x-team"] == "ml=1"
    assert headers["x-plain"] == "two words"
    assert "x-other" not in headers


@each_signal
@each_form
@each_protocol
@pytest.mark.parametrize(
    "wrong", ["tok3n", "=tok3n", "na me=tok3n", "x-evil=tok3n%0Ax", "x-euro=tok3n%E2%82%AC"]
)
def test_malformed_header_is_one_warning_without_its_value(
    env: SetEnv,
    receiver: OtlpReceiver,
    caplog: pytest.LogCaptureFixture,
    signal: Signal,
    form: str,
    protocol: str,
    wrong: str,
) -> None:
    """The others are sent, nothing quotes what may be a credential, and the SDK adds no words of its own."""
    variables = named(form, signal, "HEADERS", f"x-good=1,{wrong}")
    env(endpoint_of(receiver, protocol))
    env(variables)
    [warning] = send(signal)
    assert next(iter(variables)) in warning
    assert "entry 2" in warning
    assert "tok3n" not in warning
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    headers = only_request(receiver, signal).headers
    assert headers["x-good"] == "1"
    assert not {"x-evil", "x-euro"} & set(headers)


@each_protocol
def test_header_variable_that_is_all_wrong_sends_none_of_it(
    env: SetEnv, receiver: OtlpReceiver, caplog: pytest.LogCaptureFixture, protocol: str
) -> None:
    """It is not read a second time by the exporter."""
    env(endpoint_of(receiver, protocol), OTEL_EXPORTER_OTLP_HEADERS="x-evil=tok3n%0A%0Ax")
    [warning] = send("logs")
    assert "OTEL_EXPORTER_OTLP_HEADERS" in warning
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert "x-evil" not in only_request(receiver, "logs").headers


def test_header_name_that_grpc_refuses_is_one_warning(env: SetEnv, receiver: OtlpReceiver) -> None:
    """Names ending in -bin carry bytes, which a variable cannot."""
    env(endpoint_of(receiver, "grpc"), OTEL_EXPORTER_OTLP_HEADERS="x-bin=1,x!y=2,x-good=3")
    [warning] = send("logs")
    assert "entry 1, 2" in warning
    assert only_request(receiver, "logs").headers["x-good"] == "3"


@each_signal
@each_form
def test_timeout_is_in_seconds(env: SetEnv, receiver: OtlpReceiver, signal: Signal, form: str) -> None:
    """GRPC tells its server how long it will wait."""
    env(endpoint_of(receiver, "grpc"))
    env(named(form, signal, "TIMEOUT", "77.5", other="300"))
    assert send(signal) == []
    timeout_s = only_request(receiver, signal).timeout_s
    assert timeout_s is not None
    assert 60 < timeout_s < 80


@each_signal
@each_form
def test_http_gives_up_after_the_timeout(
    env: SetEnv, receiver: OtlpReceiver, signal: Signal, form: str
) -> None:
    """HTTP does not tell, but goes."""
    receiver.respond(delay=20)
    env(endpoint_of(receiver, "http/protobuf"))
    env(named(form, signal, "TIMEOUT", "0.1", other="15"))
    started = time.monotonic()
    assert send(signal) == []
    assert time.monotonic() - started < 8


@each_form
@each_protocol
@pytest.mark.parametrize("value", ["soon", "0", "-1", "nan", "inf", "10000"])
def test_wrong_timeout_is_one_warning_and_ten_seconds(
    env: SetEnv, receiver: OtlpReceiver, form: str, protocol: str, value: str
) -> None:
    """Also for a value that is meant as milliseconds; the stock gRPC exporter would raise for some."""
    variables = named(form, "logs", "TIMEOUT", value)
    env(endpoint_of(receiver, protocol))
    env(variables)
    [warning] = send("logs")
    assert warning.startswith(f"{next(iter(variables))}={value!r}")
    assert "seconds" in warning
    request = only_request(receiver, "logs")
    assert request.accepted
    assert request.timeout_s is None or 8 < request.timeout_s < 12


@each_signal
@each_protocol
def test_empty_variables_count_as_unset(
    env: SetEnv, receiver: OtlpReceiver, signal: Signal, protocol: str
) -> None:
    """Manifests often set variables to nothing; stock exporters raise for some of those."""
    env(endpoint_of(receiver, protocol))
    for what in (
        "TIMEOUT",
        "COMPRESSION",
        "HEADERS",
        "INSECURE",
        "CERTIFICATE",
        "CLIENT_KEY",
        "CLIENT_CERTIFICATE",
    ):
        env({f"OTEL_EXPORTER_OTLP_{what}": "", own_name(signal, what): ""})
    env({own_name(signal, "ENDPOINT"): "", own_name(signal, "PROTOCOL"): "", "OTEL_SDK_DISABLED": ""})
    env(OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE="")
    env(OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION="")
    assert send(signal) == []
    assert only_request(receiver, signal).accepted


@each_signal
@each_form
@pytest.mark.parametrize(("value", "seen"), [("gzip", "gzip"), ("Deflate", "deflate"), ("none", "")])
def test_http_compression_is_seen(
    env: SetEnv, receiver: OtlpReceiver, signal: Signal, form: str, value: str, seen: str
) -> None:
    """And what is compressed can be read."""
    env(endpoint_of(receiver, "http/protobuf"))
    env(named(form, signal, "COMPRESSION", value, other="deflate" if seen == "gzip" else "gzip"))
    assert send(signal) == []
    request = only_request(receiver, signal)
    assert (request.content_encoding, request.accepted) == (seen, True)


@each_signal
@each_form
@pytest.mark.parametrize("value", ["gzip", "deflate", "none"])
def test_grpc_compression_is_seen(env: SetEnv, signal: Signal, form: str, value: str) -> None:
    """A server that knows only this compression takes it, one that knows only another refuses it."""
    other = "deflate" if value == "gzip" else "gzip"
    with OtlpReceiver(grpc_encodings=[value] if value != "none" else []) as knows_it:
        env(endpoint_of(knows_it, "grpc"))
        env(named(form, signal, "COMPRESSION", value, other=other))
        assert send(signal) == []
        assert only_request(knows_it, signal).accepted
    with OtlpReceiver(grpc_encodings=[other]) as knows_another:
        env(endpoint_of(knows_another, "grpc"))
        assert send(signal) == []
        assert len(knows_another.requests) == (1 if value == "none" else 0)


@each_form
@each_protocol
def test_wrong_compression_is_one_warning(
    env: SetEnv, receiver: OtlpReceiver, form: str, protocol: str
) -> None:
    """Telemetry goes out uncompressed."""
    variables = named(form, "logs", "COMPRESSION", "zstd")
    env(endpoint_of(receiver, protocol))
    env(variables)
    [warning] = send("logs")
    assert warning.startswith(f"{next(iter(variables))}='zstd'")
    assert only_request(receiver, "logs").content_encoding == ""


# --- TLS ------------------------------------------------------------------------------------------


@each_signal
@each_form
@each_protocol
def test_certificate_says_whom_to_trust(
    env: SetEnv, authority: Authority, tmp_path: Path, signal: Signal, form: str, protocol: str
) -> None:
    """A server of that authority is trusted, whatever the general one says; another is not."""
    stranger = Authority(tmp_path / "stranger")
    variables = named(form, signal, "CERTIFICATE", str(authority.ca), other=str(stranger.ca))
    with authority.server() as trusted, stranger.server() as untrusted:
        env(endpoint_of(trusted, protocol))
        env(variables)
        assert send(signal) == []
        assert only_request(trusted, signal).accepted
        env(endpoint_of(untrusted, protocol), OTEL_EXPORTER_OTLP_TIMEOUT="0.3")
        send(signal)
        assert untrusted.requests == []


@each_signal
@each_form
@each_protocol
def test_client_certificate_and_key_are_shown(
    env: SetEnv, authority: Authority, signal: Signal, form: str, protocol: str
) -> None:
    """Mutual TLS, with each of the three files named by the general variable or the signal's own."""
    with authority.server(demand_client=True) as demanding:
        env(endpoint_of(demanding, protocol), OTEL_EXPORTER_OTLP_CERTIFICATE=str(authority.ca))
        env(named(form, signal, "CLIENT_CERTIFICATE", str(authority.certificate), other="/nowhere"))
        env(named(form, signal, "CLIENT_KEY", str(authority.key), other="/nowhere"))
        assert send(signal) == []
        assert only_request(demanding, signal).client_certificate


@each_protocol
def test_general_and_own_tls_files_mix(env: SetEnv, authority: Authority, protocol: str) -> None:
    """A signal's own CA with the general client certificate, which stock gRPC exporters lose."""
    with authority.server(demand_client=True) as demanding:
        env(endpoint_of(demanding, protocol), OTEL_EXPORTER_OTLP_LOGS_CERTIFICATE=str(authority.ca))
        env(OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE=str(authority.certificate))
        env(OTEL_EXPORTER_OTLP_CLIENT_KEY=str(authority.key))
        assert send("logs") == []
        assert len(demanding.logs) == 1


@each_protocol
def test_one_file_may_hold_certificate_and_key(env: SetEnv, authority: Authority, protocol: str) -> None:
    """Then no key need be named."""
    with authority.server(demand_client=True) as demanding:
        env(endpoint_of(demanding, protocol), OTEL_EXPORTER_OTLP_CERTIFICATE=str(authority.ca))
        env(OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE=str(authority.combined))
        assert send("logs") == []
        assert len(demanding.logs) == 1


@each_protocol
def test_client_certificate_without_a_ca_variable(env: SetEnv, authority: Authority, protocol: str) -> None:
    """The system's authorities are trusted then, and the client's certificate is shown all the same."""
    with authority.server(demand_client=True) as demanding:
        env(endpoint_of(demanding, protocol))
        env(OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE=str(authority.certificate))
        env(OTEL_EXPORTER_OTLP_CLIENT_KEY=str(authority.key))
        # Both are read once per process, in place of the system's.
        python(
            "from tests.config import test_configuration as t; assert t.send('logs') == []",
            GRPC_DEFAULT_SSL_ROOTS_FILE_PATH=str(authority.ca),
            REQUESTS_CA_BUNDLE=str(authority.ca),
        )
        assert [request.client_certificate for request in demanding.requests] == [True]


def test_ca_bundle_of_requests_does_not_replace_the_certificate(
    env: SetEnv, authority: Authority, tmp_path: Path
) -> None:
    """REQUESTS_CA_BUNDLE, which clusters often set, is for those who name no certificate."""
    stranger = Authority(tmp_path / "stranger")
    with authority.server() as trusted:
        env(endpoint_of(trusted, "http/protobuf"), REQUESTS_CA_BUNDLE=str(stranger.ca))
        env(OTEL_EXPORTER_OTLP_CERTIFICATE=str(authority.ca))
        assert send("logs") == []
        assert len(trusted.logs) == 1
        env(OTEL_EXPORTER_OTLP_CERTIFICATE=None, REQUESTS_CA_BUNDLE=str(authority.ca))
        assert send("logs") == []
        assert len(trusted.logs) == 2


@each_signal
@each_form
@each_protocol
@pytest.mark.parametrize("what", ["CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY"])
@pytest.mark.parametrize("wrong", ["missing", "no PEM"])
def test_unusable_tls_file_stops_the_signal_with_one_warning(
    env: SetEnv,
    authority: Authority,
    tmp_path: Path,
    signal: Signal,
    form: str,
    protocol: str,
    what: str,
    wrong: str,
) -> None:
    """Nothing is sent rather than sent less securely; the warning names the variable and the file."""
    path = tmp_path / "wrong.pem"
    if wrong == "no PEM":
        path.write_text("not a certificate")
    env(OTEL_EXPORTER_OTLP_ENDPOINT="https://collector:4318", OTEL_EXPORTER_OTLP_PROTOCOL=protocol)
    env(OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE=str(authority.certificate))
    env(OTEL_EXPORTER_OTLP_CLIENT_KEY=str(authority.key))
    variables = named(form, signal, what, str(path))
    env(variables)
    assert_refused(signal, next(iter(variables)), str(path))


@each_protocol
@pytest.mark.parametrize("case", ["other key", "encrypted key", "no key", "no certificate"])
def test_key_that_does_not_fit_stops_the_signal_with_one_warning(
    env: SetEnv, authority: Authority, protocol: str, case: str
) -> None:
    """It would fail at each handshake, or ask for a password on the terminal."""
    env(OTEL_EXPORTER_OTLP_ENDPOINT="https://collector", OTEL_EXPORTER_OTLP_PROTOCOL=protocol)
    certificate: str | None = str(authority.certificate)
    key: str | None = str(authority.key)
    if case == "other key":
        key = str(authority.server_key)
    elif case == "encrypted key":
        key = str(authority.encrypted_key)
    elif case == "no key":
        key = None
    else:
        certificate = None
    env(OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE=certificate, OTEL_EXPORTER_OTLP_CLIENT_KEY=key)
    assert_refused("logs", "OTEL_EXPORTER_OTLP_CLIENT_KEY")


@each_protocol
def test_tls_files_are_not_looked_at_without_tls(env: SetEnv, receiver: OtlpReceiver, protocol: str) -> None:
    """An http:// endpoint needs none, so a stale path is no reason to stop."""
    env(endpoint_of(receiver, protocol), OTEL_EXPORTER_OTLP_CERTIFICATE="/nowhere")
    assert send("logs") == []
    assert len(receiver.logs) == 1


def provider_variable(form: str, signal: str, protocol: str) -> str:
    """Return the variable that names a credential provider."""
    kind = "GRPC" if protocol == "grpc" else "HTTP"
    own = "" if form == "general" else f"{signal.upper()}_"
    return f"OTEL_PYTHON_EXPORTER_OTLP_{kind}_{own}CREDENTIAL_PROVIDER"


@each_signal
@each_form
@each_protocol
def test_credential_provider_is_asked(
    env: SetEnv,
    authority: Authority,
    third_party: Callable[[str, str], None],
    signal: Signal,
    form: str,
    protocol: str,
) -> None:
    """A third party's channel credentials are used for gRPC, its session for HTTP."""
    third_party(PROVIDER_POINTS, PROVIDERS)
    with authority.server() as trusted:
        env(endpoint_of(trusted, protocol), VENDOR_CA=str(authority.ca))
        env(
            {
                provider_variable(form, signal, protocol): "vendor_grpc"
                if protocol == "grpc"
                else "vendor_http"
            }
        )
        if protocol != "grpc":
            env(OTEL_EXPORTER_OTLP_CERTIFICATE=str(authority.ca))
        assert send(signal) == []
        request = only_request(trusted, signal)
        assert protocol == "grpc" or request.headers["x-vendor"] == "token"


@each_protocol
@pytest.mark.parametrize("name", ["unknown", "wrong", "broken"])
def test_credential_provider_that_fails_stops_the_signal_with_one_warning(
    env: SetEnv, third_party: Callable[[str, str], None], protocol: str, name: str
) -> None:
    """Without its credentials nothing is sent."""
    third_party(PROVIDER_POINTS, PROVIDERS)
    env(OTEL_EXPORTER_OTLP_ENDPOINT="https://collector", OTEL_EXPORTER_OTLP_PROTOCOL=protocol)
    variable = provider_variable("general", "logs", protocol)
    env({variable: name})
    assert_refused("logs", variable, repr(name))


# --- metrics --------------------------------------------------------------------------------------


def points(receiver: OtlpReceiver, name: str) -> list[MetricPoint]:
    """Return the points of the metric ``name``."""
    return [point for point in receiver.metrics if point.name == name]


@each_protocol
@pytest.mark.parametrize(
    ("value", "seen"), [("delta", "DELTA"), ("LowMemory", "DELTA"), ("cumulative", "CUMULATIVE")]
)
def test_temporality_preference(
    env: SetEnv, receiver: OtlpReceiver, protocol: str, value: str, seen: str
) -> None:
    """OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE decides what a counter's points mean."""
    env(endpoint_of(receiver, protocol), OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=value)
    assert send("metrics") == []
    [point] = points(receiver, "hello")
    assert (point.temporality, point.value, point.is_monotonic) == (seen, 1, True)


@each_protocol
def test_default_histogram_aggregation(env: SetEnv, receiver: OtlpReceiver, protocol: str) -> None:
    """Base-2 exponential histograms can be asked for, in either case."""
    name = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION"
    env(endpoint_of(receiver, protocol))
    for value in ("base2_exponential_bucket_histogram", "BASE2_EXPONENTIAL_BUCKET_HISTOGRAM"):
        receiver.clear()
        env({name: value})
        assert send("metrics") == []
        [point] = points(receiver, "world")
        assert (point.kind, point.count, point.sum) == ("exponential_histogram", 1, 1.0)


@each_protocol
@pytest.mark.parametrize("what", ["TEMPORALITY_PREFERENCE", "DEFAULT_HISTOGRAM_AGGREGATION"])
def test_wrong_metric_preference_is_one_warning(
    env: SetEnv, receiver: OtlpReceiver, caplog: pytest.LogCaptureFixture, protocol: str, what: str
) -> None:
    """The default is used, and the SDK does not say it again."""
    env(endpoint_of(receiver, protocol))
    env({f"OTEL_EXPORTER_OTLP_METRICS_{what}": "best"})
    [warning] = send("metrics")
    assert warning.startswith(f"OTEL_EXPORTER_OTLP_METRICS_{what}='best'")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert [point.kind for point in receiver.metrics] == ["sum", "histogram"]
    assert {point.temporality for point in receiver.metrics} == {"CUMULATIVE"}


@pytest.mark.parametrize(
    ("value", "in_span", "outside"),
    [(None, 1, 0), ("trace_based", 1, 0), ("always_on", 1, 1), ("Always_Off", 0, 0)],
)
def test_exemplar_filter(
    env: SetEnv, receiver: OtlpReceiver, value: str | None, in_span: int, outside: int
) -> None:
    """OTEL_METRICS_EXEMPLAR_FILTER decides which measurements lead to their trace."""
    env(endpoint_of(receiver, "http/protobuf"), OTEL_METRICS_EXEMPLAR_FILTER=value)
    [exporter], warnings = load("metrics")
    chosen = exemplar_filter_from_env(os.environ, warnings.append)
    reader = PeriodicExportingMetricReader(exporter, math.inf)
    provider = MeterProvider([reader], exemplar_filter=chosen, shutdown_on_exit=False)
    meter = provider.get_meter("test")
    inside, alone = meter.create_counter("inside"), meter.create_counter("alone")
    alone.add(1)
    with TracerProvider(shutdown_on_exit=False).get_tracer("test").start_as_current_span("span") as span:
        inside.add(1)
    provider.force_flush()
    provider.shutdown()
    assert warnings == []
    [point] = points(receiver, "inside")
    assert len(point.exemplars) == in_span
    for exemplar in point.exemplars:
        assert exemplar.trace_id == f"{span.get_span_context().trace_id:032x}"
    assert len(points(receiver, "alone")[0].exemplars) == outside


def test_wrong_exemplar_filter_is_one_warning(env: SetEnv) -> None:
    """The SDK would raise."""
    warnings: list[str] = []
    chosen = exemplar_filter_from_env({"OTEL_METRICS_EXEMPLAR_FILTER": "some"}, warnings.append)
    assert type(chosen).__name__ == "TraceBasedExemplarFilter"
    assert [text.split("=")[0] for text in warnings] == ["OTEL_METRICS_EXEMPLAR_FILTER"]


def test_metric_export_interval(env: SetEnv, receiver: OtlpReceiver) -> None:
    """OTEL_METRIC_EXPORT_INTERVAL is in milliseconds: points come by themselves, again and again."""
    env(endpoint_of(receiver, "http/protobuf"), OTEL_METRIC_EXPORT_INTERVAL="20")
    [exporter], warnings = load("metrics")
    interval_s = metric_export_interval_s(os.environ, warnings.append)
    reader = PeriodicExportingMetricReader(exporter, interval_s * 1000)
    provider = MeterProvider([reader], shutdown_on_exit=False)
    provider.get_meter("test").create_counter("hello").add(1)
    arrived = receiver.wait(lambda r: len(r.requests) >= 2)
    provider.shutdown()
    assert (arrived, warnings) == (True, [])


@pytest.mark.parametrize("value", ["often", "0", "-5", "1e300"])
def test_wrong_metric_export_interval_is_one_warning(value: str) -> None:
    """A minute is used."""
    warnings: list[str] = []
    assert metric_export_interval_s({"OTEL_METRIC_EXPORT_INTERVAL": value}, warnings.append) == 60.0
    [warning] = warnings
    assert warning.startswith(f"OTEL_METRIC_EXPORT_INTERVAL={value!r}")


# --- sampling, ids, limits, batches ---------------------------------------------------------------


def traced(receiver: OtlpReceiver, *, batch: BatchSettings | None = None, **arguments: Any) -> TracerProvider:
    """Return a provider that sends to ``receiver``."""
    [exporter], warnings = load("traces")
    assert warnings == []
    provider = TracerProvider(shutdown_on_exit=False, **arguments)
    if batch is None:
        provider.add_span_processor(SimpleSpanProcessor(exporter))
    else:
        provider.add_span_processor(
            BatchSpanProcessor(
                exporter,
                max_queue_size=batch.max_queue,
                schedule_delay_millis=batch.delay_s * 1000,
                max_export_batch_size=batch.max_batch,
            )
        )
    return provider


@pytest.mark.parametrize(
    ("sampler", "argument", "arrive"),
    [
        (None, None, 20),
        ("parentbased_always_on", None, 20),
        ("Always_On", None, 20),
        ("always_off", None, 0),
        ("parentbased_always_off", None, 0),
        ("traceidratio", None, 20),
        ("traceidratio", "1.0", 20),
        ("traceidratio", "0", 0),
        ("parentbased_traceidratio", "0.0", 0),
    ],
)
def test_sampler(
    env: SetEnv, receiver: OtlpReceiver, sampler: str | None, argument: str | None, arrive: int
) -> None:
    """OTEL_TRACES_SAMPLER and its argument decide which spans go out."""
    env(endpoint_of(receiver, "http/protobuf"))
    env(OTEL_TRACES_SAMPLER=sampler, OTEL_TRACES_SAMPLER_ARG=argument)
    warnings: list[str] = []
    provider = traced(receiver, sampler=sampler_from_env(os.environ, warnings.append))
    for _ in range(20):
        provider.get_tracer("test").start_span("hello").end()
    provider.shutdown()
    assert warnings == []
    assert len(receiver.spans) == arrive


VENDOR_SAMPLER = """
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, TraceIdRatioBased

    def make(argument):
        return TraceIdRatioBased(float(argument))

    def no_sampler(argument):
        return 1
    """


def test_third_partys_sampler_gets_the_argument(
    env: SetEnv, receiver: OtlpReceiver, third_party: Callable[[str, str], None]
) -> None:
    """Entry points of the group opentelemetry_traces_sampler are samplers like any other."""
    third_party("[opentelemetry_traces_sampler]\nvendor = vendor_stuff:make", VENDOR_SAMPLER)
    env(endpoint_of(receiver, "http/protobuf"), OTEL_TRACES_SAMPLER="vendor", OTEL_TRACES_SAMPLER_ARG="0.0")
    warnings: list[str] = []
    provider = traced(receiver, sampler=sampler_from_env(os.environ, warnings.append))
    provider.get_tracer("test").start_span("hello").end()
    provider.shutdown()
    assert (warnings, receiver.spans) == ([], [])


@pytest.mark.parametrize(
    ("sampler", "argument", "blamed"),
    [
        ("sometimes", None, "OTEL_TRACES_SAMPLER"),
        ("traceidratio", "half", "OTEL_TRACES_SAMPLER_ARG"),
        ("traceidratio", "1.5", "OTEL_TRACES_SAMPLER_ARG"),
        ("parentbased_traceidratio", "nan", "OTEL_TRACES_SAMPLER_ARG"),
        ("vendor", "x", "OTEL_TRACES_SAMPLER"),
        ("vendor_wrong", None, "OTEL_TRACES_SAMPLER"),
    ],
)
def test_wrong_sampler_is_one_warning_and_everything_is_sampled(
    env: SetEnv,
    receiver: OtlpReceiver,
    third_party: Callable[[str, str], None],
    sampler: str,
    argument: str | None,
    blamed: str,
) -> None:
    """No telemetry is lost over a typing error."""
    third_party(
        "[opentelemetry_traces_sampler]\nvendor = vendor_stuff:make\nvendor_wrong = vendor_stuff:no_sampler",
        VENDOR_SAMPLER,
    )
    env(endpoint_of(receiver, "http/protobuf"))
    env(OTEL_TRACES_SAMPLER=sampler, OTEL_TRACES_SAMPLER_ARG=argument)
    warnings: list[str] = []
    provider = traced(receiver, sampler=sampler_from_env(os.environ, warnings.append))
    provider.get_tracer("test").start_span("hello").end()
    provider.shutdown()
    assert [text.split("=")[0] for text in warnings] == [blamed]
    assert len(receiver.spans) == 1


VENDOR_IDS = """
    from opentelemetry.sdk.trace.id_generator import IdGenerator

    class Ids(IdGenerator):
        def generate_span_id(self): return 0xABC
        def generate_trace_id(self): return 0xDEF
    """


def test_id_generator(env: SetEnv, receiver: OtlpReceiver, third_party: Callable[[str, str], None]) -> None:
    """OTEL_PYTHON_ID_GENERATOR names a third party's; for none of its own the caller makes the ids."""
    third_party("[opentelemetry_id_generator]\nvendor = vendor_stuff:Ids", VENDOR_IDS)
    env(endpoint_of(receiver, "http/protobuf"), OTEL_PYTHON_ID_GENERATOR="vendor")
    warnings: list[str] = []
    provider = traced(receiver, id_generator=id_generator_from_env(os.environ, warnings.append))
    provider.get_tracer("test").start_span("hello").end()
    provider.shutdown()
    [span] = receiver.spans
    assert (int(span.trace_id, 16), int(span.span_id, 16)) == (0xDEF, 0xABC)
    assert id_generator_from_env({}, warnings.append) is None
    assert id_generator_from_env({"OTEL_PYTHON_ID_GENERATOR": "random"}, warnings.append) is None
    assert warnings == []


def test_wrong_id_generator_is_one_warning() -> None:
    """The ids are then made as if it were unset."""
    warnings: list[str] = []
    assert id_generator_from_env({"OTEL_PYTHON_ID_GENERATOR": "xray"}, warnings.append) is None
    assert [text.split("=")[0] for text in warnings] == ["OTEL_PYTHON_ID_GENERATOR"]


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("OTEL_ATTRIBUTE_COUNT_LIMIT", (2, 2, 2, 4, 4, 6, 6)),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", (2, 4, 4, 4, 4, 6, 6)),
        ("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", (4, 2, 4, 4, 4, 6, 6)),
        ("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", (4, 4, 2, 4, 4, 6, 6)),
        ("OTEL_SPAN_EVENT_COUNT_LIMIT", (4, 4, 4, 2, 4, 6, 6)),
        ("OTEL_SPAN_LINK_COUNT_LIMIT", (4, 4, 4, 4, 2, 6, 6)),
        ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", (4, 4, 4, 4, 4, 2, 6)),
        ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", (4, 4, 4, 4, 4, 2, 2)),
    ],
)
def test_span_limit(env: SetEnv, receiver: OtlpReceiver, name: str, seen: tuple[int, ...]) -> None:
    """Each limit cuts what it is for, and nothing else."""
    env(endpoint_of(receiver, "http/protobuf"))
    env({name: "2"})
    warnings: list[str] = []
    provider = traced(receiver, span_limits=span_limits_from_env(os.environ, warnings.append))
    tracer = provider.get_tracer("test")
    attributes = dict.fromkeys("abcd", "letter")
    other = tracer.start_span("other").get_span_context()
    with tracer.start_as_current_span(
        "hello", links=[Link(other, attributes)] * 4, attributes=attributes
    ) as span:
        for _ in range(4):
            span.add_event("event", attributes)
    provider.shutdown()
    [got] = receiver.spans
    counts = (
        len(got.attributes),
        len(got.events[0].attributes),
        len(got.links[0].attributes),
        len(got.events),
        len(got.links),
        len(next(iter(got.attributes.values()))),
        len(next(iter(got.events[0].attributes.values()))),
    )
    assert (counts, warnings) == (seen, [])


def test_span_limits_by_default() -> None:
    """What the specification says; an empty variable counts as unset."""
    warnings: list[str] = []
    limits = span_limits_from_env({"OTEL_SPAN_EVENT_COUNT_LIMIT": ""}, warnings.append)
    assert (limits.max_events, limits.max_links, limits.max_span_attributes) == (128, 128, 128)
    assert (limits.max_attribute_length, limits.max_span_attribute_length, warnings) == (None, None, [])


LIMITS = (
    "OTEL_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_SPAN_EVENT_COUNT_LIMIT",
    "OTEL_SPAN_LINK_COUNT_LIMIT",
)


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("value", ["many", "-1", "1.5"])
def test_wrong_span_limit_is_one_warning(env: SetEnv, name: str, value: str) -> None:
    """The SDK would raise."""
    env({name: value})
    warnings: list[str] = []
    wrong = span_limits_from_env(os.environ, warnings.append)
    assert [text.startswith(f"{name}={value!r}") for text in warnings] == [True]
    env({name: None})
    assert vars(wrong) == vars(span_limits_from_env(os.environ, warnings.append))


@pytest.mark.parametrize("value", ["many", ""])
def test_limit_that_the_sdk_chokes_on_while_it_is_imported(env: SetEnv, value: str) -> None:
    """Exporters are still made, the variable is told once and left as it was."""
    printed = python(
        """
        import os, threading
        from torchelastic_otel._telemetry.sdk_objects import span_limits_from_env
        from torchelastic_otel._config.exporters import plan_exporters
        from torchelastic_otel._telemetry.exporters import load_exporter
        warnings, names = [], []
        def load(signal):
            for plan in plan_exporters(signal, os.environ, warnings.append):
                names.append(type(load_exporter(plan, warnings.append)).__name__)
        threads = [threading.Thread(target=load, args=[signal]) for signal in ("traces", "logs", "metrics")]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        span_limits_from_env(os.environ, warnings.append)
        print(sorted(names))
        print(warnings, repr(os.environ["OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT"]))
        """,
        OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT=value,
        **{f"OTEL_{signal.upper()}_EXPORTER": "console" for signal in SIGNALS},
    )
    names, rest = printed.splitlines()
    assert names == "['ConsoleLogRecordExporter', 'ConsoleMetricExporter', 'ConsoleSpanExporter']"
    assert rest.endswith(repr(value))
    assert rest.count("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT") == (1 if value else 0)


@pytest.mark.parametrize(
    ("variables", "limits"),
    [
        ({}, LogLimits(128, None)),
        ({"OTEL_ATTRIBUTE_COUNT_LIMIT": "3"}, LogLimits(3, None)),
        (
            {"OTEL_ATTRIBUTE_COUNT_LIMIT": "3", "OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT": "5"},
            LogLimits(5, None),
        ),
        ({"OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "3"}, LogLimits(128, 3)),
        (
            {"OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "3", "OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT": "0"},
            LogLimits(128, 0),
        ),
    ],
)
def test_log_limits(variables: dict[str, str], limits: LogLimits) -> None:
    """The log records' own limits count before the general ones."""
    warnings: list[str] = []
    assert log_limits_from_env(variables, warnings.append) == limits
    assert warnings == []


@pytest.mark.parametrize(
    "name", ["OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", "OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT"]
)
def test_wrong_log_limit_is_one_warning(name: str) -> None:
    """The general limit is used."""
    warnings: list[str] = []
    general = {"OTEL_ATTRIBUTE_COUNT_LIMIT": "7", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "8"}
    assert log_limits_from_env({name: "x", **general}, warnings.append) == LogLimits(7, 8)
    assert [text.startswith(f"{name}='x'") for text in warnings] == [True]


def batched(
    receiver: OtlpReceiver, signal: Literal["traces", "logs"]
) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return functions that send an item in a batch, and shut down; batched as the environment says."""
    warnings: list[str] = []
    batch = batch_settings(signal, os.environ, warnings.append)
    assert warnings == []
    if signal == "traces":
        provider = traced(receiver, batch=batch)
        tracer = provider.get_tracer("test")
        return lambda: tracer.start_span("hello").end(), provider.shutdown
    [exporter], warnings = load("logs")
    log_provider = LoggerProvider(shutdown_on_exit=False)
    log_provider.add_log_record_processor(
        BatchLogRecordProcessor(
            exporter,
            max_queue_size=batch.max_queue,
            schedule_delay_millis=batch.delay_s * 1000,
            max_export_batch_size=batch.max_batch,
        )
    )
    logger = log_provider.get_logger("test")
    return lambda: logger.emit(timestamp=1, body="hello"), log_provider.shutdown


each_batched = pytest.mark.parametrize(
    ("signal", "prefix"), [("traces", "OTEL_BSP_"), ("logs", "OTEL_BLRP_")]
)


@each_batched
def test_batch_delay(
    env: SetEnv, receiver: OtlpReceiver, signal: Literal["traces", "logs"], prefix: str
) -> None:
    """SCHEDULE_DELAY is in milliseconds: an item goes out by itself that soon."""
    env(endpoint_of(receiver, "http/protobuf"))
    env({f"{prefix}SCHEDULE_DELAY": "20", f"{prefix}MAX_EXPORT_BATCH_SIZE": "100"})
    put, shutdown = batched(receiver, signal)
    put()
    # Sooner than either default.
    assert receiver.wait(lambda r: len(r.requests) == 1, timeout=0.9)
    shutdown()


@each_batched
def test_batch_size(
    env: SetEnv, receiver: OtlpReceiver, signal: Literal["traces", "logs"], prefix: str
) -> None:
    """MAX_EXPORT_BATCH_SIZE: a full batch goes out without waiting, and holds no more than that."""
    env(endpoint_of(receiver, "http/protobuf"))
    env({f"{prefix}SCHEDULE_DELAY": "60000", f"{prefix}MAX_EXPORT_BATCH_SIZE": "3"})
    put, shutdown = batched(receiver, signal)
    for _ in range(3):
        put()
    assert receiver.wait(lambda r: [request.items for request in r.requests] == [3])
    shutdown()


@each_batched
def test_queue_size(
    env: SetEnv, receiver: OtlpReceiver, signal: Literal["traces", "logs"], prefix: str
) -> None:
    """MAX_QUEUE_SIZE bounds what waits while the collector is slow."""
    env(endpoint_of(receiver, "http/protobuf"))
    env({f"{prefix}MAX_QUEUE_SIZE": "2", f"{prefix}MAX_EXPORT_BATCH_SIZE": "1"})
    receiver.respond(delay=0.2)
    put, shutdown = batched(receiver, signal)
    put()
    assert receiver.wait(lambda r: len(r.requests) == 1)
    for _ in range(5):
        put()
    shutdown()
    assert len(receiver.logs) + len(receiver.spans) == 3


@each_batched
def test_batch_settings_by_default(signal: Literal["traces", "logs"], prefix: str) -> None:
    """What the specification says; a small queue makes for small batches, which is nothing wrong."""
    warnings: list[str] = []
    assert batch_settings(signal, {}, warnings.append) == BatchSettings(
        5.0 if signal == "traces" else 1.0, 512, 2048
    )
    assert batch_settings(signal, {f"{prefix}MAX_QUEUE_SIZE": "9"}, warnings.append).max_batch == 9
    assert warnings == []


@each_batched
@pytest.mark.parametrize("what", ["SCHEDULE_DELAY", "MAX_QUEUE_SIZE", "MAX_EXPORT_BATCH_SIZE"])
@pytest.mark.parametrize("value", ["x", "0", "-3", "1.5", "9" * 30])
def test_wrong_batch_setting_is_one_warning(
    signal: Literal["traces", "logs"], prefix: str, what: str, value: str
) -> None:
    """The default is used."""
    warnings: list[str] = []
    assert batch_settings(signal, {prefix + what: value}, warnings.append) == batch_settings(
        signal, {}, print
    )
    assert [text.startswith(f"{prefix}{what}={value!r}") for text in warnings] == [True]


@each_batched
def test_batch_larger_than_its_queue_is_one_warning(signal: Literal["traces", "logs"], prefix: str) -> None:
    """The SDK would raise."""
    warnings: list[str] = []
    environ = {f"{prefix}MAX_QUEUE_SIZE": "10", f"{prefix}MAX_EXPORT_BATCH_SIZE": "20"}
    assert batch_settings(signal, environ, warnings.append).max_batch == 10
    [warning] = warnings
    assert warning.startswith(f"{prefix}MAX_EXPORT_BATCH_SIZE='20'")


# --- the resource ---------------------------------------------------------------------------------


def sent_resource(env: SetEnv, receiver: OtlpReceiver, **variables: str) -> tuple[dict[str, Any], list[str]]:
    """Return the resource as the receiver sees it, and what was warned of."""
    env(endpoint_of(receiver, "http/protobuf"), **variables)
    exporters, warnings = load("logs")
    export("logs", exporters, build_resource(os.environ, warnings.append))
    [record] = receiver.logs
    return record.resource, warnings


def test_resource_by_default(env: SetEnv, receiver: OtlpReceiver) -> None:
    """A name of its own, an id per process, where it runs, and nothing that is not known."""
    resource, warnings = sent_resource(env, receiver)
    assert warnings == []
    assert resource["service.name"] == "torchelastic"
    assert resource["host.name"] == socket.gethostname()
    assert resource["process.pid"] == os.getpid()
    assert re.fullmatch(r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}", resource["service.instance.id"])
    assert resource["service.instance.id"] == resource_attributes(os.environ)["service.instance.id"]
    assert {name.partition(".")[0] for name in resource} == {"service", "host", "process", "telemetry"}


def test_service_name(env: SetEnv, receiver: OtlpReceiver) -> None:
    """OTEL_SERVICE_NAME wins over the name among the resource attributes."""
    resource, _ = sent_resource(
        env, receiver, OTEL_SERVICE_NAME="mine", OTEL_RESOURCE_ATTRIBUTES="service.name=other"
    )
    assert resource["service.name"] == "mine"


def test_service_name_that_the_sdk_would_take_for_none(env: SetEnv, receiver: OtlpReceiver) -> None:
    """The user's word stands even where it is the SDK's default."""
    resource, _ = sent_resource(env, receiver, OTEL_SERVICE_NAME="unknown_service")
    assert resource["service.name"] == "unknown_service"


def test_resource_attributes_of_the_user_win(env: SetEnv, receiver: OtlpReceiver) -> None:
    """Over everything that is found out, decoded, and none is lost."""
    resource, warnings = sent_resource(
        env,
        receiver,
        OTEL_RESOURCE_ATTRIBUTES=(
            "service.name=named, service.instance.id = i-1 ,host.name=other,slurm.job.id=mine,team=a%2Cb%3D,"
        ),
        SLURM_JOB_ID="17",
        SLURM_JOB_NAME="train",
    )
    assert warnings == []
    assert resource["service.name"] == "named"
    assert resource["service.instance.id"] == "i-1"
    assert resource["host.name"] == "other"
    assert resource["slurm.job.id"] == "mine"
    assert resource["slurm.job.name"] == "train"
    assert resource["team"] == "a,b="


def test_malformed_resource_attribute_is_one_warning(
    env: SetEnv, receiver: OtlpReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    """It names the variable, which the SDK's own does not; the rest is kept."""
    resource, [warning] = sent_resource(
        env, receiver, OTEL_RESOURCE_ATTRIBUTES="team=ml, oops ,zone=b,, again"
    )
    assert warning.startswith("OTEL_RESOURCE_ATTRIBUTES")
    assert "'oops'" in warning
    assert "'again'" in warning
    assert (resource["team"], resource["zone"]) == ("ml", "b")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_empty_names_are_no_names(env: SetEnv, receiver: OtlpReceiver) -> None:
    """An empty variable or attribute leaves the default."""
    resource, _ = sent_resource(
        env, receiver, OTEL_SERVICE_NAME="", OTEL_RESOURCE_ATTRIBUTES="service.name=,service.instance.id="
    )
    assert resource["service.name"] == "torchelastic"
    assert resource["service.instance.id"]


def test_text_that_cannot_be_encoded_costs_nothing_else(env: SetEnv, receiver: OtlpReceiver) -> None:
    """Bytes in the environment that are no UTF-8 are replaced; otherwise no batch could be sent at all."""
    resource, _ = sent_resource(
        env, receiver, SLURM_JOB_NAME="tr\udce4in", OTEL_RESOURCE_ATTRIBUTES="a=\udcff"
    )
    assert (resource["slurm.job.name"], resource["a"]) == ("tr?in", "?")


def test_resource_detectors(
    env: SetEnv, receiver: OtlpReceiver, third_party: Callable[[str, str], None]
) -> None:
    """OTEL_EXPERIMENTAL_RESOURCE_DETECTORS is honoured, third parties' included; the user's word wins."""
    third_party(
        "[opentelemetry_resource_detector]\nvendor = vendor_stuff:Detector",
        """
        from opentelemetry.sdk.resources import Resource, ResourceDetector

        class Detector(ResourceDetector):
            def detect(self):
                return Resource({"cloud.region": "eu", "team": "found", "service.name": "found"})
        """,
    )
    env(endpoint_of(receiver, "http/protobuf"))
    # The SDK reads the list of what is installed once per process.
    python(
        """
        import os
        from tests.config import test_configuration as t
        warnings = []
        t.export("logs", t.load("logs")[0], t.build_resource(os.environ, warnings.append))
        assert warnings == []
        """,
        OTEL_EXPERIMENTAL_RESOURCE_DETECTORS="vendor,os",
        OTEL_RESOURCE_ATTRIBUTES="team=mine",
    )
    [record] = receiver.logs
    resource = record.resource
    assert (resource["cloud.region"], resource["os.type"]) == ("eu", "linux")
    assert (resource["team"], resource["service.name"]) == ("mine", "found")


def test_unknown_resource_detector_is_one_warning(
    env: SetEnv, receiver: OtlpReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    """It names the variable and what there is."""
    resource, [warning] = sent_resource(env, receiver, OTEL_EXPERIMENTAL_RESOURCE_DETECTORS="nosuch,os")
    assert warning.startswith("OTEL_EXPERIMENTAL_RESOURCE_DETECTORS")
    assert "'nosuch'" in warning
    assert resource["os.type"] == "linux"
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_slurm_tells_the_job(env: SetEnv, receiver: OtlpReceiver) -> None:
    """What Slurm puts into the environment becomes slurm.*, counts as numbers."""
    resource, _ = sent_resource(
        env,
        receiver,
        SLURM_JOB_ID="17",
        SLURM_JOB_NAME="train",
        SLURM_JOB_PARTITION="gpu",
        SLURM_CLUSTER_NAME="big",
        SLURMD_NODENAME="node7",
        SLURM_STEP_ID="0",
        SLURM_RESTART_COUNT="2",
        SLURM_PROCID="3",
        SLURM_ARRAY_JOB_ID="15",
        SLURM_ARRAY_TASK_ID="1",
    )
    assert {name: value for name, value in resource.items() if name.startswith("slurm.")} == {
        "slurm.job.id": "17",
        "slurm.job.name": "train",
        "slurm.job.partition": "gpu",
        "slurm.cluster.name": "big",
        "slurm.node.name": "node7",
        "slurm.step.id": "0",
        "slurm.restart.count": 2,
        "slurm.procid": 3,
        "slurm.array.job.id": "15",
        "slurm.array.task.id": "1",
    }


def test_kubernetes_tells_the_pod() -> None:
    """Usual names of downward-API variables become k8s.*."""
    pod = {"POD_NAME": "p", "POD_UID": "u", "POD_NAMESPACE": "n", "NODE_NAME": "h", "CONTAINER_NAME": "c"}
    found = {
        "k8s.pod.name": "p",
        "k8s.pod.uid": "u",
        "k8s.namespace.name": "n",
        "k8s.node.name": "h",
        "k8s.container.name": "c",
    }

    def kubernetes(environ: dict[str, str]) -> dict[str, str | int]:
        return {k: v for k, v in resource_attributes(environ).items() if k.startswith("k8s.")}

    assert kubernetes({"KUBERNETES_SERVICE_HOST": "10.0.0.1", **pod}) == found
    assert kubernetes({"K8S_POD_NAME": "p", "MY_NODE_NAME": "h", "K8S_CLUSTER_NAME": "k"}) == {
        "k8s.pod.name": "p",
        "k8s.node.name": "h",
        "k8s.cluster.name": "k",
    }
    # Jenkins has a NODE_NAME, too.
    assert kubernetes(pod) == {}


def test_instance_id_is_one_per_process() -> None:
    """The same all along, another in a fork."""
    mine = resource_attributes({})["service.instance.id"]
    assert resource_attributes({})["service.instance.id"] == mine
    printed = python(
        """
        import os
        from torchelastic_otel._config.resource import resource_attributes
        before = resource_attributes({})["service.instance.id"]
        child = os.fork()
        if child == 0:
            os._exit(resource_attributes({})["service.instance.id"] == before)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), before)
        """
    )
    assert printed.startswith("0 ")
    assert str(mine) not in printed


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


def test_plan_keeps_headers_out_of_its_text(env: SetEnv) -> None:
    """A plan may be logged; credentials may not."""
    env(OTEL_EXPORTER_OTLP_HEADERS="authorization=tok3n")
    plan, _ = plan_one()
    assert plan.otlp
    assert plan.otlp.headers == (("authorization", "tok3n"),)
    assert "tok3n" not in repr(plan)
    exporter = load_exporter(plan, print)
    assert exporter is not None
    exporter.shutdown()


@each_protocol
def test_signals_may_be_loaded_in_parallel(env: SetEnv, protocol: str) -> None:
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


# --- our own settings -----------------------------------------------------------------------------


def settings_of(**variables: str) -> tuple[Settings, list[str]]:
    """Return the settings from variables given without their prefix, and what was warned of."""
    warnings: list[str] = []
    environ = {f"TORCHELASTIC_OTEL_{name}": value for name, value in variables.items()}
    return read_settings(environ, warnings.append), warnings


def test_settings_by_default() -> None:
    """Nothing need be set; what is read cannot be changed."""
    settings, warnings = settings_of()
    assert settings == Settings("metric", True, "", "", 0.5, "", "", 64 * 1024 * 1024)
    assert warnings == []
    with pytest.raises(FrozenInstanceError):
        settings.heartbeats = "log"  # type: ignore[misc]


def test_heartbeats_setting() -> None:
    """``metric`` or ``log``."""
    assert settings_of(HEARTBEATS=" Log ")[0].heartbeats == "log"
    assert settings_of(HEARTBEATS="metric") == settings_of(HEARTBEATS="") == settings_of()


def test_span_events_setting() -> None:
    """Can be switched off, in the usual words."""
    for value in ("false", "FALSE", "0", "no", "off"):
        assert settings_of(SPAN_EVENTS=value) == (Settings(span_events=False), [])
    for value in ("true", "1", "yes", "ON", ""):
        assert settings_of(SPAN_EVENTS=value) == (Settings(), [])


def test_trace_seed_setting() -> None:
    """Any text, to the letter: it is hashed."""
    assert settings_of(TRACE_SEED=" a b ")[0].trace_seed == " a b "


def test_trace_url_setting() -> None:
    """A template with the trace id in it."""
    template = "https://tempo.example/trace/{trace_id}?org={x}"
    assert settings_of(TRACE_URL=template)[0].trace_url == template


def test_exit_timeout_setting() -> None:
    """Seconds, up to an hour."""
    assert settings_of(EXIT_TIMEOUT="0.25")[0].exit_timeout_s == 0.25
    assert settings_of(EXIT_TIMEOUT="3600")[0].exit_timeout_s == 3600.0


def test_redact_setting() -> None:
    """A regular expression; one that is none redacts everything, since nobody knows what it was to hide."""
    assert settings_of(REDACT="pass(word)?=.*")[0].redact == "pass(word)?=.*"
    settings, [warning] = settings_of(REDACT="(")
    assert "TORCHELASTIC_OTEL_REDACT='('" in warning
    assert Redaction(settings.redact).text("secret\nand more") == "[redacted]"


def test_spool_dir_setting() -> None:
    """A directory, or the usual words for none."""
    assert settings_of(SPOOL_DIR="/data/spool")[0].spool_dir == "/data/spool"
    for value in ("off", "OFF", "no", "false", "0"):
        assert settings_of(SPOOL_DIR=value) == (Settings(spool_dir="off"), [])


def test_spool_max_bytes_setting() -> None:
    """Bytes, up to a tebibyte."""
    assert settings_of(SPOOL_MAX_BYTES="1000000")[0].spool_max_bytes == 1_000_000


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("SPOOL_MAX_BYTES", "lots", "bytes"),
        ("SPOOL_MAX_BYTES", "-1", "bytes"),
        ("HEARTBEATS", "span", "'log'"),
        ("SPAN_EVENTS", "maybe", "true or false"),
        ("TRACE_URL", "https://tempo.example/", "{trace_id}"),
        ("EXIT_TIMEOUT", "soon", "seconds"),
        ("EXIT_TIMEOUT", "0", "seconds"),
        ("EXIT_TIMEOUT", "-1", "seconds"),
        ("EXIT_TIMEOUT", "nan", "seconds"),
        ("EXIT_TIMEOUT", "3601", "3600"),
    ],
)
def test_wrong_setting_is_one_warning_and_the_default(name: str, value: str, accepted: str) -> None:
    """It names the variable, the value, and what would be accepted."""
    settings, [warning] = settings_of(**{name: value})
    assert settings == Settings()
    assert warning.startswith(f"TORCHELASTIC_OTEL_{name}={value!r}")
    assert accepted in warning


def test_long_value_is_cut_in_a_warning() -> None:
    """A pasted file does not fill the log."""
    _, [warning] = settings_of(HEARTBEATS="x" * 10_000)
    assert len(warning) < 300


# --- the document ---------------------------------------------------------------------------------


def of_each_signal(what: str, test: Callable[..., object]) -> dict[str, Callable[..., object]]:
    """Return the general variable and each signal's own with their test."""
    return {f"OTEL_EXPORTER_OTLP_{infix}{what}": test for infix in ("", "TRACES_", "LOGS_", "METRICS_")}


COVERED: dict[str, Callable[..., object]] = {
    "OTEL_SDK_DISABLED": test_disabled_sdk_makes_nothing,
    "OTEL_TRACES_EXPORTER": test_exporter_name_chooses_what_is_sent_how,
    "OTEL_LOGS_EXPORTER": test_exporter_name_chooses_what_is_sent_how,
    "OTEL_METRICS_EXPORTER": test_exporter_name_chooses_what_is_sent_how,
    **of_each_signal("ENDPOINT", test_endpoint_is_where_it_goes),
    **of_each_signal("PROTOCOL", test_protocol_is_what_is_spoken),
    **of_each_signal("HEADERS", test_headers_are_sent),
    **of_each_signal("TIMEOUT", test_timeout_is_in_seconds),
    **of_each_signal("COMPRESSION", test_http_compression_is_seen),
    **of_each_signal("INSECURE", test_insecure_grpc_endpoint_without_scheme),
    **of_each_signal("CERTIFICATE", test_certificate_says_whom_to_trust),
    **of_each_signal("CLIENT_CERTIFICATE", test_client_certificate_and_key_are_shown),
    **of_each_signal("CLIENT_KEY", test_client_certificate_and_key_are_shown),
    **{
        provider_variable(form, signal, protocol): test_credential_provider_is_asked
        for form in FORMS
        for signal in SIGNALS
        for protocol in PROTOCOLS
    },
    "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": test_temporality_preference,
    "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": test_default_histogram_aggregation,
    "OTEL_METRICS_EXEMPLAR_FILTER": test_exemplar_filter,
    "OTEL_METRIC_EXPORT_INTERVAL": test_metric_export_interval,
    "OTEL_TRACES_SAMPLER": test_sampler,
    "OTEL_TRACES_SAMPLER_ARG": test_sampler,
    "OTEL_PYTHON_ID_GENERATOR": test_id_generator,
    **dict.fromkeys(LIMITS, test_span_limit),
    "OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT": test_log_limits,
    "OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT": test_log_limits,
    "OTEL_BSP_SCHEDULE_DELAY": test_batch_delay,
    "OTEL_BSP_MAX_QUEUE_SIZE": test_queue_size,
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": test_batch_size,
    "OTEL_BLRP_SCHEDULE_DELAY": test_batch_delay,
    "OTEL_BLRP_MAX_QUEUE_SIZE": test_queue_size,
    "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE": test_batch_size,
    "OTEL_SERVICE_NAME": test_service_name,
    "OTEL_RESOURCE_ATTRIBUTES": test_resource_attributes_of_the_user_win,
    "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": test_resource_detectors,
    "TORCHELASTIC_OTEL_HEARTBEATS": test_heartbeats_setting,
    "TORCHELASTIC_OTEL_SPAN_EVENTS": test_span_events_setting,
    "TORCHELASTIC_OTEL_TRACE_SEED": test_trace_seed_setting,
    "TORCHELASTIC_OTEL_TRACE_URL": test_trace_url_setting,
    "TORCHELASTIC_OTEL_EXIT_TIMEOUT": test_exit_timeout_setting,
    "TORCHELASTIC_OTEL_REDACT": test_redact_setting,
    "TORCHELASTIC_OTEL_SPOOL_DIR": test_spool_dir_setting,
    "TORCHELASTIC_OTEL_SPOOL_MAX_BYTES": test_spool_max_bytes_setting,
}
"""The test that observes each variable of the document."""

HANDLED_ELSEWHERE = {"OTEL_CONFIG_FILE", "OTEL_PROPAGATORS"}
"""Rows of the document whose tests are in other files."""


def test_every_documented_variable_has_a_test() -> None:
    """And every tested variable is documented: the tables say neither less nor more."""
    documented: list[str] = []
    for line in DOCUMENT.read_text().splitlines():
        if line.startswith("| `"):
            first_cell = line.split("|")[1]
            documented += re.findall(r"`((?:TORCHELASTIC_)?OTEL_[A-Z0-9_]+)`", first_cell)
    assert len(documented) == len(set(documented))
    assert set(documented) == set(COVERED) | HANDLED_ELSEWHERE
    assert not set(COVERED) & HANDLED_ELSEWHERE
