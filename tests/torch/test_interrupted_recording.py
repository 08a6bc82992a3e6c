"""A signal, or another thread, in the middle of recording: nothing is swallowed, nothing is lost."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter

import pytest

from otlp_receiver import OtlpReceiver
from tests.support.harness import TIMEOUT_S, Harness, otlp

pytestmark = pytest.mark.e2e


def interrupt(process: subprocess.Popen[bytes], rounds: int, longest_s: float) -> None:
    """Send SIGTERM at a random moment after each byte that ``process`` writes, ``rounds`` times."""
    chance = random.Random(20240229)
    assert process.stdout is not None
    for number in range(rounds):
        said = process.stdout.read(1)
        if said != b".":
            process.kill()
            pytest.fail(f"round {number}: said {said!r}, exit code {process.wait(TIMEOUT_S)}")
        until = time.perf_counter() + chance.uniform(0, longest_s)
        while time.perf_counter() < until:
            pass
        process.send_signal(signal.SIGTERM)


def start(harness: Harness, receiver: OtlpReceiver, source: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a program that records events and is to be interrupted; it says "." when it is ready for that."""
    path = harness.program("interrupted.py", textwrap.dedent(source))
    variables = {
        **otlp(receiver, "http/protobuf"),
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_METRICS_EXPORTER": "none",
        "TORCHRUN_HARNESS_SOCKET": "",
    }
    return subprocess.Popen(
        [sys.executable, str(path), *arguments],
        env=harness.environment(variables),
        stdout=subprocess.PIPE,
        start_new_session=True,
    )


HANDLE = """
    logger = logging.getLogger("torchelastic-events-otel")
    record = logger.makeRecord(logger.name, logging.INFO, "f", 1, EVENT.serialize(), (), None)
    def one():
        otel_handler().handle(record)
"""
RECORD = """
    def one():
        torch_events.record(EVENT, "otel")
"""
OURS = """
    def one():
        events.record(EVENT, "otel")
"""


@pytest.mark.parametrize("way", [HANDLE, RECORD, OURS], ids=["handler", "torch's record", "our record"])
def test_a_signal_inside_of_recording_always_surfaces(
    harness: Harness, receiver: OtlpReceiver, way: str
) -> None:
    """SIGTERM reaches the caller as torch's exception, whenever it comes, and recording goes on."""
    rounds = 200
    source = (
        """
    import logging, os, signal, sys, time
    os.environ["OTEL_BLRP_MAX_QUEUE_SIZE"] = "1000000"  # events come faster here than anywhere else
    from torch.distributed.elastic import events as torch_events
    from torch.distributed.elastic.multiprocessing.api import SignalException, _terminate_process_handler
    import torchelastic_otel
    from torchelastic_otel import events
    from torchelastic_otel._intake.recording import otel_handler

    # While it makes a record, Python asks for the process's name, and holds back whatever is raised there.
    logging.logMultiprocessing = logging.logAsyncioTasks = False
    EVENT = torch_events.Event("interrupted", torch_events.EventSource.WORKER, metadata={"step": 1})
    """
        + way
        + """
    one()
    assert torchelastic_otel.flush(20)
    signal.signal(signal.SIGTERM, _terminate_process_handler)
    recorded, surfaced = 1, 0
    for number in range(int(sys.argv[1])):
        deadline = time.monotonic() + 20
        try:
            os.write(1, b".")
            while time.monotonic() < deadline:
                one()
                recorded += 1
                if not recorded % 20_000:
                    torchelastic_otel.flush(20)  # within what the bridge's own queue holds
            os.write(1, b"x")  # swallowed
        except SignalException:
            surfaced += 1
        assert torchelastic_otel.flush(20)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    assert surfaced == int(sys.argv[1]), surfaced
    later = torch_events.Event("later", torch_events.EventSource.WORKER, metadata={"step": 2})
    torch_events.record(later, "otel")
    assert torchelastic_otel.flush(20)
    print(recorded)
    """
    )
    process = start(harness, receiver, source, str(rounds))
    try:
        interrupt(process, rounds, 0.0005)
        recorded = int(process.communicate(timeout=TIMEOUT_S)[0])
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()
    names = Counter(record.event_name for record in receiver.logs)
    assert names["later"] == 1
    # What was recorded is there; what was interrupted may be.
    assert 0 < recorded <= names["interrupted"] <= recorded + rounds


def test_a_signal_inside_of_the_first_event_breaks_nothing(harness: Harness, receiver: OtlpReceiver) -> None:
    """A process that is interrupted in its very first event still delivers what it records afterwards."""
    rounds = 60
    source = """
    import os, signal, sys, time
    import opentelemetry.exporter.otlp.proto.http._log_exporter, opentelemetry.sdk.trace
    import opentelemetry.exporter.otlp.proto.http.trace_exporter
    import torchelastic_otel
    from torchelastic_otel import events

    class Interrupted(Exception):
        pass

    def interrupt(number, frame):
        raise Interrupted

    def event(name, number):
        return events.Event(name, events.EventSource.WORKER, metadata={"number": number})

    def child(number):
        deadline = time.monotonic() + 20
        signal.signal(signal.SIGTERM, interrupt)
        try:
            os.kill(os.getppid(), signal.SIGUSR1)
            while time.monotonic() < deadline:
                events.record(event("first", number), "otel")
            return 1
        except Interrupted:
            pass
        events.record(event("later", number), "otel")
        return 0 if torchelastic_otel.flush(20) else 2

    failed = []
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGTERM})
    for number in range(int(sys.argv[1])):
        pid = os.fork()
        if not pid:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1, signal.SIGTERM})
            status = 3
            try:
                status = child(number)
            finally:
                os._exit(status)
        signal.sigwait({signal.SIGUSR1})
        os.write(1, b".")
        signal.sigwait({signal.SIGTERM})
        os.kill(pid, signal.SIGTERM)
        failed.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    assert failed == [0] * int(sys.argv[1]), failed
    """
    process = start(harness, receiver, source, str(rounds))
    try:
        interrupt(process, rounds, 0.0005)
        process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()
    later = Counter(r.attributes["number"] for r in receiver.logs if r.event_name == "later")
    assert later == dict.fromkeys(range(rounds), 1)


def test_the_first_events_of_several_threads_at_once_all_arrive(
    harness: Harness, receiver: OtlpReceiver
) -> None:
    """However the threads of a process interleave in their first events, one bridge takes them all."""
    rounds, threads = 100, 8
    source = """
    import os, sys, threading
    import opentelemetry.exporter.otlp.proto.http._log_exporter, opentelemetry.sdk.trace
    import opentelemetry.exporter.otlp.proto.http.trace_exporter
    import torchelastic_otel
    from torchelastic_otel import events

    def child(number):
        sys.setswitchinterval(1e-6)  # seconds: threads take turns at nearly every instruction
        together = threading.Barrier(int(sys.argv[2]))
        event = events.Event("first", events.EventSource.WORKER, metadata={"number": number})

        def first():
            together.wait()
            events.record(event, "otel")

        threads = [threading.Thread(target=first) for _ in range(int(sys.argv[2]))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return torchelastic_otel.flush(20)

    for number in range(int(sys.argv[1])):
        pid = os.fork()
        if not pid:
            flushed = False
            try:
                flushed = child(number)
            finally:
                os._exit(not flushed)
        assert os.waitpid(pid, 0)[1] == 0
    """
    process = start(harness, receiver, source, str(rounds), str(threads))
    try:
        process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()
    arrived = Counter(record.attributes["number"] for record in receiver.logs)
    assert arrived == dict.fromkeys(range(rounds), threads)
