"""Signals before the first workers: the launcher's own are told of, a child's are the child's alone."""

from __future__ import annotations

import pytest

from otlp_receiver import OtlpReceiver
from tests.support import other_torch as o
from tests.support.harness import Harness
from tests.support.launching import LAUNCH, answer

pytestmark = pytest.mark.e2e


def test_a_signal_to_a_forked_child_is_the_childs(harness: Harness, receiver: OtlpReceiver) -> None:
    """Children are terminated while the launcher waits for its peers: it goes on, they die of the signal."""
    program = """
    import multiprocessing, os, signal, threading, time
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch
    from torchelastic_otel._torch import launcher_signals

    fork = multiprocessing.get_context("fork")
    codes = []

    def terminate_children():
        while not launcher_signals._watches:
            time.sleep(0.01)
        for _ in range(20):
            child = fork.Process(target=time.sleep, args=(60,))
            child.start()
            child.terminate()
            child.join()
            codes.append(child.exitcode)

    thread = threading.Thread(target=terminate_children)
    thread.start()
    config = LaunchConfig(
        min_nodes=2, max_nodes=2, nproc_per_node=1, run_id="alone", rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0", rdzv_configs={"join_timeout": 5}, event_log_handler="otel",
        start_method="fork", max_restarts=0)
    failed = ""
    try:
        elastic_launch(config, train)()
    except Exception as error:
        failed = type(error).__name__
    thread.join()
    answer = [failed, codes]
    """
    failed, codes = answer(harness, receiver, LAUNCH, program)
    assert failed == "RendezvousTimeoutError"
    assert codes == [-15] * 20


def test_a_launch_that_fails_before_there_is_an_agent_gives_the_signals_back(
    harness: Harness, receiver: OtlpReceiver
) -> None:
    """Neither handlers, nor the wake-up descriptor, nor anything in torch stays behind."""
    between = (
        o.LAUNCHER,
        "    agent = LocalElasticAgent(",
        "    raise ValueError\n    agent = LocalElasticAgent(",
    )
    program = """
    import signal
    failed = False
    try:
        launch("otel")
    except ValueError:
        failed = True
    from torchelastic_otel._torch.hooks import hooks
    from torch.distributed.elastic.events import handlers
    handled = [signal.getsignal(number) is signal.SIG_DFL for number in (signal.SIGTERM, signal.SIGHUP)]
    heard = type(handlers._log_handlers["dynamic_rendezvous"]).__name__
    answer = [failed, handled, signal.set_wakeup_fd(-1), heard, len(hooks._jobs)]
    """
    found = answer(harness, receiver, o.change(between), LAUNCH, program)
    assert found == [True, [True, True], -1, "NullHandler", 0]


def test_a_handler_that_the_program_sets_later_is_the_one_that_runs(
    harness: Harness, receiver: OtlpReceiver
) -> None:
    """The launcher then does not die of the signal, however that reaches us."""
    program = """
    import os, signal, threading, time
    from torchelastic_otel._torch.launcher_signals import SignalWatch
    told, handled = [], threading.Event()
    watch = SignalWatch(told.append)
    watch.install()
    signal.signal(signal.SIGTERM, lambda number, frame: handled.set())
    os.kill(os.getpid(), signal.SIGTERM)
    handled.wait(30)
    watch.remove()
    for thread in threading.enumerate():
        if thread.name == "torchelastic-otel-signals":
            thread.join(30)
    answer = [handled.is_set(), told]
    """
    assert answer(harness, receiver, program) == [True, []]
