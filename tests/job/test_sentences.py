"""The sentences that a person reads, as they stand there."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from torchelastic_otel import _contract as c
from torchelastic_otel._job import sentences as s
from torchelastic_otel._job.evidence import Source
from torchelastic_otel._values import Attributes

WORKER: Attributes = {c.GLOBAL_RANK: 3, c.LOCAL_RANK: 1, c.WORKER_ID: "4711", c.HOSTNAME: "node-2"}
RAISED: Attributes = {**WORKER, c.EXCEPTION_TYPE: "ValueError", c.EXCEPTION_MESSAGE: "wrong\nin two lines"}
ZERO: Attributes = {c.GLOBAL_RANK: 0}
SCOPE: Attributes = {c.WATCHDOG_PREFIX + "worker_pid": "7", c.WATCHDOG_PREFIX + "scope_id": "s"}
NODES = [f"n_{number}_0" for number in range(10)]

SENTENCES = [
    (s.first_line("one\ntwo"), "one"),
    (s.first_line("x" * 301), "x" * 300 + "…"),
    (s.first_line(""), ""),
    (s.signal_name(9), "SIGKILL"),
    (s.signal_name(35), "SIG35"),  # real-time signals have numbers only
    (s.signal_name(9999), "SIG9999"),
    (s.exception_text({}), ""),
    (s.exception_text(RAISED), "ValueError: wrong"),
    (s.exception_text({c.EXCEPTION_TYPE: "ValueError"}), "ValueError"),
    (s.exception_text({c.EXCEPTION_MESSAGE: "wrong"}), "wrong"),
    (s.worker_text({}), "Worker"),
    (s.worker_text(WORKER), "Worker 3 (local rank 1, pid 4711) on node-2"),
    (s.worker_text({**WORKER, c.WORKER_ID: "None"}), "Worker 3 (local rank 1) on node-2"),
    (s.worker_text({c.GLOBAL_RANK: 3, c.WORKER_ID: "4711"}), "Worker 3 (pid 4711)"),
    (s.worker_text({c.HOSTNAME: "node-2"}), "Worker on node-2"),
    (s.exit_text(3), "exit code 3"),
    (s.exit_text(-9), "killed by SIGKILL"),
    (s.restarts_text(1), "1 restart"),
    (s.restarts_text(2), "2 restarts"),
    (s.range_text(2, 2), "2"),
    (s.range_text(2, 4), "2 to 4"),
    (s.worker_event(WORKER, "START"), "Worker 3 (local rank 1, pid 4711) on node-2 started"),
    (
        s.worker_event({**ZERO, c.PROCESS_EXIT_CODE: -9}, "FAILED"),
        "Worker 0 failed: killed by SIGKILL",
    ),
    (s.worker_event(ZERO, "TERMINATED"), "Worker 0 was stopped by its agent"),
    (s.worker_event(ZERO, "NEW"), "Worker 0 new"),
    (s.agent_event({c.DURATION_MS: 1500}, "RENDEZVOUS"), "The agent left the rendezvous step after 1.500 s"),
    (s.agent_event({}, "ASSIGN_WORKER_RANKS"), "The agent left the rank assignment step"),
    (s.agent_event({}, "SUCCEEDED"), "The agent's run returned; this says nothing of its workers"),
    (s.agent_event(RAISED, "FAILED"), "The agent's run raised ValueError"),
    (s.agent_event({}, "FAILED"), "The agent's run raised an exception"),
    (s.agent_event({}, "NEW"), "Agent new"),
    (s.watchdog_event({}, "timer expired"), "Watchdog: timer expired"),
    (
        s.watchdog_event({c.WATCHDOG_PREFIX + "worker_pid": "7"}, "kill"),
        "Watchdog: kill (worker pid 7)",
    ),
    (
        s.watchdog_event(SCOPE, "kill"),
        "Watchdog: kill (worker pid 7, scope s)",
    ),
    (
        s.death(RAISED, 1, out_of_memory=False),
        "Worker 3 (local rank 1, pid 4711) on node-2 died of ValueError: wrong",
    ),
    (s.death({c.EXCEPTION_STACKTRACE: "…"}, 1, out_of_memory=False), "Worker died of an exception"),
    (s.death(ZERO, 3, out_of_memory=False), "Worker 0 died: exit code 3"),
    (
        s.death(ZERO, -9, out_of_memory=True),
        "Worker 0 died: killed by SIGKILL; its cgroup counted an out-of-memory kill meanwhile",
    ),
    (s.death({}, None, out_of_memory=False), "Worker died"),
    (s.work_lost(341.04, 120), "; 341.0 s and 120 steps of work lost since the last checkpoint"),
    (s.work_lost(0.5, 1), "; 0.5 s and 1 step of work lost since the last checkpoint"),
    (s.work_lost(0.5, None), "; 0.5 s of work lost since the last checkpoint"),
    (s.last_line("one\ntwo \n\n"), "two"),
    (s.of_what(RAISED, -15), " of ValueError: wrong"),
    (s.of_what({}, None), ""),
    (s.of_what({}, 3), ": exit code 3"),
    (
        s.of_what({c.FAILURE_CRASHED_IN: "f (train.py:88)"}, -11),
        ": killed by SIGSEGV in f (train.py:88)",
    ),
    (
        s.of_what({c.FAILURE_STDERR_TAIL: "one\nno such config\n"}, 1),
        ": exit code 1 (last line of standard error: no such config)",
    ),
    (s.of_what({c.FAILURE_STDERR_TAIL: "one"}, -9), ": killed by SIGKILL"),
    (
        s.one_error(37, " of ValueError: wrong", WORKER),
        "37 workers died of ValueError: wrong; first: worker 3 (local rank 1, pid 4711) on node-2",
    ),
    (
        s.one_error(2, ": exit code 3", None),
        "2 workers died: exit code 3; none of them is known as the first",
    ),
    (
        s.collateral_death(ZERO, -15),
        "Worker 0 was stopped by its agent after another worker's death: killed by SIGTERM",
    ),
    (s.collateral_death({}, None), "Worker was stopped by its agent after another worker's death"),
    (s.stuck(ZERO), "Worker 0 is stuck in uninterruptible sleep"),
    (
        s.killed_by_watchdog(ZERO, "s"),
        "Worker 0 is killed by the watchdog: its scope s expired",
    ),
    (s.first_deaths([], set()), "the worker group failed"),
    (s.first_deaths(["Worker 0 died"], {Source.LOOKS}), "Worker 0 died"),
    (
        s.first_deaths([f"Worker {number} died" for number in range(6)], {Source.LOOKS}),
        "6 workers died between two looks of the agent, none known as the first: "
        "Worker 0 died; Worker 1 died; Worker 2 died; Worker 3 died; and 2 more",
    ),
    (s.let_go(), "torch let this node go: its run returned no result"),
    (s.tie({Source.LOOKS}), "died between two looks of the agent"),
    (s.tie({Source.FILE_TIME}), "raised within 10 ms of each other, which file times do not tell apart"),
    (s.tie({Source.WHOLE_SECOND}), "raised in the same second, and their error files tell no more"),
    (
        s.tie({Source.FILE_TIME, Source.WHOLE_SECOND}),
        "raised in the same second, and their error files tell no more",
    ),
    (s.tie({Source.MOMENT}), "failed at the same look of the agent"),
    (
        s.tie({Source.FILE_TIME, Source.LOOKS}),
        "died so close together that the evidence does not tell them apart",
    ),
    (s.not_started(RAISED), "the workers could not be started: ValueError: wrong"),
    (s.who_had_joined([], 2, 2), ": 0 of the 2 nodes needed had joined"),
    (
        s.who_had_joined(NODES, 2, 12),
        ": 10 of the 2 to 12 nodes needed had joined "
        "(n_0_0, n_1_0, n_2_0, n_3_0, n_4_0, n_5_0, n_6_0, n_7_0)",
    ),
    (s.rendezvous_stopped("SIGTERM", 1.25, ""), "SIGTERM after 1.2 s of waiting in the rendezvous"),
    (s.spare_node(3), "this spare node was not needed and was let go after 3.0 s"),
    (s.rendezvous_timed_out(60, ": x"), "the rendezvous timed out after 60.0 s: x"),
    (
        s.rendezvous_closed(),
        "the rendezvous is closed: a job of this run id has ended, or another node gave up",
    ),
    (s.rendezvous_failed("E: x", 2, ""), "the rendezvous failed after 2.0 s with E: x"),
    (
        s.restarted(c.RESTART_WORKER_FAILURE, "ignored", 2, 4),
        "Workers restarted after a worker's failure: generation 2 runs after 4.0 s",
    ),
    (
        s.restarted(c.RESTART_MEMBERSHIP_CHANGE, "m asked to join", 2, 4),
        "Workers restarted for a membership change (m asked to join): generation 2 runs after 4.0 s",
    ),
    (
        s.restarted(c.RESTART_MEMBERSHIP_CHANGE, "", 2, 4),
        "Workers restarted for a membership change: generation 2 runs after 4.0 s",
    ),
    (s.who_waited([], ["a"]), ""),
    (
        s.peers_lost(["A."]),
        "a worker lost a peer, so the cause is on another node or a worker that hangs: A.",
    ),
    (
        s.peers_lost(["A", "B", "C", "D", "E"]),
        "5 workers lost a peer, so the cause is on another node or a worker that hangs: "
        "A; B; C; D; and 1 more",
    ),
    (s.who_waited(["b"], ["a"]), "b asked to join"),
    (s.who_waited(["a"], ["a"]), "a of the last round asked to join again"),
    (s.who_waited(["a", "b"], ["a"]), "a of the last round asked to join again; b asked to join"),
    (s.who_waited(NODES, []), "n_0_0, n_1_0, n_2_0, n_3_0 asked to join"),
    (s.launcher_starts(None, None), "The launcher starts"),
    (s.launcher_starts(1, 1), "The launcher starts for 1 node"),
    (s.launcher_starts(2, 4), "The launcher starts for 2 to 4 nodes"),
    (s.launcher_ends("succeeded"), "The launcher ends: succeeded"),
    (s.trace_link(0xAB, ""), "0" * 30 + "ab"),
    (s.trace_link(0xAB, "https://x/{trace_id}?a"), "0" * 30 + "ab https://x/" + "0" * 30 + "ab?a"),
    (
        s.no_common_trace("none"),
        "the run id 'none' identifies no job: this launcher gets a trace of its own. On several nodes, give "
        "all the same --rdzv-id, or TORCHELASTIC_OTEL_TRACE_SEED, for one trace.",
    ),
    (s.failed("x"), "failed: x"),
    (s.no_more_restarts(0, 0), "no restarts were allowed"),
    (s.no_more_restarts(3, 5), "all 3 restarts used up"),
    (s.no_more_restarts(None, 1), "after 1 restart"),
    (s.no_restart_when_stuck(), "torch does not restart after that, and torchrun exits with 0 all the same"),
    (s.agent_killed_too(), "the watchdog kills the agent, too"),
    (s.failed_by_workers("Worker 0 died", "after 1 restart"), "failed: Worker 0 died; after 1 restart"),
    (s.failed_by_launcher("E: x", c.STEP_RUNNING), "failed: the launcher raised E: x while the workers ran"),
    (s.terminated("SIGTERM", c.STEP_BARRIER), "terminated by SIGTERM at the exit barrier"),
    (s.succeeded(0), "succeeded"),
    (s.succeeded(2), "succeeded after 2 restarts"),
]


@pytest.mark.parametrize(("said", "expected"), SENTENCES, ids=lambda text: ascii(text)[:40])
def test_a_sentence(said: str, expected: str) -> None:
    """Word by word: people search for them, and other programs cut them up."""
    assert said == expected


def test_every_sentence_is_here() -> None:
    """A new one comes with its words."""
    source = Path(__file__).read_text(encoding="utf-8")
    functions = {name for name, value in vars(s).items() if inspect.isfunction(value)}
    assert {name for name in functions if f"s.{name}(" not in source} == set()
