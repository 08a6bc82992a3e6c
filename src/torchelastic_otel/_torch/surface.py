"""What is used of torch's objects, as types: nothing here runs.

Each class names what one of torch's offers to the hooks; an underscore marks what torch may change at any
time. What only some versions or backends have stands beside it as a comment, and is read with ``getattr``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Protocol


class EventsModule(Protocol):
    """``torch.distributed.elastic.events``."""

    get_logging_handler: Any  # a function; its globals hold _log_handlers
    _events_loggers: dict[str, logging.Logger]
    record: Callable[..., None]
    record_rdzv_event: Callable[..., None]
    RdzvEvent: Callable[..., object]

    def _get_or_create_logger(self, destination: str) -> logging.Logger: ...


class RegistryModule(Protocol):
    """``torch.distributed.elastic.rendezvous.registry``."""

    get_rendezvous_handler: Callable[..., RendezvousHandler]


class AgentModule(Protocol):
    """``torch.distributed.elastic.agent.server.local_elastic_agent``."""

    LocalElasticAgent: Any
    start_processes: Callable[..., ProcessContext]


class Named(Protocol):
    """A member of an enumeration."""

    name: str


class RendezvousHandler(Protocol):
    """``RendezvousHandler``."""

    def get_run_id(self) -> str: ...
    def get_backend(self) -> str: ...


class RendezvousInfo(Protocol):
    """What ``next_rendezvous`` returns."""

    rank: int
    world_size: int


class RendezvousState(Protocol):
    """``_RendezvousState``, of dynamic backends."""

    round: int
    complete: bool
    participants: Iterable[object]
    wait_list: Iterable[object]


class RendezvousTimeout(Protocol):
    """``RendezvousTimeout``."""

    join: timedelta


class RendezvousSettings(Protocol):
    """``RendezvousSettings``, of dynamic backends."""

    min_nodes: int
    max_nodes: int
    timeout: RendezvousTimeout


class RendezvousStateHolder(Protocol):
    """``_RendezvousStateHolder``, of dynamic backends."""

    state: RendezvousState


class DynamicRendezvousHandler(RendezvousHandler, Protocol):
    """``DynamicRendezvousHandler``."""

    settings: RendezvousSettings
    _state_holder: RendezvousStateHolder
    _this_node: object


class WorkerSpec(Protocol):
    """``WorkerSpec``. 2.8 and later also have event_log_handler."""

    role: str
    max_restarts: int
    local_world_size: int
    rdzv_handler: RendezvousHandler

    def get_entrypoint_name(self) -> str: ...


class Worker(Protocol):
    """``Worker``."""

    local_rank: int
    global_rank: int
    role_rank: int
    role_world_size: int
    world_size: int


class WorkerGroup(Protocol):
    """``WorkerGroup``."""

    spec: WorkerSpec
    workers: Sequence[Worker]
    state: Named
    group_rank: int | None
    group_world_size: int | None


class Agent(Protocol):
    """``LocalElasticAgent``.

    Some versions also have _uninterruptible_state_timeout and _uninterruptible_state_first_seen.
    """

    def get_worker_group(self) -> WorkerGroup: ...


class RunResult(Protocol):
    """What an agent's ``run`` and ``_monitor_workers`` return."""

    state: Named


class ProcessContext(Protocol):
    """``PContext``.

    Both have stdouts, stderrs and error_files, by local rank. That of scripts has subprocess_handlers (each
    with proc) and _running_local_ranks; that of functions has _pc.processes.
    """

    close: Callable[..., Any]

    def pids(self) -> Mapping[int, int]: ...
