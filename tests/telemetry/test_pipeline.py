"""What the environment says of providers, seen at a receiver through the bridge itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from otlp_receiver import OtlpReceiver
from tests.support.recording import environment_of

RECORD = """
import torchelastic_otel
from torchelastic_otel import events

for number in range({count}):
    events.record(events.Event("step", events.EventSource.WORKER, metadata={metadata}), "otel")
torchelastic_otel.flush(60)  # Python 3.12 makes no exporters any more once it is ending
{more}
"""


def record(
    environment: dict[str, str], *, count: int = 1, metadata: str = "{}", more: str = ""
) -> subprocess.CompletedProcess[str]:
    """Record user events in a process of their own."""
    return subprocess.run(
        [sys.executable, "-c", RECORD.format(count=count, metadata=metadata, more=more)],
        env=environment_of(environment),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )


DECLARATION = """
file_format: "1.0"
resource:
  attributes:
    - name: service.name
      value: declared
logger_provider:
  processors:
    - batch:
        exporter:
          otlp_http:
            endpoint: {endpoint}/v1/logs
"""


def test_a_configuration_file_declares_the_providers(tmp_path: Path) -> None:
    """OTEL_CONFIG_FILE decides where records go and with what resource; a signal it leaves out is off."""
    pytest.importorskip("opentelemetry.configuration")
    with OtlpReceiver() as receiver:
        file = tmp_path / "otel.yaml"
        file.write_text(DECLARATION.format(endpoint=receiver.http_endpoint))
        more = "from opentelemetry import _logs; print(type(_logs.get_logger_provider()).__name__)"
        done = record({"OTEL_CONFIG_FILE": str(file)}, more=more)
        assert [log.event_name for log in receiver.logs] == ["step"]
        assert receiver.logs[0].resource["service.name"] == "declared"
        assert receiver.logs[0].resource["host.name"]
        assert {request.path for request in receiver.requests} == {"/v1/logs"}
    assert done.stdout.strip() == "ProxyLoggerProvider", "no global provider is set"


def test_a_wrong_configuration_file_is_one_warning_and_the_other_variables_count(tmp_path: Path) -> None:
    """A file that cannot be used is named with the reason, and nothing is lost."""
    pytest.importorskip("opentelemetry.configuration")
    file = tmp_path / "otel.yaml"
    file.write_text("file_format: [")
    with OtlpReceiver() as receiver:
        done = record({"OTEL_CONFIG_FILE": str(file), "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.http_endpoint})
        assert [log.event_name for log in receiver.logs] == ["step"]
    assert done.stderr.count("OTEL_CONFIG_FILE") == 1
    assert str(file) in done.stderr
