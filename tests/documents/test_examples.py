"""Every example, run for real with the command that stands in its header, against a real receiver."""

from __future__ import annotations

import io
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from otlp_receiver import LogRecord, OtlpReceiver, Span
from show import show
from tests.support.example_runs import DEMO_NODE_0, DEMO_NODE_1, PROJECT, run, tree_of
from tests.support.otlp_requests import log_request, post

EXAMPLES = PROJECT / "examples"


def header_command(example: str) -> str:
    """Return the command that an example's header gives: what follows its first sentence."""
    match = re.match(r'"""[^\n]+\n\n((?:.+\\\n)*.+)\n', (EXAMPLES / example).read_text())
    assert match, f"{example} does not say how to run it"
    return match[1]


def run_example(example: str, receiver: OtlpReceiver, protocol: str = "http/protobuf") -> str:
    """Run an example to its good end; return what it printed."""
    endpoint = receiver.grpc_endpoint if protocol == "grpc" else receiver.http_endpoint
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
    result = run(header_command(example), env=env)
    assert result.returncode == 0, result.stderr
    return result.stdout


def named(receiver: OtlpReceiver, name: str) -> list[Span]:
    """Return the spans of a name, in order of time."""
    spans = [span for span in receiver.spans if span.name == f"torchelastic.{name}"]
    return sorted(spans, key=lambda span: (span.start_ns, span.attributes.get("torchelastic.global_rank", 0)))


def outcomes(spans: list[Span]) -> list[str]:
    """Return the outcome of each span."""
    return [span.attributes["torchelastic.outcome"] for span in spans]


@pytest.mark.e2e
def test_one_node(receiver: OtlpReceiver) -> None:
    """Two workers run and succeed."""
    printed = run_example("one_node/worker.py", receiver)
    assert [printed.count(f"worker {rank} of 2") for rank in (0, 1)] == [1, 1]
    for name, count in (("agent", 1), ("rendezvous", 1), ("worker_group", 1), ("worker", 2)):
        assert outcomes(named(receiver, name)) == ["succeeded"] * count
    assert len({span.trace_id for span in receiver.spans}) == 1


@pytest.mark.e2e
def test_crash_and_restart(receiver: OtlpReceiver) -> None:
    """One worker dies of an exception that is told, and a second generation succeeds."""
    run_example("crash_and_restart/worker.py", receiver)
    assert outcomes(named(receiver, "worker_group")) == ["failed", "succeeded"]
    assert sorted(outcomes(named(receiver, "worker"))) == ["failed", "succeeded", "succeeded", "terminated"]
    [agent] = named(receiver, "agent")
    assert agent.attributes["torchelastic.verdict"] == "succeeded after 1 restart"
    culprits = [
        record
        for record in receiver.logs
        if record.event_name == "torchelastic.failure"
        and not record.attributes.get("torchelastic.collateral")
    ]
    [culprit] = culprits
    assert culprit.attributes["torchelastic.global_rank"] == 1
    assert culprit.attributes["exception.type"] == "RuntimeError"
    assert culprit.attributes["exception.message"] == "the loss is NaN at step 5"


@pytest.mark.e2e
def test_user_events(receiver: OtlpReceiver) -> None:
    """The worker's own events arrive with their own metadata, on the span of the worker."""
    run_example("user_events/worker.py", receiver)
    records = [record for record in receiver.logs if record.event_name == "checkpoint.saved"]
    facts = [
        {key: value for key, value in record.attributes.items() if key in ("step", "path", "seconds")}
        for record in sorted(records, key=lambda record: record.time_ns)
    ]
    assert facts == [
        {"step": step, "path": f"/checkpoints/step-{step}.pt", "seconds": 0.3} for step in (2, 4)
    ]
    [span] = [span for span in named(receiver, "worker") if span.attributes["torchelastic.global_rank"] == 0]
    assert {(record.trace_id, record.span_id) for record in records} == {(span.trace_id, span.span_id)}


@pytest.mark.e2e
def test_elastic_launch_program(receiver: OtlpReceiver) -> None:
    """A program with ``instrument()`` is exported without any flag, and works as before."""
    printed = run_example("elastic_launch_program/launch.py", receiver)
    assert printed == "hello from worker 0 of 2\nhello from worker 1 of 2\n"
    assert outcomes(named(receiver, "agent")) == ["succeeded"]
    assert outcomes(named(receiver, "worker")) == ["succeeded"] * 2


@pytest.mark.e2e
@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_training_loop(receiver: OtlpReceiver, protocol: str) -> None:
    """The training script's own spans hang under the span of the worker that they ran in, by any protocol."""
    printed = run_example("training_loop/train.py", receiver, protocol)
    losses = [float(loss) for loss in re.findall(r"epoch \d: loss ([\d.]+)", printed)]
    assert len(losses) == 3
    assert losses[-1] < losses[0]
    workers = {
        span.span_id: span.attributes["torchelastic.global_rank"] for span in named(receiver, "worker")
    }
    epochs = [span for span in receiver.spans if span.name.startswith("epoch ")]
    assert sorted((workers[span.parent_span_id], span.name) for span in epochs) == [
        (rank, f"epoch {epoch}") for rank in (0, 1) for epoch in range(3)
    ]
    assert {span.resource["service.name"] for span in epochs} == {"trainer"}
    assert len({span.trace_id for span in receiver.spans}) == 1


@pytest.mark.e2e
def test_show() -> None:
    """The command in the header shows a trace without any backend, and ends as the command did."""
    result = run(header_command("show.py"))
    assert result.returncode == 0, result.stderr
    assert "worker 1 of 2" in result.stdout
    assert re.search(r"^└─ workers, generation 1 .* succeeded$", result.stdout, re.MULTILINE)
    assert "\nnode 0: succeeded\nWorkers ran " in result.stdout
    assert run("python examples/show.py bash -c 'exit 3'").returncode == 3


@pytest.mark.e2e
def test_demo() -> None:
    """The whole story is there: who failed, of what, who was stopped for it, and that all recovered."""
    result = run(header_command("demo.py"))
    assert result.returncode == 0, result.stderr
    assert re.search(
        r"^ +\d+\.\d s  agent \d+  Worker 3 .* died of RuntimeError", result.stdout, re.MULTILINE
    )
    assert re.fullmatch(" ".join(DEMO_NODE_0 + DEMO_NODE_1), tree_of(result.stdout)), result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 100
    assert "\x1b" not in result.stdout
    assert result.stderr == ""


@pytest.mark.e2e
def test_demo_with_an_endpoint(receiver: OtlpReceiver) -> None:
    """The telemetry goes where the user says, and the trace can be found."""
    env = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.http_endpoint,
        "TORCHELASTIC_OTEL_TRACE_URL": "http://localhost:16686/trace/{trace_id}",
    }
    result = run(header_command("demo.py"), env=env)
    assert result.returncode == 0, result.stderr
    [trace_id] = {span.trace_id for span in receiver.spans}
    [run_id] = {span.attributes["torchelastic.run_id"] for span in receiver.spans}
    assert f"\nTrace id: {trace_id}\nhttp://localhost:16686/trace/{trace_id}\n" in result.stdout
    assert f"torchelastic.run_id={run_id}" in result.stdout


# How a trace is shown, without a job


def a_span(name: str, span_id: str, parent: str = "", **attributes: object) -> Span:
    """Make a span of two hours, its attributes without their prefix."""
    return Span(
        name=name,
        trace_id="5" * 32,
        span_id=span_id,
        parent_span_id=parent,
        start_ns=10**18,
        end_ns=10**18 + 7_200_000_000_000,
        attributes={f"torchelastic.{key}": value for key, value in attributes.items()},
        events=[],
        dropped_events_count=0,
        links=[],
        dropped_links_count=0,
        dropped_attributes_count=0,
        status_code="UNSET",
        status_message="",
        kind="INTERNAL",
        trace_state="",
        flags=0,
        resource={"process.pid": 7},
        scope_name="torchelastic_otel",
        scope_version="",
    )


def a_record(name: str, body: str, span_id: str) -> LogRecord:
    """Make a log record with a long attribute."""
    return LogRecord(
        event_name=name,
        time_ns=10**18,
        observed_ns=10**18,
        severity_number=9,
        severity_text="INFO",
        body=body,
        attributes={"note": "n" * 300},
        trace_id="5" * 32,
        span_id=span_id,
        flags=0,
        dropped_attributes_count=0,
        resource={},
        scope_name="",
        scope_version="",
    )


class Screen(io.TextIOWrapper):
    """A terminal, or a file, of a given encoding."""

    def __init__(self, *, tty: bool, encoding: str = "utf-8") -> None:
        super().__init__(io.BytesIO(), encoding=encoding)
        self._tty = tty

    def isatty(self) -> bool:
        """Say what it was made to be."""
        return self._tty

    @property
    def text(self) -> str:
        """What was written."""
        self.flush()
        raw = self.buffer
        assert isinstance(raw, io.BytesIO)
        return raw.getvalue().decode(self.encoding)


def a_failed_job() -> tuple[list[Span], list[LogRecord]]:
    """Make the telemetry of a job with a long reason, names and times."""
    sentence = "failed: worker 0 died: " + "a very long reason " * 12
    spans = [
        a_span("torchelastic.agent", "1" * 16, hostname="h" * 90, outcome="failed", verdict=sentence),
        a_span("torchelastic.worker_group", "2" * 16, "1" * 16, generation=1, truncated=True),
        replace(
            a_span("torchelastic.rendezvous", "3" * 16, "1" * 16, outcome="failed"), status_message=sentence
        ),
    ]
    return spans, [a_record("torchelastic.failure", sentence, "2" * 16), a_record("mine", "", "1" * 16)]


def test_what_is_long_is_wrapped_and_never_lost_in_the_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines fit, and the reason of a failure is all there."""
    monkeypatch.setenv("COLUMNS", "80")
    for tty, width in ((True, 80), (False, 100)):
        screen = Screen(tty=tty)
        monkeypatch.setenv("NO_COLOR", "1")
        show(*a_failed_job(), screen)
        assert max(map(len, screen.text.splitlines())) <= width
        words = " ".join(re.sub("[│├└─]", " ", screen.text).split())
        assert words.count("a very long reason " * 11) == 3
        assert "120 min" in screen.text
        assert "truncated" in screen.text
        assert "\x1b" not in screen.text


def test_colour_is_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed is red on a terminal."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    screen = Screen(tty=True)
    show(*a_failed_job(), screen)
    assert "\x1b[31mfailed\x1b[0m" in screen.text


def test_plain_letters_where_there_are_no_others() -> None:
    """A terminal without Unicode gets ASCII."""
    screen = Screen(tty=False, encoding="ascii")
    show(*a_failed_job(), screen)
    assert "\n`- workers, generation 1" in screen.text


def test_no_telemetry_is_said() -> None:
    """A forgotten flag is the likely reason."""
    screen = Screen(tty=False)
    show([], [], screen)
    assert "No spans arrived" in screen.text


def test_a_receiver_that_stops_answers_what_it_has_taken() -> None:
    """Else the sender would have to send it again, and it would be there twice."""
    with ThreadPoolExecutor(1) as pool:
        with OtlpReceiver() as receiver:
            receiver.respond(delay=60)
            status = pool.submit(post, receiver.http_endpoint, log_request("hello"))
            assert receiver.wait(lambda found: len(found.logs) == 1)
        assert status.result() == 200


def test_every_example_is_tested() -> None:
    """An example that no test runs is one that may not work."""
    tested = set(re.findall(r'(?:run_example|header_command)\("([^"]+)"', Path(__file__).read_text()))
    runnable = {
        str(path.relative_to(EXAMPLES))
        for path in EXAMPLES.rglob("*.py")
        if "__main__" in path.read_text() and path.name != "otlp_receiver.py"
    }
    assert runnable == tested
