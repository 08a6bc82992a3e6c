"""Why a probe did not arrive, and what to do about it: what is found in two sentences."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .._config import otlp_variables as v
from .._config.environment import Signal
from .._config.otlp import OtlpTarget
from .._config.row import Variable
from .._delivery.spool import destination_of
from .network import Address, Listener, Proxy

if TYPE_CHECKING:
    from .._delivery.answer import Answer

Finding = tuple[str, str]
"""What is wrong, and what to do about it."""

_NAMES = {"grpc": "gRPC", "http/protobuf": "HTTP"}
_DOUBLED_PATH = re.compile(r"(/v1/(?:traces|logs|metrics))/+v1/")
_SIGNALS_PATH = re.compile(r"/v1/(traces|logs|metrics)/?\Z")
# Words of OpenSSL, and of gRPC's BoringSSL.
_TLS = re.compile(r"SSL|TLS|certificate|Verification")
_EXPIRED = re.compile(r"(?i)expired")
_WRONG_NAME = re.compile(r"(?i)hostname|not valid for|IP address mismatch|is not in peer certificate")
_UNTRUSTED = re.compile(r"(?i)certificate.verify.failed\W*(?:certificate verify failed\W*)?([^:(]*)")


class Advice:
    """Explains what happened to a signal's probe.

    Args:
        signal: which one.
        target: where it was to go.
        address: the host and port of that; None where only gRPC knows.
        environ: the environment, for what to change in it.
    """

    def __init__(
        self, signal: Signal, target: OtlpTarget, address: Address | None, environ: Mapping[str, str]
    ) -> None:
        self._signal = signal
        self._target = target
        self._environ = environ
        self._endpoint = destination_of(target).endpoint
        self._path = "/" + self._endpoint.partition("://")[2].partition("/")[2]
        self._host = address.host if address else self._endpoint
        self._where = str(address or self._endpoint)
        self._variable, self._endpoint_given = v.OTLP_ENDPOINT.given(environ, signal)

    def _name(self, row: Variable[Any]) -> str:
        """Return the variable that counts, or would."""
        return row.given(self._environ, self._signal)[0]

    def other_signals_path(self) -> Finding | None:
        """Tell whether the endpoint is another signal's."""
        path = _SIGNALS_PATH.search(self._path) if self._target.protocol == "http/protobuf" else None
        if path is None or path[1] == self._signal:
            return None
        return (
            f"{self._signal} would be sent to {self._endpoint}, which is for {path[1]}.",
            f"Write /v1/{self._signal} at the end of {self._variable}.",
        )

    def unreachable(self, words: str, proxy: Proxy | None) -> Finding:
        """Explain why there is no connection; ``words`` is a sentence."""
        if proxy:
            return (
                f"The way to {self._where} is through the proxy in {proxy.variable}. {words}",
                f"Correct {proxy.variable}, or add {self._host} to {proxy.exception}.",
            )
        if not self._endpoint_given:
            return (
                f"{self._variable} is not set, so that {self._where} counts. {words}",
                f"Set {self._variable} to your collector, such as http://collector:4318, or start one here.",
            )
        if "resolved" in words:
            return words, f"Correct the name in {self._variable}, or this node's DNS."
        if "refused" in words:
            return words, f"Start the collector there, or correct the port in {self._variable}."
        return words, f"Correct {self._variable}, or let this node through the firewall or network policy."

    def behind_proxy(self, answer: Answer, proxy: Proxy) -> Finding:
        """Explain what came back through a proxy: it may be the proxy's own answer."""
        return (
            f"The probe went to the proxy {proxy.address} ({proxy.variable}) and was not taken: "
            f"{_words(answer)}.",
            f"If {self._host} is to be reached directly, add it to {proxy.exception}.",
        )

    def not_taken(self, answer: Answer, listener: Listener | None) -> Finding:
        """Explain an answer; what listens there says more than the error of a library."""
        return self._tls(answer, listener) or self._protocol(listener) or self._by_answer(answer)

    def _tls(self, answer: Answer, listener: Listener | None) -> Finding | None:
        encrypted = not self._target.insecure
        if listener and listener.tls and not encrypted:
            return (
                f"{self._where} expects TLS and was spoken to in plain text.",
                f"Write https:// in {self._variable}.",
            )
        if listener and not listener.tls and encrypted:
            return (
                f"{self._where} does not use TLS, and TLS was spoken to it.",
                f"Write http:// in {self._variable}, or turn TLS on at the server.",
            )
        if listener and listener.demands_certificate and not self._target.certificate_file:
            return (
                f"{self._where} seems to demand a certificate of its clients, and none is set.",
                f"Name it in {self._name(v.OTLP_CLIENT_CERTIFICATE)}.",
            )
        words = _words(answer)
        if not encrypted or answer.kind != "shut" or not _TLS.search(words):
            return None
        if _WRONG_NAME.search(words):
            return (
                f"The certificate of {self._where} is not for {self._host}: {words}.",
                f"Use a name in {self._variable} that the certificate has.",
            )
        if _EXPIRED.search(words):
            return f"The certificate of {self._where} has expired: {words}.", "Renew it at the server."
        if untrusted := _UNTRUSTED.search(words):
            return (
                f"The certificate of {self._where} is not trusted: {untrusted[1].strip() or words}.",
                f"Name the PEM file of the authority that issued it in {self._name(v.OTLP_CERTIFICATE)}.",
            )
        return (
            f"{self._where} and this client do not agree on TLS: {words}.",
            f"Check {self._name(v.OTLP_CERTIFICATE)} and {self._name(v.OTLP_CLIENT_CERTIFICATE)}.",
        )

    def _protocol(self, listener: Listener | None) -> Finding | None:
        spoken = self._target.protocol
        if listener is None or listener.protocol in (None, spoken):
            return None
        exporter, names = v.EXPORTER.given(self._environ, self._signal)
        if "otlp_" in names.lower():
            change = f"Write otlp in {exporter} and {listener.protocol} in {v.OTLP_PROTOCOL.name}"
        else:
            change = f"Set {self._name(v.OTLP_PROTOCOL)}={listener.protocol}"
        name, port = _NAMES[spoken], v.PORTS[spoken]
        return (
            f"{self._where} speaks {_NAMES[str(listener.protocol)]}, and OTLP over {name} was sent to it.",
            f"{change}, or name the server's port for {name} (usually {port}) in {self._variable}.",
        )

    def _by_answer(self, answer: Answer) -> Finding:
        words = _words(answer)
        if answer.kind == "unsupported":
            return self._unsupported(words)
        if answer.kind == "shut":
            return self._shut(words)
        if answer.kind == "foreign":
            return (
                f"{self._where} answered, but is no OTLP server: {words}. Telemetry does not arrive there.",
                f"Correct the host, port or path in {self._variable}: something else listens there, or is "
                "in the way, such as a sign-in page.",
            )
        if answer.kind in ("busy", "retry", "unreachable"):
            return (
                f"{self._where} did not take the probe: {words}.",
                "Look at the server's own log: it may be overloaded or out of order.",
            )
        return (
            f"{self._where} refused the probe: {words}.",
            "Look at the server's own log: it can be reached, and does not want the data.",
        )

    def _unsupported(self, words: str) -> Finding:
        if "ompress" in words:
            return (
                f"{self._where} does not know the compression: {words}.",
                f"Set {self._name(v.OTLP_COMPRESSION)}=gzip or none.",
            )
        off = f"{v.EXPORTER.of(self._signal)}=none"
        other = v.OTLP_ENDPOINT.of(self._signal)
        if self._target.protocol == "grpc":
            return (
                f"{self._where} takes no {self._signal}: {words}.",
                f"Set {off}, or name a server that does in {other}.",
            )
        if doubled := _DOUBLED_PATH.search(self._path):
            return (
                f"{self._where} has nothing at {self._path}, a path that is doubled.",
                f"Leave {doubled[1]} out of {self._variable}: /v1/{self._signal} is added to it.",
            )
        if self._variable == other and not _SIGNALS_PATH.search(self._path):
            return (
                f"{self._where} has nothing at {self._path}.",
                f"Add /v1/{self._signal} to {other}: a signal's own endpoint is used as it is.",
            )
        if self._path == f"/v1/{self._signal}":
            return (
                f"{self._where} takes no {self._signal} at {self._path}: {words}.",
                f"Set {off}, or name a server that does in {other}.",
            )
        return (
            f"{self._where} has nothing at {self._path}: {words}.",
            f"Correct the path in {self._variable}, or set {off}.",
        )

    def _shut(self, words: str) -> Finding:
        if "redirected to" in words:
            return (
                f"{self._where} answered: {words}.",
                f"Write that place in {self._variable}: no redirect is followed.",
            )
        names = ", ".join(name for name, _ in self._target.headers) or "none"
        return (
            f"{self._where} rejected the credentials: {words}.",
            f"Check the credentials in {self._name(v.OTLP_HEADERS)} (headers there: {names}).",
        )


def _words(answer: Answer) -> str:
    return answer.message.rstrip(".") or "nothing was said"
