"""Providers declared in ``OTEL_CONFIG_FILE``, made for the bridge alone: no global one is set.

The package opentelemetry-configuration reads the file. Its public function sets global providers, so its
per-signal factories are called instead; if a release moves them, one warning says so.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable
from typing import Any

from .providers import Providers


def providers_from_file(path: str, environ_resource: Any, warn: Callable[[str], None]) -> Providers | None:
    """Build the declared providers; None, with one warning, where that cannot be done.

    Args:
        path: the configuration file.
        environ_resource: the resource by the environment; what the file says goes before it.
        warn: takes one clear sentence.
    """
    try:
        from opentelemetry.configuration import load_config_file
    except ImportError:
        warn(
            "OTEL_CONFIG_FILE is set, but the package opentelemetry-configuration is not installed: "
            "install it, or unset the variable. The other OTEL_ variables are used."
        )
        return None
    except Exception as error:  # Python 3.12 runs no part of the SDK any more while it ends
        _cannot_be_used(path, error, warn)
        return None
    try:
        return _build(load_config_file(path), environ_resource)
    except Exception as error:
        _cannot_be_used(path, error, warn)
        return None


def _cannot_be_used(path: str, error: Exception, warn: Callable[[str], None]) -> None:
    warn(
        f"OTEL_CONFIG_FILE={path} cannot be used ({type(error).__name__}: {error}). "
        "The other OTEL_ variables are used."
    )


def _build(config: Any, environ_resource: Any) -> Providers:
    from opentelemetry._logs import NoOpLoggerProvider
    from opentelemetry.configuration._logger_provider import create_logger_provider
    from opentelemetry.configuration._meter_provider import create_meter_provider
    from opentelemetry.configuration._resource import create_resource
    from opentelemetry.configuration._tracer_provider import create_tracer_provider
    from opentelemetry.metrics import NoOpMeterProvider
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.trace import NoOpTracerProvider

    declared = create_resource(config.resource)
    named = {key: value for key, value in declared.attributes.items() if value != "unknown_service"}
    resource = environ_resource.merge(Resource(named, declared.schema_url))

    def make(section: Any, create: Callable[..., Any], nothing: Any, *more: Any) -> Any:
        # By the specification a signal that the file does not name is off.
        if config.disabled or section is None:
            return nothing()
        provider = create(section, resource, *more)
        # The bridge flushes with a deadline; the provider's own exit handler has none.
        atexit.unregister(provider.shutdown)
        return provider

    limits = config.attribute_limits
    return Providers(
        make(config.tracer_provider, create_tracer_provider, NoOpTracerProvider, limits),
        make(config.logger_provider, create_logger_provider, NoOpLoggerProvider, limits),
        make(config.meter_provider, create_meter_provider, NoOpMeterProvider),
    )
