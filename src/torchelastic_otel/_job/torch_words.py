"""What torch writes, and events are recognised by: its message texts, thread names, exceptions, placeholders.

Pure code meets torch in these words alone; the metadata keys and event names that users see are in
``_contract``. A release of torch that changes one costs the detail that hangs on it, and nothing else.
"""

from __future__ import annotations

import re
from typing import Final

ROUND: Final = re.compile(r"\bround (\d{1,18}) of the rendezvous '")
"""Names the round that a rendezvous message speaks of."""
JOINED: Final = re.compile(
    r"has joined round (\d{1,18}) of .* as rank (\d{1,18}) in a world of size (\d{1,18})\b"
)
"""A join that succeeded: round, rank of the node, number of nodes."""
ATTEMPTS: Final = "attempts to join the next round"
"""A join that begins."""

KEEP_ALIVE_METHOD: Final = "._keep_alive"
KEEP_ALIVE_THREAD: Final = "RendezvousKeepAliveTimer"
"""What records keep-alive events, and the thread that does."""

HEALTHY: Final = "HEALTHY"
"""The state of a worker group whose workers run."""
UNHEALTHY: Final = "UNHEALTHY"
"""The state of a worker group in which a worker can neither be ended nor waited for."""

NO_EXCEPTION: Final = "NoneType: None"
"""``traceback.format_exc()`` with no exception at hand."""
NO_ERROR_FILE: Final = "<NONE>"
"""The message where a worker left no error file."""
NO_PID: Final = "None"

PEER_LOST: Final = re.compile(
    r"connection (?:closed|reset) by peer|broken pipe|timed out (?:waiting|after)|please check rank \d+ logs"
    r"|remote process exited or there was a network error|watchdog caught collective operation timeout"
    r"|failed to pass monitoredBarrier",
    re.IGNORECASE,
)
"""What collectives of gloo and NCCL say when another rank is gone, or does not come."""
DISTRIBUTED_ERROR: Final = re.compile(r"(?:torch\.distributed\.)?Dist\w*Error\Z")
"""The classes of exceptions that only collectives and their stores raise."""
RUNTIME_ERROR: Final = "RuntimeError"
COLLECTIVE: Final = re.compile(
    r"gloo|ProcessGroup|monitoredBarrier|NCCL|collective operation|please check rank \d+ logs", re.IGNORECASE
)
"""What a RuntimeError says that a collective raised, and not a data loader or a script."""

SIGNAL_EXCEPTION: Final = "SignalException"
"""torchrun turns SIGTERM and its like into this."""
GRACEFUL_EXIT: Final = "RendezvousGracefulExitError"
"""The round is complete without this node."""
TIMEOUT: Final = "RendezvousTimeoutError"
CLOSED: Final = "RendezvousClosedError"
