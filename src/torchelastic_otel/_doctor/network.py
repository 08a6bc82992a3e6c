"""What is between this process and an endpoint: names, proxies, and who listens there."""

from __future__ import annotations

import ipaddress
import re
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

from .._config.environment import read
from .._config.otlp import OtlpTarget
from .._config.otlp_variables import Protocol

_TIMEOUT_S = 3.0
_LONGEST_S = 2 * _TIMEOUT_S
# gRPC takes only these spellings, in this order.
_GRPC_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")


T = TypeVar("T")


def within(seconds: float, function: Callable[[], T]) -> T | None:
    """Return what ``function`` returns; None if it takes longer than that, whatever it is waiting for.

    What it raises is raised here.
    """
    done = threading.Event()
    found: list[T] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            found.append(function())
        except BaseException as error:  # it is raised where somebody waits for it
            raised.append(error)
        done.set()

    threading.Thread(target=run, name="torchelastic-otel-probe", daemon=True).start()
    if not done.wait(seconds):
        return None
    if raised:
        raise raised[0]
    return found[0]


@dataclass(frozen=True, slots=True)
class Address:
    """Where a connection goes."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy that the environment puts before an endpoint."""

    variable: str
    address: Address
    exception: str
    """The variable that names hosts to reach directly."""


@dataclass(frozen=True, slots=True)
class Listener:
    """What listens on a port."""

    tls: bool
    protocol: Protocol | None
    """What it speaks; None if that cannot be told."""
    demands_certificate: bool = False
    """Whether it seems to let in only clients that show a certificate."""


def address_of(target: OtlpTarget) -> Address | None:
    """Return the host and port of an endpoint; None where gRPC resolves it in ways of its own."""
    text = target.endpoint
    if target.protocol == "grpc":
        if text.startswith("dns:"):
            text = "//" + text.rpartition("/")[2].removeprefix("dns:")
        elif "://" not in text:
            if re.match(r"[a-z0-9-]+:(?!\d+\Z)", text):
                return None
            text = "//" + text
        elif not text.startswith(("http://", "https://")):
            return None
    return _address(text, 80 if text.startswith("http://") and target.protocol != "grpc" else 443)


def _address(url: str, default_port: int) -> Address | None:
    try:
        parts = urlsplit(url if "//" in url else "//" + url)
        return Address(parts.hostname, parts.port or default_port) if parts.hostname else None
    except ValueError:
        return None


def proxy_of(target: OtlpTarget, address: Address, environ: Mapping[str, str]) -> Proxy | None:
    """Return the proxy that the sender will take for this endpoint, as its library reads the environment."""
    if target.protocol == "grpc":
        variable = next((name for name in _GRPC_PROXIES if read(environ, name)), "")
        exception = "no_grpc_proxy" if read(environ, "no_grpc_proxy") else "no_proxy"
        url = "" if _is_excepted(address.host, read(environ, exception)) else read(environ, variable)
    else:
        from requests.utils import get_environ_proxies, select_proxy

        url = select_proxy(target.endpoint, get_environ_proxies(target.endpoint, no_proxy=None)) or ""
        scheme = target.endpoint.partition(":")[0]
        names = (f"{scheme}_proxy", f"{scheme}_proxy".upper(), "all_proxy", "ALL_PROXY")
        variable = next((name for name in names if read(environ, name)), names[0])
        exception = "no_proxy" if read(environ, "no_proxy") else "NO_PROXY"
    proxy = _address(url, 443 if url.startswith("https:") else 80) if url else None
    return Proxy(variable, proxy, exception) if proxy else None


def _is_excepted(host: str, exceptions: str) -> bool:
    """Tell whether gRPC reaches ``host`` directly: by the end of its name, or by network."""
    for entry in filter(None, (item.strip() for item in exceptions.split(","))):
        if host.lower().endswith(entry.lower()):
            return True
        try:
            if "/" in entry and ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False):
                return True
        except ValueError:
            continue
    return False


def connect(address: Address) -> str:
    """Resolve and connect by TCP; return what went wrong, "" if nothing did."""
    words = within(_LONGEST_S, lambda: _connect(address))
    return f"{address} cannot be reached within {_LONGEST_S:g} s." if words is None else words


def _connect(address: Address) -> str:
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return f"The name {address.host} cannot be resolved ({reason})."
    try:
        socket.create_connection((address.host, address.port), _TIMEOUT_S).close()
    except ConnectionRefusedError:
        return f"Nothing listens on {address}: the connection was refused."
    except TimeoutError:
        tried = ", ".join(dict.fromkeys(str(each[4][0]) for each in found))
        return f"{address} ({tried}) does not answer within {_TIMEOUT_S:g} s."
    except OSError as error:
        return f"{address} cannot be reached ({error.strerror or error})."
    return ""


def what_listens(address: Address) -> Listener | None:
    """Ask the port itself what it speaks; None if that cannot be told.

    Libraries' errors for a wrong protocol differ between versions and mislead. A request in plain HTTP/1.1
    does not: an HTTP server answers in kind, a gRPC server with HTTP/2's settings, and one with TLS with
    neither.
    """
    return within(_LONGEST_S, lambda: _what_listens(address))


def _what_listens(address: Address) -> Listener | None:
    try:
        words = _ask(address)
    except OSError:
        words = b""
    if _is_http2(words):
        return Listener(tls=False, protocol="grpc")
    plain = Listener(tls=False, protocol="http/protobuf") if words.startswith(b"HTTP/") else None
    if plain and b"HTTPS" not in words:  # some servers with TLS explain themselves in plain text
        return plain
    found = _inside_tls(address, "http/1.1")
    if found and not found.protocol and not found.demands_certificate:
        found = _inside_tls(address, "h2") or found
    return found or plain


def _inside_tls(address: Address, protocol: str, *, ask: bool = True) -> Listener | None:
    """Offer ``protocol`` within TLS, and listen to what is said; without ``ask`` to what is said first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Nothing is sent but a question; whether the certificate is right is for the sender to say.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([protocol])
    shaken = False
    try:
        with (
            socket.create_connection((address.host, address.port), _TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=address.host) as connection,
        ):
            shaken = True
            selected = connection.selected_alpn_protocol()
            words = _exchange(connection, address) if ask else connection.recv(1024)
    except OSError as error:  # as all of TLS' errors are
        reason = str(getattr(error, "reason", ""))
        if "CERTIFICATE_REQUIRED" in reason:
            return Listener(tls=True, protocol=None, demands_certificate=True)
        if shaken and ask:
            # A server that hangs up on a question may not get to say why.
            return _inside_tls(address, protocol, ask=False)
        # An alert is TLS as well.
        return Listener(tls=True, protocol=None) if shaken or "ALERT" in reason else None
    if words.startswith(b"HTTP/"):
        return Listener(tls=True, protocol="http/protobuf")
    if _is_http2(words):
        return Listener(tls=True, protocol="grpc")
    # It agrees on HTTP/2 and hangs up: gRPC's own server does so when it misses the client's certificate.
    return Listener(tls=True, protocol=None, demands_certificate=selected == "h2" and not words)


def _ask(address: Address) -> bytes:
    with socket.create_connection((address.host, address.port), _TIMEOUT_S) as connection:
        return _exchange(connection, address)


def _exchange(connection: socket.socket, address: Address) -> bytes:
    connection.settimeout(_TIMEOUT_S)
    connection.sendall(f"GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
    words = b""
    try:
        # An HTTP/2 server leaves the connection open.
        while len(words) < 1024 and not _is_http2(words) and (piece := connection.recv(1024)):
            words += piece
    except OSError:
        if not words:
            raise
    return words


def _is_http2(words: bytes) -> bool:
    """Tell whether a SETTINGS frame begins, which is the first that an HTTP/2 server sends."""
    return len(words) >= 9 and words[3:9] == b"\x04\x00\x00\x00\x00\x00"
