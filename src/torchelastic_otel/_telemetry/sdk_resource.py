"""The resource of what the bridge sends, in the SDK's form."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .._config.environment import Warn
from .._config.resource import attribute_items, is_pair, resource_attributes, users_attributes
from .._config.sdk_variables import RESOURCE_ATTRIBUTES, RESOURCE_DETECTORS
from .._runtime.guard import say_once
from .._values import clean_text
from .redaction import Redaction

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource


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
    from opentelemetry.sdk.version import __version__

    warn = warn or (lambda text: say_once(text, text))
    told = _malformed(environ, warn) | _unknown_detectors(environ, warn)
    with _without_the_sdks_words_on(told):
        try:
            base = Resource.create()
        except RuntimeError:
            # The interpreter ends, and starts none of the threads on which detectors are asked.
            base = Resource(
                {
                    "telemetry.sdk.language": "python",
                    "telemetry.sdk.name": "opentelemetry",
                    "telemetry.sdk.version": __version__,
                }
            )
    ours = resource_attributes(environ)
    merged: dict[str, Any] = {**ours, **base.attributes, **users_attributes(environ)}
    # The SDK makes up both of these where nobody names them (the second in newer versions).
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


def _malformed(environ: Mapping[str, str], warn: Warn) -> set[str]:
    malformed = {item for item in attribute_items(environ) if not is_pair(item)}
    if malformed:
        shown = ", ".join(repr(item.strip()) for item in sorted(malformed))
        warn(
            f"{RESOURCE_ATTRIBUTES.name}: {shown} is left out, since it is not of the form name=value. "
            "Separate the pairs by commas, and write a comma inside of a value as %2C."
        )
    # The SDK complains about what a trailing comma leaves, too, which is harmless.
    blank = {item for item in RESOURCE_ATTRIBUTES.given(environ)[1].split(",") if not item.strip()}
    return malformed | blank


def _unknown_detectors(environ: Mapping[str, str], warn: Warn) -> set[str]:
    known = RESOURCE_DETECTORS.value(environ, warn)
    given = {name.strip() for name in RESOURCE_DETECTORS.given(environ)[1].split(",")}
    return {*given, ""} - set(known)


@contextmanager
def _without_the_sdks_words_on(told: set[str]) -> Iterator[None]:
    """Hold back the SDK's warnings about ``told``: they lack the variable's name, and ours was given."""
    logger = logging.getLogger("opentelemetry.sdk.resources")

    def is_news(record: logging.LogRecord) -> bool:
        return not (isinstance(record.args, tuple) and record.args and record.args[0] in told)

    logger.addFilter(is_news)
    try:
        yield
    finally:
        logger.removeFilter(is_news)
