"""What is put into torch is taken out again, and torch's own events and signals stay what they were."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from otlp_receiver import OtlpReceiver
from tests.support.harness import Harness
from tests.support.launching import LAUNCH, ONE_JOB, WITHOUT_ENTRY_POINT, answer

pytestmark = pytest.mark.e2e

STATE_OF_TORCH = """
def state_of_torch():
    import logging, signal
    from torch.distributed.elastic import events
    from torch.distributed.elastic.agent.server import api, local_elastic_agent
    from torch.distributed.elastic.events import handlers
    from torch.distributed.elastic.multiprocessing import api as multiprocessing_api
    from torch.distributed.elastic.rendezvous import dynamic_rendezvous, registry
    names = [f"torchelastic-events-{name}" for name in ("null", "console", "dynamic_rendezvous", "otel")]
    loggers = [logging.getLogger(name) for name in names]
    agent = local_elastic_agent.LocalElasticAgent
    return {
        "get_rendezvous_handler": registry.get_rendezvous_handler,
        "LocalElasticAgent": dict(vars(agent)),
        "start_processes": local_elastic_agent.start_processes,
        "record": (events.record, api.record),
        "record_rdzv_event": events.record_rdzv_event,
        "construct_and_record_rdzv_event": dynamic_rendezvous.construct_and_record_rdzv_event,
        "get_method_name": dynamic_rendezvous.get_method_name,
        "DynamicRendezvousHandler": dict(vars(dynamic_rendezvous.DynamicRendezvousHandler)),
        "SubprocessContext": dict(vars(multiprocessing_api.SubprocessContext)),
        "MultiprocessContext": dict(vars(multiprocessing_api.MultiprocessContext)),
        "_log_handlers": dict(handlers._log_handlers),
        "loggers": {logger.name: (logger.level, logger.propagate, list(logger.handlers))
                    for logger in loggers if logger.handlers},
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "wakeup": signal.set_wakeup_fd(-1),
    }

def differences(before, after):
    return sorted(key for key in before if before[key] != after[key])

def ours_in_torch():
    # Whatever function of torch's modules and classes comes from the package's files.
    import sys, types
    import torchelastic_otel
    home = torchelastic_otel.__file__.rpartition("/")[0]
    found = []
    for name, module in list(sys.modules.items()):
        if not name.startswith("torch.distributed"):
            continue
        owners = [module, *(value for value in vars(module).values() if isinstance(value, type))]
        for owner in owners:
            for key, value in list(vars(owner).items()):
                if isinstance(value, types.FunctionType) and value.__code__.co_filename.startswith(home):
                    found.append(f"{name}.{key}")
    return sorted(set(found))
"""


@pytest.mark.parametrize("job", ["null", "otel", "console", ""], ids=lambda job: job or "no job")
def test_uninstrument_leaves_torch_as_it_was(harness: Harness, receiver: OtlpReceiver, job: str) -> None:
    """After a job and ``uninstrument``, torch has its own functions, classes, loggers and signals again."""
    # The first job that torch runs sets things up for good: its own handlers of signals, its loggers.
    program = f"""
    import torch.distributed.run
    launch({job if job == "console" else "null"!r})
    before = state_of_torch()
    import torchelastic_otel
    torchelastic_otel.instrument()
    during = differences(before, state_of_torch())
    if {job!r}:
        launch({job!r})
    torchelastic_otel.uninstrument()
    answer = [during, differences(before, state_of_torch()), ours_in_torch()]
    """
    during, after, ours = answer(harness, receiver, WITHOUT_ENTRY_POINT, LAUNCH, STATE_OF_TORCH, program)
    assert {"get_rendezvous_handler", "LocalElasticAgent", "start_processes", "_log_handlers"} <= set(during)
    assert after == []
    assert ours == []
    assert Counter(span.name for span in receiver.spans) == (ONE_JOB if job else {})


def test_uninstrument_leaves_nothing_in_modules_imported_meanwhile(
    harness: Harness, receiver: OtlpReceiver
) -> None:
    """Modules of torch that were imported while instrumented hold no function of the package afterwards."""
    program = """
    import torchelastic_otel
    torchelastic_otel.instrument()
    import torch.distributed.run
    launch("null")
    torchelastic_otel.uninstrument()
    answer = ours_in_torch()
    """
    assert answer(harness, receiver, WITHOUT_ENTRY_POINT, LAUNCH, STATE_OF_TORCH, program) == []


def test_a_job_after_uninstrument_is_not_exported(harness: Harness, receiver: OtlpReceiver) -> None:
    """Jobs after ``uninstrument`` export nothing, what came before is sent, ``instrument`` works again."""
    program = """
    import torchelastic_otel
    torchelastic_otel.instrument()
    launch("null")
    torchelastic_otel.uninstrument()
    without = launch("null")
    torchelastic_otel.instrument()
    launch("null")
    torchelastic_otel.uninstrument()
    answer = without
    """
    assert answer(harness, receiver, LAUNCH, program) is None
    assert Counter(span.name for span in receiver.spans) == dict.fromkeys(ONE_JOB, 2)


def test_uninstrument_keeps_what_the_entry_point_put_in(harness: Harness, receiver: OtlpReceiver) -> None:
    """Where the entry point made ``otel`` known, it is known after ``uninstrument`` as well."""
    program = """
    import torch.distributed.run
    import torchelastic_otel
    torchelastic_otel.instrument()
    torchelastic_otel.uninstrument()
    answer = launch("otel")
    """
    assert answer(harness, receiver, LAUNCH, program) is not None
    assert Counter(span.name for span in receiver.spans) == ONE_JOB


def test_the_state_of_torch_between_jobs_is_as_before(harness: Harness, receiver: OtlpReceiver) -> None:
    """A job that asked for ``otel`` leaves nothing listening: rendezvous events of the next are not built."""
    program = """
    import torch.distributed.run
    launch("null")
    before = state_of_torch()
    launch("otel")
    answer = differences(before, state_of_torch())
    """
    assert answer(harness, receiver, LAUNCH, STATE_OF_TORCH, program) == []


def test_rendezvous_events_are_what_torch_would_have_made(harness: Harness, receiver: OtlpReceiver) -> None:
    """Made without walks through the stack, they have the names and values that torch gives them."""
    listening = """
    import logging
    from torch.distributed.elastic.rendezvous import rendezvous_handler_registry
    made, original = [], None

    class Listener(logging.Handler):
        def handle(self, record):
            made.append(record.getMessage())

    def create_handler(params):  # the job has begun
        logging.getLogger("torchelastic-events-dynamic_rendezvous").addHandler(Listener())
        return original(params)

    original = rendezvous_handler_registry._registry["c10d"]
    rendezvous_handler_registry._registry["c10d"] = create_handler
    """
    with OtlpReceiver() as other:
        answer(harness, other, LAUNCH, "answer = launch('otel')")
        made = answer(harness, receiver, LAUNCH, listening, "launch('otel')\nanswer = made")
        told = [
            [
                (record.event_name, record.severity_text, sorted(record.attributes))
                for record in sorted(taker.logs, key=lambda record: record.time_ns)
                if ".py:" in record.event_name
            ]
            for taker in (other, receiver)
        ]
    assert len(told[0]) > 1
    assert told[0] == told[1]
    assert {name for name, _, _ in told[0]} <= {json.loads(text)["name"] for text in made}


def test_signals_belong_to_torch_after_a_job(harness: Harness, receiver: OtlpReceiver) -> None:
    """What watches for signals in the first rendezvous is gone afterwards: handlers, wake-up pipe, thread."""
    program = """
    import os, signal, threading
    import torch.distributed.run

    def state():
        handlers = [getattr(signal.getsignal(number), "__module__", None)
                    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)]
        # The thread that read the pipe may end a moment later.
        for thread in threading.enumerate():
            if "signals" in thread.name:
                thread.join(20)
                assert not thread.is_alive()
        # Torch's own stores and processes have pipes, too, which stay until their cycles are collected.
        files = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
                 if os.path.lexists(f"/proc/self/fd/{fd}")]
        return handlers, signal.set_wakeup_fd(-1), [name for name in files if name in ours]

    watched, ours = [], []
    def look(*args, **kwargs):
        watched.append(signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL)
        wakeup = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        if wakeup != -1:
            ours.append(os.readlink(f"/proc/self/fd/{wakeup}"))
    from torch.distributed.elastic.rendezvous import dynamic_rendezvous
    original = dynamic_rendezvous.DynamicRendezvousHandler.next_rendezvous
    def next_rendezvous(self):
        look()
        return original(self)
    dynamic_rendezvous.DynamicRendezvousHandler.next_rendezvous = next_rendezvous
    launch("otel")
    first = state()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)  # torch's handlers stay, and would not be watched for
    launch("otel")
    second = state()
    answer = [watched, len(ours), first, second]
    """
    watched, pipes, first, second = answer(harness, receiver, LAUNCH, program)
    assert watched == [True, True]
    assert pipes == 2
    assert first == second
    assert first[1:] == [-1, []]
