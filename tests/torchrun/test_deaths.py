"""Workers that die: each is a failure record, and who was the first is told (contract, section 6)."""

from __future__ import annotations

import itertools
import re
import socket
import sys
import textwrap
from pathlib import Path

import pytest

from otlp_receiver import LogRecord, OtlpReceiver
from tests.support.harness import Harness
from tests.support.names import AGENT, ERROR, FAILURE, FIRST, GROUP, WARN, WORKER
from tests.support.scenarios.deaths import CRASH_AND_RESTART
from tests.support.scenarios.expected import Death
from tests.support.scenarios.running import Run, every, only, where

pytestmark = pytest.mark.e2e


def death_of(record: LogRecord) -> Death:
    """Return what a failure record tells."""
    attributes = record.attributes
    rank = attributes["torchelastic.global_rank"]
    return Death(
        attributes["torchelastic.local_rank"],
        attributes["torchelastic.failure.cause"],
        attributes.get("process.exit.code"),
        attributes.get("torchelastic.worker.signal"),
        attributes.get("exception.type"),
        attributes.get("exception.message"),
        attributes["error.type"],
        attributes.get("torchelastic.collateral", False),
        None if f"{FIRST}ties" in attributes else attributes[f"{FIRST}global_rank"] == rank,
    )


@every
def test_each_death_is_one_failure_record(run: Run) -> None:
    """Who died, of what, with what exit code or exception, as culprit or stopped by the agent: all of it."""
    for node in run.nodes:
        records = node.records(FAILURE)
        by_generation = itertools.groupby(records, key=lambda r: r.attributes["torchelastic.generation"])
        found = {number: [death_of(record) for record in group] for number, group in by_generation}
        expected = {
            number: list(generation.deaths)
            for number, generation in enumerate(node.expected.generations, 1)
            if generation.deaths
        }
        assert found == expected
        for record in records:
            collateral = record.attributes.get("torchelastic.collateral", False)
            assert record.severity_number == (WARN if collateral else ERROR)
            assert record.attributes["torchelastic.hostname"] == socket.getfqdn()
            assert record.attributes["torchelastic.run_id"]
            note = run.notes_by_pid.get(int(record.attributes["torchelastic.worker_id"]))
            if note is not None:
                assert record.attributes["torchelastic.global_rank"] == int(note.env["RANK"])
                assert record.attributes["torchelastic.local_rank"] == int(note.env["LOCAL_RANK"])


@every
def test_deaths_stand_on_their_spans(run: Run) -> None:
    """A failure record is in its worker's span, which has the same attributes; the group names the first."""
    for node in run.alive:
        for record in node.records(FAILURE):
            worker = node.by_id[record.span_id]
            assert worker.name == WORKER
            own = {"torchelastic.event", "log.record.uid"}
            told = {key: value for key, value in record.attributes.items() if key not in own}
            assert {key: worker.attributes.get(key) for key in told} == told
            first = {key: value for key, value in told.items() if key.startswith(FIRST)}
            assert first
            group = node.by_id[worker.parent_span_id]
            assert {k: v for k, v in group.attributes.items() if k.startswith(FIRST)} == first
            if "torchelastic.collateral" not in record.attributes:
                assert worker.status_message == record.body
        generations = node.expected.generations
        if node.expected.outcome == "failed" and generations and generations[-1].deaths:
            group = node.named(GROUP)[-1]
            first = {key: value for key, value in group.attributes.items() if key.startswith(FIRST)}
            assert {k: v for k, v in node.agent.attributes.items() if k.startswith(FIRST)} == first
            assert group.status_message in node.agent.status_message


@where(lambda found: found.nodes == CRASH_AND_RESTART)
def test_the_culprit_and_the_collateral_are_told_apart(run: Run) -> None:
    """Rank 3 died by itself with exit code 3; its neighbour was stopped; torch's events say none of it."""
    failures = run.records(FAILURE)
    culprits = [r for r in failures if not r.attributes.get("torchelastic.collateral")]
    (culprit,) = culprits
    assert culprit.attributes["torchelastic.global_rank"] == 3
    assert culprit.attributes["process.exit.code"] == 3
    assert culprit.attributes["torchelastic.failure.cause"] == "exit"
    assert culprit.attributes["error.type"] == "3"
    assert culprit.severity_number == ERROR
    (collateral,) = [record for record in failures if record is not culprit]
    assert collateral.severity_number == WARN
    assert collateral.attributes["torchelastic.global_rank"] == 2
    assert run.by_id[collateral.span_id].status_code == "UNSET"
    assert run.by_id[culprit.span_id].status_code == "ERROR"
    for record in failures:
        assert record.attributes["torchelastic.first_failure.global_rank"] == 3


@only("crash until no restart is left")
def test_a_job_that_fails_for_good_names_the_first_failure_of_each_node(run: Run) -> None:
    """Both nodes' spans, in each generation, name their worker that failed; the agents' verdict says why."""
    for agent in run.named(AGENT):
        for group in run.children(agent, GROUP):
            assert group.status_code == "ERROR"
            assert group.attributes["torchelastic.first_failure.local_rank"] == 1
        assert agent.attributes["torchelastic.restarts"] == 1
        assert "exit code 3" in agent.status_message
        assert agent.attributes["torchelastic.first_failure.local_rank"] == 1
    culprits = [r for r in run.records(FAILURE) if "torchelastic.collateral" not in r.attributes]
    assert len(culprits) == 4


@only("SIGKILL")
def test_a_killed_worker_is_told_with_its_signal(run: Run) -> None:
    """SIGKILL is the cause, the signal's name is the error type, the neighbour is collateral."""
    culprit, collateral = sorted(
        run.records(FAILURE), key=lambda r: bool(r.attributes.get("torchelastic.collateral"))
    )
    assert culprit.attributes["torchelastic.failure.cause"] == "signal"
    assert culprit.attributes["torchelastic.worker.signal"] == "SIGKILL"
    assert culprit.attributes["error.type"] == "SIGKILL"
    assert culprit.attributes["torchelastic.global_rank"] == 1
    assert collateral.attributes["torchelastic.global_rank"] == 0
    assert "SIGKILL" in run.named(AGENT)[0].status_message


@only(
    "exception with @record",
    "exception without @record",
    "function, exception",
    "two exceptions at once, one of them earlier",
)
def test_an_exception_is_told_in_full(run: Run) -> None:
    """Its traceback is on the record, whether or not the program is decorated."""
    (node,) = run.nodes
    culprits = [r for r in node.records(FAILURE) if "exception.type" in r.attributes]
    assert culprits
    for record in culprits:
        assert "the loss is not a number" in record.attributes["exception.stacktrace"]
        assert record.attributes["exception.stacktrace"].count("Traceback") == 1


@every
def test_only_what_wrote_an_error_file_has_one(run: Run) -> None:
    """Without ``@record`` there is no error file to name; with one there is an exception to tell."""
    for node in run.nodes:
        for record in node.records(FAILURE):
            has_file = "torchelastic.failure.error_file" in record.attributes
            assert not has_file or "exception.type" in record.attributes


def test_a_secret_in_an_error_text_does_not_leave_the_process(tmp_path: Path) -> None:
    """TORCHELASTIC_OTEL_REDACT reaches messages, tracebacks, sentences, and what is kept on the disk."""
    script = """
    from torch.distributed.elastic.multiprocessing.errors import record
    @record
    def main():
        raise RuntimeError("cannot log in with password=hunter2 at db")
    main()
    """
    with Harness(tmp_path / "job") as harness, OtlpReceiver() as receiver:
        program = harness.program("train.py", textwrap.dedent(script))
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1"]
        agent = harness.run(
            [*command, "--event-log-handler=otel", str(program)],
            env={
                "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.http_endpoint,
                "TORCHELASTIC_OTEL_REDACT": r"password=\S+",
            },
        )
        assert agent.wait() == 1
        everything = repr((receiver.logs, receiver.spans))
    assert "hunter2" not in everything
    assert "cannot log in with [redacted] at db" in everything


def cgroup_counts_oom_kills() -> bool:
    """Whether this process's cgroup has a counter of out-of-memory kills (cgroup v2, or v1's memory)."""
    with open("/proc/self/cgroup") as file:
        lines = [line.rstrip("\n").split(":", 2) for line in file]
    mounts = []
    for _, controllers, path in lines:
        if controllers == "":
            mounts += [f"/sys/fs/cgroup{path}/memory.events", "/sys/fs/cgroup/memory.events"]
        elif "memory" in controllers.split(","):
            mounts += [f"/sys/fs/cgroup/memory{path}/memory.oom_control"]
            mounts += ["/sys/fs/cgroup/memory/memory.oom_control"]
    return any(
        re.search(r"^oom_kill \d", Path(name).read_text(), re.MULTILINE)
        for name in mounts
        if Path(name).is_file()
    )


@every
def test_out_of_memory_is_told_apart_for_sigkill_alone(run: Run) -> None:
    """Who was killed with SIGKILL was not out of memory here; where nothing counts that, nothing is said."""
    for node in run.nodes:
        for record in node.records(FAILURE):
            attributes = record.attributes
            asked = attributes["process.exit.code"] == -9 if "process.exit.code" in attributes else False
            expected = asked and "torchelastic.collateral" not in attributes and cgroup_counts_oom_kills()
            found = attributes.get("torchelastic.failure.oom_kill")
            assert found is (False if expected else None)


@only("worker deaf to SIGTERM")
def test_a_death_is_told_before_its_agent_has_stopped_the_others(run: Run) -> None:
    """The culprit's record arrives while the agent still waits for a worker that ignores its signal."""
    assert run.facts["the deaf one runs when the culprit's death has arrived"] is True


@only("watchdog")
def test_a_watchdog_kill_is_told_before_it_ends_the_launcher(run: Run) -> None:
    """The failure record has the scope, although the launcher was killed a millisecond later."""
    (node,) = run.nodes
    (record,) = node.records(FAILURE)
    assert record.attributes["torchelastic.watchdog.scope_id"] == "training step"
    assert record.attributes["torchelastic.watchdog.signal"] == "9"
    assert "training step" in record.body
