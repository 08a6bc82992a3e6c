"""OTLP requests as any program would send them, and what a gateway and its senders need for TLS.

secrets = certificates(directory)
assert post(gateway.http_endpoint, log_request("hello"), secrets["GATEWAY_CA_FILE"]) == 401
"""

from __future__ import annotations

import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import trustme
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

OtlpRequest = ExportLogsServiceRequest | ExportTraceServiceRequest | ExportMetricsServiceRequest

TOKEN = "a-token-of-the-tests"


def certificates(directory: Path) -> dict[str, str]:
    """Make an authority and a certificate for 127.0.0.1; return the variables of gateway and agent."""
    directory.mkdir(parents=True)
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    names = {name: str(directory / name) for name in ("ca.crt", "tls.crt", "tls.key")}
    authority.cert_pem.write_to_path(names["ca.crt"])
    certificate.cert_chain_pems[0].write_to_path(names["tls.crt"])
    certificate.private_key_pem.write_to_path(names["tls.key"])
    return {
        "TLS_CERT_FILE": names["tls.crt"],
        "TLS_KEY_FILE": names["tls.key"],
        "GATEWAY_CA_FILE": names["ca.crt"],
        "GATEWAY_TOKEN": TOKEN,
    }


def put(attributes: Any, values: Mapping[str, str | int]) -> None:
    """Add attributes to those of a message."""
    for key, value in values.items():
        pair = attributes.add(key=key)
        if isinstance(value, str):
            pair.value.string_value = value
        else:
            pair.value.int_value = value


def log_request(
    text: str,
    *,
    at_ns: int | None = None,
    instance: str = "tests",
    texts: Mapping[str, str] | None = None,
) -> ExportLogsServiceRequest:
    """Return a request with one log record of a launcher."""
    request = ExportLogsServiceRequest()
    resource = request.resource_logs.add()
    put(resource.resource.attributes, {"service.name": "torchelastic", "service.instance.id": instance})
    record = resource.scope_logs.add().log_records.add(time_unix_nano=at_ns or time.time_ns())
    record.body.string_value = text
    put(record.attributes, texts or {})
    return request


def post(url: str, request: OtlpRequest, cafile: str | None = None, **headers: str) -> int:
    """Send a request to a backend or collector, by HTTP; return the status."""
    signal = request.DESCRIPTOR.file.name.split("/")[3]  # opentelemetry/proto/collector/logs/…
    signal = {"trace": "traces"}.get(signal, signal)
    headers["Content-Type"] = "application/x-protobuf"
    sent = urllib.request.Request(f"{url}/v1/{signal}", request.SerializeToString(), headers)
    context = ssl.create_default_context(cafile=cafile) if cafile else None
    handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with urllib.request.build_opener(*handlers).open(sent, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
