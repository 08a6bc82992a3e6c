"""Who sends: the resource of all telemetry of this process.

Nothing here overrides what the user says in ``OTEL_RESOURCE_ATTRIBUTES`` and ``OTEL_SERVICE_NAME``, nothing
is guessed, and there are no placeholders: an attribute is there if the environment tells it.
"""

from __future__ import annotations

import logging
import os
import socket
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from .._contract import SERVICE_NAME
from .._runtime.guard import say_once
from .._values import clean_text
from .environment import (
    Warn,
    entry_point_names,
    find_entry_point,
    read,
)

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

# Kubernetes sets nothing of this by itself: the pod's manifest does (downward API), under names of its
# author's choice. These are the usual ones; the first that is set counts.
_KUBERNETES = {
    "k8s.pod.name": ("K8S_POD_NAME", "KUBERNETES_POD_NAME", "MY_POD_NAME"),
    "k8s.pod.uid": ("K8S_POD_UID", "KUBERNETES_POD_UID", "MY_POD_UID"),
    "k8s.namespace.name": (
        "K8S_NAMESPACE_NAME",
        "K8S_NAMESPACE",
        "K8S_POD_NAMESPACE",
        "KUBERNETES_NAMESPACE",
        "MY_POD_NAMESPACE",
    ),
    "k8s.node.name": ("K8S_NODE_NAME", "KUBERNETES_NODE_NAME", "MY_NODE_NAME"),
    "k8s.container.name": ("K8S_CONTAINER_NAME",),
    "k8s.job.name": ("K8S_JOB_NAME",),
    "k8s.cluster.name": ("K8S_CLUSTER_NAME",),
}
# Usual as well, but other systems have variables of these names: they count inside of a pod only.
_KUBERNETES_IN_A_POD = {
    "k8s.pod.name": ("POD_NAME",),
    "k8s.pod.uid": ("POD_UID",),
    "k8s.namespace.name": ("POD_NAMESPACE", "NAMESPACE"),
    "k8s.node.name": ("NODE_NAME",),
    "k8s.container.name": ("CONTAINER_NAME",),
}
_SLURM = {
    "slurm.job.id": ("SLURM_JOB_ID", "SLURM_JOBID"),
    "slurm.job.name": ("SLURM_JOB_NAME",),
    "slurm.job.partition": ("SLURM_JOB_PARTITION",),
    "slurm.cluster.name": ("SLURM_CLUSTER_NAME",),
    "slurm.node.name": ("SLURMD_NODENAME",),
    "slurm.step.id": ("SLURM_STEP_ID", "SLURM_STEPID"),
    "slurm.array.job.id": ("SLURM_ARRAY_JOB_ID",),
    "slurm.array.task.id": ("SLURM_ARRAY_TASK_ID",),
}
_SLURM_NUMBERS = {
    "slurm.restart.count": ("SLURM_RESTART_COUNT",),
    "slurm.procid": ("SLURM_PROCID",),
}

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
        attributes |= _first_set(environ, _KUBERNETES_IN_A_POD)
    attributes |= _first_set(environ, _KUBERNETES)
    attributes |= _first_set(environ, _SLURM)
    for name, value in _first_set(environ, _SLURM_NUMBERS).items():
        if value.isdecimal():
            attributes[name] = int(value)
    attributes |= _users_attributes(environ)
    return {
        name: clean_text(value) if isinstance(value, str) else value for name, value in attributes.items()
    }


def build_resource(environ: Mapping[str, str], warn: Warn | None = None) -> Resource:
    """Return the resource: ``resource_attributes``, the SDK's own, and those of the user's detectors.

    Detectors are named in ``OTEL_EXPERIMENTAL_RESOURCE_DETECTORS``; what they find stands unless the user
    says otherwise. They may be slow (the SDK gives each 5 s): call this on a thread that may wait. What is
    wrong in the variables is one warning each, through ``warn`` or else in this package's log.
    """
    from opentelemetry.sdk.resources import Resource

    warn = warn or (lambda text: say_once(text, text))
    told = _malformed(environ, warn) | _unknown_detectors(environ, warn)
    with _without_the_sdks_words_on(told):
        base = Resource.create()
    ours = resource_attributes(environ)
    merged: dict[str, Any] = {**ours, **base.attributes, **_users_attributes(environ)}
    # The SDK makes up both of these where nobody names them (the second in newer versions).
    if str(base.attributes.get("service.name", "")).startswith("unknown_service"):
        merged["service.name"] = ours["service.name"]
    merged["service.instance.id"] = ours["service.instance.id"]
    return Resource({name: _cleaned(value) for name, value in merged.items()}, base.schema_url)


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return clean_text(value)
    return [_cleaned(item) for item in value] if isinstance(value, list | tuple) else value


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


def _items(environ: Mapping[str, str]) -> list[str]:
    # Not stripped: the SDK's words on an item quote it as it stands.
    return [item for item in environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(",") if item.strip()]


def _is_pair(item: str) -> bool:
    name, equals, _ = item.partition("=")
    return bool(name.strip() and equals)


def _users_attributes(environ: Mapping[str, str]) -> dict[str, str]:
    pairs = [item.partition("=") for item in _items(environ) if _is_pair(item)]
    attributes = {key.strip(): unquote(value.strip()) for key, _, value in pairs}
    attributes["service.name"] = read(environ, "OTEL_SERVICE_NAME") or attributes.get("service.name", "")
    for name in ("service.name", "service.instance.id"):
        # Empty names nobody: the default must stand.
        if not attributes.get(name):
            attributes.pop(name, None)
    return attributes


def _malformed(environ: Mapping[str, str], warn: Warn) -> set[str]:
    malformed = {item for item in _items(environ) if not _is_pair(item)}
    if malformed:
        shown = ", ".join(repr(item.strip()) for item in sorted(malformed))
        warn(
            f"OTEL_RESOURCE_ATTRIBUTES: {shown} is left out, since it is not of the form name=value. "
            "Separate the pairs by commas, and write a comma inside of a value as %2C."
        )
    # The SDK complains about what a trailing comma leaves, too, which is harmless.
    blank = {item for item in environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(",") if not item.strip()}
    return malformed | blank


def _unknown_detectors(environ: Mapping[str, str], warn: Warn) -> set[str]:
    variable, group = "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", "opentelemetry_resource_detector"
    names = {name.strip() for name in read(environ, variable).split(",")}
    unknown = {name for name in names - {"", "*"} if find_entry_point(group, name) is None}
    if unknown:
        shown = ", ".join(map(repr, sorted(unknown)))
        known = entry_point_names(group)
        warn(f"{variable}: {shown} is not installed and is left out. Installed are: {known}.")
    return unknown | {""}


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
