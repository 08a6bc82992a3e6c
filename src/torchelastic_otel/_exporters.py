"""From OpenTelemetry's variables to exporters: the stock ones, called so that they do what the variables say.

``plan_exporters`` decides without importing anything heavy, so that what is wrong can be told early and a
signal that goes nowhere needs no thread. ``load_exporters`` makes the exporters; gRPC alone takes 150 ms to
import, so that belongs on a thread of its own. Neither raises. What is wrong is one warning that names the
variable; where it comes from a variable that is common to all signals, its text is the same for each of them,
so that ``warn`` can tell it once.

The stock exporters are given everything explicitly. What they read from the environment differs between
versions and protocols: some raise for a wrong or empty value, TLS files are partly ignored, and header values
are quoted in logs.
"""

from __future__ import annotations

import importlib
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any

from ._environment import (
    Signal,
    Warn,
    entry_point_names,
    find_entry_point,
    import_trace_sdk,
    importing,
    read,
    sdk_disabled,
    wrong_value,
)
from ._guard import from_signal_handler
from ._otlp import CREDENTIAL_PROVIDERS, OtlpTarget, Protocol, plan_otlp

_OTLP_NAMES: dict[str, Protocol | None] = {
    "otlp": None,
    "otlp_proto_grpc": "grpc",
    "otlp_proto_http": "http/protobuf",
}
_OTLP_CLASSES = {
    "traces": ("trace_exporter", "OTLPSpanExporter"),
    "logs": ("_log_exporter", "OTLPLogExporter"),
    "metrics": ("metric_exporter", "OTLPMetricExporter"),
}


@dataclass(frozen=True, slots=True)
class ExporterPlan:
    """An exporter to be made: ``name`` is its entry point; ``otlp`` says the rest where it is OTLP's."""

    signal: Signal
    name: str
    otlp: OtlpTarget | None = None


def plan_exporters(signal: Signal, environ: Mapping[str, str], warn: Warn) -> list[ExporterPlan]:
    """Decide which exporters ``OTEL_{TRACES,LOGS,METRICS}_EXPORTER`` asks for; none if the SDK is disabled.

    An exporter that is unknown, has no usable endpoint, or whose TLS files cannot be used is not in the list.
    """
    if sdk_disabled(environ, warn):
        return []
    variable = f"OTEL_{signal.upper()}_EXPORTER"
    names = [name.strip() for name in read(environ, variable).split(",") if name.strip()] or ["otlp"]
    plans: list[ExporterPlan] = []
    for name in names:
        if name.lower() in _OTLP_NAMES:
            target = plan_otlp(signal, _OTLP_NAMES[name.lower()], environ, warn)
            if target is not None:
                plans.append(ExporterPlan(signal, "otlp", target))
        elif name.lower() == "none":
            if len(names) > 1:
                warn(f"{variable}: 'none' next to other exporters means nothing; it is ignored.")
        elif find_entry_point(f"opentelemetry_{signal}_exporter", name) is None:
            known = f"one that is installed ({entry_point_names(f'opentelemetry_{signal}_exporter')}) or none"
            wrong_value(warn, variable, name, known, f"{signal} are not sent there")
        else:
            plans.append(ExporterPlan(signal, name))
    # Named twice, or by two names for the same, is still one.
    return list(dict.fromkeys(plans))


def load_exporters(signal: Signal, environ: Mapping[str, str], warn: Warn) -> list[Any]:
    """Make the exporters for ``signal``; those that cannot be made are told and left out.

    ``environ`` must be ``os.environ`` in practice: third parties' exporters read that. Where metrics go to a
    third party the result may hold a ``MetricReader`` in place of an exporter.
    """
    made = [load_exporter(plan, warn) for plan in plan_exporters(signal, environ, warn)]
    return [exporter for exporter in made if exporter is not None]


def load_exporter(plan: ExporterPlan, warn: Warn) -> Any | None:
    """Make the exporter of ``plan``; None, after a warning, if that fails. Threads may do so in parallel."""
    try:
        _import_sdk()
        if plan.otlp is None:
            point = find_entry_point(f"opentelemetry_{plan.signal}_exporter", plan.name)
            with importing:
                exporter_class = point.load() if point else None
            return exporter_class and exporter_class()
        make = _make_grpc if plan.otlp.protocol == "grpc" else _make_http
        with _without_the_sdks_words():
            return make(plan.signal, plan.otlp, _aggregation(plan.signal, warn))
    except _CredentialError as error:
        warn(str(error))
    except Exception as error:
        if from_signal_handler(error):
            raise
        warn(
            f"OTEL_{plan.signal.upper()}_EXPORTER: the exporter {plan.name!r} cannot be made "
            f"({type(error).__name__}: {error}); {plan.signal} are not sent there."
        )
    return None


def _import_sdk() -> None:
    """Import the packages of the SDK that exporters import parts of, each from the outside."""
    with importing:
        import_trace_sdk()
        for name in ("resources", "_logs", "metrics"):
            importlib.import_module(f"opentelemetry.sdk.{name}")


def _import(name: str) -> Any:
    with importing:
        return importlib.import_module(name)


class _CredentialError(Exception):
    """A third party's credentials could not be had; the text is the warning."""


def _provided_credentials(target: OtlpTarget, kind: type) -> Any:
    """Return what the credential provider makes, which must be a ``kind``; None if there is no provider."""
    if not target.credential_provider:
        return None
    where = f"{target.credential_variable}={target.credential_provider!r} cannot be used"
    point = find_entry_point(CREDENTIAL_PROVIDERS, target.credential_provider)
    try:
        made = point.load()() if point else None
    except Exception as error:
        if from_signal_handler(error):
            raise
        reason = f"{type(error).__name__}: {error}"
        raise _CredentialError(f"{where} ({reason}); what would need it is not sent.") from error
    if not isinstance(made, kind):
        raise _CredentialError(f"{where} (it makes no {kind.__name__}); what would need it is not sent.")
    return made


def _aggregation(signal: Signal, warn: Warn) -> dict[str, Any]:
    """Check the two variables of metric exporters; return arguments where versions read them differently.

    The exporters read these from os.environ, whatever they are given.
    """
    if signal != "metrics":
        return {}
    name = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"
    value = read(os.environ, name)
    if value.lower() not in ("", "cumulative", "delta", "lowmemory"):
        wrong_value(warn, name, value, "cumulative, delta or lowmemory", "cumulative is used")
    name = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION"
    value = read(os.environ, name)
    if value.lower() not in ("", "explicit_bucket_histogram", "base2_exponential_bucket_histogram"):
        expected = "explicit_bucket_histogram or base2_exponential_bucket_histogram"
        wrong_value(warn, name, value, expected, "explicit_bucket_histogram is used")
    if value.lower() != "base2_exponential_bucket_histogram":
        return {}
    from opentelemetry.sdk.metrics import Histogram
    from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation

    return {"preferred_aggregation": {Histogram: ExponentialBucketHistogramAggregation()}}


def _make_http(signal: Signal, target: OtlpTarget, more: dict[str, Any]) -> Any:
    module_name, class_name = _OTLP_CLASSES[signal]
    package = "opentelemetry.exporter.otlp.proto.http"
    module = _import(f"{package}.{module_name}")
    compression = _import(package).Compression(target.compression)
    session = _provided_credentials(target, _import("requests").Session) or _session_with_own_ca()
    # Newer versions take the environment's headers and then these; requests leaves out a header that is None.
    headers = dict(target.headers) | dict.fromkeys(target.refused_headers)
    return getattr(module, class_name)(
        endpoint=target.endpoint,
        certificate_file=target.ca_file or None,
        client_key_file=target.key_file or None,
        client_certificate_file=target.certificate_file or None,
        headers=headers,
        timeout=target.timeout_s,
        compression=compression,
        session=session,
        **more,
    )


def _session_with_own_ca() -> Any:
    """Return a session whose CA, once the exporter has set it, counts before ``REQUESTS_CA_BUNDLE``."""
    import requests

    class Session(requests.Session):
        def merge_environment_settings(self, url, proxies, stream, verify, cert):  # type: ignore[no-untyped-def]
            verify = self.verify if verify is None and self.verify is not True else verify
            return super().merge_environment_settings(url, proxies, stream, verify, cert)

    return Session()


def _make_grpc(signal: Signal, target: OtlpTarget, more: dict[str, Any]) -> Any:
    module_name, class_name = _OTLP_CLASSES[signal]
    module = _import(f"opentelemetry.exporter.otlp.proto.grpc.{module_name}")
    grpc = _import("grpc")
    credentials = _provided_credentials(target, grpc.ChannelCredentials)
    if credentials is None and not target.insecure:
        # The stock exporter looks at the client's files only where there is a CA's, and mixes neither with
        # those that are common to all signals.
        files = (target.ca_file, target.key_file, target.certificate_file)
        contents = (Path(name).read_bytes() if name else None for name in files)
        credentials = grpc.ssl_channel_credentials(*contents)
    compression = {
        "none": grpc.Compression.NoCompression,
        "gzip": grpc.Compression.Gzip,
        "deflate": grpc.Compression.Deflate,
    }[target.compression]
    return _construct(
        getattr(module, class_name),
        _float_variables_that_raise(signal),
        endpoint=target.endpoint,
        insecure=target.insecure,
        credentials=credentials,
        # With nothing to send: a text without entries, since an empty mapping means "read the environment".
        headers=dict(target.headers) or ",",
        timeout=target.timeout_s,
        compression=compression,
        **more,
    )


def _float_variables_that_raise(signal: Signal) -> set[str]:
    name = f"OTEL_EXPORTER_OTLP_{signal.upper()}_TIMEOUT"
    try:
        float(os.environ.get(name, "0"))
    except ValueError:
        return {name}
    return set()


def _construct(made: Any, hidden: set[str], **arguments: Any) -> Any:
    """Make an instance of the class ``made``, whose constructor does not see the variables ``hidden``.

    The gRPC exporters convert the signal's timeout even if they are given one, and raise where it is wrong or
    empty. To change os.environ for that would be felt in other threads, so the constructor runs with another
    ``environ`` among its globals.
    """
    if not hidden:
        return made(**arguments)
    stock = made.__init__
    environ = {name: value for name, value in os.environ.items() if name not in hidden}
    its_globals = {**stock.__globals__, "environ": environ}
    constructor = FunctionType(
        stock.__code__, its_globals, stock.__name__, stock.__defaults__, stock.__closure__
    )
    constructor.__kwdefaults__ = stock.__kwdefaults__
    instance = made.__new__(made)
    constructor(instance, **arguments)
    return instance


@contextmanager
def _without_the_sdks_words() -> Iterator[None]:
    """Hold back what the SDK says about variables while this thread makes an exporter: it was told before."""
    thread = threading.get_ident()

    def is_news(record: logging.LogRecord) -> bool:
        return record.thread != thread

    with ExitStack() as undo:
        for name in (
            "opentelemetry.util.re",
            "opentelemetry.exporter.otlp.common._aggregation",
            "opentelemetry.exporter.otlp.proto.common._internal.metrics_encoder",
        ):
            logger = logging.getLogger(name)
            logger.addFilter(is_news)
            undo.callback(logger.removeFilter, is_news)
        yield
