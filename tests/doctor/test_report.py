"""The report: a probe of each signal, every setting with its source, and no secret."""

from __future__ import annotations

import socket

import pytest

from otlp_receiver import OtlpReceiver
from tests.support.credentials import Authority
from tests.support.doctor import SECRET, Doctor, endpoint_of, port_of, to
from torchelastic_otel._config import sdk_variables as sdk
from torchelastic_otel._config.environment import SIGNALS
from torchelastic_otel._config.kinds import Text
from torchelastic_otel._config.variables import VARIABLES

PROTOCOLS = ("grpc", "http/protobuf")
PROBE = "torchelastic_otel.doctor"

each_protocol = pytest.mark.parametrize("protocol", PROTOCOLS)


@each_protocol
def test_a_probe_of_each_signal_arrives(doctor: Doctor, receiver: OtlpReceiver, protocol: str) -> None:
    """A log record, a span of the same trace, and a metric, from the bridge's own resource."""
    found = doctor({**to(endpoint_of(receiver, protocol), protocol), "OTEL_SERVICE_NAME": "training"})
    assert (found.code, found.err) == (0, "")
    assert found.report["ok"] is True
    assert {found.check(signal)[0] for signal in SIGNALS} == {"ok"}
    (log,), (span,), (metric,) = receiver.logs, receiver.spans, receiver.metrics
    assert (log.event_name, span.name, metric.name) == (PROBE, PROBE, PROBE)
    assert log.trace_id == span.trace_id
    for sent in (log, span, metric):
        assert sent.scope_name == "torchelastic_otel"
        assert sent.resource["service.name"] == "training"
        assert sent.resource["host.name"] == socket.gethostname()


def test_the_last_line_for_people_is_the_verdict(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """Without --json it is text, plain enough for a log file."""
    found = doctor(to(receiver.http_endpoint), arguments=())
    assert found.code == 0
    assert found.last_line == "Telemetry would arrive."
    assert "\x1b" not in found.out


def test_settings_are_shown_with_their_sources(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """A signal's own variable, the general one, the default, and what is not accepted."""
    found = doctor(
        {
            **to(receiver.http_endpoint),
            "OTEL_EXPORTER_OTLP_LOGS_TIMEOUT": "7",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "brotli",
            "OTEL_EXPORTER_OTLP_HEADERS": f"api-key={SECRET},x-tenant=blue-team",
            "OTEL_RESOURCE_ATTRIBUTES": "team=vision",
            "TORCHELASTIC_OTEL_HEARTBEATS": "log",
        }
    )
    settings = found.report["settings"]
    logs, package = settings["logs"], settings["package"]
    general = "OTEL_EXPORTER_OTLP_ENDPOINT"
    assert logs["endpoint"] == {"value": f"{receiver.http_endpoint}/v1/logs", "source": general}
    assert logs["protocol"] == {"value": "http/protobuf", "source": "OTEL_EXPORTER_OTLP_PROTOCOL"}
    assert logs["encryption"] == {"value": "none", "source": f"by {general}"}
    assert logs["timeout in s"] == {"value": 7, "source": "OTEL_EXPORTER_OTLP_LOGS_TIMEOUT"}
    assert settings["traces"]["timeout in s"] == {"value": 10, "source": "default"}
    assert logs["compression"]["value"] == "none"
    assert logs["compression"]["source"] == "default (OTEL_EXPORTER_OTLP_COMPRESSION is not accepted)"
    assert logs["headers"] == {"value": ["api-key", "x-tenant"], "source": "OTEL_EXPORTER_OTLP_HEADERS"}
    assert settings["resource"]["team"] == {"value": "vision", "source": "OTEL_RESOURCE_ATTRIBUTES"}
    assert settings["resource"]["service.name"] == {"value": "torchelastic", "source": "default"}
    assert settings["opentelemetry"]["OTEL_SDK_DISABLED"] == {"value": False, "source": "default"}
    name = "TORCHELASTIC_OTEL_HEARTBEATS"
    assert package[name] == {"value": "log", "source": name}
    assert package["TORCHELASTIC_OTEL_SPOOL_DIR"] == {
        "value": str(doctor.spool),
        "source": "TORCHELASTIC_OTEL_SPOOL_DIR",
    }


def test_every_variable_of_the_table_is_shown(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """By its name, apart from those that a signal's settings or the resource show by theirs."""
    sampler = {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.5"}
    settings = doctor({**to(receiver.http_endpoint), **sampler}).report["settings"]
    shown = [row for row in VARIABLES if not row.own and row.section != "resource"]
    assert list(settings["package"]) == [row.name for row in shown if row.setting]
    assert list(settings["opentelemetry"]) == [row.name for row in shown if not row.setting]
    assert settings["opentelemetry"]["OTEL_TRACES_SAMPLER_ARG"] == {
        "value": 0.5,
        "source": "OTEL_TRACES_SAMPLER_ARG",
    }


def test_what_is_wrong_is_shown_as_the_default_and_told_once(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """Each variable that is shown by its name, if not any text will do."""
    rows = [row for row in VARIABLES if not row.own and not isinstance(row.kind, Text)]
    wrong = {row.name: "no such value" for row in rows if row is not sdk.TRACES_SAMPLER_ARG}
    found = doctor({**to(receiver.http_endpoint), **wrong})
    assert found.code == 0
    checks = [check["message"] for check in found.checks("configuration")]
    told = [message.partition("=")[0] for message in checks if " is not accepted: expected " in message]
    assert sorted(told) == sorted(wrong)
    shown = {**found.report["settings"]["opentelemetry"], **found.report["settings"]["package"]}
    for name in set(wrong) - {sdk.RESOURCE_DETECTORS.name}:
        assert shown[name]["source"].startswith("default (")
        assert shown[name]["source"].endswith(f"{name} is not accepted)")


def test_a_limit_that_another_variable_sets_is_shown_with_that_variable(
    doctor: Doctor, receiver: OtlpReceiver
) -> None:
    """Where its own is unset."""
    found = doctor({**to(receiver.http_endpoint), "OTEL_ATTRIBUTE_COUNT_LIMIT": "7"})
    assert found.report["settings"]["opentelemetry"]["OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT"] == {
        "value": 7,
        "source": "OTEL_ATTRIBUTE_COUNT_LIMIT",
    }


def test_tls_that_is_right_is_found_right(doctor: Doctor, authority: Authority) -> None:
    """With the authority named, on both protocols; its file is shown."""
    with authority.server() as receiver:
        for protocol in PROTOCOLS:
            found = doctor(
                {
                    **to(endpoint_of(receiver, protocol), protocol),
                    "OTEL_EXPORTER_OTLP_CERTIFICATE": str(authority.ca),
                }
            )
            assert found.code == 0
            settings = found.report["settings"]["traces"]
            assert settings["encryption"]["value"] == "TLS"
            assert settings["authorities"]["value"] == str(authority.ca)


# --- secrets --------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [("--json",), ()], ids=["json", "text"])
def test_secrets_are_never_shown(doctor: Doctor, receiver: OtlpReceiver, arguments: tuple[str, ...]) -> None:
    """Not in settings, nor in warnings, nor where the server quotes them."""
    receiver.respond(
        status=401, body=f"no such key: {SECRET}".encode(), headers={"Content-Type": "text/plain"}
    )
    port = port_of(receiver.http_endpoint)
    found = doctor(
        {
            **to(f"127.0.0.1:{port}"),
            "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{SECRET},{SECRET}-alone",
            "OTEL_EXPORTER_OTLP_METRICS_HEADERS": f"x={SECRET}-für-uns",
            "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": f"user:{SECRET}@127.0.0.1:{port}/v1/logs?key={SECRET}",
            "HTTPS_PROXY": f"http://user:{SECRET}@proxy.example:3128",
        },
        arguments=arguments,
    )
    assert found.code == 1
    assert "no such key: ***" in found.out
    assert SECRET not in found.out + found.err
