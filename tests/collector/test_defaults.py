"""With all defaults a base and a destination do what is wanted, and the collector sends nothing to itself."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import yaml
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.backends import CONFIGS, NOWHERE, Collector, backend, poll, tool
from tests.support.harness import free_port
from tests.support.otlp_requests import certificates, post
from tests.support.sending import payload_of

pytestmark = pytest.mark.e2e

BASES = ["agent.yaml", "gateway.yaml"]
DESTINATIONS = sorted(path.name for path in CONFIGS.glob("to-*.yaml"))
REQUESTS = [
    ExportLogsServiceRequest.FromString(payload_of("logs")),
    ExportTraceServiceRequest.FromString(payload_of("traces")),
    ExportMetricsServiceRequest.FromString(payload_of("metrics")),
]
ITEMS = ("log_records", "spans", "metric_points")


class Ports:
    """The files with other ports: those that are equal in them stay equal, so that a default stays one."""

    def __init__(self) -> None:
        self._instead: dict[str, str] = {}

    def __getitem__(self, port: str) -> str:
        return self._instead.setdefault(port, str(free_port()))

    def put_in(self, text: str) -> str:
        """Replace every port of a file; it may be a default by itself, or the end of an address."""
        return re.sub(r"(?<=[:-])\d{4,5}\b(?!\d*[smB])(?=[}/])", lambda found: self[found[0]], text)


@pytest.fixture
def ports(tmp_path: Path) -> Ports:
    """Write all files for ports of which nobody listens on any."""
    ports = Ports()
    for path in CONFIGS.glob("*.yaml"):
        (tmp_path / path.name).write_text(ports.put_in(path.read_text()))
    return ports


@dataclass(frozen=True, slots=True)
class Exporter:
    """An exporter of a destination."""

    name: str
    endpoint: str

    @property
    def attempts(self) -> int:
        """After how many attempts it is known that nobody takes what it sends.

        One that speaks gRPC has connected, in vain, before the collector itself listened, and waits a while.
        """
        return 4 if self.name.startswith("otlp/") and ":-" in self.endpoint else 1


def exporters(destinations: list[str]) -> list[Exporter]:
    """Return the exporters of destinations."""
    return [
        Exporter(name, config.get("endpoint", ""))
        for destination in destinations
        for name, config in yaml.safe_load((CONFIGS / destination).read_text())["exporters"].items()
    ]


def sent(collector: Collector, exporter: str) -> float:
    """Return how much an exporter has brought to its destination."""
    return sum(
        collector.figure(f"otelcol_exporter_sent_{items}", f'exporter="{exporter}"') for items in ITEMS
    )


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("destinations", [*([name] for name in DESTINATIONS), DESTINATIONS], ids="+".join)
def test_nothing_comes_back(base: str, destinations: list[str], ports: Ports, tmp_path: Path) -> None:
    """Nobody but the collector itself listens anywhere: what a destination gets rid of, it has sent to it.

    Only what has no default is set, to an address where nobody listens. The queue is in the home directory.
    """
    chosen = exporters(destinations)
    environ = {"HOME": str(tmp_path / "home")}
    for exporter in chosen:
        environ |= {name: NOWHERE[name] for name in re.findall(r"\$\{env:(\w+)\}", exporter.endpoint)}
    cafile = None
    if base == "gateway.yaml":
        environ |= certificates(tmp_path / "tls")
        cafile = environ["GATEWAY_CA_FILE"]
    environ.setdefault("GATEWAY_TOKEN", "a-token")
    command = [str(tool("otelcol")), *(f"--config={tmp_path / name}" for name in [base, *destinations])]
    with backend(command, tmp_path, environ) as program:
        scheme = "https" if cafile else "http"
        grpc, http, health, metrics = (ports[port] for port in ("4317", "4318", "13133", "8888"))
        collector = Collector(
            program,
            f"{scheme}://127.0.0.1:{grpc}",
            f"{scheme}://127.0.0.1:{http}",
            f"http://127.0.0.1:{health}/",
            f"http://127.0.0.1:{metrics}/metrics",
        )
        token = {"Authorization": f"Bearer {environ['GATEWAY_TOKEN']}"}
        assert [post(collector.http_endpoint, request, cafile, **token) for request in REQUESTS] == [200] * 3

        def tried(exporter: Exporter) -> bool:
            failures = re.findall(rf'Exporting failed.*"{re.escape(exporter.name)}"', program.output)
            return bool(sent(collector, exporter.name)) or len(failures) >= exporter.attempts

        for exporter in chosen:
            poll(partial(tried, exporter), bool, f"an attempt of {exporter.name}")
            assert bool(sent(collector, exporter.name)) != bool(exporter.endpoint), exporter.name
        accepted = [collector.figure(f"otelcol_receiver_accepted_{items}") for items in ITEMS]
        assert accepted == [1, 1, 1]
    assert list((tmp_path / "home" / ".local" / "state").glob("torchelastic-*"))
