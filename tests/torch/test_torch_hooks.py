"""What is put into torch, when, by whom, and that it is taken out again; whose providers are used; signals.

Each test runs a Python process of its own: which modules are imported, and in what order, matters here.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from typing import Any

import pytest

from otlp_receiver import OtlpReceiver
from tests.support.harness import TIMEOUT_S, Harness, otlp

pytestmark = pytest.mark.e2e

AGENT, RENDEZVOUS = "torchelastic.agent", "torchelastic.rendezvous"
GROUP, WORKER = "torchelastic.worker_group", "torchelastic.worker"
ONE_JOB = {AGENT: 1, RENDEZVOUS: 1, GROUP: 1, WORKER: 1}
STATUS = "torchelastic.worker.status."
OF_A_JOB = {
    "torchelastic.agent.start",
    f"{STATUS}RENDEZVOUS",
    f"{STATUS}ASSIGN_WORKER_RANKS",
    f"{STATUS}START",
    f"{STATUS}SUCCEEDED",
    "torchelastic.agent.stop",
    "dynamic_rendezvous.py:DynamicRendezvousHandler.next_rendezvous",
}

WITHOUT_ENTRY_POINT = """
# As if the package were not installed with its entry point: nothing is put into torch but by import.
import importlib.metadata
_entry_points = importlib.metadata.entry_points

def entry_points(**chosen):
    found = _entry_points(**chosen)
    return type(found)(()) if chosen.get("group") == "torchrun.handlers" else found

importlib.metadata.entry_points = entry_points
"""

LAUNCH = """
def train():
    import os
    return os.environ.get("TRACEPARENT")

def launch(handler):
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=1, run_id="hooks", rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0", local_addr="127.0.0.1", event_log_handler=handler,
        start_method="fork", monitor_interval=0.1, max_restarts=0)
    return elastic_launch(config, train)()[0]
"""

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


def answer(harness: Harness, receiver: OtlpReceiver, *sources: str, **env: str) -> Any:
    """Run a program made of ``sources``; return what it put into ``answer``, after its end."""
    source = "\n".join(textwrap.dedent(part) for part in sources)
    answer_file = harness.directory / "answer.json"
    program = f"{source}\nimport json\nopen({str(answer_file)!r}, 'w').write(json.dumps(answer))\n"
    # Several lines, so that what it starts by spawn does not run it again.
    path = harness.program("main.py", f"if __name__ == '__main__':\n{textwrap.indent(program, '    ')}\n")
    agent = harness.run(
        [sys.executable, str(path)],
        env={**otlp(receiver, "http/protobuf"), **env, "TORCHRUN_HARNESS_SOCKET": ""},
    )
    assert agent.wait() == 0, agent.output
    assert "internal error" not in agent.output
    return json.loads(answer_file.read_text())


# --- import -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "what",
    [
        "import torchelastic_otel",
        "from torchelastic_otel._torch import entry; entry.register()",
        "from torchelastic_otel import events",
    ],
    ids=["package", "entry point", "events"],
)
def test_importing_loads_no_sdk_and_no_torch(harness: Harness, receiver: OtlpReceiver, what: str) -> None:
    """What runs in every launcher and worker imports neither torch nor OpenTelemetry nor gRPC."""
    program = """
    import sys
    heavy = ("torch", "opentelemetry", "grpc", "google", "requests")
    answer = sorted({name.partition(".")[0] for name in sys.modules} & set(heavy))
    """
    assert answer(harness, receiver, what, program) == []


def test_importing_starts_nothing(harness: Harness, receiver: OtlpReceiver) -> None:
    """Import and entry point start no thread, take no signal, and send nothing."""
    program = """
    import signal, threading
    def state():
        handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]
        return threading.active_count(), handlers, signal.set_wakeup_fd(-1)
    before = state()
    import torchelastic_otel
    import torch.distributed.elastic.rendezvous
    import torch.distributed.run
    answer = state() == before and "otel" in torch.distributed.elastic.events.handlers._log_handlers
    """
    assert answer(harness, receiver, program) is True
    assert receiver.requests == []


@pytest.mark.parametrize(
    "imports",
    [
        "import torch.distributed.elastic.agent.server",
        "import torch.distributed.elastic.agent.server.local_elastic_agent",
        "import torch.distributed.checkpoint",
        "import torch.distributed.launcher.api",
        "import torch.distributed.elastic.events",
        "import torch.distributed.elastic.rendezvous.registry",
        "import torch.distributed.run",
        "import torchelastic_otel\nimport torch.distributed.launcher.api",
        "import torch.distributed.launcher.api\nimport torchelastic_otel",
    ],
)
def test_a_job_is_exported_whatever_was_imported_first(
    harness: Harness, receiver: OtlpReceiver, imports: str
) -> None:
    """A LaunchConfig that asks for ``otel`` has its spans and records with every order of imports."""
    context = answer(harness, receiver, imports, LAUNCH, 'answer = launch("otel")')
    assert Counter(span.name for span in receiver.spans) == ONE_JOB
    assert {record.event_name for record in receiver.logs} >= OF_A_JOB
    (worker,) = (span for span in receiver.spans if span.name == WORKER)
    assert context == f"00-{worker.trace_id}-{worker.span_id}-01"


@pytest.mark.parametrize("first", [True, False], ids=["before torch", "after torch"])
def test_a_job_is_exported_by_import_where_there_is_no_entry_point(
    harness: Harness, receiver: OtlpReceiver, first: bool
) -> None:
    """Importing the package makes ``otel`` known to torch, whether torch's modules are there or not yet."""
    imports = ["import torchelastic_otel", "import torch.distributed.run"]
    source = "\n".join(imports if first else reversed(imports))
    answer(harness, receiver, WITHOUT_ENTRY_POINT, source, LAUNCH, 'answer = launch("otel")')
    assert Counter(span.name for span in receiver.spans) == ONE_JOB
    assert {record.event_name for record in receiver.logs} >= OF_A_JOB


def test_workers_get_their_context_while_opentelemetry_is_still_being_imported(
    harness: Harness, receiver: OtlpReceiver
) -> None:
    """The workers' TRACEPARENT does not depend on how far the bridge's thread is with its imports."""
    program = """
    import importlib.machinery, sys, threading
    from torch.distributed.elastic.multiprocessing import api
    started = threading.Event()

    class Slow:
        # opentelemetry.trace is in sys.modules, and empty, until torch has started the workers.
        def find_spec(self, name, path=None, target=None):
            if name != "opentelemetry.trace":
                return None
            spec = importlib.machinery.PathFinder.find_spec(name, path)
            run = spec.loader.exec_module
            def exec_module(module):
                assert started.wait(30)
                run(module)
            spec.loader.exec_module = exec_module
            return spec

    original = api.MultiprocessContext._start
    def start(self):
        started.set()
        original(self)
    api.MultiprocessContext._start = start
    sys.meta_path.insert(0, Slow())
    context = launch("otel")
    answer = [context, started.is_set()]
    """
    context, started = answer(harness, receiver, LAUNCH, program)
    assert started
    (worker,) = (span for span in receiver.spans if span.name == WORKER)
    assert context == f"00-{worker.trace_id}-{worker.span_id}-01"


# --- taking it out ----------------------------------------------------------------------------------------


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
        pipes = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
                 if os.path.exists(f"/proc/self/fd/{fd}")]
        return handlers, signal.set_wakeup_fd(-1), sum(name.startswith("pipe:") for name in pipes)

    watched = []
    def look(*args, **kwargs):
        watched.append(signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL)
    from torch.distributed.elastic.rendezvous import dynamic_rendezvous
    original = dynamic_rendezvous.DynamicRendezvousHandler.next_rendezvous
    def next_rendezvous(self):
        look()
        return original(self)
    dynamic_rendezvous.DynamicRendezvousHandler.next_rendezvous = next_rendezvous
    launch("otel")
    from torchelastic_otel._intake.bridge import bridge
    bridge().wait_loaded(60)  # what sends has pipes of its own, which stay
    first = state()
    launch("null")
    second = state()
    answer = [watched, [first, second], first[1]]
    """
    watched, same, wakeup = answer(harness, receiver, LAUNCH, program)
    assert watched == [True, True]
    assert same[0] == same[1]
    assert wakeup == -1


# --- providers --------------------------------------------------------------------------------------------

MEMORY = """
import torchelastic_otel
from opentelemetry import _logs, metrics, trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

spans, logs = InMemorySpanExporter(), InMemoryLogRecordExporter()
resource = Resource({"service.name": "of the program"})
tracers = TracerProvider(resource=resource)
tracers.add_span_processor(SimpleSpanProcessor(spans))
loggers = LoggerProvider(resource=resource)
loggers.add_log_record_processor(SimpleLogRecordProcessor(logs))

def global_providers():
    return [type(p).__name__ for p in (trace.get_tracer_provider(), _logs.get_logger_provider(),
                                       metrics.get_meter_provider())]

before = global_providers()

def seen(context):
    return {
        "spans": [span.name for span in spans.get_finished_spans()],
        "worker": [f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-01"
                   for span in spans.get_finished_spans() if span.name == "torchelastic.worker"],
        "logs": [log.log_record.event_name for log in logs.get_finished_logs()],
        "traces": sorted({log.log_record.trace_id for log in logs.get_finished_logs()}
                         | {span.context.trace_id for span in spans.get_finished_spans()}),
        "services": sorted({item.resource.attributes["service.name"]
                            for item in [*spans.get_finished_spans(), *logs.get_finished_logs()]}),
        "context": context,
        "global": [before, global_providers()],
    }
"""


def check_memory(seen: dict[str, Any]) -> None:
    """Check that a whole job is in the program's own exporters."""
    assert Counter(seen["spans"]) == ONE_JOB
    assert set(seen["logs"]) >= OF_A_JOB
    assert len(seen["traces"]) == 1
    assert seen["services"] == ["of the program"]
    assert seen["worker"] == [seen["context"]]


@pytest.mark.parametrize(
    ("put_in", "take_out"),
    [
        (
            "torchelastic_otel.instrument(tracer_provider=tracers, logger_provider=loggers)",
            "torchelastic_otel.uninstrument()",
        ),
        (
            "from torchelastic_otel.instrumentor import TorchElasticInstrumentor as Instrumentor\n"
            "Instrumentor().instrument(tracer_provider=tracers, logger_provider=loggers)",
            "Instrumentor().uninstrument()",
        ),
    ],
    ids=["instrument", "instrumentor"],
)
def test_providers_that_are_handed_in_are_used(
    harness: Harness, receiver: OtlpReceiver, put_in: str, take_out: str
) -> None:
    """Spans and records go to the given providers and nowhere else, and none is set globally."""
    program = f'context = launch("null")\n{take_out}\nanswer = seen(context)'
    found = answer(harness, receiver, LAUNCH, MEMORY, put_in, program, OTEL_METRICS_EXPORTER="none")
    check_memory(found)
    assert found["global"][0] == found["global"][1]
    assert receiver.requests == []


def test_providers_that_the_program_has_set_are_used(harness: Harness, receiver: OtlpReceiver) -> None:
    """The program's global providers take everything, by ``event_log_handler="otel"`` alone."""
    program = """
    trace.set_tracer_provider(tracers)
    _logs.set_logger_provider(loggers)
    context = launch("otel")
    torchelastic_otel.flush()
    answer = seen(context)
    """
    found = answer(harness, receiver, LAUNCH, MEMORY, program, OTEL_METRICS_EXPORTER="none")
    check_memory(found)
    assert receiver.requests == []


def test_no_global_provider_is_set(harness: Harness, receiver: OtlpReceiver) -> None:
    """A job that is exported by the environment's variables leaves the program's global providers unset."""
    found = answer(
        harness,
        receiver,
        LAUNCH,
        MEMORY,
        'context = launch("otel")\ntorchelastic_otel.flush()\nanswer = seen(context)',
    )
    assert found["global"][0] == found["global"][1]
    assert found["spans"] == []
    assert Counter(span.name for span in receiver.spans) == ONE_JOB


# --- signals ----------------------------------------------------------------------------------------------


def interrupt(process: subprocess.Popen[bytes], rounds: int, longest_s: float) -> None:
    """Send SIGTERM at a random moment after each byte that ``process`` writes, ``rounds`` times."""
    chance = random.Random(20240229)
    assert process.stdout is not None
    for number in range(rounds):
        said = process.stdout.read(1)
        assert said == b".", (number, said, process.wait(TIMEOUT_S))
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
    from torchelastic_otel._intake import recording as _handler

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
