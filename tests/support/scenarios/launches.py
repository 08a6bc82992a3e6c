"""Ways to start a job that then goes well."""

from __future__ import annotations

import textwrap

from tests.support.harness import QUICK, Agent, Script, free_port
from tests.support.scenarios.expected import ONE_WELL, WELL
from tests.support.scenarios.job import Job, end, scenario


@scenario("clean, gRPC", WELL, WELL)
@scenario("clean, HTTP", WELL, WELL, protocol="http/protobuf")
def _clean(job: Job) -> list[Agent]:
    return job.two_agents(job.worker(together=4))


@scenario("static rendezvous", WELL, WELL, protocol="http/protobuf")
def _static(job: Job) -> list[Agent]:
    port, script = free_port(), job.worker(together=4)
    return end(*[job.torchrun(job.static_options(node, port), script) for node in range(2)])


@scenario("standalone", WELL, shared_trace=False)
def _standalone(job: Job) -> list[Agent]:
    return end(job.torchrun([*QUICK, "--standalone", "--nproc-per-node=2"], job.worker()))


@scenario("one node, no options", ONE_WELL, shared_trace=False, protocol="http/protobuf")
def _no_options(job: Job) -> list[Agent]:
    return end(job.torchrun([], job.worker()))


@scenario("LOGLEVEL=WARNING", ONE_WELL)
def _quiet(job: Job) -> list[Agent]:
    return end(job.torchrun(job.options(per_node=1), job.worker(), {"LOGLEVEL": "WARNING"}))


@scenario("PET_EVENT_LOG_HANDLER=otel", ONE_WELL, protocol="http/protobuf")
def _by_environment(job: Job) -> list[Agent]:
    env = {"PET_EVENT_LOG_HANDLER": "otel"}
    return end(job.torchrun(job.options(per_node=1), job.worker(), env, handler=()))


INSTRUMENTED = {
    "OTEL_SERVICE_NAME": "the program's own",
    "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "process",
}


def instrumented(job: Job, *handler: str) -> list[Agent]:
    """Run a job under opentelemetry-instrument, which sets up providers of its own."""
    options, under = job.options(per_node=1), ["opentelemetry-instrument"]
    return end(job.torchrun(options, job.worker(), INSTRUMENTED, handler=handler, under=under))


@scenario("opentelemetry-instrument, no flag", ONE_WELL, users_resource=True)
def _instrumented(job: Job) -> list[Agent]:
    return instrumented(job)


@scenario("opentelemetry-instrument, console", ONE_WELL, users_resource=True)
def _instrumented_console(job: Job) -> list[Agent]:
    return instrumented(job, "--event-log-handler", "console")


LAUNCH = """
import sys
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

def train(name):
    import os
    return f"{name} {os.environ['RANK']} {os.environ.get('TRACEPARENT')}"

def launch(run_id, method="spawn"):
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=2, run_id=run_id, rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0", local_addr="127.0.0.1", event_log_handler=sys.argv[1],
        start_method=method, monitor_interval=0.1, max_restarts=0)
    print(elastic_launch(config, train)("hello"), flush=True)
"""


def launched(job: Job, main: str, *arguments: str) -> list[Agent]:
    """Run a program that launches functions by LaunchConfig."""
    source = LAUNCH + '\nif __name__ == "__main__":\n' + textwrap.indent(textwrap.dedent(main), "    ")
    return end(job.program(source, *arguments))


@scenario("LaunchConfig, spawn", WELL)
def _spawn(job: Job) -> list[Agent]:
    return launched(job, "launch(sys.argv[2], 'spawn')", job.run_id)


@scenario("LaunchConfig, fork", WELL, protocol="http/protobuf")
def _fork(job: Job) -> list[Agent]:
    return launched(job, "launch(sys.argv[2], 'fork')", job.run_id)


@scenario("LaunchConfig, forkserver", WELL)
def _forkserver(job: Job) -> list[Agent]:
    return launched(job, "launch(sys.argv[2], 'forkserver')", job.run_id)


@scenario("LaunchConfig, from a thread", WELL)
def _from_a_thread(job: Job) -> list[Agent]:
    main = """
    import threading
    thread = threading.Thread(target=launch, args=(sys.argv[2], "fork"))
    thread.start()
    thread.join()
    """
    return launched(job, main, job.run_id)


@scenario("several jobs in one process", WELL, jobs=3)
def _several(job: Job) -> list[Agent]:
    main = """
    for name in ("", "-other", ""):
        launch(sys.argv[2] + name, "fork")
    """
    return launched(job, main, job.run_id)


@scenario("--run-path", WELL)
def _run_path(job: Job) -> list[Agent]:
    return end(job.torchrun([*job.options(), "--run-path"], job.worker(together=2)))


@scenario("workers that import torch.distributed.checkpoint", WELL)
def _checkpoint(job: Job) -> list[Agent]:
    source = """
    import sys
    import torch.distributed.checkpoint
    from torch.distributed.elastic.rendezvous import registry
    assert "torchelastic_otel" in sys.modules or len(sys.argv) > 1, "torch's entry point does not run here"
    print("imported")
    """
    path = job.harness.program("checkpoint.py", textwrap.dedent(source))
    return end(job.torchrun(job.options(), Script(path, [] if job.bridge else ["without"])))


OWN_EVENT = """
import os, sys
if sys.argv[1] == "torch":
    import torchelastic_otel
    from torch.distributed.elastic import events
else:
    from torchelastic_otel import events
metadata = {"step": 7, "who": f"{sys.argv[1]} {os.environ['LOCAL_RANK']}", "pid": os.getpid()}
events.record(events.Event("checkpoint.saved", events.EventSource.WORKER, metadata=metadata), "otel")
"""


@scenario("own event by torch's events", WELL, own_events=("checkpoint.saved",) * 2)
def _own_event_by_torch(job: Job) -> list[Agent]:
    script = Script(job.harness.program("own.py", OWN_EVENT), ["torch"])
    return end(job.torchrun(job.options(), script))


@scenario("own event by ours", WELL, own_events=("checkpoint.saved",) * 2, protocol="http/protobuf")
def _own_event_by_ours(job: Job) -> list[Agent]:
    script = Script(job.harness.program("own.py", OWN_EVENT), ["ours"])
    return end(job.torchrun(job.options(), script))
