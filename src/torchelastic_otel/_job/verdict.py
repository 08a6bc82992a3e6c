"""Who failed, of what, and how the job ended: attributes by the contract, and one sentence each. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .. import _contract as c
from .._runtime.clock import Moment
from .._values import Attributes, AttributeValue, present
from . import sentences
from . import torch_words as words
from .evidence import Interval, at
from .facts import Raised, RendezvousView, WorkerExit
from .lost_work import Lost
from .translate import error_type
from .worker_evidence import exception_of, has_raised, left_by, when_raised


@dataclass(slots=True)
class Failure:
    """One worker's death: its attributes by the contract, and the sentence that tells it."""

    attributes: Attributes
    sentence: str
    when: Interval
    collateral: bool = False

    @property
    def peer_lost(self) -> bool:
        """Whether its error says that another rank was lost."""
        return c.FAILURE_PEER_LOST in self.attributes


@dataclass(slots=True)
class Verdict:
    """How something ended: outcome, one sentence, and the attributes that go with it."""

    outcome: str | None
    sentence: str
    attributes: Attributes = field(default_factory=dict)

    def with_lost_work(self, lost: Lost) -> Verdict:
        """Return it with what that costs in work."""
        sentence = self.sentence + sentences.work_lost(lost.time_s, lost.steps)
        return Verdict(self.outcome, sentence, {**self.attributes, **lost.attributes})


UNKNOWN = Verdict(None, "")
"""It ended, and nobody knows how."""


# Failures of workers


def own_death(
    identity: Mapping[str, AttributeValue], exit_: WorkerExit, seen: Interval, oom_kills: int | None = None
) -> Failure:
    """Describe the death of a worker that ended by itself, with what is known and no more.

    Args:
        identity: the worker's ranks, id, host, role, run id and round as attributes.
        exit_: how it ended.
        seen: when, by the agent's looks.
        oom_kills: out-of-memory kills that the cgroup counted meanwhile; None where it does not count.
    """
    attributes = _death(identity, exit_)
    if _is_peer_lost(attributes):
        attributes[c.FAILURE_PEER_LOST] = True
    killed = exit_.exit_code == -9 and oom_kills is not None
    if killed:
        attributes[c.FAILURE_OOM_KILL] = bool(oom_kills)
    sentence = sentences.death(attributes, exit_.exit_code, out_of_memory=killed and bool(oom_kills))
    return Failure(attributes, sentence, when_raised(exit_, seen, seen.earliest))


def raised_death(
    identity: Mapping[str, AttributeValue], left: WorkerExit, seen: Moment, before: Moment
) -> Failure:
    """Describe the death of a worker that has raised, and whose process has not ended yet.

    Args:
        identity: as in ``own_death``.
        left: what it has left by now.
        seen: when the agent saw that.
        before: when it looked before.
    """
    attributes: Attributes = {**identity, **exception_of(left)}
    attributes[c.FAILURE_CAUSE] = c.CAUSE_EXCEPTION
    attributes[c.ERROR_TYPE] = error_type(attributes)
    if _is_peer_lost(attributes):
        attributes[c.FAILURE_PEER_LOST] = True
    if left.error is not None:
        attributes[c.FAILURE_ERROR_FILE] = left.error.file
    sentence = sentences.death(attributes, None, out_of_memory=False)
    return Failure(attributes, sentence, when_raised(left, at(seen), before))


def with_exit(raised: Failure, exit_: WorkerExit) -> Failure:
    """Return the death of a worker that had raised before, with how its process ended."""
    code: Attributes = {c.PROCESS_EXIT_CODE: exit_.exit_code}
    if exit_.exit_code < 0:
        code[c.WORKER_SIGNAL] = sentences.signal_name(-exit_.exit_code)
    attributes = {**raised.attributes, **code, **left_by(exit_), **_outputs(exit_)}
    return Failure(attributes, raised.sentence, raised.when)


def raised_before(exit_: WorkerExit, stopping: Moment | None, stopped: Moment) -> bool:
    """Tell whether a worker had certainly raised before its agent began to stop it: it died of that."""
    if stopping is None or not has_raised(exit_):
        return False
    return when_raised(exit_, at(stopped), stopping).latest <= stopping


def collateral_death(identity: Mapping[str, AttributeValue], exit_: WorkerExit, moment: Moment) -> Failure:
    """Describe the end of a worker that its agent stopped because of another one's death."""
    attributes = {**_death(identity, exit_), c.COLLATERAL: True}
    sentence = sentences.collateral_death(attributes, exit_.exit_code)
    return Failure(attributes, sentence, at(moment), collateral=True)


def stuck(identity: Mapping[str, AttributeValue], moment: Moment) -> Failure:
    """Describe a worker in uninterruptible sleep: it has not ended, and the group fails of it."""
    attributes: Attributes = {**identity, c.FAILURE_CAUSE: c.CAUSE_UNINTERRUPTIBLE}
    attributes[c.ERROR_TYPE] = c.CAUSE_UNINTERRUPTIBLE
    return Failure(attributes, sentences.stuck(attributes), at(moment))


def killed_by_watchdog(
    identity: Mapping[str, AttributeValue], event: Mapping[str, AttributeValue], moment: Moment
) -> Failure:
    """Describe a worker whose scope expired; ``event`` are the attributes of the watchdog's event."""
    watchdog = {name: value for name, value in event.items() if name.startswith(c.WATCHDOG_PREFIX)}
    attributes: Attributes = {**identity, c.FAILURE_CAUSE: c.CAUSE_WATCHDOG, c.ERROR_TYPE: c.CAUSE_WATCHDOG}
    number = str(watchdog.get(c.WATCHDOG_PREFIX + "signal", ""))
    if number.isdecimal():
        attributes[c.WORKER_SIGNAL] = attributes[c.ERROR_TYPE] = sentences.signal_name(int(number))
    sentence = sentences.killed_by_watchdog(attributes, watchdog.get(c.WATCHDOG_PREFIX + "scope_id"))
    return Failure({**attributes, **watchdog}, sentence, at(moment))


def _death(identity: Mapping[str, AttributeValue], exit_: WorkerExit) -> Attributes:
    exception = exception_of(exit_)
    attributes: Attributes = {**identity, **exception, c.PROCESS_EXIT_CODE: exit_.exit_code}
    if exit_.exit_code < 0:
        attributes[c.WORKER_SIGNAL] = sentences.signal_name(-exit_.exit_code)
    by_signal = c.CAUSE_SIGNAL if exit_.exit_code < 0 else c.CAUSE_EXIT
    attributes[c.FAILURE_CAUSE] = c.CAUSE_EXCEPTION if exception else by_signal
    attributes[c.ERROR_TYPE] = error_type(attributes)
    return {**attributes, **left_by(exit_), **_outputs(exit_)}


def _outputs(exit_: WorkerExit) -> Attributes:
    """Return where a worker's output and its error file are."""
    paths = {c.FAILURE_STDOUT: exit_.stdout, c.FAILURE_STDERR: exit_.stderr}
    found: Attributes = {name: path for name, path in paths.items() if path and path != "/dev/null"}
    if exit_.error is not None:
        found[c.FAILURE_ERROR_FILE] = exit_.error.file
    return found


def _is_peer_lost(attributes: Mapping[str, AttributeValue]) -> bool:
    """Tell whether an exception is what collectives raise when another rank is gone, or does not come."""
    kind, message = attributes.get(c.EXCEPTION_TYPE), attributes.get(c.EXCEPTION_MESSAGE)
    if not isinstance(kind, str) or not isinstance(message, str) or not words.PEER_LOST.search(message):
        return False
    if words.DISTRIBUTED_ERROR.match(kind):
        return True
    return kind == words.RUNTIME_ERROR and words.COLLECTIVE.search(message) is not None


# Who was first


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


def group_sentence(first: Sequence[Failure], culprits: Sequence[Failure]) -> str:
    """Tell a generation's failure: by those who may have been first, else by all that died."""
    if culprits and not first:
        return sentences.peers_lost([failure.sentence for failure in culprits])
    what = _died_of(first[0]) if first else ""
    same = [failure for failure in culprits if what and _died_of(failure) == what]
    if len(same) > 1 and all(_died_of(failure) == what for failure in first):
        return sentences.one_error(len(same), what, first[0].attributes if len(first) == 1 else None)
    return sentences.first_deaths(
        [failure.sentence for failure in first], {failure.when.source for failure in first}
    )


def _died_of(failure: Failure) -> str:
    """Return what is the same where several died of one error; "" for what is told otherwise."""
    attributes = failure.attributes
    if attributes[c.FAILURE_CAUSE] not in (c.CAUSE_EXIT, c.CAUSE_SIGNAL, c.CAUSE_EXCEPTION):
        return ""
    code = attributes.get(c.PROCESS_EXIT_CODE)
    return sentences.of_what(attributes, code if isinstance(code, int) else None)


# The rendezvous


def rendezvous_verdict(error: Raised, waited_s: float, view: RendezvousView | None) -> Verdict:
    """Tell why a rendezvous was not joined."""
    attributes: Attributes = {c.RENDEZVOUS_WAITED: round(waited_s, 3)}
    joined = ""
    if view is not None:
        attributes |= present(
            {
                c.MIN_NODES: view.min_nodes,
                c.MAX_NODES: view.max_nodes,
                c.ROUND: view.round,
                c.RENDEZVOUS_TIMEOUT: view.join_timeout_s,
                c.NODES_JOINED: len(view.participants),
                c.NODES_JOINED_NAMES: view.participants or None,
                c.NODES_WAITING_NAMES: view.waiting or None,
            }
        )
        joined = sentences.who_had_joined(view.participants, view.min_nodes, view.max_nodes)
    if error.signal is not None:
        sentence = sentences.rendezvous_stopped(error.signal, waited_s, joined)
        return Verdict(c.OUTCOME_TERMINATED, sentence, attributes)
    if error.type == words.GRACEFUL_EXIT:
        return Verdict(c.OUTCOME_TERMINATED, sentences.spare_node(waited_s), attributes)
    attributes.update(raised_attributes(error))
    if error.type == words.TIMEOUT:
        sentence = sentences.rendezvous_timed_out(waited_s, joined)
    elif error.type == words.CLOSED:
        sentence = sentences.rendezvous_closed()
    else:
        sentence = sentences.rendezvous_failed(_raised(error), waited_s, joined)
    return Verdict(c.OUTCOME_FAILED, sentence, attributes)


def raised_attributes(error: Raised) -> Attributes:
    """Attributes of an exception."""
    attributes: Attributes = {c.ERROR_TYPE: error.type, c.EXCEPTION_TYPE: error.type}
    if error.message:
        attributes[c.EXCEPTION_MESSAGE] = error.message
    if error.stacktrace:
        attributes[c.EXCEPTION_STACKTRACE] = error.stacktrace
    return attributes


def _raised(error: Raised) -> str:
    return sentences.first_line(f"{error.type}: {error.message}" if error.message else error.type)


# The job


def job_failed_by_workers(first: Sequence[Failure], culprits: Sequence[Failure], tail: str) -> Verdict:
    """The workers failed for good; ``tail`` says why they are not started again."""
    attributes: Attributes = first_failure_attributes(first)
    if len(first) == 1:
        attributes[c.ERROR_TYPE] = first[0].attributes[c.ERROR_TYPE]
    sentence = sentences.failed_by_workers(group_sentence(first, culprits), tail)
    return Verdict(c.OUTCOME_FAILED, sentence, attributes)


def job_failed_by_launcher(error: Raised, step: str) -> Verdict:
    """Torch itself failed, in ``step``."""
    sentence = sentences.failed_by_launcher(_raised(error), step)
    return Verdict(c.OUTCOME_FAILED, sentence, {**raised_attributes(error), c.STEP: step})


def job_failed_to_join(rendezvous: Verdict) -> Verdict:
    """The job ends because its rendezvous was not joined."""
    failed = rendezvous.outcome == c.OUTCOME_FAILED
    sentence = sentences.failed(rendezvous.sentence) if failed else rendezvous.sentence
    return Verdict(rendezvous.outcome, sentence, {**rendezvous.attributes, c.STEP: c.STEP_RENDEZVOUS})


def job_let_go() -> Verdict:
    """Torch's run returned nothing: the job goes on without this node, which is no failure."""
    return Verdict(c.OUTCOME_TERMINATED, sentences.let_go())


def job_terminated(signal: str, step: str) -> Verdict:
    """A signal ended the job: preemption is no failure."""
    sentence = sentences.terminated(signal, step)
    return Verdict(c.OUTCOME_TERMINATED, sentence, {c.AGENT_SIGNAL: signal, c.STEP: step})


def job_succeeded(restarts: int) -> Verdict:
    """All workers of this node succeeded."""
    return Verdict(c.OUTCOME_SUCCEEDED, sentences.succeeded(restarts))
