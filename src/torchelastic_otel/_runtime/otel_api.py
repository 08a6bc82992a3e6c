"""What of OpenTelemetry's API stands for nothing: its own proxies and no-ops."""

from __future__ import annotations

_API = ("opentelemetry.trace", "opentelemetry._logs", "opentelemetry.metrics")


def is_real(provider: object) -> bool:
    """Tell whether somebody has set this provider up.

    The API's packages have proxies and no-ops only. All others are somebody's, whatever their names: Logfire
    calls its own ``ProxyTracerProvider``.
    """
    module = type(provider).__module__
    return not any(module == package or module.startswith(package + ".") for package in _API)
