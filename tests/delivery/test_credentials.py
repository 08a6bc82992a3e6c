"""Certificates and third parties' credentials open the way, and what they do not open stays shut."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from otlp_receiver import OtlpReceiver, TlsFiles
from tests.support.credentials import PROVIDER_POINTS, PROVIDERS, Authority
from tests.support.sending import (
    PROTOCOLS,
    SIGNALS,
    endpoint_of,
    only_request,
    raw_server,
    send,
    send_to,
    target_of,
)
from torchelastic_otel._config.environment import Signal
from torchelastic_otel._config.otlp import OtlpTarget, plan_otlp
from torchelastic_otel._config.otlp_variables import Protocol
from torchelastic_otel._delivery.answer import Answer
from torchelastic_otel._delivery.credentials import CredentialError
from torchelastic_otel._delivery.sender import make_sender

each_signal = pytest.mark.parametrize("signal", SIGNALS)
each_protocol = pytest.mark.parametrize("protocol", PROTOCOLS)


@each_protocol
@each_signal
def test_server_and_client_show_certificates(
    authority: Authority, protocol: Protocol, signal: Signal
) -> None:
    """Mutual TLS."""
    with authority.server(demand_client=True) as demanding:
        answer = send(
            demanding,
            protocol,
            signal,
            CERTIFICATE=str(authority.ca),
            CLIENT_CERTIFICATE=str(authority.certificate),
            CLIENT_KEY=str(authority.key),
        )
        assert answer == Answer("delivered")
        assert only_request(demanding).client_certificate


@each_protocol
def test_certificate_that_nobody_vouches_for_holds(
    authority: Authority, tmp_path: Path, protocol: Protocol
) -> None:
    """Nothing is sent to that server."""
    stranger = Authority(tmp_path / "stranger")
    with stranger.server() as untrusted:
        answer = send(untrusted, protocol, CERTIFICATE=str(authority.ca))
        assert answer.kind == "shut"
        assert "CERTIFICATE_VERIFY_FAILED" in answer.message
        assert untrusted.requests == []


@each_protocol
def test_certificate_for_another_name_holds(tmp_path: Path, protocol: Protocol) -> None:
    """The server is not who it should be."""
    authority = trustme.CA()
    certificate = authority.issue_cert("elsewhere.example")
    files = TlsFiles(tmp_path / "server.pem", tmp_path / "server.key")
    certificate.cert_chain_pems[0].write_to_path(files.certificate)
    certificate.private_key_pem.write_to_path(files.key)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with OtlpReceiver(tls=files) as server:
        assert send(server, protocol, CERTIFICATE=str(tmp_path / "ca.pem")).kind == "shut"
        assert server.requests == []


@each_protocol
def test_server_without_tls_holds(receiver: OtlpReceiver, authority: Authority, protocol: Protocol) -> None:
    """Where TLS was asked for, nothing goes without."""
    endpoint = endpoint_of(receiver, protocol).replace("http:", "https:")
    answer = send_to(target_of(endpoint, protocol, CERTIFICATE=str(authority.ca)))
    assert answer.kind == "shut"
    assert receiver.requests == []


@each_protocol
def test_handshake_that_is_cut_is_to_be_retried(authority: Authority, protocol: Protocol) -> None:
    """A server on its way down says nothing about certificates."""
    with raw_server(lambda connection: connection.recv(65536)) as address:
        target = target_of(f"https://{address}", protocol, CERTIFICATE=str(authority.ca))
        assert send_to(target).kind == ("unreachable" if protocol == "grpc" else "retry")


def test_ca_bundle_of_requests_is_for_those_who_name_no_certificate(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clusters often set it."""
    stranger = Authority(tmp_path / "stranger")
    with authority.server() as trusted:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(stranger.ca))
        assert send(trusted, "http/protobuf", CERTIFICATE=str(authority.ca)).kind == "delivered"
        assert send(trusted, "http/protobuf").kind == "shut"
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.ca))
        assert send(trusted, "http/protobuf").kind == "delivered"


def provided(endpoint: str, protocol: Protocol, name: str, **tls: str) -> OtlpTarget:
    """Return a target whose credentials the provider ``name`` makes."""
    variable = f"OTEL_PYTHON_EXPORTER_OTLP_{'GRPC' if protocol == 'grpc' else 'HTTP'}_CREDENTIAL_PROVIDER"
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, variable: name, **tls}
    target = plan_otlp("logs", protocol, environ, pytest.fail)
    assert target is not None
    return target


@each_protocol
def test_credential_provider_opens_the_way(
    authority: Authority,
    third_party: Callable[[str, str], None],
    monkeypatch: pytest.MonkeyPatch,
    protocol: Protocol,
) -> None:
    """Its channel credentials for gRPC, its session for HTTP."""
    third_party(PROVIDER_POINTS, PROVIDERS)
    monkeypatch.setenv("VENDOR_CA", str(authority.ca))
    with authority.server() as trusted:
        name = "vendor_grpc" if protocol == "grpc" else "vendor_http"
        tls = {} if protocol == "grpc" else {"OTEL_EXPORTER_OTLP_CERTIFICATE": str(authority.ca)}
        assert send_to(provided(endpoint_of(trusted, protocol), protocol, name, **tls)).kind == "delivered"
        assert protocol == "grpc" or only_request(trusted).headers["x-vendor"] == "token"


@each_protocol
@pytest.mark.parametrize("name", ["wrong", "broken"])
def test_credential_provider_that_fails_makes_no_sender(
    third_party: Callable[[str, str], None],
    protocol: Protocol,
    name: str,
) -> None:
    """The error names the variable and the provider."""
    third_party(PROVIDER_POINTS, PROVIDERS)
    with pytest.raises(CredentialError, match=f"CREDENTIAL_PROVIDER='{name}' cannot be used"):
        make_sender("logs", provided("https://collector:4317", protocol, name))


def test_session_of_a_credential_provider_is_respected(
    receiver: OtlpReceiver, third_party: Callable[[str, str], None]
) -> None:
    """It reckons with the time in seconds, and sends none of its headers that the user set wrongly."""
    source = """
        import requests

        class Session(requests.Session):
            def request(self, *args, timeout, **kwargs):
                return super().request(*args, timeout=timeout / 2, **kwargs)

        def session():
            made = Session()
            made.headers.update({"x-vendor": "token", "x-tenant": "red"})
            return made
        """
    third_party(PROVIDER_POINTS, source)
    target = provided(receiver.http_endpoint, "http/protobuf", "vendor_http")
    assert send_to(replace(target, refused_headers=("x-tenant",))).kind == "delivered"
    headers = only_request(receiver).headers
    assert headers["x-vendor"] == "token"
    assert "x-tenant" not in headers


def test_what_a_credential_provider_contributes_is_not_quoted(
    receiver: OtlpReceiver, third_party: Callable[[str, str], None]
) -> None:
    """The session's own headers are as secret as the user's; what all sessions send is not."""
    third_party(PROVIDER_POINTS, PROVIDERS.replace('"token"', '"vendors-own"'))
    receiver.respond(status=401, message="no vendors-own, but keep-alive")
    answer = send_to(provided(receiver.http_endpoint, "http/protobuf", "vendor_http"))
    assert answer == Answer("shut", "no ***, but keep-alive")


def test_an_error_of_a_credential_provider_quotes_nothing(
    third_party: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may say what it was given."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=hunter2x")
    third_party(PROVIDER_POINTS, PROVIDERS.replace("no token", "no hunter2x at https://u:p@host"))
    with pytest.raises(CredentialError, match=r"no \*\*\* at https://\*\*\*@host"):
        make_sender("logs", provided("https://collector:4317", "grpc", "broken"))


@each_protocol
def test_an_endpoint_with_a_password_is_reached_or_told_without_it(protocol: Protocol) -> None:
    """Also where the error is a library's."""
    answer = send_to(target_of("http://anna:hunter2@nowhere.invalid:4317", protocol))
    assert "hunter2" not in answer.message
    assert "nowhere.invalid" in answer.message
