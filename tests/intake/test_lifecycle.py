"""A process has one bridge; however it ends or forks, its events arrive once and its exit code is its own."""

from __future__ import annotations

import re
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

from otlp_receiver import OtlpReceiver
from tests.support.recorders import PROTOCOLS, endpoint_of, received, run
from torchelastic_otel._intake.bridge import Bridge
from torchelastic_otel._intake.lifecycle import bridge, use_providers

MANY = """
    for number in range(400):
        record(f"e{number}", number=number)
"""


def test_one_bridge_for_all_threads() -> None:
    """Threads that record a program's first events at the same time share one bridge."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(100):
            use_providers(None)  # the next one that asks makes a bridge
            found: list[Bridge] = []
            start = threading.Barrier(8)

            def ask(start: threading.Barrier = start, found: list[Bridge] = found) -> None:
                start.wait()
                found.append(bridge())

            threads = [threading.Thread(target=ask) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len({id(made) for made in found}) == 1
    finally:
        sys.setswitchinterval(interval)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_process_that_ends_at_once_delivers_everything(protocol: str) -> None:
    """400 events, and the script is over: all of them arrive, once, and nothing is said."""
    with OtlpReceiver() as receiver:
        code, err = run(MANY, endpoint_of(receiver, protocol), protocol)
        assert received(receiver) == {f"e{number}": 1 for number in range(400)}
        assert len({record.attributes["log.record.uid"] for record in receiver.logs}) == 400
    assert (code, err) == (0, "")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_process_that_ends_at_once_with_a_dead_endpoint(protocol: str) -> None:
    """The loss is told in plain words; the process ends as it would, and no error of ours is shown."""
    code, err = run(MANY, "http://127.0.0.1:9", protocol, TORCHELASTIC_OTEL_EXIT_TIMEOUT="1")
    assert code == 0
    assert "internal error" not in err
    assert "Traceback" not in err
    assert "400 log records could not be delivered" in err
    assert "lost" in err


@pytest.mark.parametrize("text", ["", "x" * 20_000], ids=["many", "large"])
def test_of_a_flood_every_event_is_accounted_for(text: str, tmp_path: Path) -> None:
    """What arrived and what the last line calls dropped are together what eight threads recorded."""
    count = 2_000 if text else 16_000
    script = f"""
        import threading

        def flood():
            for number in range({count}):
                record("e", text={text!r})

        threads = [threading.Thread(target=flood) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    """
    with OtlpReceiver() as receiver:
        roomy = {"OTEL_BLRP_MAX_QUEUE_SIZE": "1000000", "TORCHELASTIC_OTEL_SPOOL_DIR": str(tmp_path)}
        code, err = run(script, receiver.http_endpoint, **roomy)
        arrived = received(receiver)["e"]
    (told,) = re.findall(r"(\d+) events came faster .* and were dropped", err)
    assert arrived > 0
    assert arrived + int(told) == 8 * count, err
    assert code == 0


@pytest.mark.parametrize(
    ("ending", "expected"),
    [
        ("sys.exit(3)", 3),
        ("raise RuntimeError('the program failed')", 1),
        ("import threading; threading.Thread(target=record, args=('thread',)).start()", 0),
        ("import atexit; atexit.register(record, 'atexit')", 0),
        (
            "import signal, time; signal.signal(signal.SIGTERM, lambda *a: sys.exit(7))\n"
            "os.kill(os.getpid(), 15); time.sleep(60)",
            7,
        ),
    ],
    ids=["exit", "exception", "thread", "atexit", "signal"],
)
def test_whatever_way_a_process_ends(ending: str, expected: int) -> None:
    """Its events arrive, also those of its last moments, and its exit code is its own."""
    with OtlpReceiver() as receiver:
        code, err = run(f"record('e')\n{ending}\n", receiver.http_endpoint)
        names = received(receiver)
    wanted = {"e": 1, **{name: 1 for name in ("thread", "atexit") if f"'{name}'" in ending}}
    assert names == wanted
    assert code == expected
    assert "internal error" not in err


@pytest.mark.parametrize("before", ["", "record('e')"], ids=["first", "later"])
@pytest.mark.parametrize("register", ["atexit.register", "threading._register_atexit"])
def test_an_event_in_an_exit_handler_that_comes_after_ours_is_not_lost(register: str, before: str) -> None:
    """It was registered before the first event: it arrives, or its loss is told."""
    script = f"""
        import atexit, threading

        {register}(record, "late")
        {before}
    """
    with OtlpReceiver() as receiver:
        code, err = run(script, receiver.http_endpoint)
        names = received(receiver)
    if before:
        assert names == {"e": 1, "late": 1}
    elif sys.version_info[:2] == (3, 12):
        assert "recorded its first event while Python was ending" in err
    else:
        assert names == {"late": 1}
    assert code == 0
    assert "internal error" not in err


def test_refused_records_are_told() -> None:
    """A collector that refuses: the loss is said, in one line of ours, and the process ends as it would."""
    with OtlpReceiver() as receiver:
        receiver.respond(status=400)
        code, err = run(MANY, receiver.http_endpoint)
    assert code == 0
    assert err.count("telemetry is being lost: log records") == 1
    assert "internal error" not in err


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_fork(protocol: str) -> None:
    """The child's records are its own and arrive; the parent's come once, from the parent."""
    script = """
        record("before", pid=os.getpid())
        flush(60)
        child = os.fork()
        record("child" if child == 0 else "parent", pid=os.getpid())
        if child:
            os.waitpid(child, 0)
            record("after", pid=os.getpid())
    """
    with OtlpReceiver() as receiver:
        code, err = run(script, endpoint_of(receiver, protocol), protocol)
        records = receiver.logs
    assert Counter(record.event_name for record in records) == dict.fromkeys(
        ("before", "child", "parent", "after"), 1
    )
    assert all(record.attributes["pid"] == record.resource["process.pid"] for record in records)
    assert len({record.attributes["log.record.uid"] for record in records}) == 4
    assert (code, err) == (0, "")


def test_fork_with_events_in_the_queue() -> None:
    """A fork before anything was sent: what is queued is the parent's to send, and nobody's twice."""
    script = """
        for number in range(50):
            record(f"e{number}")
        child = os.fork()
        if child == 0:
            record("child")
            sys.exit(5)
        _, status = os.waitpid(child, 0)
        sys.exit(os.waitstatus_to_exitcode(status))
    """
    with OtlpReceiver() as receiver:
        code, err = run(script, receiver.http_endpoint, TORCHELASTIC_OTEL_EXIT_TIMEOUT="10")
        names = received(receiver)
    assert names == {"child": 1, **{f"e{number}": 1 for number in range(50)}}
    assert (code, err) == (5, "")


def test_fork_while_the_bridge_imports() -> None:
    """A forked child can import what the bridge's thread was importing.

    Locks of imports that another thread had begun would stay locked in it for ever.
    """
    script = """
        import signal, threading

        importing, forked = threading.Event(), threading.Event()

        class Slow:
            def find_spec(self, name, path=None, target=None):
                if name == "opentelemetry.sdk.trace" and not importing.is_set():
                    importing.set()
                    forked.wait(0.3)

        sys.meta_path.insert(0, Slow())
        record("parent")
        assert importing.wait(60)
        child = os.fork()
        if child == 0:
            signal.alarm(30)
            import opentelemetry.sdk.trace

            opentelemetry.sdk.trace.TracerProvider
            os._exit(0)
        forked.set()
        _, status = os.waitpid(child, 0)
        sys.exit(status)
    """
    with OtlpReceiver() as receiver:
        code, err = run(script, receiver.http_endpoint)
        names = received(receiver)
    assert names == {"parent": 1}
    assert (code, err) == (0, "")


STUCK_IMPORT = """
    import importlib.machinery, signal, threading

    importing, over = threading.Event(), threading.Event()

    class Slow:
        def find_spec(self, name, path=None, target=None):
            if name != MODULE:
                return None
            spec = importlib.machinery.PathFinder.find_spec(name, path)
            run = spec.loader.exec_module

            def exec_module(module):
                importing.set()
                over.wait(60)
                run(module)

            spec.loader.exec_module = exec_module
            return spec

    sys.meta_path.insert(0, Slow())
"""


@pytest.mark.parametrize("module", ["opentelemetry.sdk.trace", "requests", "opentelemetry.sdk.metrics"])
def test_an_import_that_hangs_holds_no_fork(module: str) -> None:
    """Forks go ahead while an import of any of our threads hangs; their children record nothing, and end."""
    script = f"""
    MODULE = {module!r}
    {STUCK_IMPORT}
    record("parent")
    assert importing.wait(60)
    for number in range(4):
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            record("child")
            sys.exit(5)  # with all exit hooks
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 5
    assert not over.is_set()
    over.set()
    """
    with OtlpReceiver() as receiver:
        code, err = run(script, receiver.http_endpoint, OTEL_METRICS_EXPORTER="otlp")
        names = received(receiver)
    assert names == {"parent": 1}
    assert code == 0
    assert err.count("a process was forked while OpenTelemetry was still being imported") == 1
    assert err.count("\n") == 1


def test_a_program_keeps_its_own_interpreter_settings() -> None:
    """Garbage collection and the switch interval are the program's, also while the bridge loads."""
    script = """
        import gc

        frozen, interval = gc.get_freeze_count(), sys.getswitchinterval()
        seen = []

        class Look:
            def find_spec(self, name, path=None, target=None):
                seen.append((gc.isenabled(), sys.getswitchinterval(), gc.get_freeze_count()))

        sys.meta_path.insert(0, Look())
        record("e")
        assert flush(60)
        assert set(seen) == {(True, interval, frozen)}
        child = os.fork()
        if child == 0:
            os._exit(gc.get_freeze_count() != frozen)
        assert os.waitpid(child, 0)[1] == 0
    """
    with OtlpReceiver() as receiver:
        assert run(script, receiver.http_endpoint) == (0, "")
        assert received(receiver) == {"e": 1}


@pytest.mark.parametrize(
    "answer", ["time.sleep(60)", "raise UnicodeError('label too long')", "raise OSError"]
)
def test_a_node_whose_name_nobody_answers_loses_nothing(answer: str) -> None:
    """Neither a dead name server nor a name that IDNA refuses costs an event, or holds a fork."""
    script = f"""
        import socket, time

        def getfqdn(name=""):
            {answer}

        socket.getfqdn = getfqdn
        record("e")
        child = os.fork()
        if child == 0:
            record("child")
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
    """
    with OtlpReceiver() as receiver:
        assert run(script, receiver.http_endpoint) == (0, "")
        assert received(receiver) == {"e": 1, "child": 1}


def test_forked_worker_of_multiprocessing() -> None:
    """Such a process skips atexit handlers; its records arrive all the same."""
    script = """
        import multiprocessing

        record("before")
        flush(60)
        worker = multiprocessing.get_context("fork").Process(target=record, args=("worker",))
        worker.start()
        worker.join()
        sys.exit(worker.exitcode)
    """
    with OtlpReceiver() as receiver:
        code, err = run(script, receiver.http_endpoint)
        names = received(receiver)
    assert names == {"before": 1, "worker": 1}
    assert (code, err) == (0, "")


def test_flush_is_enough_before_a_hard_exit() -> None:
    """``flush`` returns True when what was recorded is at the receiver."""
    with OtlpReceiver() as receiver:
        code, _ = run('record("e")\nos._exit(0 if flush(60) else 1)', receiver.http_endpoint)
        assert received(receiver) == {"e": 1}
    assert code == 0


def test_recording_alone_imports_nothing_heavy() -> None:
    """The program's thread pays neither for the SDK nor for torch; the bridge's own loads what it needs."""
    script = """
        record("e")
        assert "torch" not in sys.modules
        assert flush(60)
        assert "torch" not in sys.modules
        assert "opentelemetry.sdk.trace" in sys.modules
    """
    with OtlpReceiver() as receiver:
        code, err = run(script, receiver.http_endpoint)
    assert (code, err) == (0, "")
