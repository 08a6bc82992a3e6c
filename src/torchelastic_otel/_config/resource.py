"""Who sends: the resource of all telemetry of this process.

Nothing here overrides what the user says in ``OTEL_RESOURCE_ATTRIBUTES`` and ``OTEL_SERVICE_NAME``, nothing
is guessed, and there are no placeholders: an attribute is there if the environment tells it.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Mapping
from urllib.parse import unquote

from .._contract import SERVICE_NAME
from .._values import clean_text
from . import sdk_variables as v
from .environment import read
from .schedulers import KUBERNETES, KUBERNETES_IN_A_POD, SLURM, SLURM_NUMBERS

_instance: tuple[int, str] = (0, "")


def resource_attributes(environ: Mapping[str, str]) -> dict[str, str | int]:
    """Return the attributes of this process as far as the environment tells them, the user's included.

    Resource detectors are not asked (``build_resource`` does), nothing of the SDK is imported.
    """
    attributes: dict[str, str | int] = {
        "service.name": SERVICE_NAME,
        "service.instance.id": _instance_id(),
        "host.name": socket.gethostname(),
        "process.pid": os.getpid(),
    }
    if read(environ, "KUBERNETES_SERVICE_HOST"):
        attributes |= _first_set(environ, KUBERNETES_IN_A_POD)
    attributes |= _first_set(environ, KUBERNETES)
    attributes |= _first_set(environ, SLURM)
    for name, value in _first_set(environ, SLURM_NUMBERS).items():
        if value.isdecimal():
            attributes[name] = int(value)
    attributes |= users_attributes(environ)
    return {
        name: clean_text(value) if isinstance(value, str) else value for name, value in attributes.items()
    }


def _instance_id() -> str:
    """Return an id that lasts as long as the process; a fork is another process."""
    global _instance
    if _instance[0] != os.getpid():
        _instance = (os.getpid(), str(uuid.uuid4()))
    return _instance[1]


def _first_set(environ: Mapping[str, str], table: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    found = {}
    for name, variables in table.items():
        value = next(filter(None, (read(environ, variable) for variable in variables)), "")
        if value:
            found[name] = value
    return found


def attribute_items(environ: Mapping[str, str]) -> list[str]:
    return [item for item in v.RESOURCE_ATTRIBUTES.given(environ)[1].split(",") if item.strip()]


def is_pair(item: str) -> bool:
    name, equals, _ = item.partition("=")
    return bool(name.strip() and equals)


def users_attributes(environ: Mapping[str, str]) -> dict[str, str]:
    pairs = [item.partition("=") for item in attribute_items(environ) if is_pair(item)]
    attributes = {key.strip(): unquote(value.strip()) for key, _, value in pairs}
    attributes["service.name"] = v.SERVICE_NAME.given(environ)[1] or attributes.get("service.name", "")
    for name in ("service.name", "service.instance.id"):
        # Empty names nobody: the default must stand.
        if not attributes.get(name):
            attributes.pop(name, None)
    return attributes
