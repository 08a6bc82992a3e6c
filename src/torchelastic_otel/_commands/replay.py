"""What the command line does with spools: ``replay`` sends them, ``export`` writes them as OTLP JSON."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from .._config.environment import SIGNALS, Signal
from .._config.otlp import OtlpTarget
from .._config.settings import read_settings
from .._delivery.encoding import service_message
from .._delivery.outbox import NAMES
from .._delivery.recovery import Sent, batches, send_store
from .._delivery.spool import (
    Destination,
    Spool,
    assemble_readable,
    default_directory,
    destination_of,
    directory_of,
    orphans,
)
from .._runtime.imports import import_module

if TYPE_CHECKING:
    from .._delivery.sender import Sender

_BAR = 30


def spool_directory(given: str, environ: Mapping[str, str]) -> Path:
    """Return the spool that is meant: the one given, else the one that jobs with this environment use."""
    setting = given or read_settings(environ, _warn).spool_dir
    return directory_of(setting, environ) or default_directory(environ)


def _warn(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _targets(endpoint: str, environ: Mapping[str, str]) -> dict[Signal, OtlpTarget]:
    from .._config.exporters import plan_exporters

    if endpoint:
        specific = tuple(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT" for signal in SIGNALS)
        environ = {name: value for name, value in environ.items() if name not in specific}
        environ = {**environ, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
    found: dict[Signal, OtlpTarget] = {}
    for signal in SIGNALS:
        plans = plan_exporters(signal, environ, _warn)
        target = next((plan.otlp for plan in plans if plan.otlp is not None), None)
        if target is not None:
            found[signal] = target
    return found


class _Progress:
    """A bar on a terminal; nothing in a log file."""

    def __init__(self, total: int, out: IO[str]) -> None:
        self._total, self._out, self._done = total, out, 0
        self._shown = out.isatty() and total > 0

    def __call__(self, count: int) -> bool:
        self._done += count
        if self._shown:
            share = min(1.0, self._done / self._total)
            bar = "#" * int(share * _BAR)
            self._out.write(f"\r[{bar:<{_BAR}}] {self._done}/{self._total}")
            self._out.flush()
        return True

    def end(self) -> None:
        if self._shown:
            self._out.write("\n")


def replay(directory: Path, endpoint: str, environ: Mapping[str, str], out: IO[str]) -> int:
    """Send what processes that are gone left in ``directory``.

    Without ``endpoint`` only what was recorded for the destination that the environment names is sent: one
    tenant's records never go to another's. With it, everything goes there.

    Returns:
        0 if nothing is left to send, 1 if something is.

    """
    from .._delivery.sender import make_sender

    if not directory.is_dir():
        out.write(f"There is no spool at {directory}: nothing to send.\n")
        return 0
    targets = _targets(endpoint, environ)
    here: dict[str, Destination] = {signal: destination_of(target) for signal, target in targets.items()}
    senders: dict[Signal, Sender] = {
        signal: make_sender(signal, target) for signal, target in targets.items()
    }
    sent, left, elsewhere = Sent(), 0, set()
    for spool in orphans(directory):
        spool.release_held()
        spool.truncate_open_spans()
        counts = spool.counts()
        usable = {
            signal: sender
            for signal, sender in senders.items()
            if endpoint or spool.destinations.get(signal) == here.get(signal)
        }
        elsewhere |= {
            place.endpoint
            for signal, place in spool.destinations.items()
            if signal not in usable and counts.get(signal)
        }
        if usable and not sent.stopped:
            progress = _Progress(sum(counts.get(signal, 0) for signal in usable), out)
            send_store(spool, usable, sent, progress)
            progress.end()
        left += sum(spool.counts().values())
        spool.close()
    _tell(sent, left, elsewhere, directory, out)
    return 1 if left else 0


def _tell(sent: Sent, left: int, elsewhere: set[str], directory: Path, out: IO[str]) -> None:
    ends = (("sent", sent.delivered), ("refused and dropped", sent.rejected), ("held", sent.held))
    for what, counts in ends:
        for signal, count in counts.items():
            if count:
                out.write(f"{count} {NAMES[signal]} {what}\n")
    if sent.message:
        out.write(f"the backend said: {sent.message}\n")
    for place in sorted(elsewhere):
        out.write(f"some were recorded for {place}, with its own headers: give --endpoint to send them\n")
    if left:
        out.write(f"{left} are still in {directory}\n")
    elif not sent.delivered and not sent.rejected:
        out.write(f"nothing was left to send in {directory}\n")


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
    opened: dict[str, IO[str]] = {}
    try:
        for spool in orphans(directory):
            try:
                spool.release_held()
                spool.truncate_open_spans()
                for signal, line, count in _lines(spool):
                    if signal not in opened:
                        opened[signal] = files[signal].open("w", encoding="utf-8")
                    opened[signal].write(line + "\n")
                    counts[signal] += count
            finally:
                spool.close()
    finally:
        for file in opened.values():
            file.close()
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


def otlp_json(signal: str, request: bytes) -> str:
    """Return a serialized request in OTLP's JSON, whose ids are hex and whose enumerations are numbers."""
    as_dict = import_module("google.protobuf.json_format").MessageToDict
    message = service_message(signal, "Request").FromString(request)
    return json.dumps(_with_hex_ids(as_dict(message, use_integers_for_enums=True)))


def _with_hex_ids(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: base64.b64decode(inner).hex()
            if key in ("traceId", "spanId", "parentSpanId") and isinstance(inner, str)
            else _with_hex_ids(inner)
            for key, inner in value.items()
        }
    return [_with_hex_ids(inner) for inner in value] if isinstance(value, list) else value
