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
from urllib.parse import SplitResult, unquote, urlsplit

from . import otlp_variables as v
from .environment import Signal, Warn, wrong_value
from .secrets import shown

# Name resolvers of gRPC, which takes such targets in place of a URL.
_GRPC_RESOLVERS = ("dns", "unix", "unix-abstract", "ipv4", "ipv6", "vsock", "xds", "passthrough")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_GRPC_HEADER_NAME = re.compile(r"(?!.*-bin\Z)[0-9a-z_.-]+\Z")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]*\Z")


@dataclass(frozen=True, slots=True)
class OtlpTarget:
    """Where and how an OTLP exporter sends."""

    protocol: v.Protocol
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
    timeout_s: float = v.OTLP_TIMEOUT.default
    """Longest time for an export with its retries, in seconds."""
    compression: v.Compression = v.OTLP_COMPRESSION.default
    credential_provider: str = ""
    """Entry point that makes gRPC's credentials or HTTP's session; "" for none."""
    credential_variable: str = ""
    """The variable that names it."""


def plan_otlp(
    signal: Signal, protocol: v.Protocol | None, environ: Mapping[str, str], warn: Warn
) -> OtlpTarget | None:
    """Return the target for ``signal``; None, after a warning, if nothing may or can be sent there.

    Args:
        signal: which signal's variables count before the general ones.
        protocol: the protocol if the exporter's name says it; None to go by the variables.
        environ: the environment.
        warn: told what is wrong, once per variable.
    """
    variable, text = v.OTLP_ENDPOINT.given(environ, signal)
    try:
        scheme, url = _parse(text)
    except ValueError:
        wrong_value(warn, variable, text, v.OTLP_ENDPOINT.kind.accepted, v.OTLP_ENDPOINT.instead)
        return None
    protocol = protocol or v.OTLP_PROTOCOL.value(environ, warn, signal) or _protocol_for(text, scheme, url)
    providers = v.GRPC_CREDENTIAL_PROVIDER if protocol == "grpc" else v.HTTP_CREDENTIAL_PROVIDER
    provider_variable, provider = providers.given(environ, signal)
    if protocol == "grpc":
        endpoint = text or f"http://localhost:{v.PORTS[protocol]}"
        insecure = _is_insecure(signal, environ, scheme, bool(provider), warn)
    else:
        if scheme not in ("", "http", "https"):
            expected = "a URL that begins with http:// or https://"
            wrong_value(warn, variable, text, expected, v.OTLP_ENDPOINT.instead)
            return None
        if text and not scheme:
            warn(
                f"{variable}={shown(variable, text)!r} names no scheme; http:// is taken, without "
                "encryption. Write http:// or https:// in front of it."
            )
        endpoint = _http_url(signal, variable, text, url)
        insecure = not endpoint.startswith("https:")
    if protocol == "grpc" and insecure:
        provider = ""
    if provider and not providers.value(environ, warn, signal):
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
        timeout_s=v.OTLP_TIMEOUT.value(environ, warn, signal),
        compression=v.OTLP_COMPRESSION.value(environ, warn, signal),
        credential_provider=provider,
        credential_variable=provider_variable,
    )


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


def _protocol_for(text: str, scheme: str, url: SplitResult) -> v.Protocol:
    if not text or scheme in _GRPC_RESOLVERS:
        return "grpc"
    if url.path in ("", "/") and url.port == v.PORTS["grpc"]:
        return "grpc"
    return "http/protobuf"


def _http_url(signal: Signal, variable: str, text: str, url: SplitResult) -> str:
    if not text:
        return f"http://localhost:{v.PORTS['http/protobuf']}/v1/{signal}"
    if variable == v.OTLP_ENDPOINT.name:
        url = url._replace(path=f"{url.path.rstrip('/')}/v1/{signal}")
    return url.geturl()


def _is_insecure(
    signal: Signal, environ: Mapping[str, str], scheme: str, credentials_provided: bool, warn: Warn
) -> bool:
    """Tell whether gRPC goes without TLS: never by accident, so what is contradictory or unsaid means TLS."""
    variable, text = v.OTLP_ENDPOINT.given(environ, signal)
    name, said = v.OTLP_INSECURE.given(environ, signal)
    insecure = v.OTLP_INSECURE.value(environ, warn, signal)
    if scheme == "https":
        return False
    if scheme == "http" and said and not insecure:
        warn(
            f"{name}=false contradicts {variable}={shown(variable, text)!r}; TLS is used. "
            f"Write https:// there, or leave {name} unset."
        )
        return False
    if scheme == "http" or not text:
        return insecure or not said
    files = [row.given(environ, signal)[1] for row in (v.OTLP_CERTIFICATE, v.OTLP_CLIENT_CERTIFICATE)]
    if not (said or credentials_provided or any(files)):
        # The specification's default, which few expect.
        warn(
            f"{variable}={shown(variable, text)!r} does not say whether to encrypt; TLS is used. "
            f"For a collector without TLS set {name}=true, or write http://host:port."
        )
    return insecure


@dataclass(frozen=True, slots=True)
class _TlsFiles:
    ca: str = ""
    certificate: str = ""
    key: str = ""


def _tls_files(
    signal: Signal, protocol: v.Protocol, environ: Mapping[str, str], warn: Warn
) -> _TlsFiles | None:
    """Return the TLS files, all of them usable; None after a warning, and then nothing may be sent."""
    ca_variable, ca = v.OTLP_CERTIFICATE.given(environ, signal)
    variable, certificate = v.OTLP_CLIENT_CERTIFICATE.given(environ, signal)
    key_variable, key = v.OTLP_CLIENT_KEY.given(environ, signal)
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
    signal: Signal, protocol: v.Protocol, environ: Mapping[str, str], warn: Warn
) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    """Return the headers, and the names of those with a value that no request can carry.

    The warning counts entries and never quotes them: headers hold credentials.
    """
    variable, text = v.OTLP_HEADERS.given(environ, signal)
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
            f"Write {v.OTLP_HEADERS.kind.accepted}."
        )
    return tuple(headers.items()), tuple(name for name in refused if name not in headers)
