"""``worker_tracer_provider``: a script's own spans go where the bridge's go, and hold up nothing."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from otlp_receiver import OtlpReceiver
from tests.support.fresh_python import run
from tests.support.harness import clean_environment, free_port
from tests.support.trace_ids import SPAN, TRACE

SCRIPT = """
import os, random, sys
import torchelastic_otel

random.seed(0)
provider = torchelastic_otel.worker_tracer_provider({"service.name": "trainer"})
tracer = provider.get_tracer("script")
torchelastic_otel.attach_worker_context()
with tracer.start_as_current_span("step token=abc", attributes={"note": "token=abc"}) as span:
    span.add_event("event token=abc", {"note": "token=abc"})
"""
FORK = """
if os.fork() == 0:
    with tracer.start_as_current_span("of the child"):
        pass
    sys.exit()
os.wait()
"""


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let nothing of this machine have a say; the spool is the test's own."""
    for name in os.environ.keys() - clean_environment().keys():
        monkeypatch.delenv(name)
    monkeypatch.setenv("TORCHELASTIC_OTEL_SPOOL_DIR", str(tmp_path / "spool"))
    monkeypatch.setenv("TORCHELASTIC_OTEL_EXIT_TIMEOUT", "60")
    monkeypatch.setenv("TRACEPARENT", f"00-{TRACE}-{SPAN}-01")
    monkeypatch.setenv("NO_PROXY", "*")


def script(code: str = SCRIPT, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a script to its good end."""
    done = run(code, **environ)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_spans_go_by_the_bridges_protocol_under_the_workers_span(protocol: str) -> None:
    """With the process's own resource, and whatever protocol the bridge would choose."""
    with OtlpReceiver() as receiver:
        endpoint = receiver.grpc_endpoint if protocol == "grpc" else receiver.http_endpoint
        done = script(OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_EXPORTER_OTLP_PROTOCOL=protocol)
        [span] = receiver.spans
        assert {request.protocol for request in receiver.requests} == {protocol}
    assert done.stderr == ""
    assert (span.name, span.trace_id, span.parent_span_id) == ("step token=abc", TRACE, SPAN)
    assert span.resource["service.name"] == "trainer"
    assert span.resource["process.pid"]
    assert span.resource["host.name"]


def test_workers_that_are_seeded_alike_have_spans_of_different_ids() -> None:
    """Python's random is the training's."""
    with OtlpReceiver() as receiver:
        for _ in range(2):
            script(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.http_endpoint)
        assert len({span.span_id for span in receiver.spans}) == 2


def test_what_nobody_takes_waits_in_the_spool(tmp_path: Path) -> None:
    """The script ends well although nobody listens; ``replay`` sends its span."""
    port = free_port()
    endpoint = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
    }
    said = script(**endpoint).stderr
    assert str(tmp_path / "spool") in said
    with OtlpReceiver(http_port=port) as receiver:
        replay = "import sys; from torchelastic_otel.cli import main; sys.exit(main(['replay']))"
        done = script(replay, **endpoint)
        assert [span.name for span in receiver.spans] == ["step token=abc"], done.stdout


def test_texts_are_redacted() -> None:
    """Names, attributes and events alike, as those of the bridge."""
    with OtlpReceiver() as receiver:
        script(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.http_endpoint, TORCHELASTIC_OTEL_REDACT=r"token=\w{1,9}")
        [span] = receiver.spans
    assert span.name == "step [redacted]"
    assert span.attributes == {"note": "[redacted]"}
    [event] = span.events
    assert (event.name, event.attributes) == ("event [redacted]", {"note": "[redacted]"})


def test_a_forked_child_sends_nothing_of_its_parents() -> None:
    """What the parent recorded before and after arrives once, whatever a child does."""
    with OtlpReceiver() as receiver:
        script(
            SCRIPT + FORK + "with tracer.start_as_current_span('after'): pass",
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.http_endpoint,
        )
        assert sorted(span.name for span in receiver.spans) == ["after", "step token=abc"]


@pytest.mark.parametrize(
    "off",
    [{"OTEL_TRACES_EXPORTER": "none"}, {"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_SAMPLER": "always_off"}],
)
def test_nothing_is_sent_where_the_user_wants_no_spans(off: dict[str, str]) -> None:
    """By the same variables as for the bridge."""
    with OtlpReceiver() as receiver:
        done = script(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.http_endpoint, **off)
        assert receiver.requests == []
    assert done.stderr == ""
