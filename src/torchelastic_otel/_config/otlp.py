"""Where and how OTLP exporters are to send, from ``OTEL_EXPORTER_OTLP_*``: read and checked, nothing made.

A variable of the signal's own counts before the one for all signals. A warning about the latter has the same
text for each signal. Security is never given up for a wrong value: that signal is not exported then.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import SplitResult, unquote, urlsplit

from .._runtime.imports import entry_point_names, find_entry_point
from .environment import Signal, Warn, read, read_number, wrong_value

Protocol = Literal["grpc", "http/protobuf"]
Compression = Literal["none", "gzip", "deflate"]

CREDENTIAL_PROVIDERS = "opentelemetry_otlp_credential_provider"
"""Entry point group of third parties' credentials."""

# Name resolvers of gRPC, which takes such targets in place of a URL.
_GRPC_RESOLVERS = ("dns", "unix", "unix-abstract", "ipv4", "ipv6", "vsock", "xds", "passthrough")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_GRPC_HEADER_NAME = re.compile(r"(?!.*-bin\Z)[0-9a-z_.-]+\Z")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]*\Z")
# No export should hang for longer; and it shows up values in milliseconds, as the specification has them.
LONGEST_TIMEOUT_S = 600.0
"""Longest accepted timeout for an export, in seconds."""


@dataclass(frozen=True, slots=True)
class OtlpTarget:
    """Where and how an OTLP exporter sends."""

    protocol: Protocol
    endpoint: str
    """The URL that is posted to, or gRPC's target."""
    insecure: bool = False
    """Goes without TLS."""
    ca_file: str = ""
    """Who is trusted; "" for the system's authorities."""
    certificate_file: str = ""
    """The client's certificate; "" for none."""
    key_file: str = ""
    """Its key; the same file where that holds both."""
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    refused_headers: tuple[str, ...] = ()
    """Names of headers whose value no request can carry."""
    timeout_s: float = 10.0
    """Longest time for an export with its retries, in seconds."""
    compression: Compression = "none"
    credential_provider: str = ""
    """Entry point that makes gRPC's credentials or HTTP's session; "" for none."""
    credential_variable: str = ""
    """The variable that names it."""


def plan_otlp(
    signal: Signal, protocol: Protocol | None, environ: Mapping[str, str], warn: Warn
) -> OtlpTarget | None:
    """Return the target for ``signal``; None, after a warning, if nothing may or can be sent there.

    Args:
        signal: which signal's variables count before the general ones.
        protocol: the protocol if the exporter's name says it; None to go by the variables.
        environ: the environment.
        warn: told what is wrong, once per variable.
    """
    variable, text = first_set(environ, signal, "ENDPOINT")
    try:
        scheme, url = _parse(text)
    except ValueError:
        expected = "a URL such as http://collector:4318"
        wrong_value(warn, variable, text, expected, "what would be sent there is not sent")
        return None
    protocol = protocol or _named_protocol(signal, environ, warn) or _protocol_for(text, scheme, url)
    provider_variable, provider = _credential_provider(signal, protocol, environ)
    if protocol == "grpc":
        endpoint = text or "http://localhost:4317"
        insecure = _is_insecure(signal, environ, scheme, bool(provider), warn)
    else:
        if scheme not in ("", "http", "https"):
            expected = "a URL that begins with http:// or https://"
            wrong_value(warn, variable, text, expected, "what would be sent there is not sent")
            return None
        if text and not scheme:
            warn(
                f"{variable}={text!r} names no scheme; http:// is taken, without encryption. "
                "Write http:// or https:// in front of it."
            )
        endpoint = _http_url(signal, variable, text, url)
        insecure = not endpoint.startswith("https:")
    if protocol == "grpc" and insecure:
        provider = ""
    if provider and find_entry_point(CREDENTIAL_PROVIDERS, provider) is None:
        expected = f"one that is installed ({entry_point_names(CREDENTIAL_PROVIDERS)})"
        wrong_value(warn, provider_variable, provider, expected, "what would need it is not sent")
        return None
    # Without TLS there is nothing to read; a gRPC credential provider brings its own.
    needs_no_files = insecure or (provider and protocol == "grpc")
    files = _TlsFiles() if needs_no_files else _tls_files(signal, protocol, environ, warn)
    if files is None:
        return None
    headers, refused = _headers(signal, protocol, environ, warn)
    return OtlpTarget(
        protocol=protocol,
        endpoint=endpoint,
        insecure=insecure,
        ca_file=files.ca,
        certificate_file=files.certificate,
        key_file=files.key,
        headers=headers,
        refused_headers=refused,
        timeout_s=_timeout_s(signal, environ, warn),
        compression=_compression(signal, environ, warn),
        credential_provider=provider,
        credential_variable=provider_variable,
    )


def first_set(environ: Mapping[str, str], signal: Signal, what: str) -> tuple[str, str]:
    """Return the name and value of the signal's own variable, or else of the one for all signals.

    ``what`` is the last part of the name: ``ENDPOINT``, ``HEADERS``, ….
    """
    own, general = f"OTEL_EXPORTER_OTLP_{signal.upper()}_{what}", f"OTEL_EXPORTER_OTLP_{what}"
    value = read(environ, own)
    return (own, value) if value else (general, read(environ, general))


def _parse(text: str) -> tuple[str, SplitResult]:
    """Return the scheme ("" if there is none) and the parts of an endpoint; ValueError if it is none."""
    # urlsplit takes collector:4317 for a path under the scheme "collector".
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "", text
        resolver, colon, _ = text.partition(":")
        if colon and resolver.lower() in _GRPC_RESOLVERS:
            scheme = resolver
    scheme = scheme.lower()
    if scheme in _GRPC_RESOLVERS:
        return scheme, urlsplit("")
    url = urlsplit(f"{scheme or 'http'}://{rest}")
    # Asking for the port checks it.
    if text and (not url.hostname or url.port == 0 or re.search(r"[\s\x00-\x1f]", text)):
        raise ValueError(text)
    return scheme, url


def _named_protocol(signal: Signal, environ: Mapping[str, str], warn: Warn) -> Protocol | None:
    variable, value = first_set(environ, signal, "PROTOCOL")
    if value.lower() == "grpc":
        return "grpc"
    if value.lower() == "http/protobuf":
        return "http/protobuf"
    if value:
        wrong_value(warn, variable, value, "'grpc' or 'http/protobuf'", "the endpoint decides")
    return None


def _protocol_for(text: str, scheme: str, url: SplitResult) -> Protocol:
    if not text or scheme in _GRPC_RESOLVERS:
        return "grpc"
    if url.path in ("", "/") and url.port == 4317:
        return "grpc"
    return "http/protobuf"


def _http_url(signal: Signal, variable: str, text: str, url: SplitResult) -> str:
    if not text:
        return f"http://localhost:4318/v1/{signal}"
    if variable == "OTEL_EXPORTER_OTLP_ENDPOINT":
        url = url._replace(path=f"{url.path.rstrip('/')}/v1/{signal}")
    return url.geturl()


def _is_insecure(
    signal: Signal, environ: Mapping[str, str], scheme: str, credentials_provided: bool, warn: Warn
) -> bool:
    """Tell whether gRPC goes without TLS: never by accident, so what is contradictory or unsaid means TLS."""
    variable, text = first_set(environ, signal, "ENDPOINT")
    name, value = first_set(environ, signal, "INSECURE")
    if value.lower() not in ("", "true", "false"):
        wrong_value(warn, name, value, "true or false", "false is used")
        value = "false"
    insecure = value.lower() == "true"
    if scheme == "https":
        return False
    if scheme == "http" and value and not insecure:
        warn(
            f"{name}=false contradicts {variable}={text!r}; TLS is used. "
            f"Write https:// there, or leave {name} unset."
        )
        return False
    if scheme == "http" or not text:
        return insecure or not value
    files = [first_set(environ, signal, what)[1] for what in ("CERTIFICATE", "CLIENT_CERTIFICATE")]
    if not (value or credentials_provided or any(files)):
        # The specification's default, which few expect.
        warn(
            f"{variable}={text!r} does not say whether to encrypt; TLS is used. "
            f"For a collector without TLS set {name}=true, or write http://host:port."
        )
    return insecure


def _credential_provider(signal: Signal, protocol: Protocol, environ: Mapping[str, str]) -> tuple[str, str]:
    stem = "OTEL_PYTHON_EXPORTER_OTLP_" + ("GRPC_" if protocol == "grpc" else "HTTP_")
    own, general = f"{stem}{signal.upper()}_CREDENTIAL_PROVIDER", f"{stem}CREDENTIAL_PROVIDER"
    value = read(environ, own)
    return (own, value) if value else (general, read(environ, general))


@dataclass(frozen=True, slots=True)
class _TlsFiles:
    ca: str = ""
    certificate: str = ""
    key: str = ""


def _tls_files(
    signal: Signal, protocol: Protocol, environ: Mapping[str, str], warn: Warn
) -> _TlsFiles | None:
    """Return the TLS files, all of them usable; None after a warning, and then nothing may be sent."""
    ca_variable, ca = first_set(environ, signal, "CERTIFICATE")
    variable, certificate = first_set(environ, signal, "CLIENT_CERTIFICATE")
    key_variable, key = first_set(environ, signal, "CLIENT_KEY")
    # gRPC takes a file, HTTP a directory of hashed certificates as well.
    as_directory = protocol == "http/protobuf" and os.path.isdir(ca)
    ca_to_read = "" if as_directory else ca
    for name, path in ((ca_variable, ca_to_read), (variable, certificate), (key_variable, key)):
        try:
            if path:
                Path(path).read_bytes()
        except (OSError, ValueError) as error:
            _unusable(warn, name, path, getattr(error, "strerror", None) or str(error))
            return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if ca_to_read:
            context.load_verify_locations(ca_to_read)
    except ssl.SSLError:
        _unusable(warn, ca_variable, ca, "no PEM certificate in it")
        return None
    if key and not certificate:
        _unusable(warn, key_variable, key, f"{variable} is not set")
        return None
    try:
        if certificate:
            context.load_cert_chain(certificate, key or None, password=_no_password)
    except ssl.SSLError:
        fitting = (
            f"that {key_variable}={key!r} fits" if key else f"with its key, and {key_variable} is not set"
        )
        _unusable(warn, variable, certificate, f"no PEM certificate in it {fitting}")
        return None
    except ValueError:
        variable = key_variable if key else variable
        _unusable(warn, variable, key or certificate, "the key is encrypted, and nobody can be asked")
        return None
    return _TlsFiles(ca, certificate, key or certificate)


def _no_password() -> str:
    # OpenSSL would ask on the terminal, where nobody answers.
    raise ValueError("encrypted key")


def _unusable(warn: Warn, variable: str, path: str, reason: str) -> None:
    warn(
        f"{variable}={path!r} cannot be used ({reason}). What it would secure is not sent at all; "
        "name a readable PEM file."
    )


def _headers(
    signal: Signal, protocol: Protocol, environ: Mapping[str, str], warn: Warn
) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    """Return the headers, and the names of those with a value that no request can carry.

    The warning counts entries and never quotes them: headers hold credentials.
    """
    variable, text = first_set(environ, signal, "HEADERS")
    headers: dict[str, str] = {}
    refused: list[str] = []
    wrong: list[str] = []
    for number, item in enumerate(text.split(","), 1):
        if not item.strip():
            continue
        name, equals, value = (part.strip() for part in item.partition("="))
        name = unquote(name).lower()
        # A value with a blank was not percent-encoded; the stock exporters take it as it stands, too.
        value = value if " " in value else unquote(value).strip()
        valid_name = _HEADER_NAME.match(name) and (protocol != "grpc" or _GRPC_HEADER_NAME.match(name))
        if equals and valid_name and _HEADER_VALUE.match(value):
            headers[name] = value
        else:
            wrong.append(str(number))
            refused += [name] if valid_name else []
    if wrong:
        warn(
            f"{variable}: entry {', '.join(wrong)} cannot be sent as a header and is left out. "
            "Write name=value pairs separated by commas, values percent-encoded and of printable ASCII."
        )
    return tuple(headers.items()), tuple(name for name in refused if name not in headers)


def _timeout_s(signal: Signal, environ: Mapping[str, str], warn: Warn) -> float:
    variable, _ = first_set(environ, signal, "TIMEOUT")
    return read_number(environ, variable, 10.0, LONGEST_TIMEOUT_S, warn, unit="seconds (not milliseconds)")


def _compression(signal: Signal, environ: Mapping[str, str], warn: Warn) -> Compression:
    variable, value = first_set(environ, signal, "COMPRESSION")
    match value.lower():
        case "gzip":
            return "gzip"
        case "deflate":
            return "deflate"
        case "" | "none":
            pass
        case _:
            wrong_value(warn, variable, value, "gzip, deflate or none", "nothing is compressed")
    return "none"
