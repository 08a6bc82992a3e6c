"""What the package uses of others that is not theirs to promise, and what happens when it is gone.

The table in ``compatibility.md`` is made of it. ``python docs/private_names.py`` says what is gone from the
installed versions, and exits with 1 if anything is.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import inspect
import mmap
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

Owner = Literal["torch", "OpenTelemetry", "gRPC", "CPython"]

ELASTIC = "torch.distributed.elastic"
EVENTS = f"{ELASTIC}.events"
AGENT = f"{ELASTIC}.agent.server.local_elastic_agent"
AGENT_API = f"{ELASTIC}.agent.server.api"
CONTEXTS = f"{ELASTIC}.multiprocessing.api"
DYNAMIC = f"{ELASTIC}.rendezvous.dynamic_rendezvous"
LAUNCHER = "torch.distributed.launcher.api"


@dataclass(frozen=True)
class PrivateName:
    """One row of the table."""

    owner: Owner
    name: str
    """As it is called here: without a module where a dozen may hold it, a text in quotes."""
    is_there: Callable[[], bool]
    used: str
    """Modules of the package, separated by blanks."""
    then: str
    """What happens without it. The job is never affected."""
    since: str = ""
    """The oldest version of torch that is known to have it, if some do not."""
    needs: str = ""
    """A module that has to be installed for it to matter."""

    @property
    def is_expected(self) -> bool:
        """Whether the installed versions are known to have it."""
        if self.needs and not _is_installed(self.needs):
            return False
        return not self.since or _numbers(version("torch")) >= _numbers(self.since)


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2])


# Ways to look. What cannot be imported is not there.


def _module(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def attribute(module: str, path: str) -> Callable[[], bool]:
    """Look for an attribute of a module, or of what is in it."""

    def is_there() -> bool:
        found: Any = _module(module)
        for part in path.split("."):
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True

    return is_there


def of_instances(module: str, kind: str, name: str) -> Callable[[], bool]:
    """Look for what a class, or one that it is made of, gives its instances; read in its source."""

    def is_there() -> bool:
        found: Any = getattr(_module(module), kind, None)
        return inspect.isclass(found) and any(
            name in vars(each) or name in set(_given(each)) for each in found.__mro__ if each is not object
        )

    return is_there


def _given(kind: type) -> Iterator[str]:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    except (OSError, TypeError):  # written in C
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def local(module: str, function: str, *names: str) -> Callable[[], bool]:
    """Look for local variables of a function."""

    def is_there() -> bool:
        code = getattr(inspect.unwrap(getattr(_module(module), function, int)), "__code__", None)
        return code is not None and set(names) <= {*code.co_varnames, *code.co_cellvars}

    return is_there


def words(module: str, *texts: str) -> Callable[[], bool]:
    """Look for texts in a module's source."""

    def is_there() -> bool:
        found = _module(module)
        if found is None:
            return False
        source = inspect.getsource(found)
        return all(text in source for text in texts)

    return is_there


def compiled(package: str, pattern: str, *texts: str) -> Callable[[], bool]:
    """Look for texts in a package's shared objects."""

    def is_there() -> bool:
        spec = importlib.util.find_spec(package)
        roots = [Path(root) for root in (spec.submodule_search_locations or ())] if spec else []
        files = [path for root in roots for path in root.glob(pattern)]
        return bool(files) and all(any(_holds(path, text) for path in files) for text in texts)

    return is_there


@functools.cache
def _holds(path: Path, text: str) -> bool:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(text.encode()) >= 0


# The table

_SAID = "Said once"
_EVENTS_GO_ON = "torch's own events come all the same, at any LOGLEVEL"

PRIVATE_NAMES: tuple[PrivateName, ...] = (
    PrivateName(
        "torch",
        "events.handlers._log_handlers",
        attribute(f"{EVENTS}.handlers", "_log_handlers"),
        "_torch.destination",
        f"{_SAID}: the functions that everybody calls learn of `otel`; {_EVENTS_GO_ON}. No rendezvous events",
    ),
    PrivateName(
        "torch",
        "events._events_loggers",
        attribute(EVENTS, "_events_loggers"),
        "_torch.destination",
        f"{_SAID}: the functions that everybody calls learn of `otel`; {_EVENTS_GO_ON}. No rendezvous events",
    ),
    PrivateName(
        "torch",
        "events._get_or_create_logger",
        attribute(EVENTS, "_get_or_create_logger"),
        "_torch.destination",
        f"{_SAID}: no rendezvous events. Another destination's events are heard at its logger, by name",
    ),
    PrivateName(
        "torch",
        "logger `torchelastic-events-*`",
        words(EVENTS, "torchelastic-events-"),
        "_torch.names",
        "A job with another destination is told by the hooks alone, without torch's events",
    ),
    PrivateName(
        "torch",
        "dynamic_rendezvous.construct_and_record_rdzv_event",
        attribute(DYNAMIC, "construct_and_record_rdzv_event"),
        "_torch.destination",
        "Each rendezvous event costs the agent what torch's own does: two or three walks through the stack",
    ),
    PrivateName(
        "torch",
        "dynamic_rendezvous.get_method_name",
        attribute(DYNAMIC, "get_method_name"),
        "_torch.destination",
        "Each rendezvous event costs the agent one walk through the stack",
    ),
    PrivateName(
        "torch",
        "rendezvous.registry.get_rendezvous_handler",
        attribute(f"{ELASTIC}.rendezvous.registry", "get_rendezvous_handler"),
        "_torch.hooks",
        f"{_SAID}: the job begins when its agent is made, and a store that fails is told by torch alone",
    ),
    PrivateName(
        "torch",
        "frame `launch_agent`, local `config`",
        local(LAUNCHER, "launch_agent", "config"),
        "_torch.torchrun _torch.reading",
        "The job begins when its agent is made, whose specification says the same; a store that fails is "
        "told by torch alone",
    ),
    PrivateName(
        "torch",
        "frame `launch_agent`, local `entrypoint_name`",
        local(LAUNCHER, "launch_agent", "entrypoint_name"),
        "_torch.reading",
        "The script's name is left out",
    ),
    PrivateName(
        "torch",
        "local_elastic_agent.start_processes",
        attribute(AGENT, "start_processes"),
        "_torch.hooks",
        f"{_SAID}: the job is told from events alone, and workers have no `TRACEPARENT`",
    ),
    PrivateName(
        "torch",
        "metrics.api.put_metric",
        attribute(f"{ELASTIC}.metrics.api", "put_metric"),
        "_torch.hooks",
        f"{_SAID}: no `torchelastic.agent.operation.duration`",
    ),
    PrivateName(
        "torch",
        "metrics `*.duration.ms`, `*.success`",
        words(f"{ELASTIC}.metrics.api", ".duration.ms", ".success", ".failure"),
        "_torch.operations",
        "No `torchelastic.agent.operation.duration`",
    ),
    PrivateName(
        "torch",
        "SimpleElasticAgent._monitor_workers",
        attribute(AGENT_API, "SimpleElasticAgent._monitor_workers"),
        "_torch.wrapping",
        f"{_SAID}: workers that end early, or cannot be ended, are not told",
    ),
    PrivateName(
        "torch",
        "SimpleElasticAgent._restart_workers",
        attribute(AGENT_API, "SimpleElasticAgent._restart_workers"),
        "_torch.wrapping",
        f"{_SAID}: why workers are restarted is not told",
    ),
    PrivateName(
        "torch",
        "SimpleElasticAgent._shutdown",
        attribute(AGENT_API, "SimpleElasticAgent._shutdown"),
        "_torch.wrapping",
        f"{_SAID}: signals are told when the agent ends, not as they come",
    ),
    PrivateName(
        "torch",
        "SimpleElasticAgent._exit_barrier",
        attribute(AGENT_API, "SimpleElasticAgent._exit_barrier"),
        "_torch.wrapping",
        f"{_SAID}: how long nodes wait for each other at the end is not told",
    ),
    PrivateName(
        "torch",
        "LocalElasticAgent._uninterruptible_state_*",
        of_instances(AGENT, "LocalElasticAgent", "_uninterruptible_state_timeout"),
        "_torch.reading",
        "Workers in uninterruptible sleep are not named; that the group is unhealthy is",
        since="2.13",
    ),
    PrivateName(
        "torch",
        "SubprocessContext.subprocess_handlers",
        of_instances(CONTEXTS, "SubprocessContext", "subprocess_handlers"),
        "_torch.reading",
        f"{_SAID}: the job is told from events alone",
    ),
    PrivateName(
        "torch",
        "SubprocessContext._running_local_ranks",
        of_instances(CONTEXTS, "SubprocessContext", "_running_local_ranks"),
        "_torch.reading",
        f"{_SAID}: workers that succeed before others are told at the end of their group",
    ),
    PrivateName(
        "torch",
        "MultiprocessContext._pc",
        of_instances(CONTEXTS, "MultiprocessContext", "_pc"),
        "_torch.reading",
        f"{_SAID}: the job is told from events alone, if its workers are functions",
    ),
    PrivateName(
        "torch",
        "PContext.error_files, .stdouts, .stderrs",
        of_instances(CONTEXTS, "PContext", "error_files"),
        "_torch.reading",
        f"{_SAID}: a failure has no exception of the worker's own, or no path of its output",
    ),
    PrivateName(
        "torch",
        "ProcessException.error_index",
        of_instances("torch.multiprocessing.spawn", "ProcessException", "error_index"),
        "_torch.reading",
        "Where workers are functions, those that torch stopped for another's end may be told as failures",
    ),
    PrivateName(
        "torch",
        "DynamicRendezvousHandler._state_holder",
        of_instances(DYNAMIC, "DynamicRendezvousHandler", "_state_holder"),
        "_torch.reading",
        f"{_SAID}: a rendezvous is told without its nodes, and groups without their round",
    ),
    PrivateName(
        "torch",
        "DynamicRendezvousHandler._this_node",
        of_instances(DYNAMIC, "DynamicRendezvousHandler", "_this_node"),
        "_torch.reading",
        f"{_SAID}: a rendezvous is told without its nodes",
    ),
    PrivateName(
        "torch",
        "SignalException, .sigval",
        of_instances(CONTEXTS, "SignalException", "sigval"),
        "_torch.launcher_signals _job.torch_words",
        f"{_SAID}: a job that a signal stops is told as one that failed by this exception",
    ),
    PrivateName(
        "torch",
        "RendezvousGracefulExitError, RendezvousTimeoutError, RendezvousClosedError",
        lambda: all(
            attribute(f"{ELASTIC}.rendezvous.api", f"Rendezvous{kind}Error")()
            for kind in ("GracefulExit", "Timeout", "Closed")
        ),
        "_job.torch_words",
        "The end of a rendezvous is told as a failure, with torch's exception as its reason",
    ),
    PrivateName(
        "torch",
        'the texts "has joined round …", "attempts to join the next round"',
        words(DYNAMIC, "has joined round", "attempts to join the next round", "of the rendezvous '"),
        "_job.torch_words",
        "Without the hooks there is no rendezvous span; records of a rendezvous have no round",
    ),
    PrivateName(
        "torch",
        "thread `RendezvousKeepAliveTimer`, method `_keep_alive`",
        words(DYNAMIC, "RendezvousKeepAliveTimer", "def _keep_alive"),
        "_job.torch_words",
        "Heartbeats become log records: two or three in five seconds from each node",
    ),
    PrivateName(
        "torch",
        'the text "kill worker process"',
        words(f"{ELASTIC}.timer.file_based_local_timer", "kill worker process"),
        "_contract",
        "A worker that torch's watchdog kills is told as killed by SIGKILL, without the watchdog",
    ),
    PrivateName(
        "torch",
        'the text "&lt;NONE&gt;" of failures without an error file',
        words(f"{ELASTIC}.multiprocessing.errors", "<NONE>"),
        "_job.torch_words",
        "The placeholder is shown as a path",
    ),
    PrivateName(
        "torch",
        'texts of gloo, as "Connection closed by peer"',
        compiled(
            "torch",
            "lib/libtorch_*.so",
            "onnection closed by peer",
            "onnection reset by peer",
            "imed out waiting",
            "failed to pass monitoredBarrier",
        ),
        "_job.torch_words",
        "A worker that lost its peer may be told as the first failure of its node",
    ),
    PrivateName(
        "OpenTelemetry",
        "context._SUPPRESS_INSTRUMENTATION_KEY",
        attribute("opentelemetry.context", "_SUPPRESS_INSTRUMENTATION_KEY"),
        "_runtime.own_thread",
        f"{_SAID}: an instrumented HTTP or gRPC client may trace the requests with which telemetry is sent",
    ),
    PrivateName(
        "OpenTelemetry",
        "packages `_logs`, `sdk._logs`",
        lambda: (
            attribute("opentelemetry._logs", "SeverityNumber")()
            and attribute("opentelemetry._logs", "LogRecord")()
            and attribute("opentelemetry._logs", "get_logger_provider")()
            and attribute("opentelemetry.sdk._logs", "ReadableLogRecord")()
        ),
        "_api _runtime.otel_api _telemetry.declared _telemetry.log_sinks _telemetry.other_exporters "
        "_telemetry.providers _telemetry.telemetry",
        f"{_SAID}: nothing is sent. The underscore says that they may change; every logging SDK has them",
    ),
    PrivateName(
        "OpenTelemetry",
        "MetricExporter._preferred_temporality, ._preferred_aggregation",
        of_instances("opentelemetry.sdk.metrics.export", "MetricExporter", "_preferred_temporality"),
        "_telemetry.run_providers",
        f"{_SAID}: other exporters than OTLP's get cumulative metrics, and histograms with fixed buckets",
    ),
    PrivateName(
        "OpenTelemetry",
        "Span._events",
        of_instances("opentelemetry.sdk.trace", "Span", "_events"),
        "_telemetry.spans",
        f"{_SAID}: spans do not say how many of their events were left out",
    ),
    PrivateName(
        "OpenTelemetry",
        "Tracer.id_generator",
        of_instances("opentelemetry.sdk.trace", "Tracer", "id_generator"),
        "_telemetry.spans",
        f"{_SAID}: with a program's own tracer provider, a job's nodes do not share a trace",
    ),
    PrivateName(
        "OpenTelemetry",
        "Tracer._span_limits",
        of_instances("opentelemetry.sdk.trace", "Tracer", "_span_limits"),
        "_telemetry.spans",
        "With a program's own tracer provider, spans have 128 events at most",
    ),
    PrivateName(
        "OpenTelemetry",
        "configuration._tracer_provider, ._logger_provider, ._meter_provider, ._resource",
        lambda: all(
            attribute(f"opentelemetry.configuration._{what}", f"create_{what}")()
            for what in ("tracer_provider", "logger_provider", "meter_provider", "resource")
        ),
        "_telemetry.declared",
        f"{_SAID}: `OTEL_CONFIG_FILE` cannot be used; the other variables are",
        needs="opentelemetry.configuration",
    ),
    PrivateName(
        "gRPC",
        'texts of refusals, as "failed to connect", "SSL_ERROR_SSL"',
        compiled(
            "grpc",
            "_cython/cygrpc*.so",
            "failed to connect",
            "resol",
            "SSL_ERROR_SSL",
            "Hostname Verification Check failed",
            "is not in peer certificate",
        ),
        "_delivery.grpc_sender",
        "The request is tried again, each signal by itself",
    ),
    PrivateName(
        "gRPC",
        'the text "message larger than max"',
        compiled("grpc", "_cython/cygrpc*.so", "larger than max"),
        "_delivery.answer",
        "A request that is too large is tried again as it is, and set aside in the end",
    ),
    PrivateName(
        "CPython",
        "threading._register_atexit",
        attribute("threading", "_register_atexit"),
        "_runtime.ending",
        "The last flush runs by `atexit`, which forked workers do not reach; the next job sends the rest",
    ),
    PrivateName(
        "CPython",
        "_thread.start_new_thread",
        attribute("_thread", "start_new_thread"),
        "_intake.bridge _runtime.own_thread",
        "Documented, and what `threading` stands on",
    ),
    PrivateName(
        "CPython",
        "`sys._current_frames`, frames of `importlib._bootstrap`",
        lambda: (
            attribute("sys", "_current_frames")()
            and getattr(importlib, "_bootstrap")._find_and_load.__code__.co_filename  # noqa: B009  # unknown to mypy
            == "<frozen importlib._bootstrap>"
        ),
        "_runtime.imports",
        "A fork does not see what a third party imports while it is called; all else is under a lock",
    ),
    PrivateName(
        "CPython",
        "sys._getframe",
        attribute("sys", "_getframe"),
        "_worker.recorder",
        "A worker's exception is recorded when the interpreter ends, and only if it has a hook of its own",
    ),
    PrivateName(
        "CPython",
        "runpy._run_module_as_main",
        attribute("runpy", "_run_module_as_main"),
        "_worker.recorder",
        "In a worker that is a module (`-m`), a hook that is called by hand is taken for its end",
    ),
    PrivateName(
        "CPython",
        "re._parser",
        lambda: _module("re._parser" if sys.version_info >= (3, 11) else "sre_parse") is not None,
        "_config.patterns",
        f"{_SAID}: `TORCHELASTIC_OTEL_REDACT` hides all texts, unless `google-re2` runs the expression",
    ),
)


def gone() -> list[PrivateName]:
    """Return what the installed versions should have and have not."""
    return [each for each in PRIVATE_NAMES if each.is_expected and not each.is_there()]


def table() -> str:
    """Return the table as Markdown."""
    rows = ["| Of | Name | Used in | Without it |", "| --- | --- | --- | --- |"]
    for each in PRIVATE_NAMES:
        used = ", ".join(f"`{module}`" for module in each.used.split())
        plain = (" " in each.name and "," not in each.name) or "`" in each.name or '"' in each.name
        name = each.name if plain else ", ".join(f"`{part}`" for part in each.name.split(", "))
        since = f" (torch {each.since})" if each.since else ""
        rows.append(f"| {each.owner} | {name}{since} | {used} | {each.then}. |")
    return "\n".join(rows)


def main() -> int:
    """Say what is gone."""
    for package in (
        "torch",
        "opentelemetry-api",
        "opentelemetry-sdk",
        "opentelemetry-configuration",
        "grpcio",
    ):
        try:
            sys.stdout.write(f"{package} {version(package)}\n")
        except PackageNotFoundError:
            sys.stdout.write(f"{package} is not installed\n")
    found = gone()
    for each in found:
        sys.stdout.write(f"gone: {each.owner}: {each.name}, used in {each.used}. {each.then}.\n")
    expected = sum(each.is_expected for each in PRIVATE_NAMES)
    sys.stdout.write(f"{expected - len(found)} of {expected} private names are there\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
