"""Where and how OTLP goes by the variables, and what keeps a signal from being sent anywhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.credentials import Authority
from tests.support.plans import refusal_of, target_of
from torchelastic_otel._config.otlp_variables import (
    GRPC_CREDENTIAL_PROVIDER,
    HTTP_CREDENTIAL_PROVIDER,
    OTLP_CERTIFICATE,
    OTLP_CLIENT_CERTIFICATE,
    OTLP_CLIENT_KEY,
    Protocol,
)
from torchelastic_otel._config.row import Variable

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
OWN_ENDPOINT = "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"
PROTOCOL = "OTEL_EXPORTER_OTLP_PROTOCOL"
INSECURE = "OTEL_EXPORTER_OTLP_INSECURE"

each_protocol = pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])


# --- the endpoint and the protocol ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("endpoint", "protocol"),
    [
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
def test_the_endpoint_decides_where_no_protocol_is_named(endpoint: str, protocol: str) -> None:
    """A path or port 4318 means HTTP, port 4317 or nothing at all gRPC, anything else HTTP."""
    assert target_of({ENDPOINT: endpoint})[0].protocol == protocol


def test_a_signals_own_endpoint_decides_before_the_general_one() -> None:
    """Each of them goes its own way."""
    target, _ = target_of({ENDPOINT: "http://collector:4317", OWN_ENDPOINT: "http://collector:4318/logs"})
    assert (target.protocol, target.endpoint) == ("http/protobuf", "http://collector:4318/logs")


@pytest.mark.parametrize("value", ["http/json", "udp"])
def test_an_unknown_protocol_is_one_warning_and_the_endpoint_decides(value: str) -> None:
    """Telemetry still goes out."""
    target, warnings = target_of({ENDPOINT: "http://collector:4318", PROTOCOL: value})
    assert target.protocol == "http/protobuf"
    assert warnings == [
        f"{PROTOCOL}={value!r} is not accepted: expected 'grpc' or 'http/protobuf'; the endpoint decides."
    ]


def test_each_protocol_has_its_default_endpoint() -> None:
    """A collector on this machine, at its usual ports."""
    assert target_of()[0].endpoint == "http://localhost:4317"
    assert target_of({PROTOCOL: "http/protobuf"})[0].endpoint == "http://localhost:4318/v1/logs"


def test_the_path_of_the_general_http_endpoint_is_kept() -> None:
    """A collector behind a path is reached; slashes are not doubled."""
    target, _ = target_of({ENDPOINT: "http://gateway:4318/otlp/"}, signal="traces")
    assert target.endpoint == "http://gateway:4318/otlp/v1/traces"


@pytest.mark.parametrize(
    "endpoint", ["http://", "http://collector:port", "http://coll ector", "http://c:99999"]
)
@each_protocol
def test_an_unusable_endpoint_is_one_warning(endpoint: str, protocol: str) -> None:
    """There is nowhere to send to, and nothing is sent elsewhere."""
    warning = refusal_of({OWN_ENDPOINT: endpoint, PROTOCOL: protocol})
    assert warning.startswith(f"{OWN_ENDPOINT}={endpoint!r} is not accepted: ")
    assert warning.endswith("; what would be sent there is not sent.")


def test_a_scheme_that_http_does_not_have_is_one_warning() -> None:
    """Only http and https can be posted to."""
    warning = refusal_of({ENDPOINT: "tcp://collector:4318"})
    assert warning.startswith(f"{ENDPOINT}='tcp://collector:4318' is not accepted: ")
    assert "http:// or https://" in warning


def test_an_http_endpoint_without_a_scheme_works_with_a_warning() -> None:
    """``host:port`` is taken for http://."""
    target, [warning] = target_of({ENDPOINT: "collector:4318"})
    assert (target.endpoint, target.insecure) == ("http://collector:4318/v1/logs", True)
    assert warning.startswith(f"{ENDPOINT}='collector:4318' names no scheme; http:// is taken")


def test_options_of_the_way() -> None:
    """The units and spellings that a sender understands."""
    target, warnings = target_of(
        {ENDPOINT: "http://collector:4318"},
        OTEL_EXPORTER_OTLP_TIMEOUT="7.5",
        OTEL_EXPORTER_OTLP_COMPRESSION="Deflate",
        OTEL_EXPORTER_OTLP_HEADERS="X-Team=a%20b",
    )
    assert (target.timeout_s, target.compression, target.headers) == (7.5, "deflate", (("x-team", "a b"),))
    assert warnings == []


# --- encryption -----------------------------------------------------------------------------------


def test_a_grpc_endpoint_without_a_scheme_means_tls() -> None:
    """The specification's default; it is said."""
    target, [warning] = target_of({ENDPOINT: "collector:4317"})
    assert not target.insecure
    assert warning.startswith(f"{ENDPOINT}='collector:4317' does not say whether to encrypt; TLS is used.")
    assert f"{INSECURE}=true" in warning


def test_nothing_is_said_of_tls_that_is_meant(authority: Authority) -> None:
    """As a certificate shows, or the variable in either value."""
    endpoint = {ENDPOINT: "collector:4317"}
    for shown in (
        {OTLP_CERTIFICATE.name: str(authority.ca)},
        {OTLP_CLIENT_CERTIFICATE.name: str(authority.combined)},
        {INSECURE: "false"},
    ):
        target, warnings = target_of({**endpoint, **shown})
        assert (target.insecure, warnings) == (False, [])


def test_https_wins_over_insecure() -> None:
    """It cannot be downgraded."""
    target, warnings = target_of({ENDPOINT: "https://collector:4317", INSECURE: "true"})
    assert (target.insecure, warnings) == (False, [])


def test_an_http_scheme_with_insecure_false_is_one_warning_and_tls() -> None:
    """What is contradictory does not go out in the clear."""
    target, [warning] = target_of({ENDPOINT: "http://collector:4317", INSECURE: "false"})
    assert not target.insecure
    assert warning.startswith(
        f"{INSECURE}=false contradicts {ENDPOINT}='http://collector:4317'; TLS is used."
    )


def test_a_wrong_insecure_is_one_warning_and_tls() -> None:
    """Only true gives up encryption."""
    target, [warning] = target_of({ENDPOINT: "collector:4317", INSECURE: "1"})
    assert not target.insecure
    assert warning == f"{INSECURE}='1' is not accepted: expected true or false; false is used."


# --- files and credentials ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("protocol", "row", "wrong"),
    [
        pytest.param("http/protobuf", OTLP_CERTIFICATE, "missing", id="no authorities"),
        pytest.param("grpc", OTLP_CERTIFICATE, "no PEM", id="wrong authorities"),
        pytest.param("http/protobuf", OTLP_CLIENT_CERTIFICATE, "no PEM", id="wrong certificate"),
        pytest.param("grpc", OTLP_CLIENT_KEY, "missing", id="no key"),
    ],
)
def test_an_unusable_file_stops_the_signal_with_one_warning(
    authority: Authority, tmp_path: Path, protocol: Protocol, row: Variable[str], wrong: str
) -> None:
    """Nothing is sent rather than sent less securely; the warning names the variable and the file."""
    path = tmp_path / "wrong.pem"
    if wrong == "no PEM":
        path.write_text("not a certificate")
    files = {
        OTLP_CLIENT_CERTIFICATE.name: str(authority.certificate),
        OTLP_CLIENT_KEY.name: str(authority.key),
        row.of("logs"): str(path),
    }
    warning = refusal_of({ENDPOINT: "https://collector", PROTOCOL: protocol, **files})
    assert f"{row.of('logs')}={str(path)!r}" in warning
    assert "What it would secure is not sent at all" in warning


def test_authorities_may_be_a_directory_for_http_alone(tmp_path: Path) -> None:
    """One of hashed certificates, which gRPC cannot read."""
    variables = {ENDPOINT: "https://collector", OTLP_CERTIFICATE.name: str(tmp_path)}
    target, warnings = target_of(variables)
    assert (target.ca_file, warnings) == (str(tmp_path), [])
    assert OTLP_CERTIFICATE.name in refusal_of({**variables, PROTOCOL: "grpc"})


@pytest.mark.parametrize("case", ["other key", "encrypted key", "no key", "no certificate"])
def test_a_key_that_does_not_fit_stops_the_signal_with_one_warning(authority: Authority, case: str) -> None:
    """It would fail at each handshake, or ask for a password on the terminal."""
    certificate = "" if case == "no certificate" else str(authority.certificate)
    key = {"other key": authority.server_key, "encrypted key": authority.encrypted_key, "no key": ""}
    files = {
        OTLP_CLIENT_CERTIFICATE.name: certificate,
        OTLP_CLIENT_KEY.name: str(key.get(case, authority.key)),
    }
    assert OTLP_CLIENT_KEY.name in refusal_of({ENDPOINT: "https://collector", **files})


@each_protocol
def test_an_unknown_credential_provider_stops_the_signal_with_one_warning(protocol: Protocol) -> None:
    """Without its credentials nothing is sent."""
    row = GRPC_CREDENTIAL_PROVIDER if protocol == "grpc" else HTTP_CREDENTIAL_PROVIDER
    warning = refusal_of({ENDPOINT: "https://collector", PROTOCOL: protocol, row.name: "unknown"})
    assert warning.startswith(f"{row.name}='unknown' is not accepted: expected one that is installed (")
    assert warning.endswith("); what would need it is not sent.")
