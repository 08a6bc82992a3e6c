"""What the agent did → what happened to the job."""

from __future__ import annotations

from . import facts as f
from .job import Job


def read_fact(job: Job, fact: f.Fact) -> None:
    """Tell the job what its agent did; nothing once it has ended, or once hooks are known to be missing."""
    job.heard(fact.moment)
    if not job.ended and job.hooked:
        _tell(job, fact)
        job.count_workers(fact.moment)


def _tell(job: Job, fact: f.Fact) -> None:
    match fact:
        case f.JobStarted():
            job.launcher_started(fact)
        case f.StoreFailed():
            job.store_failed(fact.error, fact.moment)
        case f.AgentCreated():
            job.agent_created(fact)
        case f.HooksMissing():
            job.hooks_missing()
        case f.RendezvousStarted():
            job.asked_to_join(fact.moment)
        case f.RendezvousEnded():
            job.join_returned(fact)
        case f.WorkersStarting():
            job.workers_starting(fact)
        case f.WorkersStarted():
            job.workers_started(fact)
        case f.WorkersExited():
            job.workers_exited(fact)
        case f.WorkersStopping():
            job.workers_stopping(fact.moment)
        case f.WorkersStopped():
            job.workers_stopped(fact)
        case f.Monitored():
            job.workers_monitored(fact)
        case f.RestartStarted():
            job.restart_begun(fact)
        case f.ExitBarrier():
            job.left_exit_barrier(fact)
        case f.Operation():
            job.operation_measured(fact)
        case f.StopRequested():
            job.stop_requested(fact.signal)
        case f.RunRaising():
            job.run_raising()
        case f.RunEnded():
            job.run_ended(fact)
        case f.JobEnded():
            job.rendezvous_closed(fact)
