"""``torchelastic-otel replay``: sends what processes that are gone could not deliver."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import IO

from .._config.environment import SIGNALS, Signal
from .._config.exporters import plan_exporters
from .._config.otlp import OtlpTarget
from .._delivery.credentials import CredentialError
from .._delivery.outbox import NAMES
from .._delivery.recovery import Sent, send_store
from .._delivery.sender import Sender, make_sender
from .._delivery.spool import Destination, Spool, destination_of
from .spools import NOT_SEEN, Round, warn

_BAR = 30


def replay(directory: Path, endpoint: str, environ: Mapping[str, str], out: IO[str]) -> int:
    """Send what processes that are gone left in ``directory``, which is there.

    Without ``endpoint`` only what was recorded for the destination that the environment names is sent: one
    tenant's records never go to another's. With it, everything goes there.

    Returns:
        0 if nothing is left in the spool, 1 if something is, 2 if some of it could not be looked at, or there
        is nowhere to send it.

    """
    targets = _targets(endpoint, environ)
    senders = _senders(targets)
    if endpoint and not senders:
        return NOT_SEEN  # why was said
    here: dict[str, Destination] = {}
    if not endpoint:
        here = {signal: destination_of(target) for signal, target in targets.items()}
    sending = _Sending(senders, here, out)
    stores = Round(directory)
    stores.visit(sending.send)
    sending.tell(directory)
    status = stores.tell(out, seen_is_left=True)
    if status == 0:
        out.write(f"nothing is left in {directory}\n")
    return NOT_SEEN if status and len(senders) < len(targets) else status


def _targets(endpoint: str, environ: Mapping[str, str]) -> dict[Signal, OtlpTarget]:
    if endpoint:
        own = {f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT" for signal in SIGNALS}
        exporters = {f"OTEL_{signal.upper()}_EXPORTER" for signal in SIGNALS}
        environ = {
            name: value
            for name, value in environ.items()
            if name not in own and not (name in exporters and "otlp" not in value)
        }
        environ = {**environ, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
    found: dict[Signal, OtlpTarget] = {}
    for signal in SIGNALS:
        plans = plan_exporters(signal, environ, warn)
        target = next((plan.otlp for plan in plans if plan.otlp is not None), None)
        if target is not None:
            found[signal] = target
    return found


def _senders(targets: Mapping[Signal, OtlpTarget]) -> dict[Signal, Sender]:
    """Make what sends each signal; where that cannot be, say why."""
    made: dict[Signal, Sender] = {}
    for signal, target in targets.items():
        try:
            made[signal] = make_sender(signal, target)
        except (CredentialError, OSError) as error:
            warn(f"{NAMES[signal]} cannot be sent: {error}")
    return made


class _Sending:
    """Sends store after store, and says what became of all."""

    def __init__(
        self, senders: Mapping[Signal, Sender], here: Mapping[str, Destination], out: IO[str]
    ) -> None:
        self._senders, self._here, self._out = senders, here, out
        self._sent = Sent()
        self._left = 0
        self._elsewhere: set[str] = set()

    def send(self, spool: Spool) -> None:
        """Send what is in a store and goes to where we send."""
        counts = spool.counts()
        usable = {
            signal: sender
            for signal, sender in self._senders.items()
            if not self._here or spool.destinations.get(signal) == self._here[signal]
        }
        self._elsewhere |= {
            place.endpoint
            for signal, place in spool.destinations.items()
            if signal not in usable and counts.get(signal) and self._here.get(signal) != place
        }
        try:
            if usable and not self._sent.stopped:
                progress = _Progress(sum(counts.get(signal, 0) for signal in usable), self._out)
                send_store(spool, usable, self._sent, progress)
                progress.end()
        finally:
            self._left += sum(spool.counts().values())

    def tell(self, directory: Path) -> None:
        """Say what became of it."""
        sent, out = self._sent, self._out
        ends = (("sent", sent.delivered), ("refused and dropped", sent.rejected), ("held", sent.held))
        for what, counts in ends:
            for signal, count in counts.items():
                if count:
                    out.write(f"{count} {NAMES[signal]} {what}\n")
        if sent.message:
            out.write(f"the backend said: {sent.message}\n")
        for place in sorted(self._elsewhere):
            out.write(f"some were recorded for {place}, with its own headers: give --endpoint to send them\n")
        if self._left:
            out.write(f"{self._left} are still in {directory}\n")


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
