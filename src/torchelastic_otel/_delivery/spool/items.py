"""What a spool keeps: single log records and spans, where they were to go, and the request they become."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..._config.secrets import without_credentials
from ..encoding import FIELDS, service_message
from .files import SpoolError, UnreadableError

if TYPE_CHECKING:
    from ..._config.otlp import OtlpTarget


_MOST_BYTES = 3 * 1024 * 1024  # collectors take 4 MiB per gRPC message by default


@dataclass(frozen=True, slots=True)
class Item:
    """Something recorded, as it is sent."""

    id: int
    signal: str
    """``logs``, ``traces`` or ``metrics``."""
    scope_id: int
    """Which header it belongs to; 0 for metrics."""
    payload: bytes
    """Serialized LogRecord or Span; for metrics a whole ExportMetricsServiceRequest."""
    spoiled: bool = False
    """It is not what was written, and cannot be had."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a signal was to go."""

    endpoint: str
    """The URL without credentials, for people."""
    fingerprint: str
    """The same for the same protocol, endpoint and headers."""


def destination_of(target: OtlpTarget) -> Destination:
    """Return what the spool keeps of ``target``: enough to tell whether another one is the same."""
    # Tenants are told apart by headers, by a client's certificate, or by what a third party provides.
    who = [sorted(target.headers), target.certificate_file, target.key_file, target.credential_provider]
    identity = json.dumps([target.protocol, target.endpoint, *who])
    return Destination(without_credentials(target.endpoint), hashlib.sha256(identity.encode()).hexdigest())


def fitting(items: Sequence[Item]) -> list[Item]:
    """Return as many of the first items, one at least, as fit into one request."""
    size = 0
    for number, item in enumerate(items):
        size += len(item.payload)
        if number and size > _MOST_BYTES:
            return list(items[:number])
    return list(items)


def assemble(signal: str, items: Sequence[Item], header_of: Callable[[int], bytes]) -> bytes:
    """Return the export request of ``items``, serialized: grouped by their header, in order.

    Args:
        signal: ``logs``, ``traces`` or ``metrics``.
        items: of that signal.
        header_of: returns the header of a scope id (``Spool.header``).
    """
    if signal == "metrics":  # whole requests, and requests one after the other are one
        for item in items:
            service_message(signal, "Request").FromString(item.payload)
        return b"".join(item.payload for item in items)
    groups: dict[int, list[bytes]] = {}
    for item in items:
        groups.setdefault(item.scope_id, []).append(item.payload)
    resources, scopes, leaves = FIELDS[signal]
    request = service_message(signal, "Request")()
    for scope_id, payloads in groups.items():
        resource = getattr(request, resources).add()
        resource.MergeFromString(header_of(scope_id))
        messages = getattr(getattr(resource, scopes)[0], leaves)
        for payload in payloads:
            messages.add().MergeFromString(payload)
    return bytes(request.SerializeToString())


def assemble_readable(
    signal: str, items: Sequence[Item], header_of: Callable[[int], bytes]
) -> tuple[bytes, list[Item]]:
    """Return the request of the items that can be read, and those that cannot and never will be.

    A power failure or a bad disk can spoil one; it must not keep back the others.

    Raises:
        SpoolError: the disk does not say now whether they can.
    """
    good = [item for item in items if not item.spoiled]
    try:
        request = _assembled(signal, good, header_of)
    except UnreadableError:
        good = [item for item in good if _is_readable(signal, item, header_of)]
        request = _assembled(signal, good, header_of)
    readable = {item.id for item in good}
    return request, [item for item in items if item.id not in readable]


def _is_readable(signal: str, item: Item, header_of: Callable[[int], bytes]) -> bool:
    try:
        return bool(_assembled(signal, [item], header_of))
    except UnreadableError:
        return False


def _assembled(signal: str, items: Sequence[Item], header_of: Callable[[int], bytes]) -> bytes:
    """Return the request, b"" of no items; UnreadableError if one cannot be read."""
    try:
        return assemble(signal, items, header_of) if items else b""
    except SpoolError:
        raise
    except Exception as error:  # protobuf's own errors, and those of a header that is another message
        raise UnreadableError(f"An item cannot be read ({type(error).__name__}).") from error
