"""The resource of what the bridge sends, in the SDK's form."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from .._config.environment import Warn
from .._config.resource import attribute_items, is_pair, resource_attributes, users_attributes
from .._config.sdk_variables import RESOURCE_ATTRIBUTES, RESOURCE_DETECTORS
from .._runtime.guard import from_signal_handler, warn_once
from .._runtime.imports import load_entry_point
from .._values import clean_text
from .redaction import Redaction

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

_DETECTORS = "opentelemetry_resource_detector"
_READ_HERE = {"*", "otel"}
"""No detectors: all of them, and the SDK's own that reads the variables, as ``users_attributes`` does."""


def build_resource(
    environ: Mapping[str, str], warn: Warn | None = None, redaction: Redaction | None = None
) -> Resource:
    """Return the resource: ``resource_attributes``, the SDK's own, and those of the user's detectors.

    Detectors are named in ``OTEL_EXPERIMENTAL_RESOURCE_DETECTORS``; what they find stands unless the user
    says otherwise. They may be slow (the SDK gives each 5 s): call this on a thread that may wait. What is
    wrong in the variables is one warning each, through ``warn`` or else in this package's log. ``redaction``
    hides what must not leave the process; the id that this package makes up for it stays, since it tells
    processes apart.
    """
    from opentelemetry.sdk.resources import Resource

    warn = warn or warn_once
    _tell_malformed(environ, warn)
    base = _detected(environ, warn)
    ours = resource_attributes(environ)
    merged: dict[str, Any] = {**ours, **base.attributes, **users_attributes(environ)}
    # A detector of the SDK's makes up the second, and others may bring the SDK's default of the first.
    if str(base.attributes.get("service.name", "")).startswith("unknown_service"):
        merged["service.name"] = ours["service.name"]
    merged["service.instance.id"] = ours["service.instance.id"]
    attributes = {name: _cleaned(value) for name, value in merged.items()}
    if redaction is not None:
        attributes = redaction.attributes(attributes)
        if "service.instance.id" not in users_attributes(environ):
            attributes["service.instance.id"] = ours["service.instance.id"]
    return Resource(attributes, base.schema_url)


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return clean_text(value)
    return [_cleaned(item) for item in value] if isinstance(value, list | tuple) else value


def _tell_malformed(environ: Mapping[str, str], warn: Warn) -> None:
    malformed = {item.strip() for item in attribute_items(environ) if not is_pair(item)}
    if malformed:
        shown = ", ".join(map(repr, sorted(malformed)))
        warn(
            f"{RESOURCE_ATTRIBUTES.name}: {shown} is left out, since it is not of the form name=value. "
            "Separate the pairs by commas, and write a comma inside of a value as %2C."
        )


def _detected(environ: Mapping[str, str], warn: Warn) -> Resource:
    """Return the SDK's own attributes, and what the user's detectors find.

    Not by ``Resource.create``, which reads the variables once more, and warns of them without their names.
    """
    from opentelemetry.sdk.resources import (
        TELEMETRY_SDK_LANGUAGE,
        TELEMETRY_SDK_NAME,
        TELEMETRY_SDK_VERSION,
        Resource,
        get_aggregated_resources,
    )
    from opentelemetry.sdk.version import __version__ as version

    sdk = Resource(
        {
            TELEMETRY_SDK_LANGUAGE: "python",
            TELEMETRY_SDK_NAME: "opentelemetry",
            TELEMETRY_SDK_VERSION: version,
        }
    )
    names = RESOURCE_DETECTORS.value(environ, warn)
    if "*" in names:
        names = (*names, *sorted({point.name for point in entry_points(group=_DETECTORS)}))
    made = [_detector(name, warn) for name in dict.fromkeys(names) if name not in _READ_HERE]
    detectors = [detector for detector in made if detector is not None]
    try:
        return get_aggregated_resources(detectors, sdk) if detectors else sdk
    except RuntimeError:
        # The interpreter ends, and starts none of the threads on which detectors are asked.
        return sdk


def _detector(name: str, warn: Warn) -> Any | None:
    """Make an installed detector; None, after a warning, if that fails."""
    try:
        detector_class = load_entry_point(_DETECTORS, name)
        return detector_class and detector_class()
    except Exception as error:
        if from_signal_handler(error):
            raise
        warn(
            f"{RESOURCE_DETECTORS.name}: {name!r} cannot be used ({type(error).__name__}: {error}); "
            "it is left out."
        )
        return None
