"""``torchelastic-otel export``: writes what is in a spool as OTLP JSON."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TypeAlias

from .._config.environment import SIGNALS, Signal
from .._delivery.encoding import service_message
from .._delivery.outbox import NAMES
from .._delivery.recovery import batches
from .._delivery.spool import Spool, assemble_readable
from .._runtime.imports import import_module
from .spools import left_stores

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"

_IDS = ("traceId", "spanId", "parentSpanId")


def export(directory: Path, into: Path, out: IO[str]) -> int:
    """Write what is in a spool as OTLP JSON Lines, a file per signal; everything stays in the spool.

    What was held is free to be sent again then, and spans left open are closed, as for ``replay``.

    Each line is a whole request, as the Collector's ``otlpjsonfile`` receiver reads it.
    """
    if not directory.is_dir():
        out.write(f"There is no spool at {directory}: nothing to write.\n")
        return 1
    into.mkdir(parents=True, exist_ok=True)
    counts = dict.fromkeys(SIGNALS, 0)
    files = {signal: into / f"{signal}.jsonl" for signal in SIGNALS}
    opened: dict[Signal, IO[str]] = {}
    with ExitStack() as stack:
        for spool in left_stores(directory):
            for signal, line, count in _lines(spool):
                if signal not in opened:
                    opened[signal] = stack.enter_context(files[signal].open("w", encoding="utf-8"))
                opened[signal].write(line + "\n")
                counts[signal] += count
    for signal, count in counts.items():
        if count:
            out.write(f"{count} {NAMES[signal]} in {files[signal]}\n")
    if not opened:
        out.write(f"nothing is left in {directory}\n")
    return 0


def _lines(spool: Spool) -> Iterator[tuple[Signal, str, int]]:
    for signal in SIGNALS:
        for items in batches(spool, signal):
            yield signal, otlp_json(signal, assemble_readable(signal, items, spool.header)[0]), len(items)


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
