"""A job is exported whatever is imported first; importing alone costs and starts nothing."""

from __future__ import annotations

from collections import Counter

import pytest

from otlp_receiver import OtlpReceiver
from tests.support.harness import Harness
from tests.support.launching import LAUNCH, OF_A_JOB, ONE_JOB, WITHOUT_ENTRY_POINT, WORKER, answer

pytestmark = pytest.mark.e2e


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
