"""Every sentence that a person reads in bodies, verdicts and on the launcher's standard error. Pure."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence, Set

from .. import _contract as c
from .._values import AttributeValue
from .evidence import Source
from .torch_words import NO_PID

_SHOWN_FAILURES = 4
_SHOWN_NODES = 8
_SHOWN_WAITING = 4

Known = Mapping[str, AttributeValue]
"""Attributes of the contract, as far as they are known."""


def first_line(text: str, most: int = 300) -> str:
    """Return the first line, cut where it is long: enough for a sentence."""
    line = text.partition("\n")[0]
    return line if len(line) <= most else line[:most] + "…"


def last_line(text: str) -> str:
    """Return the last line that is not blank, cut where it is long."""
    return first_line(text.rstrip().rpartition("\n")[2].strip())


def signal_name(number: int) -> str:
    """Return the name of a signal, ``SIG<number>`` where Python knows none (real-time signals)."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"


# Parts of sentences


def exception_text(known: Known) -> str:
    """Return "RuntimeError: its message", of what the attributes know; "" if that is nothing."""
    kind, message = known.get(c.EXCEPTION_TYPE), known.get(c.EXCEPTION_MESSAGE)
    if kind and message:
        return first_line(f"{kind}: {message}")
    return first_line(str(kind or message or ""))


def worker_text(known: Known) -> str:
    """Return "Worker 3 (local rank 1, pid 4711) on node-2", of what the attributes know."""
    rank, local = known.get(c.GLOBAL_RANK), known.get(c.LOCAL_RANK)
    pid, host = known.get(c.WORKER_ID), known.get(c.HOSTNAME)
    who = "Worker" if rank is None else f"Worker {rank}"
    where = "" if host is None else f" on {host}"
    if pid is None or pid == NO_PID:
        return f"{who}{where}" if local is None else f"{who} (local rank {local}){where}"
    return f"{who} (pid {pid}){where}" if local is None else f"{who} (local rank {local}, pid {pid}){where}"


def exit_text(code: int) -> str:
    """Return "killed by SIGKILL" or "exit code 3"."""
    return f"killed by {signal_name(-code)}" if code < 0 else f"exit code {code}"


def restarts_text(restarts: int) -> str:
    """Return "1 restart", "2 restarts"."""
    return f"{restarts} restart" if restarts == 1 else f"{restarts} restarts"


def range_text(fewest: object, most: object) -> str:
    """Return "2" or "2 to 4"."""
    return f"{fewest}" if fewest == most else f"{fewest} to {most}"


# Torch's events


_WORKER_VERBS = {
    "START": "started",
    "SUCCEEDED": "succeeded",
    "FAILED": "failed",
    "TERMINATED": "was stopped by its agent",
}


def worker_event(known: Known, state: str) -> str:
    """Tell torch's event of a worker."""
    code = known.get(c.PROCESS_EXIT_CODE)
    why = exception_text(known) or (exit_text(code) if type(code) is int else "")
    verb = _WORKER_VERBS.get(state) or state.lower()
    return f"{worker_text(known)} {verb}: {why}" if why else f"{worker_text(known)} {verb}"


def agent_event(known: Known, state: str) -> str:
    """Tell torch's event of an agent."""
    duration = known.get(c.DURATION_MS)
    took = f" after {duration / 1000:.3f} s" if isinstance(duration, int | float) else ""
    return {
        "RENDEZVOUS": f"The agent left the rendezvous step{took}",
        "ASSIGN_WORKER_RANKS": f"The agent left the rank assignment step{took}",
        "SUCCEEDED": "The agent's run returned; this says nothing of its workers",
        "FAILED": f"The agent's run raised {known.get(c.EXCEPTION_TYPE, 'an exception')}",
    }.get(state, f"Agent {state.lower()}")


def watchdog_event(known: Known, name: str) -> str:
    """Tell the watchdog's event."""
    pid, scope = known.get(c.WATCHDOG_PREFIX + "worker_pid"), known.get(c.WATCHDOG_PREFIX + "scope_id")
    if pid is None:
        return f"Watchdog: {name}"
    return f"Watchdog: {name} (worker pid {pid}" + (f", scope {scope})" if scope is not None else ")")


# Failures


def of_what(known: Known, exit_code: int | None) -> str:
    """Tell what workers died of, after the word "died": " of ValueError: wrong", ": exit code 3"."""
    exception = exception_text(known)
    if exception or c.EXCEPTION_STACKTRACE in known:
        return f" of {exception or 'an exception'}"
    if exit_code is None:
        return ""
    crashed_in, last = known.get(c.FAILURE_CRASHED_IN), known.get(c.FAILURE_STDERR_TAIL)
    if crashed_in:
        return f": {exit_text(exit_code)} in {crashed_in}"
    if last and exit_code > 0:
        return f": {exit_text(exit_code)} (last line of standard error: {last_line(str(last))})"
    return f": {exit_text(exit_code)}"


def death(known: Known, exit_code: int | None, *, out_of_memory: bool) -> str:
    """Tell a worker's death of its own: by its exception if that is known, else by its exit code."""
    sentence = f"{worker_text(known)} died{of_what(known, exit_code)}"
    return f"{sentence}; its cgroup counted an out-of-memory kill meanwhile" if out_of_memory else sentence


def collateral_death(known: Known, exit_code: int | None) -> str:
    """Tell the end of a worker that its agent stopped because of another one's death."""
    sentence = f"{worker_text(known)} was stopped by its agent after another worker's death"
    return sentence if exit_code is None else f"{sentence}: {exit_text(exit_code)}"


def stuck(known: Known) -> str:
    """Tell of a worker that cannot be ended."""
    return f"{worker_text(known)} is stuck in uninterruptible sleep"


def killed_by_watchdog(known: Known, scope: object) -> str:
    """Tell of a worker whose time ran out."""
    return f"{worker_text(known)} is killed by the watchdog: its scope {scope} expired"


def first_deaths(sentences: Sequence[str], told_by: Set[Source]) -> str:
    """Tell a generation's failure by its first deaths: one, or several that are tied.

    Args:
        sentences: one for each.
        told_by: what tells when they died; says why none is known as the first.
    """
    if not sentences:
        return "the worker group failed"
    if len(sentences) == 1:
        return sentences[0]
    others = "; ".join(sentences[:_SHOWN_FAILURES])
    more = f"; and {len(sentences) - _SHOWN_FAILURES} more" if len(sentences) > _SHOWN_FAILURES else ""
    return f"{len(sentences)} workers {tie(told_by)}, none known as the first: {others}{more}"


def tie(told_by: Set[Source]) -> str:
    """Tell why it is not known who died first."""
    if told_by == {Source.LOOKS}:
        return "died between two looks of the agent"
    if told_by == {Source.FILE_TIME}:
        return "raised within 10 ms of each other, which file times do not tell apart"
    if told_by <= {Source.FILE_TIME, Source.WHOLE_SECOND}:
        return "raised in the same second, and their error files tell no more"
    if told_by == {Source.MOMENT}:
        return "failed at the same look of the agent"
    return "died so close together that the evidence does not tell them apart"


def peers_lost(sentences: Sequence[str]) -> str:
    """Tell that all who died lost a peer: the cause is elsewhere, and nobody here is named for it."""
    count = len(sentences)
    who = "a worker" if count == 1 else f"{count} workers"
    shown = "; ".join(sentences[:_SHOWN_FAILURES])
    more = f"; and {count - _SHOWN_FAILURES} more" if count > _SHOWN_FAILURES else ""
    return f"{who} lost a peer, so the cause is on another node or a worker that hangs: {shown}{more}"


def one_error(count: int, what: str, first: Known | None) -> str:
    """Tell that several workers died of the same, and which of them was first; None if that is not known."""
    if first is None:
        return f"{count} workers died{what}; none of them is known as the first"
    return f"{count} workers died{what}; first: w{worker_text(first)[1:]}"


def not_started(error: Known) -> str:
    """Tell that the workers' processes could not be made."""
    return f"the workers could not be started: {exception_text(error)}"


# The rendezvous


def who_had_joined(joined: Sequence[str], fewest: object, most: object) -> str:
    """Tell how many of the nodes needed had joined; to be added to a sentence."""
    names = f" ({', '.join(joined[:_SHOWN_NODES])})" if joined else ""
    return f": {len(joined)} of the {range_text(fewest, most)} nodes needed had joined{names}"


def rendezvous_stopped(signal: str, waited_s: float, joined: str) -> str:
    """Tell that a signal ended the wait."""
    return f"{signal} after {waited_s:.1f} s of waiting in the rendezvous{joined}"


def spare_node(waited_s: float) -> str:
    """Tell that the round was complete without this node."""
    return f"this spare node was not needed and was let go after {waited_s:.1f} s"


def rendezvous_timed_out(waited_s: float, joined: str) -> str:
    """Tell that too few nodes came."""
    return f"the rendezvous timed out after {waited_s:.1f} s{joined}"


def rendezvous_closed() -> str:
    """Tell that nobody can join any more."""
    return "the rendezvous is closed: a job of this run id has ended, or another node gave up"


def rendezvous_failed(raised: str, waited_s: float, joined: str) -> str:
    """Tell that joining raised something else."""
    return f"the rendezvous failed after {waited_s:.1f} s with {raised}{joined}"


# Restarts


def restarted(cause: str, waited: str, generation: int, took_s: float) -> str:
    """Tell that the workers run again, why they were stopped, and how long that took."""
    why = "after a worker's failure" if cause == c.RESTART_WORKER_FAILURE else "for a membership change"
    if waited and cause == c.RESTART_MEMBERSHIP_CHANGE:
        why += f" ({waited})"
    return f"Workers restarted {why}: generation {generation} runs after {took_s:.1f} s"


def work_lost(time_s: float, steps: int | None) -> str:
    """Tell what that costs in work; to be added to a sentence."""
    counted = "" if steps is None else f" and {steps} step{'' if steps == 1 else 's'}"
    return f"; {time_s:.1f} s{counted} of work lost since the last checkpoint"


def who_waited(waiting: Sequence[str], last_round: Sequence[str]) -> str:
    """Tell peers of the last round, which restart, from nodes that are new."""
    peers = [node for node in waiting if node in last_round]
    new = [node for node in waiting if node not in last_round]
    told = [f"{', '.join(peers[:_SHOWN_WAITING])} of the last round asked to join again"] if peers else []
    return "; ".join(told + ([f"{', '.join(new[:_SHOWN_WAITING])} asked to join"] if new else []))


# The launcher


def launcher_starts(min_nodes: int | None, max_nodes: int | None) -> str:
    """Tell that a launcher begins."""
    if min_nodes is None:
        return "The launcher starts"
    nodes = range_text(min_nodes, max_nodes)
    return f"The launcher starts for {nodes} node{'' if nodes == '1' else 's'}"


def launcher_ends(verdict: str) -> str:
    """Tell that a launcher ends, and how."""
    return f"The launcher ends: {verdict}"


def trace_link(trace_id: int, template: str) -> str:
    """Return the job's trace id, and the link to it if there is a ``template``."""
    shown = f"{trace_id:032x}"
    return f"{shown} {template.replace('{trace_id}', shown)}" if template else shown


def no_common_trace(run_id: str) -> str:
    """Tell that nothing identifies the job to its other nodes, and what to do."""
    return (
        f"the run id {run_id!r} identifies no job: this launcher gets a trace of its own. On "
        "several nodes, give all the same --rdzv-id, or TORCHELASTIC_OTEL_TRACE_SEED, for one trace."
    )


# The verdict


def failed(why: str) -> str:
    """Begin the verdict of a job that failed."""
    return f"failed: {why}"


def no_more_restarts(max_restarts: int | None, restarts: int) -> str:
    """Tell why the workers are not started again."""
    if max_restarts == 0:
        return "no restarts were allowed"
    if max_restarts is not None:
        return f"all {restarts_text(max_restarts)} used up"
    return f"after {restarts_text(restarts)}"


def no_restart_when_stuck() -> str:
    """Tell what torch does about a worker that cannot be ended."""
    return "torch does not restart after that, and torchrun exits with 0 all the same"


def agent_killed_too() -> str:
    """Tell what the watchdog does to the agent."""
    return "the watchdog kills the agent, too"


def failed_by_workers(deaths: str, tail: str) -> str:
    """Tell that the workers failed for good."""
    return failed(f"{deaths}; {tail}")


def failed_by_launcher(raised: str, step: str) -> str:
    """Tell that torch itself failed."""
    return failed(f"the launcher raised {raised} {step}")


def terminated(signal: str, step: str) -> str:
    """Tell that a signal ended the job."""
    return f"terminated by {signal} {step}"


def let_go() -> str:
    """Tell that torch's run returned without a result."""
    return "torch let this node go: its run returned no result"


def succeeded(restarts: int) -> str:
    """Tell that all workers of this node succeeded."""
    return f"succeeded after {restarts_text(restarts)}" if restarts else "succeeded"
