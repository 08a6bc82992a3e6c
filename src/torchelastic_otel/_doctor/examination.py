"""``torchelastic-otel doctor``: would telemetry of a job that starts here and now arrive, and if not, why."""

from __future__ import annotations

import logging
import os
import platform
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path

from .._config.environment import SIGNALS, Signal
from .._config.exporters import ExporterPlan, plan_exporters
from .._config.otlp_variables import EXPORTER, SDK_DISABLED
from .._config.sdk_variables import CONFIG_FILE
from .._config.secrets import Redactor
from .._config.settings import Settings, read_settings
from .._config.variables import SPOOL_DIR
from .._contract import DESTINATION
from .._delivery.outbox import NAMES
from .._delivery.spool import SpoolError, directory_of, on_network_filesystem, orphans
from .._delivery.spool.files import check_directory
from .._telemetry.sdk_resource import build_resource
from .._version import __version__
from .probe import Probes
from .redaction import redaction_checks
from .report import Check, Report
from .settings import effective_settings, oddities, read_the_rest

_OLDEST_TORCH = (2, 8)


def examine(environ: Mapping[str, str]) -> Report:
    """Look at everything, send a probe of each signal, and report.

    Args:
        environ: the environment, which must be ``os.environ`` in practice: libraries read that.
    """
    # The library's words on its own standard error would stand between ours.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    warnings: list[str] = []
    with _collected_logs(warnings):
        settings = read_settings(environ, warnings.append)
        resource = dict(build_resource(environ, warnings.append).attributes)
        read_the_rest(environ, warnings.append)
        checks = [_torch(), _registration(), *oddities(environ)]
        disabled = SDK_DISABLED.value(environ, warnings.append)
        declared = [] if disabled else _declared(environ)
        checks += declared
        plans: dict[Signal, list[ExporterPlan]] = {}
        probes = Probes(environ, resource)
        for signal in SIGNALS:
            said: list[str] = []
            plans[signal] = plan_exporters(signal, environ, said.append)
            if declared and declared[0].status == "ok":
                continue
            found = _signal(signal, plans[signal], said, environ, probes, disabled=disabled)
            checks += found
            # What stops a signal is told with that signal.
            told = {check.message for check in found}
            warnings += [text for text in said if text not in told]
        ways = [check.status for check in checks if check.name in SIGNALS]
        if ways and set(ways) == {"off"}:
            checks.append(_nothing_is_sent(disabled=disabled))
        checks += _spool(settings, environ)
        checks += redaction_checks(settings.redact)
    checks += [Check("configuration", "warning", text) for text in dict.fromkeys(warnings)]
    redact = Redactor.of_environment(environ)
    return Report(
        about={"torchelastic-otel": __version__, "Python": f"{platform.python_version()} ({sys.executable})"},
        settings=effective_settings(environ, plans, settings, resource),
        checks=tuple(
            replace(check, message=redact(check.message), advice=redact(check.advice)) for check in checks
        ),
        signals=SIGNALS,
    )


def _signal(
    signal: Signal,
    plans: list[ExporterPlan],
    said: list[str],
    environ: Mapping[str, str],
    probes: Probes,
    *,
    disabled: bool,
) -> list[Check]:
    variable, names = EXPORTER.given(environ, signal)
    if disabled:
        return [Check(signal, "off", f"Off, by {SDK_DISABLED.name}.")]
    if not plans and names.lower() == "none":
        return [Check(signal, "off", f"Off, by {variable}.")]
    if not plans:
        reasons = said or [f"{variable} names no exporter that can be used."]
        return [Check(signal, "problem", reason) for reason in reasons]
    return [
        probes.check(signal, plan.otlp)
        if plan.otlp is not None
        else Check(signal, "ok", f"Goes to the exporter {plan.name!r}, which is not tried here.")
        for plan in plans
    ]


def _nothing_is_sent(*, disabled: bool) -> Check:
    if disabled:
        what, advice = f"{SDK_DISABLED.name}=true", f"Unset {SDK_DISABLED.name}."
    else:
        what = "all signals have the exporter none"
        advice = f"Unset {', '.join(EXPORTER.names[:-1])} or {EXPORTER.names[-1]}."
    return Check("configuration", "problem", f"Nothing is sent: {what}.", advice)


def _declared(environ: Mapping[str, str]) -> list[Check]:
    """Look at ``OTEL_CONFIG_FILE``; the first check is ``ok`` if it counts in place of the variables."""
    _, path = CONFIG_FILE.given(environ)
    if not path:
        return []
    try:
        from opentelemetry.configuration import load_config_file

        load_config_file(path)
    except ImportError:
        why, advice = "the package opentelemetry-configuration is not installed", "Install it"
    except Exception as error:
        why, advice = f"{type(error).__name__}: {error}", "Correct it"
    else:
        return [
            Check(
                "configuration",
                "ok",
                f"{path} ({CONFIG_FILE.name}) can be read and says where telemetry goes, in place of the "
                "other variables. No probe is sent there.",
            )
        ]
    message = f"{CONFIG_FILE.name}={path} cannot be used ({why}); the other variables count."
    return [Check("configuration", "warning", message, f"{advice}, or unset the variable.")]


def _torch() -> Check:
    try:
        found = version("torch")
    except PackageNotFoundError:
        return Check(
            "torch",
            "problem",
            f"torch is not installed in this Python ({sys.executable}).",
            "Run the doctor with the Python that torchrun uses.",
        )
    numbers = re.match(r"(\d+)\.(\d+)", found)
    if numbers and (int(numbers[1]), int(numbers[2])) < _OLDEST_TORCH:
        oldest = ".".join(map(str, _OLDEST_TORCH))
        return Check("torch", "problem", f"torch {found} is too old.", f"Install torch {oldest} or newer.")
    return Check("torch", "ok", f"torch {found}.")


def _registration() -> Check:
    names = {point.name for point in entry_points(group="torchrun.handlers")}
    if DESTINATION in names:
        return Check("registration", "ok", f"--event-log-handler {DESTINATION} is known to torchrun.")
    return Check(
        "registration",
        "problem",
        f"--event-log-handler {DESTINATION} is not known to torchrun: this package's entry point is missing.",
        f"Install it where torch is: {sys.executable} -m pip install torchelastic-otel.",
    )


def _spool(settings: Settings, environ: Mapping[str, str]) -> list[Check]:
    directory = directory_of(settings.spool_dir, environ)
    if directory is None:
        message = f"Off, by {SPOOL_DIR.name}: what is not delivered when a process ends is lost."
        return [Check("spool", "off", message)]
    lost = "What is not delivered when a process ends would be lost."
    try:
        refused = _refused(directory)
        waiting = _waiting(directory) if directory.exists() and not refused else []
    except SpoolError as error:
        return [Check("spool", "warning", str(error), lost)]
    if refused:
        return [Check("spool", "warning", refused, f"Name another in {SPOOL_DIR.name}. {lost}")]
    kind = on_network_filesystem(directory)
    if kind:
        return [
            Check(
                "spool",
                "warning",
                f"{directory} is on a network file system ({kind}), where a job can come to wait for it.",
                f"Name a directory on the node's own disk in {SPOOL_DIR.name}.",
            ),
            *waiting,
        ]
    return waiting or [Check("spool", "ok", f"{directory} can be used, and holds nothing of earlier jobs.")]


def _refused(directory: Path) -> str:
    """Return why the spool cannot be written to, "" if it can; nothing is made.

    The doctor may run as another user than the jobs, who could not use a directory that it made.
    """
    if os.path.lexists(directory):
        check_directory(directory)
        existing = directory
    else:
        existing = next(parent for parent in directory.absolute().parents if parent.exists())
    if not existing.is_dir():
        return f"The spool's directory {directory} cannot be made: {existing} is no directory."
    if not os.access(existing, os.W_OK | os.X_OK):
        return f"The spool's directory {directory} cannot be used: {existing} cannot be written to."
    return ""


def _waiting(directory: Path) -> list[Check]:
    """Say what earlier jobs left, if anything."""
    counts: Counter[str] = Counter()
    for spool in orphans(directory):
        try:
            found = spool.counts()
            # Spans that never ended are sent as well.
            counts.update(found, traces=spool.left() - sum(found.values()))
        finally:
            spool.close()
    what = " and ".join(f"{count} {NAMES[signal]}" for signal, count in counts.items() if count)
    if not what:
        return []
    message = f"{what} of earlier jobs wait in {directory}."
    advice = "Send them with torchelastic-otel replay; the next job here does, too."
    return [Check("spool", "warning", message, advice)]


@contextmanager
def _collected_logs(texts: list[str]) -> Iterator[None]:
    """Add to ``texts`` what this package and OpenTelemetry log, in place of letting them print it."""

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            texts.append(record.getMessage())

    collector = Collector(logging.WARNING)
    loggers = [logging.getLogger(name) for name in ("torchelastic_otel", "opentelemetry")]
    for logger in loggers:
        logger.addHandler(collector)
        logger.propagate = False
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(collector)
            logger.propagate = True
