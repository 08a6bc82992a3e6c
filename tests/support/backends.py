"""Real programs that telemetry goes to: the Collector, Jaeger, Prometheus, Loki.

Each is a context manager; what it started is ended when it is left. They run with the project's own
configuration files where those say what matters, so that what is tested is what a user gets::

    with jaeger(directory / "jaeger") as traces, collector(
        [CONFIGS / "agent.yaml", CONFIGS / "to-jaeger.yaml"],
        directory / "agent",
        {"JAEGER_ENDPOINT": traces.grpc_endpoint},
    ) as agent:
        job = harness.torchrun(options, script, env={"OTEL_EXPORTER_OTLP_ENDPOINT": agent.grpc_endpoint})
        traces.trace(trace_id, spans=4)

Everything listens on 127.0.0.1 alone, on ports that were free. How programs are found, started and ended
is in ``programs``, and can be imported from here as well.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import time
import urllib.error
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otlp_receiver import OtlpReceiver
from tests.support.harness import free_port
from tests.support.programs import Program, backend, ended, fetch, poll, tool

__all__ = [
    "CONFIGS",
    "NOWHERE",
    "README",
    "README_BLOCKS",
    "Collector",
    "Jaeger",
    "Line",
    "Loki",
    "Program",
    "Prometheus",
    "Sample",
    "backend",
    "collector",
    "ended",
    "fetch",
    "jaeger",
    "loki",
    "poll",
    "prometheus",
    "relay",
    "settings",
    "tool",
]

CONFIGS = Path(__file__).parents[2] / "collector-config"
README = (CONFIGS / "README.md").read_text()
README_BLOCKS: list[tuple[list[str], str]] = [
    (marks.split(), text)
    for marks, text in re.findall(r"^```bash ?([^\n]*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
]
"""The commands of the README, each block with the words beside its language."""

# The Collector


@dataclass(frozen=True, slots=True)
class Collector:
    """A real Collector that runs the project's files."""

    program: Program
    grpc_endpoint: str
    http_endpoint: str
    health: str
    metrics: str

    def figure(self, name: str, label: str = "") -> float:
        """Return one of its own metrics, such as otelcol_exporter_queue_size, over series with a label."""
        lines = fetch(self.metrics).decode().splitlines()
        series = [line for line in lines if re.match(rf"{name}[{{ ]", line) and label in line]
        return sum(float(line.rpartition(" ")[2]) for line in series)


NOWHERE = {
    **dict.fromkeys(("JAEGER_ENDPOINT", "TEMPO_ENDPOINT", "GATEWAY_ENDPOINT"), "127.0.0.1:9"),
    "VENDOR_ENDPOINT": "http://127.0.0.1:9",
}
"""The addresses of destinations that have no default, where nobody listens."""


def settings(directory: Path) -> dict[str, str]:
    """Variables with which no collector of a test gets in the way of another, or of one that a user runs."""
    ports = [free_port() for _ in range(4)]
    return {
        "LISTEN_GRPC": f"127.0.0.1:{ports[0]}",
        "LISTEN_HTTP": f"127.0.0.1:{ports[1]}",
        "LISTEN_HEALTH": f"127.0.0.1:{ports[2]}",
        "METRICS_PORT": str(ports[3]),
        "QUEUE_DIR": str(directory / "queue"),
        "FILE_DIR": str(directory),
        **NOWHERE,
    }


@contextlib.contextmanager
def collector(
    configs: Sequence[Path | str],
    directory: Path,
    environ: Mapping[str, str] | None = None,
    *,
    tls: bool = False,
) -> Iterator[Collector]:
    """Run a real Collector with files of collector-config/, in the order in which they are to be merged.

    Args:
        configs: files; those after the first add to it.
        directory: for its queue on disk, which outlives ``program.kill()`` and ``program.start()``.
        environ: the variables that the files read, beside those for addresses and the queue.
        tls: whether it serves TLS, as gateway.yaml does, so that its endpoints are https.
    """
    grpc, http, health, metrics = (free_port() for _ in range(4))
    command = [str(tool("otelcol")), *(f"--config={path}" for path in configs)]
    own = {
        "LISTEN_GRPC": f"127.0.0.1:{grpc}",
        "LISTEN_HTTP": f"127.0.0.1:{http}",
        "LISTEN_HEALTH": f"127.0.0.1:{health}",
        "METRICS_HOST": "127.0.0.1",
        "METRICS_PORT": str(metrics),
        "QUEUE_DIR": str(directory / "queue"),
    }
    scheme = "https" if tls else "http"
    with backend(command, directory, own | dict(environ or {})) as program:
        yield Collector(
            program,
            f"{scheme}://127.0.0.1:{grpc}",
            f"{scheme}://127.0.0.1:{http}",
            f"http://127.0.0.1:{health}/",
            f"http://127.0.0.1:{metrics}/metrics",
        )


@contextlib.contextmanager
def relay(receiver: OtlpReceiver, directory: Path) -> Iterator[dict[str, str]]:
    """Run a Collector that hands everything to ``receiver`` at once; yields its endpoints by protocol."""
    grpc, http = free_port(), free_port()
    directory.mkdir(parents=True)
    config = directory / "collector.yaml"
    config.write_text(f"""
receivers:
  otlp:
    protocols:
      grpc: {{endpoint: "127.0.0.1:{grpc}"}}
      http: {{endpoint: "127.0.0.1:{http}"}}
exporters:
  otlphttp: {{endpoint: "{receiver.http_endpoint}", sending_queue: {{enabled: false}}}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    logs: {{receivers: [otlp], exporters: [otlphttp]}}
    traces: {{receivers: [otlp], exporters: [otlphttp]}}
    metrics: {{receivers: [otlp], exporters: [otlphttp]}}
""")
    with backend([str(tool("otelcol")), "--config", str(config)], directory):
        yield {"grpc": f"http://127.0.0.1:{grpc}", "http/protobuf": f"http://127.0.0.1:{http}"}


# Jaeger


@dataclass(frozen=True, slots=True)
class Jaeger:
    """A real Jaeger that runs."""

    program: Program
    grpc_endpoint: str
    query: str

    def find(self, trace_id: str) -> dict[str, Any] | None:
        """Return a trace as its HTTP API shows it, None if it has none."""
        try:
            trace: dict[str, Any] = json.loads(fetch(f"{self.query}/api/traces/{trace_id}"))["data"][0]
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return None
        return trace

    def trace(self, trace_id: str, spans: int) -> dict[str, Any]:
        """Return a trace once it has as many spans."""
        trace = poll(
            lambda: self.find(trace_id),
            lambda found: found is not None and len(found["spans"]) >= spans,
            f"{spans} spans of the trace {trace_id} in Jaeger",
        )
        assert trace is not None
        return trace


@contextlib.contextmanager
def jaeger(directory: Path, *, start: bool = True) -> Iterator[Jaeger]:
    """Run a real Jaeger with its storage in memory; it is started later with ``start=False``."""
    program = tool("jaeger")
    otlp_port, query_port, query_grpc = free_port(), free_port(), free_port()
    directory.mkdir(parents=True)
    config = directory / "jaeger.yaml"
    config.write_text(f"""
extensions:
  jaeger_storage: {{backends: {{mem: {{memory: {{max_traces: 1000}}}}}}}}
  jaeger_query:
    storage: {{traces: mem}}
    http: {{endpoint: "127.0.0.1:{query_port}"}}
    grpc: {{endpoint: "127.0.0.1:{query_grpc}"}}
receivers:
  otlp: {{protocols: {{grpc: {{endpoint: "127.0.0.1:{otlp_port}"}}}}}}
exporters:
  jaeger_storage_exporter: {{trace_storage: mem}}
service:
  extensions: [jaeger_storage, jaeger_query]
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces: {{receivers: [otlp], exporters: [jaeger_storage_exporter]}}
""")
    with ended(backend([str(program), "--config", str(config)], directory), start) as running:
        yield Jaeger(running, f"http://127.0.0.1:{otlp_port}", f"http://127.0.0.1:{query_port}")
        running.kill()  # asked to end it takes 10 s, and it keeps nothing


# Prometheus


@dataclass(frozen=True, slots=True)
class Sample:
    """A series with its value at the moment that was asked for."""

    labels: dict[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A real Prometheus that runs."""

    program: Program
    url: str

    @property
    def otlp_endpoint(self) -> str:
        """What an exporter appends /v1/metrics to."""
        return f"{self.url}/api/v1/otlp"

    def get(self, path: str, **query: str) -> Any:
        """Return the ``data`` of an answer of its API."""
        answer = json.loads(fetch(f"{self.url}/api/v1/{path}", query))
        assert answer["status"] == "success", answer
        return answer["data"]

    def instant(self, promql: str, at: float | None = None) -> list[Sample]:
        """Return the value of each series, now or at a time in seconds."""
        data = self.get("query", query=promql, **({} if at is None else {"time": repr(at)}))
        if data["resultType"] == "scalar":
            return [Sample({}, float(data["result"][1]))]
        return [Sample(found["metric"], float(found["value"][1])) for found in data["result"]]

    def range(self, promql: str, start: float, end: float, step: float = 15) -> list[dict[str, Any]]:
        """Return the series over a time in seconds, each as ``metric`` and ``values``."""
        result: list[dict[str, Any]] = self.get(
            "query_range", query=promql, start=repr(start), end=repr(end), step=repr(step)
        )["result"]
        return result

    def exemplars(self, promql: str, start: float, end: float) -> list[dict[str, Any]]:
        """Return the exemplars of each series, each as ``seriesLabels`` and ``exemplars``."""
        found: list[dict[str, Any]] = self.get(
            "query_exemplars", query=promql, start=repr(start), end=repr(end)
        )
        return found

    def wait_for(self, promql: str, enough: Callable[[list[Sample]], bool] = bool) -> list[Sample]:
        """Return what ``instant`` gives once that is enough: by default, as soon as there is something."""
        return poll(lambda: self.instant(promql), enough, promql)


@contextlib.contextmanager
def prometheus(directory: Path, config: Path | None = None, *, start: bool = True) -> Iterator[Prometheus]:
    """Run a real Prometheus with grafana/prometheus.yaml (or another file) and the rules of prometheus/."""
    port = free_port()
    directory.mkdir(parents=True)
    shutil.copy(config or CONFIGS / "grafana" / "prometheus.yaml", directory / "prometheus.yaml")
    if (CONFIGS / "prometheus").is_dir():
        shutil.copytree(CONFIGS / "prometheus", directory / "rules")
    url = f"http://127.0.0.1:{port}"
    command = [
        str(tool("prometheus")),
        "--config.file=prometheus.yaml",
        "--web.enable-otlp-receiver",
        "--enable-feature=exemplar-storage",
        f"--web.listen-address=127.0.0.1:{port}",
        "--storage.tsdb.path=data",
    ]
    with ended(Program(command, directory, f"{url}/-/ready"), start) as program:
        yield Prometheus(program, url)


# Loki


@dataclass(frozen=True, slots=True)
class Line:
    """A log record as Loki has it: ``labels`` are those of the stream and its structured metadata."""

    time_ns: int
    text: str
    labels: dict[str, str]


@dataclass(frozen=True, slots=True)
class Loki:
    """A real Loki that runs."""

    program: Program
    url: str

    @property
    def otlp_endpoint(self) -> str:
        """What an exporter appends /v1/logs to."""
        return f"{self.url}/otlp"

    def get(self, path: str, **query: str) -> Any:
        """Return the ``data`` of an answer of its API."""
        return json.loads(fetch(f"{self.url}/loki/api/v1/{path}", query))["data"]

    def range(self, logql: str, hours: float = 2, **more: str) -> list[Line]:
        """Return the lines of the last hours, in the order of time."""
        end = time.time_ns() + 60 * 10**9
        start = end - int(hours * 3600 * 10**9)
        query = {
            "query": logql,
            "start": str(start),
            "end": str(end),
            "limit": "5000",
            "direction": "forward",
        }
        streams = self.get("query_range", **(query | more))["result"]
        lines = [
            Line(int(time_ns), text, stream["stream"])
            for stream in streams
            for time_ns, text, *_ in stream["values"]
        ]
        return sorted(lines, key=lambda line: line.time_ns)

    def instant(self, logql: str) -> list[Sample]:
        """Return the values of a metric query, such as ``count_over_time``, now."""
        result = self.get("query", query=logql)["result"]
        return [Sample(found["metric"], float(found["value"][1])) for found in result]

    def wait_for(self, logql: str, enough: Callable[[list[Line]], bool] = bool) -> list[Line]:
        """Return what ``range`` gives once that is enough: by default, as soon as there is something."""
        return poll(lambda: self.range(logql), enough, logql)


@contextlib.contextmanager
def loki(directory: Path, config: Path | None = None, *, start: bool = True) -> Iterator[Loki]:
    """Run a real Loki with grafana/loki.yaml (or another file): it takes 10 s until it is ready."""
    port, grpc = free_port(), free_port()
    url = f"http://127.0.0.1:{port}"
    command = [
        str(tool("loki")),
        f"-config.file={config or CONFIGS / 'grafana' / 'loki.yaml'}",
        # Flags count more than the file: what differs from a container of its own.
        "-server.http-listen-address=127.0.0.1",
        f"-server.http-listen-port={port}",
        "-server.grpc-listen-address=127.0.0.1",
        f"-server.grpc-listen-port={grpc}",
        f"-common.path-prefix={directory}",
        f"-common.storage.filesystem.chunk-directory={directory / 'chunks'}",
        f"-common.storage.filesystem.rules-directory={directory / 'rules'}",
        "-ingester.min-ready-duration=0s",
    ]
    with ended(Program(command, directory, f"{url}/ready"), start) as program:
        yield Loki(program, url)
