"""``torchelastic-otel replay``: sends what processes that are gone could not deliver."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import IO

from .._config.environment import SIGNALS, Signal
from .._config.exporters import plan_exporters
from .._config.otlp import OtlpTarget
from .._delivery.outbox import NAMES
from .._delivery.recovery import Sent, send_store
from .._delivery.sender import Sender, make_sender
from .._delivery.spool import destination_of
from .spools import left_stores, warn

_BAR = 30


def replay(directory: Path, endpoint: str, environ: Mapping[str, str], out: IO[str]) -> int:
    """Send what processes that are gone left in ``directory``.

    Without ``endpoint`` only what was recorded for the destination that the environment names is sent: one
    tenant's records never go to another's. With it, everything goes there.

    Returns:
        0 if nothing is left to send, 1 if something is.

    """
    if not directory.is_dir():
        out.write(f"There is no spool at {directory}: nothing to send.\n")
        return 0
    targets = _targets(endpoint, environ)
    here = {signal: destination_of(target) for signal, target in targets.items()}
    senders: dict[Signal, Sender] = {
        signal: make_sender(signal, target) for signal, target in targets.items()
    }
    sent, left, elsewhere = Sent(), 0, set()
    for spool in left_stores(directory):
        counts = spool.counts()
        usable = {
            signal: sender
            for signal, sender in senders.items()
            if endpoint or spool.destinations.get(signal) == here[signal]
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
    _tell(sent, left, elsewhere, directory, out)
    return 1 if left else 0


def _targets(endpoint: str, environ: Mapping[str, str]) -> dict[Signal, OtlpTarget]:
    if endpoint:
        specific = tuple(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT" for signal in SIGNALS)
        environ = {name: value for name, value in environ.items() if name not in specific}
        environ = {**environ, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
    found: dict[Signal, OtlpTarget] = {}
    for signal in SIGNALS:
        plans = plan_exporters(signal, environ, warn)
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
