"""What the agent does, as seen by the hooks: the facts that torch's events leave out.

The hooks (``_torch``) put these on the queue, the job's state machine (``_job``) reads them. They hold plain
values only, never an object of torch. What happens in this process has a moment by both clocks; times from
outside, such as a file's, are nanoseconds since the epoch.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .._runtime.clock import Moment
from .identity import TraceIdentity


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that the agent of the job ``job`` did at ``moment``."""

    job: int
    moment: Moment


@dataclass(frozen=True, slots=True)
class Raised:
    """An exception as text. ``signal`` names the signal that it stands for, if any."""

    type: str
    message: str
    stacktrace: str = ""
    signal: str | None = None


@dataclass(frozen=True, slots=True)
class JobStarted(Fact):
    """A launcher asks for its rendezvous handler: the first thing known of a job."""

    run_id: str
    backend: str = ""
    min_nodes: int | None = None
    max_nodes: int | None = None
    nproc_per_node: int | None = None
    max_restarts: int | None = None
    role: str | None = None
    entry_point: str | None = None
    identity: TraceIdentity | None = None
    agent_span_id: int = 0


@dataclass(frozen=True, slots=True)
class StoreFailed(Fact):
    """No rendezvous handler could be made: its store cannot be reached, or its settings are wrong."""

    error: Raised


@dataclass(frozen=True, slots=True)
class AgentCreated(Fact):
    """An agent took over the job."""

    role: str | None = None
    max_restarts: int | None = None
    nproc_per_node: int | None = None
    entry_point: str | None = None


@dataclass(frozen=True, slots=True)
class HooksMissing(Fact):
    """Torch's agent is not what the hooks expect: from here on events alone tell of this job."""


@dataclass(frozen=True, slots=True)
class RendezvousStarted(Fact):
    """This node asks to join a round."""


@dataclass(frozen=True, slots=True)
class RendezvousView:
    """The rendezvous as this node last saw it (dynamic backends only)."""

    round: int | None = None
    participants: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    min_nodes: int | None = None
    max_nodes: int | None = None
    join_timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class RendezvousEnded(Fact):
    """``next_rendezvous`` returned, or raised ``error``."""

    error: Raised | None = None
    rank: int | None = None
    world_size: int | None = None
    view: RendezvousView | None = None


@dataclass(frozen=True, slots=True)
class WorkerSlot:
    """One local worker of a generation; ``span_id`` is chosen before it starts, 0 if it cannot be."""

    local_rank: int
    global_rank: int | None = None
    role_rank: int | None = None
    role_world_size: int | None = None
    world_size: int | None = None
    span_id: int = 0


@dataclass(frozen=True, slots=True)
class WorkersStarting(Fact):
    """The agent is about to start the processes of a generation."""

    workers: list[WorkerSlot]
    group_span_id: int = 0
    group_rank: int | None = None
    group_world_size: int | None = None
    round: int | None = None


@dataclass(frozen=True, slots=True)
class WorkersStarted(Fact):
    """The processes run (``pids`` by local rank), or starting them raised ``error``."""

    pids: dict[int, int] = field(default_factory=dict)
    error: Raised | None = None


@dataclass(frozen=True, slots=True)
class WorkerError:
    """What a worker wrote into its error file (``@record``), and when: the file's mtime, None if unknown."""

    file: str
    json: str
    written_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a worker's training was: the steps that it had done, and its last checkpoint, if any."""

    steps: int = 0
    numbered: bool = False
    """Whether the program gives its steps numbers, which go on after a restart."""
    checkpoint: Moment | None = None
    checkpoint_steps: int = 0


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a worker's recorder left, and the last lines of its standard error."""

    type: str = ""
    message: str = ""
    stacktrace: str = ""
    raised: Moment | None = None
    """When the exception that ended its program was seen; None if there was none."""
    thread_exception: str = ""
    """The exception of another thread, with its traceback."""
    crash: str = ""
    """What ``faulthandler`` wrote."""
    stderr_tail: str = ""
    progress: Progress = Progress()


@dataclass(frozen=True, slots=True)
class WorkerExit:
    """How a local worker ended: ``exit_code`` as subprocess gives it, negative for a signal."""

    local_rank: int
    exit_code: int
    pid: int | None = None
    stdout: str = ""
    stderr: str = ""
    error: WorkerError | None = None
    recorded: Recorded | None = None


@dataclass(frozen=True, slots=True)
class WorkersExited(Fact):
    """Local workers that ended by themselves, before the agent began to stop any.

    ``alive`` is when they were last seen alive, None where nobody looked before. ``raised`` has the error
    files, by local rank, of workers that have raised and still run; ``recorded`` what their recorders left.
    """

    exits: list[WorkerExit]
    oom_kills: int | None = None
    alive: Moment | None = None
    raised: dict[int, WorkerError] = field(default_factory=dict)
    recorded: dict[int, Recorded] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WorkersStopping(Fact):
    """The agent begins to stop what still runs of the generation."""


@dataclass(frozen=True, slots=True)
class WorkersStopped(Fact):
    """None of the generation runs any more; ``exits`` are those that the agent stopped."""

    exits: list[WorkerExit]


@dataclass(frozen=True, slots=True)
class Monitored(Fact):
    """``_monitor_workers`` saw the generation end: SUCCEEDED, FAILED or UNHEALTHY."""

    state: str
    stuck_pids: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class RestartStarted(Fact):
    """The agent restarts its workers; ``state`` is FAILED, UNHEALTHY or HEALTHY (membership change)."""

    state: str
    waiting: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ExitBarrier(Fact):
    """The wait for the other nodes at the end took from ``moment`` to ``left``."""

    left: Moment


@dataclass(frozen=True, slots=True)
class Operation(Fact):
    """Torch has measured a step of its agent (``@prof``); ``outcome`` is None if torch tells none."""

    name: str
    took_s: float
    outcome: str | None = None


@dataclass(frozen=True, slots=True)
class StopRequested(Fact):
    """A signal reached the agent, which now stops its workers."""

    signal: str


@dataclass(frozen=True, slots=True)
class RunRaising(Fact):
    """``agent.run()`` is about to raise; torch stops the workers first."""


@dataclass(frozen=True, slots=True)
class RunEnded(Fact):
    """``agent.run()`` returned, or raised ``error``.

    ``state`` is what it returned; "" where it raised, or returned nothing, as on a node that is let go.
    """

    state: str
    error: Raised | None = None


@dataclass(frozen=True, slots=True)
class JobEnded(Fact):
    """The launcher closed its rendezvous, the last thing it does; ``error`` is what that raised."""

    error: Raised | None = None
