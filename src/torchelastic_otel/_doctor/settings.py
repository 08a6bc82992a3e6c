"""Which settings count and where they come from, and what is odd about them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from urllib.parse import unquote, unquote_plus

from .._config import environment as env
from .._config.environment import SIGNALS, Signal, read
from .._config.exporters import ExporterPlan
from .._config.otlp import LONGEST_TIMEOUT_S, OtlpTarget, first_set
from .._config.settings import Settings
from .._delivery.spool import default_directory, destination_of
from .._telemetry import sdk_objects
from .._telemetry.metric_export import metric_exporter
from .report import Check, Setting

_OTLP = "OTEL_EXPORTER_OTLP_"
_PACKAGE = "TORCHELASTIC_OTEL_"
_PARTS = (
    "ENDPOINT",
    "PROTOCOL",
    "INSECURE",
    "HEADERS",
    "TIMEOUT",
    "COMPRESSION",
    "CERTIFICATE",
    "CLIENT_CERTIFICATE",
    "CLIENT_KEY",
)
# The longest that an export can reasonably take; above it milliseconds were meant.
_LONG_TIMEOUT_S = 100.0
# What is shorter hides nothing, and taking it out would make texts unreadable.
_SHORTEST_SECRET = 6


class Sources:
    """Says which variable a setting comes from.

    Args:
        environ: the environment.
        warnings: what reading it gave; a variable that was not accepted is no source.
    """

    def __init__(self, environ: Mapping[str, str], warnings: Sequence[str]) -> None:
        self._environ = environ
        self._warnings = warnings

    def of(self, variable: str, otherwise: str = "default") -> str:
        """Return ``variable`` if it is set and accepted."""
        if not read(self._environ, variable):
            return otherwise
        refused = any(
            text.startswith(f"{variable}=") and "is not accepted" in text for text in self._warnings
        )
        return f"{otherwise} ({variable} is not accepted)" if refused else variable

    def of_otlp(self, signal: Signal, part: str, otherwise: str = "default") -> str:
        """Return the OTLP variable that counts for ``signal``."""
        return self.of(first_set(self._environ, signal, part)[0], otherwise)


def effective_settings(
    environ: Mapping[str, str],
    plans: Mapping[Signal, Sequence[ExporterPlan]],
    settings: Settings,
    resource: Mapping[str, object],
    warnings: Sequence[str],
) -> dict[str, dict[str, Setting]]:
    """Return all settings by group: each signal's, the common ones, the resource, the package's."""
    sources = Sources(environ, warnings)
    found: dict[str, dict[str, Setting]] = {}
    for signal in SIGNALS:
        variable = f"OTEL_{signal.upper()}_EXPORTER"
        names = [plan.name for plan in plans[signal]]
        found[signal] = {"exporter": Setting(", ".join(names) or "none", sources.of(variable))}
        for plan in plans[signal]:
            if plan.otlp is not None:
                found[signal] |= _otlp_settings(signal, plan.otlp, environ, sources)
                break
    common = ("OTEL_SDK_DISABLED", "false"), ("OTEL_CONFIG_FILE", "")
    found["opentelemetry"] = {
        name: Setting(read(environ, name) or default, sources.of(name)) for name, default in common
    }
    found["resource"] = {
        name: Setting(value if isinstance(value, int | float) else str(value), _source_of(name, environ))
        for name, value in sorted(resource.items())
    }
    found["package"] = {}
    for each in fields(settings):
        name = _PACKAGE + each.name.removesuffix("_s").upper()
        value = getattr(settings, each.name)
        if each.name == "spool_dir" and not value:
            value = str(default_directory(environ))
        found["package"][name] = Setting(value, sources.of(name))
    return found


def _otlp_settings(
    signal: Signal, target: OtlpTarget, environ: Mapping[str, str], sources: Sources
) -> dict[str, Setting]:
    def setting(part: str, value: str | float | list[str]) -> Setting:
        return Setting(value, sources.of_otlp(signal, part))

    exporter = f"OTEL_{signal.upper()}_EXPORTER"
    endpoint = sources.of_otlp(signal, "ENDPOINT")
    by_endpoint = "default" if endpoint == "default" else f"by {endpoint}"
    protocol = sources.of_otlp(signal, "PROTOCOL", by_endpoint)
    encryption = by_endpoint if "://" in target.endpoint else sources.of_otlp(signal, "INSECURE", by_endpoint)
    found = {
        "protocol": Setting(target.protocol, exporter if "otlp_" in read(environ, exporter) else protocol),
        "endpoint": Setting(destination_of(target).endpoint, endpoint),
        "encryption": Setting("none" if target.insecure else "TLS", encryption),
    }
    if not target.insecure:
        found["authorities"] = setting("CERTIFICATE", target.ca_file or "the system's")
        found["client certificate"] = setting("CLIENT_CERTIFICATE", target.certificate_file)
        found["client key"] = setting("CLIENT_KEY", target.key_file)
    if target.credential_provider:
        found["credential provider"] = Setting(target.credential_provider, target.credential_variable)
    found["headers"] = setting("HEADERS", [name for name, _ in target.headers])
    found["compression"] = setting("COMPRESSION", target.compression)
    found["timeout in s"] = setting("TIMEOUT", target.timeout_s)
    return found


def _source_of(attribute: str, environ: Mapping[str, str]) -> str:
    """Return where an attribute of the resource comes from."""
    if attribute == "service.name" and read(environ, "OTEL_SERVICE_NAME"):
        return "OTEL_SERVICE_NAME"
    given = {
        item.partition("=")[0].strip() for item in environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(",")
    }
    if attribute in given:
        return "OTEL_RESOURCE_ATTRIBUTES"
    return "default" if attribute == "service.name" else "found out"


def read_the_rest(environ: Mapping[str, str], warn: Callable[[str], None]) -> None:
    """Read what else a job would read, for the warnings that this gives."""
    sdk_objects.sampler_from_env(environ, warn)
    sdk_objects.id_generator_from_env(environ, warn)
    sdk_objects.span_limits_from_env(environ, warn)
    env.log_limits_from_env(environ, warn)
    sdk_objects.exemplar_filter_from_env(environ, warn)
    env.batch_settings("traces", environ, warn)
    env.batch_settings("logs", environ, warn)
    env.metric_export_interval_s(environ, warn)
    metric_exporter(lambda request, *, last_only: None, warn)


def oddities(environ: Mapping[str, str]) -> list[Check]:
    """Return what is accepted but probably not meant."""
    return [*_long_timeouts(environ), *_replaced_headers(environ), *_misspelt(environ), *_unsampled(environ)]


def _long_timeouts(environ: Mapping[str, str]) -> list[Check]:
    found = []
    for variable in dict.fromkeys(first_set(environ, signal, "TIMEOUT")[0] for signal in SIGNALS):
        text = read(environ, variable)
        try:
            seconds = float(text)
        except ValueError:
            continue
        # What is not accepted at all was told.
        if _LONG_TIMEOUT_S <= seconds <= LONGEST_TIMEOUT_S:
            found.append(
                Check(
                    "configuration",
                    "warning",
                    f"{variable}={text} looks like milliseconds, and means seconds.",
                    f"Write {variable}={seconds / 1000:g} for {text} milliseconds.",
                )
            )
    return found


def _replaced_headers(environ: Mapping[str, str]) -> list[Check]:
    general = _OTLP + "HEADERS"
    found = []
    for signal in SIGNALS:
        own = f"{_OTLP}{signal.upper()}_HEADERS"
        missing = set(_header_names(environ, general)) - set(_header_names(environ, own))
        if read(environ, own) and missing:
            names = ", ".join(sorted(missing))
            found.append(
                Check(
                    "configuration",
                    "warning",
                    f"{own} replaces {general}: {signal} are sent without {names}.",
                    f"Write in {own} all headers that {signal} need.",
                )
            )
    return found


def _header_names(environ: Mapping[str, str], variable: str) -> list[str]:
    items = read(environ, variable).split(",")
    # What has no "=" may be a credential that was cut at its comma.
    return [unquote(item.partition("=")[0]).strip().lower() for item in items if "=" in item]


def _misspelt(environ: Mapping[str, str]) -> list[Check]:
    known = {_OTLP + part for part in _PARTS}
    known |= {f"{_OTLP}{signal.upper()}_{part}" for signal in SIGNALS for part in _PARTS}
    known |= {f"OTEL_{signal.upper()}_EXPORTER" for signal in SIGNALS}
    known |= {"OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_SDK_DISABLED", "OTEL_CONFIG_FILE"}
    known |= {_PACKAGE + each.name.removesuffix("_s").upper() for each in fields(Settings)}
    theirs = {
        _OTLP + "METRICS_TEMPORALITY_PREFERENCE",
        _OTLP + "METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
    }
    found = []
    for name in sorted(set(environ) - known - theirs):
        close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.9)
        if name.startswith((_OTLP, _PACKAGE)) or (name.startswith("OTEL_") and close):
            advice = f"Write {close[0]}." if close else "Unset it, or look its name up."
            found.append(Check("configuration", "warning", f"{name} is set and not read here.", advice))
    return found


def _unsampled(environ: Mapping[str, str]) -> list[Check]:
    name = read(environ, "OTEL_TRACES_SAMPLER").lower()
    nothing = name in ("always_off", "parentbased_always_off")
    if not nothing and "traceidratio" in name:
        try:
            nothing = float(read(environ, "OTEL_TRACES_SAMPLER_ARG")) == 0
        except ValueError:
            nothing = False
    if not nothing:
        return []
    return [
        Check(
            "configuration",
            "warning",
            f"OTEL_TRACES_SAMPLER={name} samples no trace of a job's own: there will be no spans.",
            "Unset it, or use OTEL_TRACES_EXPORTER=none if that is meant.",
        )
    ]


class Redactor:
    """Takes out of a text what the environment holds in confidence: header values, and parts of URLs."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        secrets: set[str] = set()
        for name, text in environ.items():
            if name.startswith(_OTLP) and name.endswith("HEADERS"):
                for item in text.split(","):
                    head, equals, value = item.partition("=")
                    secrets |= _spellings(value if equals else head)
            elif (name.startswith(_OTLP) and name.endswith("ENDPOINT")) or name.lower().endswith("_proxy"):
                for user_info in re.findall(r"(?:\A|//)([^/?#,]*)@", text):
                    secrets |= _spellings(user_info) | _spellings(user_info.partition(":")[2])
                for query in re.findall(r"\?([^#]*)", text):
                    for pair in query.split("&"):
                        secrets |= _spellings(pair.partition("=")[2])
        found = sorted((each for each in secrets if len(each) >= _SHORTEST_SECRET), key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, found))) if found else None

    def __call__(self, text: str) -> str:
        """Return ``text`` with *** for each secret."""
        return self._pattern.sub("***", text) if self._pattern else text


def _spellings(value: str) -> set[str]:
    value = value.strip()
    whole = {value, unquote(value), unquote_plus(value)}
    # "Bearer …", of which a server may quote the second half.
    return whole | {part for text in whole for part in text.split()}
