"""Every name that users may rely on: spans, events, attributes, metrics, values.

This is the one source of names. The telemetry reference in the documentation is checked against it, and no
other module spells a name of its own.
"""

from __future__ import annotations

from typing import Final

SCOPE: Final = "torchelastic_otel"
"""Instrumentation scope of all that the bridge emits."""

SERVICE_NAME: Final = "torchelastic"
"""``service.name`` where the user names none."""

DESTINATION: Final = "otel"
"""The event destination (``--event-log-handler otel``)."""

PREFIX: Final = "torchelastic."

# Spans
SPAN_AGENT: Final = "torchelastic.agent"
SPAN_RENDEZVOUS: Final = "torchelastic.rendezvous"
SPAN_WORKER_GROUP: Final = "torchelastic.worker_group"
SPAN_WORKER: Final = "torchelastic.worker"

# The bridge's own events, where torch has none
EVENT_AGENT_START: Final = "torchelastic.agent.start"
EVENT_AGENT_STOP: Final = "torchelastic.agent.stop"
EVENT_FAILURE: Final = "torchelastic.failure"
EVENT_RESTART: Final = "torchelastic.restart"
EVENT_UNPARSED: Final = "torchelastic.unparsed"

# torch's own agent and worker events
TORCH_EVENT_PREFIX: Final = "torchelastic.worker.status."

# Attributes: semantic conventions
LOG_RECORD_UID: Final = "log.record.uid"
ERROR_TYPE: Final = "error.type"
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"
EXCEPTION_STACKTRACE: Final = "exception.stacktrace"
PROCESS_EXIT_CODE: Final = "process.exit.code"

# Attributes: torch's, under the prefix
RUN_ID: Final = "torchelastic.run_id"
GLOBAL_RANK: Final = "torchelastic.global_rank"
GROUP_RANK: Final = "torchelastic.group_rank"
LOCAL_RANK: Final = "torchelastic.local_rank"
ROLE_RANK: Final = "torchelastic.role_rank"
ROLE: Final = "torchelastic.role"
ROLE_WORLD_SIZE: Final = "torchelastic.role_world_size"
GROUP_WORLD_SIZE: Final = "torchelastic.group_world_size"
WORLD_SIZE: Final = "torchelastic.world_size"
STATE: Final = "torchelastic.state"
RDZV_BACKEND: Final = "torchelastic.rdzv_backend"
AGENT_RESTARTS: Final = "torchelastic.agent_restarts"
TOTAL_RUN_TIME: Final = "torchelastic.total_run_time"
WORKER_ID: Final = "torchelastic.worker_id"
WORKER_PID: Final = "torchelastic.worker_pid"
HOSTNAME: Final = "torchelastic.hostname"
RAW_ERROR: Final = "torchelastic.raw_error"
DURATION_MS: Final = "torchelastic.duration_ms"
ENTRY_POINT: Final = "torchelastic.entry_point"
SOURCE: Final = "torchelastic.source"
EVENT: Final = "torchelastic.event"
NODE_STATE: Final = "torchelastic.node_state"
MASTER_ENDPOINT: Final = "torchelastic.master_endpoint"
LOCAL_ID: Final = "torchelastic.local_id"
RDZV_PID: Final = "torchelastic.pid"
ROUND: Final = "torchelastic.round"
METADATA: Final = "torchelastic.metadata"
WATCHDOG_PREFIX: Final = "torchelastic.watchdog."
WATCHDOG_EVENT: Final = "torchelastic.watchdog.event"

# Attributes: the bridge's own
OUTCOME: Final = "torchelastic.outcome"
VERDICT: Final = "torchelastic.verdict"
GENERATION: Final = "torchelastic.generation"
RESTARTS: Final = "torchelastic.restarts"
MAX_RESTARTS: Final = "torchelastic.max_restarts"
MIN_NODES: Final = "torchelastic.min_nodes"
MAX_NODES: Final = "torchelastic.max_nodes"
NODES_JOINED: Final = "torchelastic.rendezvous.nodes_joined"
NODES_JOINED_NAMES: Final = "torchelastic.rendezvous.nodes"
NODES_WAITING_NAMES: Final = "torchelastic.rendezvous.nodes_waiting"
RENDEZVOUS_WAITED: Final = "torchelastic.rendezvous.waited"
RENDEZVOUS_TIMEOUT: Final = "torchelastic.rendezvous.timeout"
STEP: Final = "torchelastic.step"
AGENT_SIGNAL: Final = "torchelastic.agent.signal"
WORKER_SIGNAL: Final = "torchelastic.worker.signal"
COLLATERAL: Final = "torchelastic.collateral"
FAILURE_CAUSE: Final = "torchelastic.failure.cause"
FAILURE_OOM_KILL: Final = "torchelastic.failure.oom_kill"
FAILURE_STDERR: Final = "torchelastic.failure.stderr"
FAILURE_STDOUT: Final = "torchelastic.failure.stdout"
FAILURE_ERROR_FILE: Final = "torchelastic.failure.error_file"
FAILURE_TIES: Final = "torchelastic.first_failure.ties"
FIRST_FAILURE_PREFIX: Final = "torchelastic.first_failure."
RESTART_CAUSE: Final = "torchelastic.restart.cause"
RESTART_FROM: Final = "torchelastic.restart.from_generation"
RESTART_TO: Final = "torchelastic.restart.to_generation"
RESTART_DURATION: Final = "torchelastic.restart.duration"
RESTART_NODES: Final = "torchelastic.restart.nodes_waiting"
EXIT_BARRIER_DURATION: Final = "torchelastic.exit_barrier.duration"
TRUNCATED: Final = "torchelastic.truncated"
RANDOM_TRACE: Final = "torchelastic.trace.random"

# Values
OUTCOME_SUCCEEDED: Final = "succeeded"
OUTCOME_FAILED: Final = "failed"
OUTCOME_TERMINATED: Final = "terminated"
OUTCOME_INTERRUPTED: Final = "interrupted"

CAUSE_EXIT: Final = "exit"
CAUSE_SIGNAL: Final = "signal"
CAUSE_EXCEPTION: Final = "exception"
CAUSE_WATCHDOG: Final = "watchdog"
CAUSE_UNINTERRUPTIBLE: Final = "uninterruptible"

RESTART_WORKER_FAILURE: Final = "worker_failure"
RESTART_MEMBERSHIP_CHANGE: Final = "membership_change"

# Metrics
METRIC_HEARTBEATS: Final = "torchelastic.rendezvous.heartbeats"
METRIC_EVENTS: Final = "torchelastic.events"
METRIC_DROPPED: Final = "torchelastic_otel.dropped"

# torch's metadata keys → attributes. A key that is not here is lifted under PREFIX as it is.
TORCH_KEYS: Final[dict[str, str]] = {
    "run_id": RUN_ID,
    "global_rank": GLOBAL_RANK,
    "group_rank": GROUP_RANK,
    "worker_id": WORKER_ID,
    "role": ROLE,
    "hostname": HOSTNAME,
    "state": STATE,
    "total_run_time": TOTAL_RUN_TIME,
    "rdzv_backend": RDZV_BACKEND,
    "raw_error": RAW_ERROR,
    "agent_restarts": AGENT_RESTARTS,
    "duration_ms": DURATION_MS,
    "group_world_size": GROUP_WORLD_SIZE,
    "entry_point": ENTRY_POINT,
    "local_rank": LOCAL_RANK,
    "role_rank": ROLE_RANK,
    "role_world_size": ROLE_WORLD_SIZE,
    "exit_code": PROCESS_EXIT_CODE,
    "worker_pid": WORKER_PID,
    "watchdog_event": WATCHDOG_EVENT,
}
