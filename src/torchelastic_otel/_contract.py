"""Every name that users may rely on: spans, events, attributes, metrics, values.

This is the one source of names. The telemetry reference in the documentation is checked against it, and no
other module spells a name of its own.
"""

from __future__ import annotations

from typing import Final, NamedTuple

SCOPE: Final = "torchelastic_otel"
"""Instrumentation scope of all that the bridge emits."""

SERVICE_NAME: Final = "torchelastic"
"""``service.name`` where the user names none."""

DESTINATION: Final = "otel"
"""The event destination (``--event-log-handler otel``)."""

PREFIX: Final = "torchelastic."

# Spans
SPAN_AGENT: Final = "torchelastic.agent"
"""One per launcher: from the first sign of a job to its end. Its status is the job's outcome
on this node."""
SPAN_RENDEZVOUS: Final = "torchelastic.rendezvous"
"""One per attempt of this node to join a round: from asking to join until joined, failed or closed."""
SPAN_WORKER_GROUP: Final = "torchelastic.worker_group"
"""One per generation of local workers: started until stopped. Links to the generation before."""
SPAN_WORKER: Final = "torchelastic.worker"
"""One per local worker process of a generation: started until seen ended by the agent."""

# Events of the bridge's own
EVENT_AGENT_START: Final = "torchelastic.agent.start"
"""The launcher begins."""
EVENT_AGENT_STOP: Final = "torchelastic.agent.stop"
"""The launcher ends, and how: outcome, verdict, number of restarts."""
EVENT_FAILURE: Final = "torchelastic.failure"
"""A worker died: who, of what, and whether its agent stopped it (collateral). One per death."""
EVENT_RESTART: Final = "torchelastic.restart"
"""The workers of this node run again: why, and how long that took."""
EVENT_UNPARSED: Final = "torchelastic.unparsed"
"""Something reached the `otel` destination that is no event; its text is the body."""

# torch's own agent and worker events
TORCH_EVENT_PREFIX: Final = "torchelastic.worker.status."
WATCHDOG_KILL: Final = "kill worker process"

# Attributes: semantic conventions
LOG_RECORD_UID: Final = "log.record.uid"
"""Unique id of the record, for those who need each record exactly once."""
ERROR_TYPE: Final = "error.type"
"""The exception's class, else the signal's name, else the exit code as text."""
EXCEPTION_TYPE: Final = "exception.type"
"""Class of the exception."""
EXCEPTION_MESSAGE: Final = "exception.message"
"""Its message."""
EXCEPTION_STACKTRACE: Final = "exception.stacktrace"
"""Its traceback."""
PROCESS_EXIT_CODE: Final = "process.exit.code"
"""Exit code of the worker, as torch gives it: negative for a signal."""

# Attributes: torch's, under the prefix
RUN_ID: Final = "torchelastic.run_id"
"""torchrun's `--rdzv-id`."""
GLOBAL_RANK: Final = "torchelastic.global_rank"
"""Rank of the worker in the job (`RANK`)."""
GROUP_RANK: Final = "torchelastic.group_rank"
"""Rank of the node in the round."""
LOCAL_RANK: Final = "torchelastic.local_rank"
"""Rank of the worker on its node (`LOCAL_RANK`)."""
ROLE_RANK: Final = "torchelastic.role_rank"
"""Rank of the worker in its role."""
ROLE: Final = "torchelastic.role"
"""Role of the workers (`--role`)."""
ROLE_WORLD_SIZE: Final = "torchelastic.role_world_size"
"""Number of workers in the role."""
GROUP_WORLD_SIZE: Final = "torchelastic.group_world_size"
"""Number of nodes in the round."""
WORLD_SIZE: Final = "torchelastic.world_size"
"""Number of workers in the job."""
STATE: Final = "torchelastic.state"
"""State that the event reports: `START`, `SUCCEEDED`, `FAILED`, `TERMINATED`, `RENDEZVOUS`, …."""
RDZV_BACKEND: Final = "torchelastic.rdzv_backend"
"""Rendezvous backend: `c10d`, `static`, `etcd-v2`, …."""
AGENT_RESTARTS: Final = "torchelastic.agent_restarts"
"""Torch's own restart counter; membership changes do not count in it."""
TOTAL_RUN_TIME: Final = "torchelastic.total_run_time"
"""Seconds that the agent ran, as torch reports them (0 until it ends)."""
WORKER_ID: Final = "torchelastic.worker_id"
"""Process id of the worker, as text."""
WORKER_PID: Final = "torchelastic.worker_pid"
"""Process id in torch's record of a failure."""
HOSTNAME: Final = "torchelastic.hostname"
"""Name of the node."""
RAW_ERROR: Final = "torchelastic.raw_error"
"""The worker's error file as JSON, or the agent's traceback."""
DURATION_MS: Final = "torchelastic.duration_ms"
"""How long the agent's step took, in milliseconds."""
ENTRY_POINT: Final = "torchelastic.entry_point"
"""What the workers run."""
SOURCE: Final = "torchelastic.source"
"""Who recorded the event: `AGENT` or `WORKER`."""
EVENT: Final = "torchelastic.event"
"""Name of the event once more: some backends drop the field `event_name`."""
NODE_STATE: Final = "torchelastic.node_state"
"""State of the node in the rendezvous: `INIT`, `RUNNING`, `SUCCEEDED`, `FAILED`."""
MASTER_ENDPOINT: Final = "torchelastic.master_endpoint"
"""Endpoint of the rendezvous store, where torch tells it."""
LOCAL_ID: Final = "torchelastic.local_id"
"""Number of the rendezvous handler in its process."""
RDZV_PID: Final = "torchelastic.pid"
"""Process id of the agent that recorded the rendezvous event."""
ROUND: Final = "torchelastic.round"
"""Round of the rendezvous: the number that all nodes share."""
METADATA: Final = "torchelastic.metadata"
"""Metadata that is not of torch's shape, as text."""
WATCHDOG_PREFIX: Final = "torchelastic.watchdog."
"""Prefix of what the watchdog reports: `.scope_id`, `.signal`, `.worker_pid`, `.expiration_time`."""
WATCHDOG_EVENT: Final = "torchelastic.watchdog.event"
"""What the watchdog did."""

# Attributes: the bridge's own
OUTCOME: Final = "torchelastic.outcome"
"""How it ended: `succeeded`, `failed`, `terminated` (stopped by its agent, or by a signal to the agent),
`interrupted` (membership change)."""
VERDICT: Final = "torchelastic.verdict"
"""How it ended, in one sentence."""
GENERATION: Final = "torchelastic.generation"
"""Number of the generation of workers on this node, from 1."""
RESTARTS: Final = "torchelastic.restarts"
"""How often this node's workers were started anew, whatever the cause."""
MAX_RESTARTS: Final = "torchelastic.max_restarts"
"""`--max-restarts`."""
MIN_NODES: Final = "torchelastic.min_nodes"
"""Fewest nodes that the job runs with."""
MAX_NODES: Final = "torchelastic.max_nodes"
"""Most nodes that the job runs with."""
NODES_JOINED: Final = "torchelastic.rendezvous.nodes_joined"
"""How many nodes had joined when the rendezvous failed."""
NODES_JOINED_NAMES: Final = "torchelastic.rendezvous.nodes"
"""Which nodes had joined: host, process id and number of each agent."""
NODES_WAITING_NAMES: Final = "torchelastic.rendezvous.nodes_waiting"
"""Which nodes waited for the next round."""
RENDEZVOUS_WAITED: Final = "torchelastic.rendezvous.waited"
"""Seconds that the node waited."""
RENDEZVOUS_TIMEOUT: Final = "torchelastic.rendezvous.timeout"
"""Seconds that it may wait (`join_timeout`)."""
STEP: Final = "torchelastic.step"
"""What the launcher was doing when it ended."""
AGENT_SIGNAL: Final = "torchelastic.agent.signal"
"""Signal that ended the launcher."""
WORKER_SIGNAL: Final = "torchelastic.worker.signal"
"""Signal that ended the worker."""
COLLATERAL: Final = "torchelastic.collateral"
"""True for a worker that its agent stopped because of another's death."""
FAILURE_CAUSE: Final = "torchelastic.failure.cause"
"""`exit`, `signal`, `exception`, `watchdog` or `uninterruptible`."""
FAILURE_PEER_LOST: Final = "torchelastic.failure.peer_lost"
"""True where the error says that a peer was lost: a connection that the peer closed or reset, a collective
that timed out. What the peer died of, or that it hangs, is the cause."""
FAILURE_OOM_KILL: Final = "torchelastic.failure.oom_kill"
"""For a SIGKILL: whether the node's cgroup counted an out-of-memory kill while this generation ran."""
FAILURE_STDERR: Final = "torchelastic.failure.stderr"
"""File with the worker's standard error, where it was redirected."""
FAILURE_STDOUT: Final = "torchelastic.failure.stdout"
"""File with its standard output, likewise."""
FAILURE_ERROR_FILE: Final = "torchelastic.failure.error_file"
"""The worker's error file, where it wrote one (`@record`)."""
FAILURE_STDERR_TAIL: Final = "torchelastic.failure.stderr_tail"
"""The last lines of its standard error, where that was redirected to a file."""
FAILURE_STACKS: Final = "torchelastic.failure.stacks"
"""Python's stacks of all its threads when it crashed (SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL)."""
FAILURE_CRASHED_IN: Final = "torchelastic.failure.crashed_in"
"""Function, file and line of the thread that crashed, if it ran Python."""
FAILURE_THREAD_EXCEPTION: Final = "torchelastic.failure.thread_exception"
"""The last exception that ended one of its other threads, with its traceback. The process went on."""
FAILURE_TIES: Final = "torchelastic.first_failure.ties"
"""Ranks of all workers that may have died first, where none of them is known as the first."""
FIRST_FAILURE_PREFIX: Final = "torchelastic.first_failure."
"""Prefix of the node's first failure: `.global_rank`, `.local_rank`, `.hostname`, `.worker_id`, `.cause`,
`.error_type`, `.exit_code`."""
RESTART_CAUSE: Final = "torchelastic.restart.cause"
"""`worker_failure` (a worker of this node died) or `membership_change` (a node joins, or a
peer restarts). On downtime also `startup` (before the first workers ran) and `shutdown` (after the last)."""
RESTART_FROM: Final = "torchelastic.restart.from_generation"
"""Generation that ended."""
RESTART_TO: Final = "torchelastic.restart.to_generation"
"""Generation that runs now."""
RESTART_DURATION: Final = "torchelastic.restart.duration"
"""Seconds from seeing the failure or change to the workers running again."""
RESTART_NODES: Final = "torchelastic.restart.nodes_waiting"
"""Nodes that waited to join when the restart began."""
LOST_TIME: Final = "torchelastic.lost.time"
"""Seconds of work since the last completed checkpoint, where one is known: they are done again."""
LOST_STEPS: Final = "torchelastic.lost.steps"
"""Training steps since then, where steps are counted."""
EXIT_BARRIER_DURATION: Final = "torchelastic.exit_barrier.duration"
"""Seconds that the agent waited for the other nodes at the end."""
RANDOM_TRACE: Final = "torchelastic.trace.random"
"""True where nothing identifies the job to its other nodes, so this launcher has its own trace."""
OPERATION: Final = "torchelastic.operation"
"""Step of the agent that torch measures: `run`, `_rendezvous`, `_start_workers`, …."""
OTEL_SIGNAL: Final = "otel.signal"
"""`logs`, `traces` or `metrics`, on the bridge's own metrics."""
REASON: Final = "torchelastic_otel.reason"
"""Why items were dropped, or wait in the spool: `rejected`, `late`, `poison`, `unsupported`, `queue_full`,
`spool_full`, `no_exporter`, `export_failed`, …"""
TRUNCATED: Final = "torchelastic.truncated"
"""True for a span whose process died before it ended: it ends with the last that was recorded there."""

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
FAILURE_CAUSES: Final = (CAUSE_EXIT, CAUSE_SIGNAL, CAUSE_EXCEPTION, CAUSE_WATCHDOG, CAUSE_UNINTERRUPTIBLE)

RESTART_WORKER_FAILURE: Final = "worker_failure"
RESTART_MEMBERSHIP_CHANGE: Final = "membership_change"
DOWN_STARTUP: Final = "startup"
DOWN_SHUTDOWN: Final = "shutdown"

STEP_STORE: Final = "while reaching the rendezvous store"
STEP_BEFORE: Final = "before the rendezvous"
STEP_RENDEZVOUS: Final = "during the rendezvous"
STEP_AFTER_RENDEZVOUS: Final = "between the joined rendezvous and the start of the workers"
STEP_STARTING: Final = "while starting the workers"
STEP_RUNNING: Final = "while the workers ran"
STEP_STOPPING: Final = "while stopping the workers"
STEP_BARRIER: Final = "at the exit barrier"
STEP_CLOSING: Final = "while closing the rendezvous"
STEPS: Final = (
    STEP_STORE,
    STEP_BEFORE,
    STEP_RENDEZVOUS,
    STEP_AFTER_RENDEZVOUS,
    STEP_STARTING,
    STEP_RUNNING,
    STEP_STOPPING,
    STEP_BARRIER,
    STEP_CLOSING,
)
"""Values of ``torchelastic.step``; each ends a sentence of the verdict."""

EVENT_OTHER: Final = "other"

# Metrics
METRIC_RENDEZVOUS_DURATION: Final = "torchelastic.rendezvous.duration"
METRIC_RENDEZVOUS_WAITING: Final = "torchelastic.rendezvous.waiting"
METRIC_RESTART_DURATION: Final = "torchelastic.restart.duration"
METRIC_RESTARTS: Final = "torchelastic.restarts"
METRIC_WORKER_FAILURES: Final = "torchelastic.worker.failures"
METRIC_WORKER_ACTIVE: Final = "torchelastic.worker.active"
METRIC_WORLD_SIZE: Final = "torchelastic.group.world_size"
METRIC_UPTIME: Final = "torchelastic.worker_group.uptime"
METRIC_DOWNTIME: Final = "torchelastic.worker_group.downtime"
METRIC_LOST_TIME: Final = "torchelastic.lost.time"
METRIC_LAUNCHERS_ENDED: Final = "torchelastic.launchers.ended"
METRIC_EXIT_BARRIER_DURATION: Final = "torchelastic.exit_barrier.duration"
METRIC_HEARTBEATS: Final = "torchelastic.rendezvous.heartbeats"
METRIC_EVENTS: Final = "torchelastic.events"
METRIC_OPERATION_DURATION: Final = "torchelastic.operation.duration"

METRIC_EXPORTED: Final = "torchelastic_otel.exported"
METRIC_DROPPED: Final = "torchelastic_otel.dropped"
METRIC_KEPT: Final = "torchelastic_otel.spool.kept"
METRIC_REPLAYED: Final = "torchelastic_otel.spool.replayed"

DELIVERY_METRICS: Final = {
    "exported": METRIC_EXPORTED,
    "dropped": METRIC_DROPPED,
    "kept": METRIC_KEPT,
    "replayed": METRIC_REPLAYED,
}

COUNTER: Final = "counter"
UP_DOWN_COUNTER: Final = "up-down counter"
GAUGE: Final = "gauge"
HISTOGRAM: Final = "histogram"


class Instrument(NamedTuple):
    """What a metric is: kind, unit (UCUM), meaning, and the attributes that it has besides ``RUN_ID``."""

    kind: str
    unit: str
    description: str
    attributes: tuple[str, ...] = ()


INSTRUMENTS: Final[dict[str, Instrument]] = {
    METRIC_RENDEZVOUS_DURATION: Instrument(
        HISTOGRAM,
        "s",
        "How long an attempt to join a round took, however it ended",
        (RDZV_BACKEND, OUTCOME, ERROR_TYPE),
    ),
    METRIC_RENDEZVOUS_WAITING: Instrument(
        GAUGE, "s", "How long an attempt that is still open has lasted, else 0"
    ),
    METRIC_RESTART_DURATION: Instrument(
        HISTOGRAM, "s", "From seeing the failure or change to the workers running again", (RESTART_CAUSE,)
    ),
    METRIC_RESTARTS: Instrument(
        COUNTER, "{restart}", "How often the node's workers were started anew", (RESTART_CAUSE,)
    ),
    METRIC_WORKER_FAILURES: Instrument(
        COUNTER,
        "{failure}",
        "Workers that died by themselves; those that their agent stopped do not count",
        (FAILURE_CAUSE, ERROR_TYPE),
    ),
    METRIC_WORKER_ACTIVE: Instrument(
        UP_DOWN_COUNTER, "{worker}", "Workers of the node that run; 0 once the launcher ends", (ROLE,)
    ),
    METRIC_WORLD_SIZE: Instrument(GAUGE, "{node}", "Nodes in the round that the node joined last", (ROLE,)),
    METRIC_UPTIME: Instrument(COUNTER, "s", "Time in which the node's workers ran, up to the moment"),
    METRIC_DOWNTIME: Instrument(
        COUNTER,
        "s",
        "Time in which they did not, from the first rendezvous to the launcher's end, by cause",
        (RESTART_CAUSE,),
    ),
    METRIC_LOST_TIME: Instrument(
        COUNTER, "s", "Work since the last checkpoint, done again; where one is known", (RESTART_CAUSE,)
    ),
    METRIC_LAUNCHERS_ENDED: Instrument(
        COUNTER,
        "{launcher}",
        "Launchers that ended, by the job's outcome on their node; without one where it is not known",
        (OUTCOME,),
    ),
    METRIC_EXIT_BARRIER_DURATION: Instrument(
        HISTOGRAM, "s", "How long the agent waited for the other nodes at the end"
    ),
    METRIC_HEARTBEATS: Instrument(COUNTER, "{heartbeat}", "Keep-alive events of the rendezvous", (OUTCOME,)),
    METRIC_EVENTS: Instrument(
        COUNTER,
        "{event}",
        "Events that reached the destination, heartbeats apart. Torch's own by name, a user's as `other`",
        (EVENT, SOURCE),
    ),
    METRIC_OPERATION_DURATION: Instrument(
        HISTOGRAM,
        "s",
        "How long a step of the agent took that torch measures (`@prof`)",
        (OPERATION, OUTCOME),
    ),
    METRIC_EXPORTED: Instrument(
        COUNTER, "{item}", "Log records, spans and requests of metrics that a backend took", (OTEL_SIGNAL,)
    ),
    METRIC_DROPPED: Instrument(COUNTER, "{item}", "Those that are lost, by reason", (OTEL_SIGNAL, REASON)),
    METRIC_KEPT: Instrument(
        COUNTER,
        "{item}",
        "Those that a backend did not take at first, and that wait in the spool",
        (OTEL_SIGNAL,),
    ),
    METRIC_REPLAYED: Instrument(
        COUNTER, "{item}", "Those that earlier processes left in the spool, and this one sent", (OTEL_SIGNAL,)
    ),
}
"""Every metric. All have ``RUN_ID`` besides, where the process has one job."""

ZERO_FIRST: Final = frozenset({METRIC_RESTARTS, METRIC_WORKER_FAILURES, METRIC_LOST_TIME, METRIC_DROPPED})
"""Counters of what goes wrong: each of their series is exported at zero before it counts anything."""

SECONDS_BUCKETS: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1200, 1800)
"""Bucket boundaries of the histograms: what an agent does takes from a blink to half an hour."""

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
