"""Rows of the table (``variables.py``) that say where telemetry goes, and how."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from .kinds import PAIRS, SPECIFIED_WORDS, Choice, Component, Components, Flag, Number, Text
from .row import Variable

Protocol = Literal["grpc", "http/protobuf"]
Compression = Literal["gzip", "deflate", "none"]

PREFIX = "OTEL_EXPORTER_OTLP_"
"""How names of OTLP's variables begin."""
PORTS: Mapping[Protocol, int] = {"grpc": 4317, "http/protobuf": 4318}
"""Where a collector usually listens."""
OTLP_EXPORTERS: Mapping[str, Protocol | None] = {
    "otlp": None,
    "otlp_proto_grpc": "grpc",
    "otlp_proto_http": "http/protobuf",
}
"""Names of exporters that are OTLP's, with the protocol where the name fixes it."""
CREDENTIAL_PROVIDERS = "opentelemetry_otlp_credential_provider"
"""Entry point group of third parties' credentials."""

_NOT_SENT = "what would be sent there is not sent"
_NEEDS_IT = "what would need it is not sent"
_PEM = "a PEM file"

SDK_DISABLED = Variable(
    "OTEL_SDK_DISABLED",
    Flag(False, SPECIFIED_WORDS),
    section="destination",
    meaning="`true`: nothing is exported.",
)
EXPORTER = Variable(
    "",
    Components("opentelemetry_{}_exporter", built_in=(*OTLP_EXPORTERS, "none"), default=("otlp",)),
    own="OTEL_{}_EXPORTER",
    section="destination",
    instead="{} are not sent there",
    meaning="Where the signal goes. Unset means `otlp`; the SDK by itself would send nothing. "
    "`otlp_proto_grpc` and `otlp_proto_http` fix the protocol, `console` prints, `none` sends nothing.",
)
OTLP_PROTOCOL = Variable(
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    Choice[Protocol | None](None, get_args(Protocol)),
    own="OTEL_EXPORTER_OTLP_{}_PROTOCOL",
    section="destination",
    default_words="by the endpoint, see below",
    instead="the endpoint decides",
    meaning="`http/json` is not supported.",
)
OTLP_ENDPOINT = Variable(
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    Text("a URL such as 'http://collector:4318'"),
    own="OTEL_EXPORTER_OTLP_{}_ENDPOINT",
    section="destination",
    default_words=f"`http://localhost:{PORTS['grpc']}`; "
    f"`http://localhost:{PORTS['http/protobuf']}` if the protocol is `http/protobuf`",
    instead=_NOT_SENT,
    meaning="HTTP adds `/v1/traces`, `/v1/logs` or `/v1/metrics` to the general endpoint; a signal's own is "
    "used as it is. gRPC also takes `host:port` and its own targets (`dns:///…`, `unix:…`).",
)
OTLP_INSECURE = Variable(
    "OTEL_EXPORTER_OTLP_INSECURE",
    Flag(False, SPECIFIED_WORDS),
    own="OTEL_EXPORTER_OTLP_{}_INSECURE",
    section="destination",
    meaning="For gRPC endpoints without `http://` or `https://`: `true` turns encryption off. `https://` "
    "always means TLS. `http://` with `false` is contradictory: one warning, and TLS.",
)
OTLP_HEADERS = Variable(
    "OTEL_EXPORTER_OTLP_HEADERS",
    Text(f"{PAIRS} and of printable ASCII"),
    own="OTEL_EXPORTER_OTLP_{}_HEADERS",
    section="destination",
    meaning="Sent with each request. What cannot be sent is left out; warnings never quote it.",
)
OTLP_TIMEOUT = Variable(
    "OTEL_EXPORTER_OTLP_TIMEOUT",
    Number(10.0, "seconds", highest=600.0, milliseconds_from=100.0),
    own="OTEL_EXPORTER_OTLP_{}_TIMEOUT",
    section="destination",
    meaning="Longest time for one export with its retries. Python counts seconds here, the specification "
    "milliseconds.",
)
OTLP_COMPRESSION = Variable(
    "OTEL_EXPORTER_OTLP_COMPRESSION",
    Choice[Compression]("none", get_args(Compression)),
    own="OTEL_EXPORTER_OTLP_{}_COMPRESSION",
    section="destination",
    instead="nothing is compressed",
    meaning="A gRPC server must know the compression; the OpenTelemetry Collector's does not know `deflate`.",
)

# TLS

OTLP_CERTIFICATE = Variable(
    "OTEL_EXPORTER_OTLP_CERTIFICATE",
    Text(f"{_PEM}; for HTTP also a directory of hashed certificates"),
    own="OTEL_EXPORTER_OTLP_{}_CERTIFICATE",
    section="tls",
    default_words="the system's",
    meaning="Authorities to trust. For HTTP it counts before `REQUESTS_CA_BUNDLE`.",
)
OTLP_CLIENT_CERTIFICATE = Variable(
    "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
    Text(_PEM),
    own="OTEL_EXPORTER_OTLP_{}_CLIENT_CERTIFICATE",
    section="tls",
    meaning="The client's certificate (mutual TLS). Needs no `OTEL_EXPORTER_OTLP_CERTIFICATE`.",
)
OTLP_CLIENT_KEY = Variable(
    "OTEL_EXPORTER_OTLP_CLIENT_KEY",
    Text(_PEM),
    own="OTEL_EXPORTER_OTLP_{}_CLIENT_KEY",
    section="tls",
    default_words="in the certificate's file",
    meaning="The key of the client's certificate, not encrypted.",
)
HTTP_CREDENTIAL_PROVIDER = Variable(
    "OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER",
    Component(CREDENTIAL_PROVIDERS),
    own="OTEL_PYTHON_EXPORTER_OTLP_HTTP_{}_CREDENTIAL_PROVIDER",
    section="tls",
    instead=_NEEDS_IT,
    meaning="Makes the `requests.Session` that sends by HTTP.",
)
GRPC_CREDENTIAL_PROVIDER = Variable(
    "OTEL_PYTHON_EXPORTER_OTLP_GRPC_CREDENTIAL_PROVIDER",
    Component(CREDENTIAL_PROVIDERS),
    own="OTEL_PYTHON_EXPORTER_OTLP_GRPC_{}_CREDENTIAL_PROVIDER",
    section="tls",
    instead=_NEEDS_IT,
    meaning="Makes the `grpc.ChannelCredentials` for gRPC; the files above are not read then.",
)
