"""Which trace a job writes into, on real torchrun: all nodes of a job into one, and no other job into it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from otlp_receiver import LogRecord, OtlpReceiver, Span
from tests.support.harness import OTEL, QUICK, Agent, Harness, Script, c10d, free_port, otlp
from torchelastic_otel import cli

pytestmark = pytest.mark.e2e

AGENT, GROUP, WORKER = "torchelastic.agent", "torchelastic.worker_group", "torchelastic.worker"
TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
RUN_ID = "llama-pretrain-7"
NO_TRACE = "identifies no job: this launcher gets a trace of its own"


@dataclass(frozen=True, slots=True)
class Node:
    """A launcher that has ended, and what arrived of it."""

    exit_code: int
    output: str
    spans: list[Span]
    logs: list[LogRecord]

    @property
    def agent(self) -> Span:
        """The agent's span."""
        (span,) = [span for span in self.spans if span.name == AGENT]
        return span

    @property
    def trace_id(self) -> str:
        """The trace that all of it is in."""
        (trace_id,) = {span.trace_id for span in self.spans} | {record.trace_id for record in self.logs}
        return trace_id


class Jobs:
    """Runs jobs of launchers that send to one receiver."""

    def __init__(self, harness: Harness, receiver: OtlpReceiver) -> None:
        self.harness = harness
        self._receiver = receiver

    def start(self, options: Sequence[str], script: Script, env: Mapping[str, str] | None = None) -> Agent:
        """Start a launcher."""
        env = {**otlp(self._receiver), **(env or {})}
        return self.harness.torchrun([*OTEL, *options], script, env=env)

    def end(self, *agents: Agent) -> list[Node]:
        """Wait for the ends of launchers."""
        codes = [agent.wait() for agent in agents]
        return [
            Node(
                code,
                agent.output,
                [span for span in self._receiver.spans if span.resource["process.pid"] == agent.pid],
                [record for record in self._receiver.logs if record.resource["process.pid"] == agent.pid],
            )
            for code, agent in zip(codes, agents, strict=True)
        ]

    def one(
        self, env: Mapping[str, str] | None = None, *, run_id: str = RUN_ID, script: Script | None = None
    ) -> Node:
        """Run a job of one node and one worker."""
        options = c10d(0, run_id, nodes=1, per_node=1)
        (node,) = self.end(self.start(options, script or self.harness.worker(), env))
        return node

    def two(self, *envs: Mapping[str, str], run_id: str = RUN_ID) -> list[Node]:
        """Run a job of two nodes with one worker each, all of which run at the same time."""
        options = c10d(free_port(), run_id, per_node=1)
        script = self.harness.worker(together=2)
        return self.end(*[self.start(options, script, env) for env in envs])


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    """Runs jobs."""
    with Harness(tmp_path / "job") as harness, OtlpReceiver() as receiver:
        yield Jobs(harness, receiver)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return what the command ``torchelastic-otel trace-id`` prints."""
    assert cli.main(["trace-id", *arguments]) == 0
    return capsys.readouterr().out.strip()


def said(node: Node) -> list[str]:
    """Return what the launcher told the person at the terminal."""
    mark = "torchelastic-otel: "
    return [line.removeprefix(mark) for line in node.output.splitlines() if line.startswith(mark)]


def test_two_agents_with_one_run_id_share_a_trace(jobs: Jobs, capsys: pytest.CaptureFixture[str]) -> None:
    """The trace is the one that the command prints; agents are its roots, each worker has its own span."""
    nodes = jobs.two({}, {})
    assert [node.exit_code for node in nodes] == [0, 0]
    assert [node.trace_id for node in nodes] == [printed(capsys, RUN_ID)] * 2
    assert [node.agent.parent_span_id for node in nodes] == ["", ""]
    workers = {
        str(span.attributes["torchelastic.global_rank"]): f"00-{span.trace_id}-{span.span_id}-01"
        for node in nodes
        for span in node.spans
        if span.name == WORKER
    }
    assert len(set(workers.values())) == 2
    assert {note.env["RANK"]: note.env["TRACEPARENT"] for note in jobs.harness.worker_notes()} == workers


@pytest.mark.parametrize("run_id", ["none", "None", " NONE "])
def test_a_run_id_that_names_nothing_has_a_trace_of_its_own(jobs: Jobs, run_id: str) -> None:
    """Torch's default is never hashed: two launchers have two traces, and each says so once, with advice."""
    nodes = jobs.two({}, {}, run_id=run_id)
    assert nodes[0].trace_id != nodes[1].trace_id
    for node in nodes:
        assert node.agent.attributes["torchelastic.trace.random"] is True
        assert said(node)[0] == f"trace {node.trace_id}"
        assert NO_TRACE in said(node)[1]
        assert node.output.count(NO_TRACE) == 1


def test_a_static_node_without_a_run_id_has_a_trace_of_its_own(jobs: Jobs) -> None:
    """Torch calls such a job "none", which identifies no job; with no other node, no advice is given."""
    options = [*QUICK, "--nnodes=1", "--node-rank=0", "--master-addr=127.0.0.1"]
    options += [f"--master-port={free_port()}", "--rdzv-backend=static"]
    (node,) = jobs.end(jobs.start(options, jobs.harness.worker()))
    assert node.exit_code == 0
    assert node.agent.attributes["torchelastic.run_id"] == "none"
    assert node.agent.attributes["torchelastic.trace.random"] is True
    assert said(node) == [f"trace {node.trace_id}"]


def test_a_traceparent_is_the_parent_of_both_agents(jobs: Jobs) -> None:
    """It wins over the run id, a scheduler's job and a seed; workers still get spans of their own."""
    given = {
        "TRACEPARENT": f"00-{TRACE_ID}-{SPAN_ID}-01",
        "SLURM_JOB_ID": "4711",
        "TORCHELASTIC_OTEL_TRACE_SEED": "seed",
    }
    nodes = jobs.two(given, given)
    for node in nodes:
        assert node.trace_id == TRACE_ID
        assert node.agent.parent_span_id == SPAN_ID
    parents = {
        f"00-{span.trace_id}-{span.span_id}-01"
        for node in nodes
        for span in node.spans
        if span.name == WORKER
    }
    assert {note.env["TRACEPARENT"] for note in jobs.harness.worker_notes()} == parents


def test_the_schedulers_job_and_the_seed_are_in_the_trace_id(
    jobs: Jobs, capsys: pytest.CaptureFixture[str]
) -> None:
    """A requeued job, another job, and another seed have other traces, those that the command prints."""
    slurm, attempt, seed = "SLURM_JOB_ID", "SLURM_RESTART_COUNT", "TORCHELASTIC_OTEL_TRACE_SEED"
    cases: list[tuple[dict[str, str], list[str]]] = [
        ({slurm: "4711"}, [RUN_ID, "--job=4711"]),
        ({slurm: "4711", attempt: "1"}, [RUN_ID, "--job=4711", "--attempt=1"]),
        ({slurm: "4711", attempt: "2"}, [RUN_ID, "--job=4711", "--attempt=2"]),
        ({seed: "second"}, [RUN_ID, "--seed=second"]),
        ({slurm: "4711", seed: "second"}, [RUN_ID, "--job=4711", "--seed=second"]),
    ]
    found = []
    for env, arguments in cases:
        node = jobs.one(env)
        assert node.trace_id == printed(capsys, *arguments)
        found.append(node.trace_id)
    assert len({*found, printed(capsys, RUN_ID)}) == len(cases) + 1


def test_the_link_is_printed_at_the_start_and_beside_a_failure(jobs: Jobs) -> None:
    """A job that ends well prints it once, a job that fails twice."""
    env = {"TORCHELASTIC_OTEL_TRACE_URL": "https://traces.example/t/{trace_id}?v=1"}
    good = jobs.one(env)
    link = f"{good.trace_id} https://traces.example/t/{good.trace_id}?v=1"
    assert good.exit_code == 0
    assert said(good) == [f"trace {link}"]
    bad = jobs.one(env, script=jobs.harness.worker(together=1, fail=[0]))
    assert bad.exit_code == 1
    assert bad.trace_id == good.trace_id
    verdict = bad.agent.attributes["torchelastic.verdict"]
    assert said(bad) == [f"trace {link}", f"{verdict} (trace {link})"]


def test_a_malformed_link_template_is_one_warning(jobs: Jobs) -> None:
    """The job runs, and its trace id is printed without a link."""
    node = jobs.one({"TORCHELASTIC_OTEL_TRACE_URL": "https://traces.example/{trace}"})
    assert node.exit_code == 0
    assert node.output.count("TORCHELASTIC_OTEL_TRACE_URL") == 1
    assert said(node) == [f"trace {node.trace_id}"]


def faketime() -> Path:
    """Return the library that shifts a process's clock; skip the test where it is not installed."""
    for directory in ("/usr/lib", "/usr/local/lib", "/usr/lib64"):
        for found in sorted(Path(directory).glob("**/libfaketimeMT.so.1")):
            return found
    pytest.skip("libfaketime is not installed")


@pytest.mark.skipif(sys.platform != "linux", reason="libfaketime is preloaded as on Linux")
def test_clocks_that_differ_spoil_no_nodes_spans(jobs: Jobs) -> None:
    """One trace; no span ends before it starts, and children stay within their own node's parents."""
    # A wrong clock leaves the monotonic one alone; libfaketime's own clock_nanosleep is then of no use.
    shifted = {"LD_PRELOAD": str(faketime()), "FAKETIME": "-5s", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    site = jobs.harness.directory / "site" / "sitecustomize.py"
    site.write_text("import select, time\ntime.sleep = lambda seconds: select.select([], [], [], seconds)\n")
    nodes = jobs.two({}, shifted)
    assert [node.exit_code for node in nodes] == [0, 0], [node.output for node in nodes]
    assert nodes[0].trace_id == nodes[1].trace_id
    groups = [next(span for span in node.spans if span.name == GROUP) for node in nodes]
    # The workers of both ran at the same time, and by the wrong clock all of it was long before.
    assert groups[1].end_ns < groups[0].start_ns
    for node in nodes:
        by_id = {span.span_id: span for span in node.spans}
        agent = node.agent
        for span in node.spans:
            assert agent.start_ns <= span.start_ns <= span.end_ns <= agent.end_ns
            if span is not agent:
                parent = by_id[span.parent_span_id]
                assert parent.start_ns <= span.start_ns <= span.end_ns <= parent.end_ns
