"""``torchelastic-otel export``: writes what is in a spool as OTLP JSON."""

from __future__ import annotations

import base64
import contextlib
import json
import os
from collections import Counter
from pathlib import Path
from typing import IO, TypeAlias

from .._config.environment import SIGNALS, Signal
from .._delivery.encoding import service_message
from .._delivery.outbox import NAMES
from .._delivery.recovery import batches
from .._delivery.spool import Spool, assemble_readable
from .._runtime.imports import import_module
from .spools import NOT_SEEN, SOMETHING_LEFT, Round, warn

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"

_IDS = ("traceId", "spanId", "parentSpanId")


def export(directory: Path, into: Path, out: IO[str], *, force: bool = False) -> int:
    """Write what is in a spool as OTLP JSON Lines, a file per signal; everything stays in the spool.

    What was held is free to be sent again then, and spans left open are closed, as for ``replay``.

    Each line is a whole request, as the Collector's ``otlpjsonfile`` receiver reads it.

    Args:
        directory: the spool, which is there.
        into: where the files go.
        out: where it is said.
        force: write over files that are there.

    Returns:
        0 if all of the spool was written, 1 if there is more in it, 2 if some of it could not be looked at,
        or the files cannot be written.

    """
    files = _Files(into, force=force)
    there = files.in_the_way()
    if there:
        warn(f"{', '.join(map(str, there))} is there already: give --force to write over it, or --output")
        return NOT_SEEN
    stores = Round(directory)
    try:
        with files:
            stores.visit(files.write)
    except OSError as error:
        warn(f"{into} cannot be written ({error.strerror or error})")
        return NOT_SEEN
    for signal, count in files.counts.items():
        out.write(f"{count} {NAMES[signal]} in {files.path(signal)}\n")
    if files.unreadable:
        out.write(f"{files.unreadable} could not be read\n")
    status = stores.tell(out, seen_is_left=False)
    if not files.counts and status == 0:
        out.write(f"nothing is left in {directory}\n")
    return status or (SOMETHING_LEFT if files.unreadable else 0)


class _Files:
    """A file per signal, for this user alone; they have their names once all is written."""

    def __init__(self, into: Path, *, force: bool) -> None:
        self._into, self._force = into, force
        self._opened: dict[Signal, IO[str]] = {}
        self.counts: Counter[Signal] = Counter()
        self.unreadable = 0

    def path(self, signal: Signal) -> Path:
        """Return the file of a signal."""
        return self._into / f"{signal}.jsonl"

    def _part(self, signal: Signal) -> Path:
        return self._into / f".{signal}.jsonl.{os.getpid()}"

    def in_the_way(self) -> list[Path]:
        """Return the files that are there and are not to be written over."""
        return [path for path in map(self.path, SIGNALS) if not self._force and os.path.lexists(path)]

    def write(self, spool: Spool) -> None:
        """Write what is in a store."""
        for signal in SIGNALS:
            for items in batches(spool, signal):
                request, unreadable = assemble_readable(signal, items, spool.header)
                self.unreadable += len(unreadable)
                if request:
                    self._file(signal).write(otlp_json(signal, request) + "\n")
                    self.counts[signal] += len(items) - len(unreadable)

    def _file(self, signal: Signal) -> IO[str]:
        if signal not in self._opened:
            self._into.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._opened[signal] = open(  # noqa: SIM115 - closed in __exit__
                os.open(self._part(signal), flags, 0o600), "w", encoding="utf-8"
            )
        return self._opened[signal]

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            for file in self._opened.values():
                file.close()
            if kind is None:
                for signal in self._opened:
                    self._name(signal)
        finally:
            for signal in self._opened:
                with contextlib.suppress(OSError):
                    self._part(signal).unlink()

    def _name(self, signal: Signal) -> None:
        if self._force:
            self._part(signal).replace(self.path(signal))
        else:
            os.link(self._part(signal), self.path(signal))  # unlike a new name it takes no other file's place


def otlp_json(signal: Signal, request: bytes) -> str:
    """Return a serialized request in OTLP's JSON, whose ids are hex and whose enumerations are numbers."""
    as_dict = import_module("google.protobuf.json_format").MessageToDict
    message: Json = as_dict(
        service_message(signal, "Request").FromString(request), use_integers_for_enums=True
    )
    return json.dumps(_with_hex_ids(message))


def _with_hex_ids(value: Json) -> Json:
    if isinstance(value, dict):
        return {
            key: base64.b64decode(inner).hex()
            if key in _IDS and isinstance(inner, str)
            else _with_hex_ids(inner)
            for key, inner in value.items()
        }
    return [_with_hex_ids(inner) for inner in value] if isinstance(value, list) else value
