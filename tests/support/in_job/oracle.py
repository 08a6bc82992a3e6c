"""Tells the tests what torch records, whatever becomes of it. Runs in every Python process of the job."""

from __future__ import annotations

import itertools
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

_numbers = itertools.count()
_installed = False
_told: socket.socket


def install() -> None:
    """Wrap torch's functions, above all logging, once they are imported."""
    global _installed, _told
    name = os.environ.get("TORCHRUN_HARNESS_SOCKET")
    if not name or _installed:
        return
    _installed = True
    if os.environ.get("TORCHRUN_HARNESS_HIDE_BRIDGE"):
        sys.meta_path.insert(0, _Hidden())
    if os.environ.get("LOCAL_RANK"):
        return  # launchers are what it is about
    _told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    _told.connect("\0" + name)
    from wrapt import register_post_import_hook

    # Rendezvous events are built by a function that others import by name: it is replaced at once. Agents'
    # events are caught where they are recorded, so that what the bridge wraps is called from here.
    register_post_import_hook(_wrap_rendezvous, "torch.distributed.elastic.events")
    register_post_import_hook(_wrap_record, "torch.distributed.elastic.agent.server.api")
    register_post_import_hook(lambda module: _wrap_record(module.events), "torch.distributed.launcher.api")


class _Hidden:
    """The bridge as if it were not installed."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> None:
        if name.partition(".")[0] == "torchelastic_otel":
            raise ModuleNotFoundError(name)


def _tell(kind: str, number: int, **more: str) -> None:
    note = {"kind": kind, "number": number, "pid": os.getpid(), "time_ns": time.time_ns(), **more}
    _told.send(json.dumps({**note, "thread": threading.current_thread().name}).encode())


def _around(kind: str, original: Callable[[], Any], **more: str) -> Any:
    number = next(_numbers)
    _tell(kind, number, **more)
    try:
        return original()
    finally:
        _tell("done", number)


def _wrap_record(module: Any) -> None:
    record = module.record

    def tell_record(event: Any, destination: str = "null") -> Any:
        told = {"text": event.serialize(), "destination": destination}
        return _around("event", lambda: record(event, destination), **told)

    module.record = tell_record


def _wrap_rendezvous(events: Any) -> None:
    record_rdzv_event = events.record_rdzv_event

    def tell_record_rdzv_event(event: Any) -> Any:
        return _around("rdzv", lambda: record_rdzv_event(event), text=event.serialize(), destination="")

    events.record_rdzv_event = tell_record_rdzv_event

    def asked(arguments: dict[str, Any]) -> None:
        _tell("asked", -1, text=str(arguments.get("message", "")), destination="")

    # Torch names the event after the file of the function that calls: this wrapper is to be it.
    namespace: dict[str, Any] = {"original": events.construct_and_record_rdzv_event, "asked": asked}
    name = "construct_and_record_rdzv_event"
    source = f"def {name}(**arguments):\n asked(arguments)\n return original(**arguments)"
    exec(compile(source, "dynamic_rendezvous.py", "exec"), namespace)
    events.construct_and_record_rdzv_event = namespace[name]


install()
