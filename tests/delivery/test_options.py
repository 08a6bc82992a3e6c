"""What OTLP's variables say is what a server sees of each signal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from otlp_receiver import OtlpReceiver, Request
from tests.support.credentials import PROVIDER_POINTS, PROVIDERS, Authority
from tests.support.harness import Protocol, free_port, otlp
from tests.support.recording import record_job
from torchelastic_otel._config import otlp_variables as v
from torchelastic_otel._config.environment import SIGNALS
from torchelastic_otel._config.row import Variable
from torchelastic_otel._config.variables import NAMES

PROTOCOLS: tuple[Protocol, ...] = ("http/protobuf", "grpc")
each_protocol = pytest.mark.parametrize("protocol", PROTOCOLS)


def own(row: Variable[Any], value: str, other: str) -> dict[str, str]:
    """Return each signal's own variable, beside the one for all, which says something else."""
    return {row.name: other, **{row.of(signal): value for signal in SIGNALS}}


def by_signal(receiver: OtlpReceiver) -> dict[str, Request]:
    """Return a request of each signal."""
    found = {request.signal: request for request in receiver.requests}
    assert set(found) == set(SIGNALS)
    return found


# --- all that can be said of one way --------------------------------------------------------------


class Sent:
    """What arrived of a job that was told everything about its way, by variables of one form."""

    def __init__(self, protocol: Protocol, requests: Mapping[str, Request]) -> None:
        self.protocol = protocol
        self.requests = requests


@pytest.fixture(
    scope="module",
    params=[(form, protocol) for form in ("general", "own") for protocol in PROTOCOLS],
    ids="-".join,
)
def sent(
    request: pytest.FixtureRequest, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Sent]:
    """Send by the variables for all signals, or by each signal's own beside misleading ones for all."""
    form, protocol = request.param
    stranger = Authority(tmp_path_factory.mktemp("stranger"))
    with authority.server(demand_client=True) as receiver:
        endpoint = receiver.grpc_endpoint if protocol == "grpc" else receiver.http_endpoint
        said: list[tuple[Variable[Any], str, str]] = [
            (v.OTLP_ENDPOINT, f" {endpoint} ", f"https://127.0.0.1:{free_port()}"),
            (v.OTLP_PROTOCOL, protocol, next(each for each in PROTOCOLS if each != protocol)),
            (v.OTLP_HEADERS, "Authorization=Bearer%20abc%3D, x-team = ml=1,,x-plain=two words", "x-other=1"),
            (v.OTLP_COMPRESSION, "GZIP", "deflate"),
            (v.OTLP_TIMEOUT, "77.5", "300"),
            (v.OTLP_CERTIFICATE, str(authority.ca), str(stranger.ca)),
            (v.OTLP_CLIENT_CERTIFICATE, str(authority.certificate), "/nowhere"),
            (v.OTLP_CLIENT_KEY, str(authority.key), "/nowhere"),
        ]
        variables: dict[str, str] = {}
        for row, value, other in said:
            variables |= {row.name: value} if form == "general" else own(row, value, other)
        if form == "own" and protocol == "http/protobuf":
            variables |= {v.OTLP_ENDPOINT.of(signal): f"{endpoint}/v1/{signal}" for signal in SIGNALS}
        assert record_job(variables) == ""
        yield Sent(protocol, by_signal(receiver))


def test_the_endpoint_is_where_it_goes(sent: Sent) -> None:
    """HTTP adds /v1/<signal> to the general endpoint, and takes the signal's own as it is."""
    assert all(request.accepted for request in sent.requests.values())


def test_the_protocol_is_what_is_spoken(sent: Sent) -> None:
    """HTTP or gRPC."""
    assert {request.protocol for request in sent.requests.values()} == {sent.protocol}


def test_headers_arrive_decoded(sent: Sent) -> None:
    """A signal's own replace the general ones."""
    for request in sent.requests.values():
        assert request.headers["authorization"] == "Bearer abc="
        assert request.headers["x-team"] == "ml=1"
        assert request.headers["x-plain"] == "two words"
        assert "x-other" not in request.headers


def test_the_compression_is_the_one_named(sent: Sent) -> None:
    """HTTP says it; of gRPC's another test asks servers that know only one."""
    seen = "gzip" if sent.protocol == "http/protobuf" else ""
    assert {request.content_encoding for request in sent.requests.values()} == {seen}


def test_the_timeout_is_in_seconds(sent: Sent) -> None:
    """A client tells gRPC's server how long it will wait; HTTP knows no such thing."""
    for request in sent.requests.values():
        if sent.protocol == "grpc":
            assert request.timeout_s is not None
            assert 77.5 / 2 < request.timeout_s < 78  # what is left of it when it arrives, rounded up
        else:
            assert request.timeout_s is None


def test_the_client_shows_its_certificate_to_a_server_that_it_trusts(sent: Sent) -> None:
    """Mutual TLS, with each of the three files named."""
    assert all(request.client_certificate for request in sent.requests.values())


# --- the rest -------------------------------------------------------------------------------------


@each_protocol
def test_empty_variables_count_as_unset(receiver: OtlpReceiver, protocol: Protocol) -> None:
    """Manifests often set variables to nothing; stock exporters raise for some of those."""
    assert record_job({**dict.fromkeys(NAMES, ""), **otlp(receiver, protocol)}) == ""
    assert all(request.accepted for request in by_signal(receiver).values())


@pytest.mark.parametrize("form", ["general", "own"])
def test_insecure_turns_encryption_off(receiver: OtlpReceiver, form: str) -> None:
    """For a gRPC endpoint that does not say."""
    endpoint = receiver.grpc_endpoint.removeprefix("http://")
    said = {v.OTLP_INSECURE.name: "true"} if form == "general" else own(v.OTLP_INSECURE, "true", "false")
    assert record_job({**otlp(receiver), v.OTLP_ENDPOINT.name: endpoint, **said}) == ""
    assert all(request.accepted for request in by_signal(receiver).values())


@each_protocol
def test_malformed_headers_are_one_warning_without_their_values(
    receiver: OtlpReceiver, protocol: Protocol
) -> None:
    """The others are sent, nothing quotes what may be a credential, and the SDK adds no words of its own."""
    wrong = ("tok3n", "=tok3n", "na me=tok3n", "x-evil=tok3n%0Ax", "x-euro=tok3n%E2%82%AC")
    said = record_job({**otlp(receiver, protocol), v.OTLP_HEADERS.name: ",".join(["x-good=1", *wrong])})
    assert said.count("OTEL_EXPORTER_OTLP_HEADERS: entry 2, 3, 4, 5, 6 cannot be sent") == 1
    assert len(said.splitlines()) == 1
    assert "tok3n" not in said
    for request in by_signal(receiver).values():
        assert request.headers["x-good"] == "1"
        assert not {"x-evil", "x-euro", "na me"} & set(request.headers)


@each_protocol
def test_headers_that_are_all_wrong_are_not_sent(receiver: OtlpReceiver, protocol: Protocol) -> None:
    """Nobody reads the variable a second time."""
    said = record_job({**otlp(receiver, protocol), v.OTLP_HEADERS.name: "x-evil=tok3n%0A%0Ax"})
    assert said.startswith("OTEL_EXPORTER_OTLP_HEADERS: entry 1 cannot be sent")
    assert "x-evil" not in by_signal(receiver)["logs"].headers


def test_header_names_that_grpc_refuses_are_one_warning(receiver: OtlpReceiver) -> None:
    """Names ending in -bin carry bytes, which a variable cannot."""
    said = record_job({**otlp(receiver), v.OTLP_HEADERS.name: "x-bin=1,x!y=2,x-good=3"})
    assert "entry 1, 2" in said
    assert by_signal(receiver)["logs"].headers["x-good"] == "3"


@each_protocol
def test_general_and_own_tls_files_mix(authority: Authority, protocol: Protocol) -> None:
    """A signal's own authority with the general client certificate, which stock gRPC exporters lose."""
    with authority.server(demand_client=True) as demanding:
        variables = {
            **otlp(demanding, protocol),
            **{v.OTLP_CERTIFICATE.of(signal): str(authority.ca) for signal in SIGNALS},
            v.OTLP_CLIENT_CERTIFICATE.name: str(authority.certificate),
            v.OTLP_CLIENT_KEY.name: str(authority.key),
        }
        assert record_job(variables) == ""
        assert all(request.client_certificate for request in by_signal(demanding).values())


@each_protocol
def test_one_file_may_hold_certificate_and_key(authority: Authority, protocol: Protocol) -> None:
    """Then no key need be named; and the client's certificate is shown also where no authority is named."""
    with authority.server(demand_client=True) as demanding:
        variables = {
            **otlp(demanding, protocol),
            v.OTLP_CLIENT_CERTIFICATE.name: str(authority.combined),
            # In place of the system's authorities.
            "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(authority.ca),
            "REQUESTS_CA_BUNDLE": str(authority.ca),
        }
        assert record_job(variables) == ""
        assert all(request.client_certificate for request in by_signal(demanding).values())


@each_protocol
def test_tls_files_are_not_looked_at_without_tls(receiver: OtlpReceiver, protocol: Protocol) -> None:
    """An http:// endpoint needs none, so a stale path is no reason to stop."""
    assert record_job({**otlp(receiver, protocol), v.OTLP_CERTIFICATE.name: "/nowhere"}) == ""
    assert all(request.accepted for request in by_signal(receiver).values())


@each_protocol
@pytest.mark.parametrize("form", ["general", "own"])
def test_credential_providers_are_asked(
    authority: Authority, third_party: Callable[[str, str], None], form: str, protocol: Protocol
) -> None:
    """A third party's channel credentials are used for gRPC, its session for HTTP."""
    third_party(PROVIDER_POINTS, PROVIDERS)
    row, name = (v.GRPC_CREDENTIAL_PROVIDER, "vendor_grpc")
    if protocol == "http/protobuf":
        row, name = (v.HTTP_CREDENTIAL_PROVIDER, "vendor_http")
    said = {row.name: name} if form == "general" else own(row, name, "broken")
    with authority.server() as trusted:
        if protocol == "http/protobuf":
            said[v.OTLP_CERTIFICATE.name] = str(authority.ca)
        assert record_job({**otlp(trusted, protocol), **said, "VENDOR_CA": str(authority.ca)}) == ""
        for request in by_signal(trusted).values():
            assert protocol == "grpc" or request.headers["x-vendor"] == "token"
