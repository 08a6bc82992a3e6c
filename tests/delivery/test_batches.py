"""How many items go together, how long they wait, and how many are kept, as the variables say."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from otlp_receiver import OtlpReceiver
from tests.support.harness import TIMEOUT_S, otlp
from tests.support.recording import RECORD, environment_of

HEAD = f"""{RECORD}
import sys, torchelastic_otel
from tests.support.bridged_job import begin

def told():
    print("ready", flush=True)
    return sys.stdin.readline()
"""

each_batched = pytest.mark.parametrize(
    ("signal", "other", "prefix"), [("traces", "LOGS", "OTEL_BSP_"), ("logs", "TRACES", "OTEL_BLRP_")]
)


@contextmanager
def process(script: str, receiver: OtlpReceiver, **variables: str) -> Iterator[None]:
    """Start a process that sends to ``receiver``, and let it go on to its end when the body is done."""
    started = subprocess.Popen(
        [sys.executable, "-c", HEAD + script],
        env=environment_of({**otlp(receiver), "OTEL_METRICS_EXPORTER": "none", **variables}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert started.stdout is not None
        assert started.stdout.readline() == "ready\n"
        yield
        started.communicate("\n", timeout=TIMEOUT_S)
        assert started.returncode == 0
    finally:
        started.kill()


@pytest.mark.parametrize(
    ("variables", "first"),
    [({}, "logs"), ({"OTEL_BSP_SCHEDULE_DELAY": "20", "OTEL_BLRP_SCHEDULE_DELAY": "86400000"}, "traces")],
    ids=["by default", "as told"],
)
def test_what_fills_no_batch_waits_for_its_signals_delay(
    receiver: OtlpReceiver, variables: dict[str, str], first: str
) -> None:
    """SCHEDULE_DELAY: one second for records and five for spans, or what the variables say."""
    with process("begin(); told()", receiver, **variables):
        assert receiver.wait(lambda r: r.requests != [])
        assert {request.signal for request in receiver.requests} == {first}


def test_a_full_batch_goes_out_and_what_is_left_waits(receiver: OtlpReceiver) -> None:
    """However long the delay: a batch that MAX_EXPORT_BATCH_SIZE closes waits for nobody."""
    variables = {
        "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE": "3",
        "OTEL_BLRP_SCHEDULE_DELAY": "86400000",
        "OTEL_TRACES_EXPORTER": "none",
    }
    with process("record(4); told()", receiver, **variables):
        assert receiver.wait(lambda r: len(r.logs) == 3)
    assert [request.items for request in receiver.requests] == [3, 1]


@each_batched
def test_a_request_holds_no_more_than_a_batch(
    receiver: OtlpReceiver, signal: str, other: str, prefix: str
) -> None:
    """Also where all of it goes out at the end."""
    variables = {f"{prefix}MAX_EXPORT_BATCH_SIZE": "7", f"OTEL_{other}_EXPORTER": "none"}
    with process("record(20); told()", receiver, **variables):
        pass
    requests = [(request.signal, request.items) for request in receiver.requests]
    assert requests == [(signal, 7), (signal, 7), (signal, 6)]


@each_batched
def test_no_more_than_the_queue_holds_is_kept_in_memory(
    receiver: OtlpReceiver, signal: str, other: str, prefix: str
) -> None:
    """MAX_QUEUE_SIZE: of what a backend in trouble did not get, without a spool, the oldest goes."""
    receiver.respond(status=503, grpc_status="UNAVAILABLE")
    script = "record(9); torchelastic_otel.flush(1); told()"
    with process(script, receiver, **{f"{prefix}MAX_QUEUE_SIZE": "2", f"OTEL_{other}_EXPORTER": "none"}):
        receiver.respond()
    found = receiver.spans if signal == "traces" else receiver.logs
    assert [item.attributes["torchelastic.run_id"] for item in found] == ["job7", "job8"]
