"""What the environment says of providers, seen at a receiver through the bridge itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from otlp_receiver import OtlpReceiver

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
    clean = {
        k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "TORCHELASTIC", "TRACEPARENT"))
    }
    return subprocess.run(
        [sys.executable, "-c", RECORD.format(count=count, metadata=metadata, more=more)],
        env={**clean, "NO_PROXY": "127.0.0.1", "TORCHELASTIC_OTEL_EXIT_TIMEOUT": "60", **environment},
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


@pytest.mark.parametrize("prefix", ["OTEL_LOGRECORD_ATTRIBUTE", "OTEL_ATTRIBUTE"])
def test_limits_hold_for_the_attributes_of_records(prefix: str) -> None:
    """The count and length limits of the environment are kept, and what was dropped is counted."""
    metadata = '{f"key{number}": "long value" for number in range(50)}'
    with OtlpReceiver() as receiver:
        record(
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.http_endpoint,
                f"{prefix}_COUNT_LIMIT": "10",
                f"{prefix}_VALUE_LENGTH_LIMIT": "4",
            },
            metadata=metadata,
        )
        (log,) = receiver.logs
    assert len(log.attributes) == 10
    assert all(len(value) <= 4 for value in log.attributes.values())


def test_batch_settings_decide_how_records_are_grouped() -> None:
    """OTEL_BLRP_MAX_EXPORT_BATCH_SIZE bounds the records of one request."""
    with OtlpReceiver() as receiver:
        record(
            {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.http_endpoint, "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE": "7"},
            count=20,
        )
        assert len(receiver.logs) == 20
        assert len([request for request in receiver.requests if request.path == "/v1/logs"]) == 3


def test_a_disabled_sdk_sends_nothing_and_says_nothing() -> None:
    """OTEL_SDK_DISABLED=true: no request, no warning."""
    with OtlpReceiver() as receiver:
        done = record({"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.http_endpoint, "OTEL_SDK_DISABLED": "true"})
        assert receiver.requests == []
    assert done.stderr == ""


def test_a_worker_joins_the_trace_by_the_propagators_of_the_environment() -> None:
    """attach_worker_context makes the span of TRACEPARENT the current one, and OTEL_PROPAGATORS counts."""
    more = (
        "from opentelemetry import trace\n"
        "torchelastic_otel.attach_worker_context()\n"
        "print(trace.get_current_span().get_span_context().is_valid)"
    )
    parent = {"TRACEPARENT": f"00-{'a' * 32}-{'b' * 16}-01", "OTEL_SDK_DISABLED": "true"}
    assert record(parent, more=more).stdout.strip() == "True"
    assert record({**parent, "OTEL_PROPAGATORS": "baggage"}, more=more).stdout.strip() == "False"
