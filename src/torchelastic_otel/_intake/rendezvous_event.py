"""A rendezvous event as its caller's frame shows it.

One frame's code object says what is needed; ``inspect.stack()``, which torch uses, reads every frame's source
file.
"""

from __future__ import annotations

import os
import socket
import traceback
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

Made = TypeVar("Made")


def make_rendezvous_event(
    kind: Callable[..., Made],
    caller: FrameType | None,
    run_id: str,
    message: str,
    node_state: str,
    name: str = "",
    hostname: str = "",
    pid: int | None = None,
    master_endpoint: str = "",
    local_id: int | None = None,
    rank: int | None = None,
    *,
    find_hostname: Callable[[], str] | None = None,
) -> Made:
    """Make the event of ``construct_and_record_rdzv_event``, which says what the other arguments are.

    ``kind`` is the event's class, ours or torch's. ``caller`` is the frame of the call; there is none when
    the interpreter itself calls, as at exit or at the start of a bare thread. ``find_hostname`` is asked
    where no ``hostname`` is given; without it the system is.
    """
    file = "no_file"
    if caller is not None:
        file = os.path.basename(caller.f_code.co_filename)
        name = name or caller.f_code.co_name
    return kind(
        name=f"{file}:{name}",
        run_id=run_id,
        message=message,
        hostname=hostname or (find_hostname or socket.getfqdn)(),
        pid=pid or os.getpid(),
        node_state=node_state,
        master_endpoint=master_endpoint,
        rank=rank,
        local_id=local_id,
        error_trace=traceback.format_exc() if node_state == "FAILED" else "",
    )
