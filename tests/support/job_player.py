"""Plays a launcher to an engine: what its agent does, in torch's order, with fixed times."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tests.support import torch_texts
from torchelastic_otel._config.settings import Settings
from torchelastic_otel._job import facts as f
from torchelastic_otel._job.engine import Engine
from torchelastic_otel._job.output import Output
from torchelastic_otel._runtime.clock import Moment

S = 1_000_000_000
T0 = 1_700_000_000 * S
NOW = T0 + 123_456_789
_BOOTED_FOR = 1_000_000 * S
STATUS = torch_texts.STATUS
AGENT, RENDEZVOUS = "torchelastic.agent", "torchelastic.rendezvous"
GROUP, WORKER = "torchelastic.worker_group", "torchelastic.worker"
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
IN_WORKER = {"TRACEPARENT": TRACEPARENT, "LOCAL_RANK": "0", "TORCHELASTIC_RUN_ID": "r"}
"""What the environment of a worker says."""
SIGTERM = f.Raised("SignalException", "Process 1 got signal: 15", "", "SIGTERM")


class Player:
    """One launcher and the engine that watches it. Times are seconds since the start of the test's world."""

    def __init__(self, output: Output, settings: Settings | None, environ: Mapping[str, str] | None) -> None:
        self.engine = Engine(output, settings or Settings(), environ or {}, "node")
        self.number = 0
        self.run_id = "r"
        self.pids: dict[int, int] = {}
        self.round = -1
        self.clock_ahead = 0.0
        """By how much somebody has set the wall clock forward, in seconds."""

    def moment(self, at: float) -> Moment:
        """Return a moment of the test's world, by the wall clock as it is set now."""
        return moment(at)._replace(wall_ns=ns(at + self.clock_ahead))

    # What torch records

    def record(self, event: str | Mapping[str, Any], thread: str | None = None) -> None:
        """An event is recorded at ``NOW``, as text or by its fields."""
        now = moment((NOW - T0) / S)._replace(wall_ns=NOW)
        if isinstance(event, str):
            self.engine.text(event, now, thread, None)
        elif "node_state" in event:
            self.engine.rendezvous_event(event, now, thread)
        else:
            fields = (event["name"], event["source"], event["timestamp"], event["metadata"])
            self.engine.event(fields, now, None)

    def rendezvous(self, at: float, message: str, state: str = "RUNNING", **fields: Any) -> None:
        """Torch records a rendezvous event."""
        known = {"run_id": self.run_id, "hostname": "n", "pid": 1, "local_id": 0}
        full = torch_texts.rendezvous_event(**{**known, "message": message, "node_state": state, **fields})
        self.engine.text(json.dumps(full), self.moment(at), "MainThread", None)

    def heartbeat(self, at: float, state: str = "RUNNING") -> None:
        """The keep-alive records an event."""
        self.rendezvous(at, "keep-alive", state, name=torch_texts.KEEP_ALIVE)

    def event(
        self, at: float, state: str, source: str = "AGENT", inner: Any = None, /, **metadata: Any
    ) -> None:
        """Torch records an agent's or a worker's event."""
        known = {
            "run_id": self.run_id,
            "global_rank": None,
            "group_rank": 0,
            "worker_id": None,
            "hostname": "n",
            "agent_restarts": 0,
            "metadata": json.dumps({"group_world_size": 1, "entry_point": "train.py", **(inner or {})}),
        }
        fields = torch_texts.status_event(state, source, **{**known, **metadata})
        self.engine.text(json.dumps(fields), self.moment(at), "MainThread", None)

    def worker_event(self, at: float, state: str, rank: int, code: int | None = None, **more: Any) -> None:
        """Torch records a worker's event."""
        inner = {
            "local_rank": [rank],
            "role_rank": [rank],
            "role_world_size": [2],
            "exit_code": [code],
            "worker_pid": [self.pids.get(rank) if code is not None else None],
        }
        pid = str(self.pids.get(rank))
        self.event(at, state, "WORKER", inner, **{"global_rank": rank, "worker_id": pid, **more})

    def watchdog(self, at: float, name: str = "kill worker process", **inner: str) -> None:
        """Torch's watchdog records an event."""
        fields = torch_texts.watchdog_event(name, run_id=self.run_id, **inner)
        self.engine.text(json.dumps(fields), self.moment(at), "Watchdog", None)

    # What the agent does

    def tell(self, kind: type[f.Fact], at: float, /, *args: Any, **fields: Any) -> None:
        """Hand a fact of the current job to the engine."""
        self.engine.fact(kind(self.number, self.moment(at), *args, **fields))

    def start(self, at: float = 0, run_id: str = "r", **fields: Any) -> None:
        """A launcher starts a job."""
        self.number += 1
        self.run_id = run_id
        self.round = -1
        known = {"backend": "c10d", "min_nodes": 1, "max_nodes": 1, "max_restarts": 3, "role": "default"}
        self.tell(f.JobStarted, at, run_id, **{**known, **fields})
        self.tell(f.AgentCreated, at, "default", fields.get("max_restarts", 3), 2, "train.py")

    def attempt(self, at: float) -> None:
        """The node asks to join."""
        self.tell(f.RendezvousStarted, at)
        self.asks(at)

    def asks(self, at: float) -> None:
        """Torch's event says that the node asks to join."""
        self.rendezvous(
            at, f"The node 'n_1_0' attempts to join the next round of the rendezvous '{self.run_id}'."
        )

    def joined(self, at: float, size: int = 1) -> None:
        """Torch's event says that the node has joined the next round."""
        self.round += 1
        self.rendezvous(
            at,
            f"The node 'n_1_0' has joined round {self.round} of the rendezvous '{self.run_id}' "
            f"as rank 0 in a world of size {size}.",
            rank=0,
        )

    def join(self, at: float, took: float = 1, size: int = 1) -> None:
        """The node asks to join, and joins."""
        self.attempt(at)
        self.joined(at + took, size)
        view = f.RendezvousView(self.round, ["n_1_0"], [], 1, size, 600.0)
        self.tell(f.RendezvousEnded, at + took + 0.5, rank=0, world_size=size, view=view)
        self.event(at + took + 0.5, "RENDEZVOUS", duration_ms=(took + 0.5) * 1000)
        self.event(at + took + 0.5, "ASSIGN_WORKER_RANKS", duration_ms=0.1)

    def workers(self, at: float, count: int = 2, ids: int = 0) -> None:
        """The agent starts a generation; ``ids`` above 0 are the span ids promised to it."""
        slots = [
            f.WorkerSlot(rank, rank, rank, count, count, ids + 1 + rank if ids else 0)
            for rank in range(count)
        ]
        self.tell(f.WorkersStarting, at, slots, ids, 0, 1, self.round)
        self.pids = {rank: int(at * 10) + 100 + rank for rank in range(count)}
        self.tell(f.WorkersStarted, at, self.pids)
        for rank in range(count):
            self.worker_event(at, "START", rank)

    def exit(self, rank: int, code: int, **more: Any) -> f.WorkerExit:
        """Return how a worker of the current generation ended."""
        return f.WorkerExit(rank, code, self.pids.get(rank), **more)

    def die(
        self,
        at: float,
        codes: Mapping[int, int],
        stopped: Mapping[int, int] | None = None,
        errors: Mapping[int, f.WorkerError] | None = None,
        oom_kills: int | None = None,
    ) -> None:
        """One look of the agent: those that ended by themselves, then those that it stops, a second later."""
        exits = [self.exit(rank, code, error=(errors or {}).get(rank)) for rank, code in codes.items()]
        self.tell(f.WorkersExited, at, exits, oom_kills)
        if stopped:
            self.tell(f.WorkersStopping, at)
        late = 1 if stopped else 0
        self.tell(f.WorkersStopped, at + late, [self.exit(rank, c) for rank, c in (stopped or {}).items()])
        failed = any(codes.values())
        self.tell(f.Monitored, at + late, "FAILED" if failed else "SUCCEEDED")

    def restart(self, at: float, state: str = "FAILED") -> None:
        """The agent stops its workers, joins the next round within 2 s, and starts them again."""
        self.tell(f.RestartStarted, at, state, [])
        if state == "HEALTHY":
            self.tell(f.WorkersStopping, at)
            self.tell(f.WorkersStopped, at + 0.5, [self.exit(rank, -15) for rank in self.pids])
        self.join(at + 1)
        self.workers(at + 3)

    def succeed(self, at: float, count: int = 2) -> None:
        """All workers end with 0 and the launcher ends, the exit barrier taking five minutes."""
        self.die(at, dict.fromkeys(range(count), 0))
        self.tell(f.ExitBarrier, at, self.moment(at + 300))
        for rank in range(count):
            self.worker_event(at + 300, "SUCCEEDED", rank)
        self.end(at + 300, "SUCCEEDED")

    def end(self, at: float, state: str, error: f.Raised | None = None) -> None:
        """``run`` returns or raises, and the launcher closes its rendezvous."""
        self.tell(f.RunEnded, at, state, error)
        self.event(at, "FAILED" if error is not None else "SUCCEEDED")
        self.rendezvous(at, f"The node 'n_1_0' has closed the rendezvous '{self.run_id}'.", "SUCCEEDED")
        self.tell(f.JobEnded, at + 1)

    def signalled(self, at: float, name: str = "SIGTERM", exits: Sequence[f.WorkerExit] = ()) -> None:
        """A signal ends the launcher while its workers run; ``exits`` are those that it killed, too."""
        self.tell(f.StopRequested, at, name)
        if exits:
            self.tell(f.WorkersExited, at, list(exits))
        rest = [rank for rank in self.pids if rank not in {exit_.local_rank for exit_ in exits}]
        self.tell(f.WorkersStopping, at)
        self.tell(f.WorkersStopped, at + 1, [self.exit(rank, -15) for rank in rest])
        error = f.Raised("SignalException", f"Process 1 got signal: {name}", "", name)
        self.tell(f.StopRequested, at + 1, name)
        self.tell(f.RunEnded, at + 1, "", error)
        self.event(at + 1, "FAILED", raw_error="Traceback (most recent call last):\nSignalException: x\n")

    def settle(self) -> None:
        """Let the spans end that wait for torch's last event."""
        assert self.engine.tick(Moment(1 << 62, 1 << 62))


def ns(at: float) -> int:
    """Return a wall time of the test's world."""
    return T0 + round(at * S)


def moment(at: float) -> Moment:
    """Return a moment of the test's world, whose wall clock nobody has set."""
    return Moment(_BOOTED_FOR + round(at * S), ns(at))


def error_file(message: str, at: float) -> f.WorkerError:
    """Return a worker's error file."""
    return f.WorkerError(
        "/tmp/errors/0/error.json", torch_texts.error_file(message, "Traceback …", ns(at) // S), ns(at)
    )
