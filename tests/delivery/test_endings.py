"""However a process ends, what it recorded is there, and it ends as it would without us."""

from __future__ import annotations

import signal

import pytest

from otlp_receiver import OtlpReceiver
from tests.support.node import ALL, DEAD, MANY, TIMEOUT_S, Node, heard, names


@pytest.mark.parametrize("ending", ["os._exit(5)", "os.kill(os.getpid(), 9)", "os.kill(os.getpid(), 15)"])
def test_what_was_flushed_to_nobody_outlives_any_end(node: Node, receiver: OtlpReceiver, ending: str) -> None:
    """However a process ends after ``flush`` returned, what it recorded is there."""
    node.run(f"{MANY}\nflush(5)\n{ending}", DEAD)
    assert node.left() == {"logs": 300}
    node.command("replay", "--endpoint", receiver.http_endpoint)
    assert names(receiver) == ALL


def test_what_was_recorded_before_a_kill_is_in_the_spool(node: Node) -> None:
    """SIGKILL from outside: the store of a process that is silent for a moment has everything."""
    process = node.start(f"{MANY}\nhear()", DEAD)
    heard(process)
    process.kill()
    process.communicate()
    assert node.left() == {"logs": 300}


def test_the_watchdogs_last_words_outlive_the_process(node: Node) -> None:
    """The watchdog kills its own agent right after this event: when it is recorded, it is in the spool."""
    script = """
    events.record(events.Event("kill worker process", events.EventSource.AGENT), "otel")
    os.kill(os.getpid(), signal.SIGKILL)
    """
    assert node.run(script, DEAD)[0] == -signal.SIGKILL
    assert node.left() == {"logs": 1}


def test_a_forked_child_leaves_its_parents_spool_alone(node: Node, receiver: OtlpReceiver) -> None:
    """Both record to a backend that is dead; each has a store of its own, and nothing is there twice."""
    script = """
    record("parent before")
    flush(5)
    child = os.fork()
    if not child:
        record("child")
        flush(5)
        os._exit(0)
    os.waitpid(child, 0)
    record("parent after")
    """
    code, err = node.run(script, DEAD, PYTHONWARNINGS="ignore::DeprecationWarning")
    assert code == 0, err
    node.command("replay", "--endpoint", receiver.http_endpoint)
    assert names(receiver) == {"parent before": 1, "child": 1, "parent after": 1}


def test_a_second_signal_while_the_first_is_being_told_ends_the_process(node: Node) -> None:
    """Who is impatient sends SIGTERM twice: the process ends by it, as it would with one."""
    script = """
    from torchelastic_otel._torch.launcher_signals import SignalWatch
    def tell(name):
        os.kill(os.getpid(), signal.SIGTERM)
        record("told")
    SignalWatch(tell).install()
    os.kill(os.getpid(), signal.SIGTERM)
    signal.pause()
    """
    assert node.run(script, DEAD)[0] == -signal.SIGTERM


def test_signals_are_those_of_the_process(node: Node) -> None:
    """A process that gets SIGTERM ends by it, and what it recorded before is kept."""
    process = node.start(f"{MANY}\nhear()", DEAD)
    heard(process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == -signal.SIGTERM
    assert node.left() == {"logs": 300}
