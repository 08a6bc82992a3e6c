"""Which settings count and where they come from, and what is odd about them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from .._config import otlp_variables as otlp
from .._config import sdk_variables as sdk
from .._config import variables as v
from .._config.environment import SIGNALS, Signal, Warn
from .._config.exporters import ExporterPlan
from .._config.kinds import Number
from .._config.otlp import OtlpTarget
from .._config.row import Variable
from .._config.settings import Settings
from .._delivery.spool import default_directory, destination_of
from .._telemetry import sdk_objects
from .report import Check, Setting, Value


def _ignore(_text: str) -> None:
    """Take no warning: it is given elsewhere."""


def source_of(
    row: Variable[Any], environ: Mapping[str, str], signal: Signal | None = None, otherwise: str = "default"
) -> str:
    """Return the variable that a setting comes from if it is set and accepted, else ``otherwise``."""
    name, text = row.given(environ, signal)
    if not text:
        return otherwise if row.otherwise is None else source_of(row.otherwise, environ)
    told: list[str] = []
    row.value(environ, told.append, signal)
    refused = any(each.startswith(f"{name}=") for each in told)
    return f"{otherwise} ({name} is not accepted)" if refused else name


def effective_settings(
    environ: Mapping[str, str],
    plans: Mapping[Signal, Sequence[ExporterPlan]],
    settings: Settings,
    resource: Mapping[str, object],
) -> dict[str, dict[str, Setting]]:
    """Return all settings by group: each signal's, the common ones, the resource, the package's."""
    found: dict[str, dict[str, Setting]] = {}
    for signal in SIGNALS:
        names = [plan.name for plan in plans[signal]]
        source = source_of(otlp.EXPORTER, environ, signal)
        found[signal] = {"exporter": Setting(", ".join(names) or "none", source)}
        for plan in plans[signal]:
            if plan.otlp is not None:
                found[signal] |= _otlp_settings(signal, plan.otlp, environ)
                break
    found["opentelemetry"] = {
        row.name: Setting(_plain(row.value(environ, _ignore)), source_of(row, environ))
        for row in _common_rows(environ)
    }
    found["resource"] = {
        name: Setting(value if isinstance(value, int | float) else str(value), _source_of(name, environ))
        for name, value in sorted(resource.items())
    }
    found["package"] = {
        row.name: Setting(_plain(getattr(settings, row.setting)), source_of(row, environ))
        for row in v.VARIABLES
        if row.setting
    }
    if not settings.spool_dir:
        default = Setting(str(default_directory(environ)), source_of(v.SPOOL_DIR, environ))
        found["package"][v.SPOOL_DIR.name] = default
    return found


def _common_rows(environ: Mapping[str, str]) -> list[Variable[Any]]:
    """Return OpenTelemetry's rows that are shown by name; those of the resource and of OTLP are not."""
    by_ratio = "traceidratio" in sdk.TRACES_SAMPLER.value(environ, _ignore)
    return [
        row
        for row in v.VARIABLES
        if not (row.own or row.setting or row.section == "resource")
        # A third party's sampler has its own idea of it.
        and (by_ratio or row is not sdk.TRACES_SAMPLER_ARG)
    ]


def _plain(value: Any) -> Value:
    if isinstance(value, tuple):
        return list(value)
    plain: Value = "" if value is None else value
    return plain


def _otlp_settings(signal: Signal, target: OtlpTarget, environ: Mapping[str, str]) -> dict[str, Setting]:
    def source(row: Variable[Any], otherwise: str = "default") -> str:
        return source_of(row, environ, signal, otherwise)

    exporter, names = otlp.EXPORTER.given(environ, signal)
    endpoint = source(otlp.OTLP_ENDPOINT)
    by_endpoint = "default" if endpoint == "default" else f"by {endpoint}"
    protocol = exporter if "otlp_" in names.lower() else source(otlp.OTLP_PROTOCOL, by_endpoint)
    encryption = by_endpoint if "://" in target.endpoint else source(otlp.OTLP_INSECURE, by_endpoint)
    found = {
        "protocol": Setting(target.protocol, protocol),
        "endpoint": Setting(destination_of(target).endpoint, endpoint),
        "encryption": Setting("none" if target.insecure else "TLS", encryption),
    }
    if not target.insecure:
        authorities = target.ca_file or "the system's"
        found["authorities"] = Setting(authorities, source(otlp.OTLP_CERTIFICATE))
        certificate = Setting(target.certificate_file, source(otlp.OTLP_CLIENT_CERTIFICATE))
        found["client certificate"] = certificate
        found["client key"] = Setting(target.key_file, source(otlp.OTLP_CLIENT_KEY))
    if target.credential_provider:
        found["credential provider"] = Setting(target.credential_provider, target.credential_variable)
    found["headers"] = Setting([name for name, _ in target.headers], source(otlp.OTLP_HEADERS))
    found["compression"] = Setting(target.compression, source(otlp.OTLP_COMPRESSION))
    found["timeout in s"] = Setting(target.timeout_s, source(otlp.OTLP_TIMEOUT))
    return found


def _source_of(attribute: str, environ: Mapping[str, str]) -> str:
    """Return where an attribute of the resource comes from."""
    if attribute == "service.name" and sdk.SERVICE_NAME.given(environ)[1]:
        return sdk.SERVICE_NAME.name
    pairs = sdk.RESOURCE_ATTRIBUTES.given(environ)[1].split(",")
    if attribute in {item.partition("=")[0].strip() for item in pairs}:
        return sdk.RESOURCE_ATTRIBUTES.name
    return "default" if attribute == "service.name" else "found out"


def read_the_rest(environ: Mapping[str, str], warn: Warn) -> None:
    """Read what else a job would read, and make what it names, for the warnings that this gives."""
    for row in _common_rows(environ):
        row.value(environ, warn)
    sdk_objects.sampler_from_env(environ, warn)
    sdk_objects.id_generator_from_env(environ, warn)


def oddities(environ: Mapping[str, str]) -> list[Check]:
    """Return what is accepted but probably not meant."""
    return [*_long_timeouts(environ), *_replaced_headers(environ), *_misspelt(environ), *_unsampled(environ)]


def _long_timeouts(environ: Mapping[str, str]) -> list[Check]:
    found = {}
    for row in v.VARIABLES:
        usual = row.kind.milliseconds_from if isinstance(row.kind, Number) else None
        for signal in row.signals if usual is not None else ():
            variable, text = row.given(environ, signal)
            # What is not accepted at all, and so is the default here, was told.
            if text and row.value(environ, _ignore, signal) >= usual:
                found[variable] = Check(
                    "configuration",
                    "warning",
                    f"{variable}={text} looks like milliseconds, and means seconds.",
                    f"Write {variable}={float(text) / 1000:g} for {text} milliseconds.",
                )
    return list(found.values())


def _replaced_headers(environ: Mapping[str, str]) -> list[Check]:
    general = otlp.OTLP_HEADERS.name
    found = []
    for signal in SIGNALS:
        own = otlp.OTLP_HEADERS.of(signal)
        missing = set(_header_names(environ, general)) - set(_header_names(environ, own))
        if otlp.OTLP_HEADERS.given(environ, signal)[0] == own and missing:
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
    items = environ.get(variable, "").split(",")
    # What has no "=" may be a credential that was cut at its comma.
    return [unquote(item.partition("=")[0]).strip().lower() for item in items if "=" in item]


def _misspelt(environ: Mapping[str, str]) -> list[Check]:
    found = []
    for name in sorted(set(environ) - v.NAMES - set(sdk.WITHOUT_EFFECT)):
        close = difflib.get_close_matches(name, sorted(v.NAMES), n=1, cutoff=0.9)
        if name.startswith((otlp.PREFIX, v.PREFIX)) or (name.startswith("OTEL_") and close):
            advice = f"Write {close[0]}." if close else "Unset it, or look its name up."
            found.append(Check("configuration", "warning", f"{name} is not a recognised variable.", advice))
    return found


def _unsampled(environ: Mapping[str, str]) -> list[Check]:
    row = sdk.TRACES_SAMPLER
    name = row.value(environ, _ignore)
    by_ratio = "traceidratio" in name
    if name not in ("always_off", "parentbased_always_off") and not (
        by_ratio and sdk.TRACES_SAMPLER_ARG.value(environ, _ignore) == 0
    ):
        return []
    return [
        Check(
            "configuration",
            "warning",
            f"{row.name}={name} samples no trace of a job's own: there will be no spans.",
            f"Unset it, or use {otlp.EXPORTER.of('traces')}=none if that is meant.",
        )
    ]
