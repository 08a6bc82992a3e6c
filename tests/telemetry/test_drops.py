"""Whatever is dropped is in ``torchelastic_otel.dropped``, with its signal and the reason."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable

import pytest

from otlp_receiver import OtlpReceiver
from tests.support.harness import TIMEOUT_S, otlp
from tests.support.recording import RECORD, environment_of

FAILING = """
    class Result:
        name = "FAILURE"

    class Exporter:
        def export(self, batch):
            return Result()

        def shutdown(self):
            pass
    """


def dropped(receiver: OtlpReceiver, script: str, **variables: str) -> Counter[tuple[str, str]]:
    """Record and flush twice, so that what is lost the first time is told; return what was dropped."""
    subprocess.run(
        [sys.executable, "-c", f"{RECORD}\nimport torchelastic_otel\n{script}\ntorchelastic_otel.flush(30)"],
        env=environment_of({**otlp(receiver), **variables}),
        timeout=TIMEOUT_S,
        check=True,
    )
    found: Counter[tuple[str, str]] = Counter()
    for point in receiver.metrics:  # the last export counts
        reason = point.attributes.get("torchelastic_otel.reason")
        if point.name == "torchelastic_otel.dropped" and reason and point.value:
            found[point.attributes["otel.signal"], reason] = int(point.value)
    return found


@pytest.mark.parametrize(("exporter", "reason"), [("failing", "export_failed"), ("missing", "no_exporter")])
def test_what_another_exporter_loses_is_counted(
    receiver: OtlpReceiver, third_party: Callable[[str, str], None], exporter: str, reason: str
) -> None:
    """It fails, or it cannot be made."""
    third_party(
        """
        [opentelemetry_logs_exporter]
        failing = vendor_stuff:Exporter
        missing = vendor_stuff:NoSuchExporter
        """,
        FAILING,
    )
    found = dropped(receiver, "record(3); torchelastic_otel.flush(30)", OTEL_LOGS_EXPORTER=exporter)
    assert found == {("logs", reason): 3}


def test_what_waits_for_another_exporter_at_its_bound_is_counted(
    receiver: OtlpReceiver, third_party: Callable[[str, str], None]
) -> None:
    """OTEL_BLRP_MAX_QUEUE_SIZE, and beyond it the oldest goes."""
    third_party("[opentelemetry_logs_exporter]\nfailing = vendor_stuff:Exporter", FAILING)
    variables = {
        "OTEL_LOGS_EXPORTER": "failing",
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_BLRP_MAX_QUEUE_SIZE": "4",
        "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE": "4",
    }
    found = dropped(receiver, "record(64); torchelastic_otel.flush(30)", **variables)
    assert found["logs", "queue_full"] > 0
    assert sum(found.values()) == 64
