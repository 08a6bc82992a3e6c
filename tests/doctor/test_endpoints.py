"""The doctor finds what is wrong with an endpoint: its host, port, protocol or path."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from otlp_receiver import OtlpReceiver
from tests.support.credentials import Authority
from tests.support.doctor import Doctor, endpoint_of, to

PROTOCOLS = ("grpc", "http/protobuf")

each_protocol = pytest.mark.parametrize("protocol", PROTOCOLS)


@contextmanager
def closed_port(port: int = 0) -> Iterator[int]:
    """Hold a port that refuses connections."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", port))
        yield held.getsockname()[1]


def test_nothing_set_means_localhost(doctor: Doctor) -> None:
    """Which is what the user has to know when nothing listens there."""
    try:
        with closed_port(4317):
            found = doctor()
    except OSError:
        pytest.skip("something listens on port 4317 here")
    assert found.code == 1
    status, message, advice = found.check("logs")
    assert status == "problem"
    assert "OTEL_EXPORTER_OTLP_ENDPOINT is not set, so that localhost:4317 counts." in message
    assert "Set OTEL_EXPORTER_OTLP_ENDPOINT to your collector" in advice


@each_protocol
def test_a_port_where_nothing_listens(doctor: Doctor, protocol: str) -> None:
    """Said once for all signals in the last line."""
    with closed_port() as port:
        variables = to(f"http://127.0.0.1:{port}", protocol)
        found = doctor(variables, arguments=())
    assert found.code == 1
    assert found.last_line == (
        f"Problem: traces, logs, metrics: Nothing listens on 127.0.0.1:{port}: the connection was refused. "
        "Start the collector there, or correct the port in OTEL_EXPORTER_OTLP_ENDPOINT."
    )


def test_a_name_that_does_not_exist(doctor: Doctor) -> None:
    """The variable with the name is named."""
    found = doctor(to("http://collector.invalid:4318"))
    assert found.code == 1
    assert found.says(
        "traces",
        "problem",
        "The name collector.invalid cannot be resolved",
        "Correct the name in OTEL_EXPORTER_OTLP_ENDPOINT",
    )


def test_http_spoken_to_a_grpc_port(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """As an endpoint on an unusual port has it by default."""
    found = doctor({"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.grpc_endpoint})
    assert found.code == 1
    assert found.says(
        "logs",
        "problem",
        "speaks gRPC, and OTLP over HTTP was sent to it",
        "Set OTEL_EXPORTER_OTLP_PROTOCOL=grpc, or name the server's port for HTTP (usually 4318)",
    )


def test_grpc_spoken_to_an_http_port(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """The other way round."""
    found = doctor(to(receiver.http_endpoint, "grpc"))
    assert found.code == 1
    assert found.says(
        "logs",
        "problem",
        "speaks HTTP, and OTLP over gRPC was sent to it",
        "Set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf, or name the server's port for gRPC (usually 4317)",
    )


def test_a_protocol_that_the_exporters_name_fixes(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """The advice is to change that name, since the protocol's variable has no effect."""
    found = doctor({**to(receiver.http_endpoint), "OTEL_LOGS_EXPORTER": "otlp_proto_grpc"})
    assert found.code == 1
    assert found.says("logs", "problem", "speaks HTTP", "Write otlp in OTEL_LOGS_EXPORTER")
    assert found.check("traces")[0] == "ok"


@each_protocol
def test_a_protocol_mixed_up_under_tls(doctor: Doctor, authority: Authority, protocol: str) -> None:
    """It is seen inside of TLS as well."""
    other = "grpc" if protocol == "http/protobuf" else "http/protobuf"
    with authority.server() as receiver:
        found = doctor(
            {
                **to(endpoint_of(receiver, protocol), other),
                "OTEL_EXPORTER_OTLP_CERTIFICATE": str(authority.ca),
            }
        )
    assert found.code == 1
    name = {"grpc": "gRPC", "http/protobuf": "HTTP"}[protocol]
    assert found.says("traces", "problem", f"speaks {name}", f"Set OTEL_EXPORTER_OTLP_PROTOCOL={protocol}")


def test_a_path_that_is_missing(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """A signal's own endpoint is used as it is."""
    found = doctor({**to(receiver.http_endpoint), "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": receiver.http_endpoint})
    assert found.code == 1
    assert found.says(
        "logs", "problem", "has nothing at /", "Add /v1/logs to OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"
    )
    assert found.check("traces")[0] == "ok"


def test_a_path_that_is_doubled(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """The general endpoint is a base."""
    found = doctor(to(f"{receiver.http_endpoint}/v1/traces"))
    assert found.code == 1
    assert found.says(
        "logs",
        "problem",
        "has nothing at /v1/traces/v1/logs, a path that is doubled",
        "Leave /v1/traces out of OTEL_EXPORTER_OTLP_ENDPOINT: /v1/logs is added to it.",
    )


def test_a_path_of_another_signal(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """Nothing is sent there: some servers would take it for something else."""
    other = f"{receiver.http_endpoint}/v1/metrics"
    found = doctor({**to(receiver.http_endpoint), "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": other})
    assert found.code == 1
    assert found.says("logs", "problem", "which is for metrics", "Write /v1/logs at the end")


def test_a_path_that_the_server_does_not_know(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """As behind a gateway."""
    found = doctor(to(f"{receiver.http_endpoint}/otlp"))
    assert found.code == 1
    assert found.says("logs", "problem", "has nothing at /otlp/v1/logs", "Correct the path in")
