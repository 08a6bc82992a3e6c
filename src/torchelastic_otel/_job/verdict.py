"""Who failed, of what, and how the job ended, each in one sentence. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .. import _contract as c
from .._values import Attributes, AttributeValue
from .exceptions import describe_exception, exception_from_error_file, first_line
from .facts import Raised, RendezvousView, WorkerError
from .translate import (
    describe_exit,
    describe_worker,
    error_type,
    signal_name,
)


@dataclass(slots=True)
class Failure:
    """One worker's death: its attributes by the contract, and the sentence that tells it."""

    attributes: Attributes
    sentence: str
    collateral: bool = False
    error_time_s: int | None = None


@dataclass(slots=True)
class Verdict:
    """How something ended: outcome, one sentence, and the attributes that go with it."""

    outcome: str | None
    sentence: str
    attributes: Attributes = field(default_factory=dict)


def failure_of(
    identity: Mapping[str, AttributeValue],
    exit_code: int | None,
    error: WorkerError | None,
    *,
    collateral: bool = False,
    cause: str | None = None,
    signal: int | None = None,
    oom_kills: int | None = None,
    stdout: str = "",
    stderr: str = "",
    detail: str = "",
) -> Failure:
    """Describe a death of the worker that ``identity`` names, with what is known and no more.

    Args:
        identity: the worker's ranks, id, host, role, run id and round as attributes.
        exit_code: as subprocess gives it; None where the worker has not ended.
        error: what torch read from the worker's error file.
        collateral: the agent stopped it because of another's death.
        cause: a cause that the agent knows better than the exit code (watchdog, uninterruptible).
        signal: the signal that kills it, where it has not ended yet.
        oom_kills: out-of-memory kills that the cgroup counted meanwhile; None where it does not count.
        stdout: path of the worker's standard output, "" if it is the console.
        stderr: path of its standard error, likewise.
        detail: ends the sentence, where the cause needs more words.
    """
    attributes: Attributes = dict(identity)
    exception = exception_from_error_file(error.json) if error is not None else {}
    attributes.update(exception)
    if exit_code is not None:
        attributes[c.PROCESS_EXIT_CODE] = exit_code
        if exit_code < 0:
            signal = -exit_code
    if signal is not None:
        attributes[c.WORKER_SIGNAL] = signal_name(signal)
    if cause is None:
        cause = c.CAUSE_EXCEPTION if exception else c.CAUSE_SIGNAL if (exit_code or 0) < 0 else c.CAUSE_EXIT
    attributes[c.FAILURE_CAUSE] = cause
    attributes[c.ERROR_TYPE] = cause if exit_code is None and signal is None else error_type(attributes)
    if collateral:
        attributes[c.COLLATERAL] = True
    for path, name in ((stdout, c.FAILURE_STDOUT), (stderr, c.FAILURE_STDERR)):
        if path and path != "/dev/null":
            attributes[name] = path
    if error is not None:
        attributes[c.FAILURE_ERROR_FILE] = error.file
    who = describe_worker(attributes)
    how = describe_exit(exit_code) if exit_code is not None else ""
    if collateral:
        sentence = f"{who} was stopped by its agent after another worker's death" + (
            f": {how}" if how else ""
        )
    elif exception:
        sentence = f"{who} died of {describe_exception(exception) or 'an exception'}"
    else:
        sentence = f"{who} died: {how}" if how else f"{who} died"
    if exit_code == -9 and not collateral and oom_kills is not None:
        attributes[c.FAILURE_OOM_KILL] = oom_kills > 0
        if oom_kills > 0:
            sentence += "; its cgroup counted an out-of-memory kill meanwhile"
    if detail:
        sentence = f"{who} {detail}"
    return Failure(attributes, sentence, collateral, error.time_s if error is not None else None)


def first_of(culprits: Sequence[Failure]) -> list[Failure]:
    """Return the failures that may have been the first: one, or all that are tied.

    Deaths seen in one look have no order of their own. Only where every one of them wrote an error file do
    the files' times, whole seconds of one clock, tell who was earlier.
    """
    times = [failure.error_time_s for failure in culprits]
    if len(culprits) > 1 and all(time is not None for time in times):
        first = min(time for time in times if time is not None)
        return [failure for failure in culprits if failure.error_time_s == first]
    return list(culprits)


def first_failure_attributes(first: Sequence[Failure]) -> Attributes:
    """Attributes that name the first failure; of several that are tied, all, and none as the first."""
    if not first:
        return {}
    if len(first) > 1:
        known = (failure.attributes.get(c.GLOBAL_RANK) for failure in first)
        ranks = [rank for rank in known if isinstance(rank, int)]
        return {c.FAILURE_TIES: ranks} if ranks else {}
    attributes = first[0].attributes
    names = {
        "global_rank": c.GLOBAL_RANK,
        "local_rank": c.LOCAL_RANK,
        "hostname": c.HOSTNAME,
        "worker_id": c.WORKER_ID,
        "cause": c.FAILURE_CAUSE,
        "error_type": c.ERROR_TYPE,
        "exit_code": c.PROCESS_EXIT_CODE,
    }
    return {
        c.FIRST_FAILURE_PREFIX + key: attributes[name] for key, name in names.items() if name in attributes
    }


def group_sentence(first: Sequence[Failure]) -> str:
    """Tell a generation's failure."""
    if not first:
        return "the worker group failed"
    if len(first) == 1:
        return first[0].sentence
    others = "; ".join(failure.sentence for failure in first[:4])
    more = f"; and {len(first) - 4} more" if len(first) > 4 else ""
    return (
        f"{len(first)} workers died between two looks of the agent, none known as the first: {others}{more}"
    )


def rendezvous_verdict(error: Raised, waited_s: float, view: RendezvousView | None) -> Verdict:
    """Tell why a rendezvous was not joined."""
    attributes: Attributes = {c.RENDEZVOUS_WAITED: round(waited_s, 3)}
    text = ""
    if view is not None:
        for name, value in (
            (c.MIN_NODES, view.min_nodes),
            (c.MAX_NODES, view.max_nodes),
            (c.ROUND, view.round),
            (c.RENDEZVOUS_TIMEOUT, view.join_timeout_s),
        ):
            if value is not None:
                attributes[name] = value
        attributes[c.NODES_JOINED] = len(view.participants)
        if view.participants:
            attributes[c.NODES_JOINED_NAMES] = view.participants
        if view.waiting:
            attributes[c.NODES_WAITING_NAMES] = view.waiting
        need = (
            f"{view.min_nodes}"
            if view.min_nodes == view.max_nodes
            else f"{view.min_nodes} to {view.max_nodes}"
        )
        names = f" ({', '.join(view.participants[:8])})" if view.participants else ""
        text = f": {len(view.participants)} of the {need} nodes needed had joined{names}"
    if error.signal is not None:
        return Verdict(
            c.OUTCOME_TERMINATED,
            f"{error.signal} after {waited_s:.1f} s of waiting in the rendezvous{text}",
            attributes,
        )
    if error.type == "RendezvousGracefulExitError":
        return Verdict(
            c.OUTCOME_TERMINATED,
            f"this spare node was not needed and was let go after {waited_s:.1f} s",
            attributes,
        )
    attributes.update(raised_attributes(error))
    what = {
        "RendezvousTimeoutError": f"the rendezvous timed out after {waited_s:.1f} s{text}",
        "RendezvousClosedError": "the rendezvous is closed: a job of this run id has ended, "
        "or another node gave up",
    }.get(error.type, f"the rendezvous failed after {waited_s:.1f} s with {_raised(error)}{text}")
    return Verdict(c.OUTCOME_FAILED, what, attributes)


def raised_attributes(error: Raised) -> Attributes:
    """Attributes of an exception."""
    attributes: Attributes = {c.ERROR_TYPE: error.type, c.EXCEPTION_TYPE: error.type}
    if error.message:
        attributes[c.EXCEPTION_MESSAGE] = error.message
    if error.stacktrace:
        attributes[c.EXCEPTION_STACKTRACE] = error.stacktrace
    return attributes


def _raised(error: Raised) -> str:
    return first_line(f"{error.type}: {error.message}" if error.message else error.type)


def restarts_text(restarts: int) -> str:
    """Return "1 restart", "2 restarts"."""
    return f"{restarts} restart" if restarts == 1 else f"{restarts} restarts"


def job_failed_by_workers(
    first: Sequence[Failure], restarts: int, max_restarts: int | None, state: str
) -> Verdict:
    """The workers failed for good."""
    why = group_sentence(first)
    if state == "UNHEALTHY":
        tail = "torch does not restart after that, and torchrun exits with 0 all the same"
    elif state == "WATCHDOG":
        tail = "the watchdog kills the agent, too"
    elif max_restarts == 0:
        tail = "no restarts were allowed"
    elif max_restarts is not None:
        tail = f"all {restarts_text(max_restarts)} used up"
    else:
        tail = f"after {restarts_text(restarts)}"
    attributes: Attributes = first_failure_attributes(first)
    if len(first) == 1:
        attributes[c.ERROR_TYPE] = first[0].attributes[c.ERROR_TYPE]
    return Verdict(c.OUTCOME_FAILED, f"failed: {why}; {tail}", attributes)


def job_failed_by_launcher(error: Raised, step: str) -> Verdict:
    """Torch itself failed, in ``step``."""
    return Verdict(
        c.OUTCOME_FAILED,
        f"failed: the launcher raised {_raised(error)} {step}",
        {**raised_attributes(error), c.STEP: step},
    )


def job_terminated(signal: str, step: str) -> Verdict:
    """A signal ended the job: preemption is no failure."""
    return Verdict(
        c.OUTCOME_TERMINATED, f"terminated by {signal} {step}", {c.AGENT_SIGNAL: signal, c.STEP: step}
    )


def job_succeeded(restarts: int) -> Verdict:
    """All workers of this node succeeded."""
    return Verdict(
        c.OUTCOME_SUCCEEDED, f"succeeded after {restarts_text(restarts)}" if restarts else "succeeded"
    )
