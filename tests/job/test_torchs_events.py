"""From torch's agent and worker events to records: nothing left out, nothing padded."""

from __future__ import annotations

import enum
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.job_player import AGENT, GROUP, NOW, STATUS, WORKER
from tests.support.job_world import World, recorded, status_record
from tests.support.odd_values import scalars
from tests.support.torch_texts import INNER, OUTER, status_event, watchdog_event
from torchelastic_otel._contract import TORCH_KEYS
from torchelastic_otel._job.event import ERROR, INFO, WARN
from torchelastic_otel._job.identity import hash_trace_id

DERIVED = {
    "error.type",
    "exception.type",
    "exception.message",
    "exception.stacktrace",
    "torchelastic.worker.signal",
}
"""What is read out of torch's values, besides the values themselves."""


def test_start_event_is_complete() -> None:
    """A worker's START, key by key: torch's names under the prefix, one-element lists unwrapped."""
    world = World()
    world.record(json.dumps(status_event("START")))
    (event,) = world.records
    assert event.attributes == {
        "torchelastic.event": "torchelastic.worker.status.START",
        "torchelastic.source": "WORKER",
        "torchelastic.run_id": "r",
        "torchelastic.global_rank": 3,
        "torchelastic.group_rank": 1,
        "torchelastic.worker_id": "4711",
        "torchelastic.role": "default",
        "torchelastic.hostname": "node-2",
        "torchelastic.state": "START",
        "torchelastic.total_run_time": 0,
        "torchelastic.rdzv_backend": "c10d",
        "torchelastic.agent_restarts": 1,
        "torchelastic.group_world_size": 2,
        "torchelastic.entry_point": "python",
        "torchelastic.local_rank": 1,
        "torchelastic.role_rank": 3,
        "torchelastic.role_world_size": 4,
    }
    assert event.name == "torchelastic.worker.status.START"
    assert (event.severity, event.time_ns, event.observed_ns) == (INFO, NOW, NOW)
    assert event.body == "Worker 3 (local rank 1, pid 4711) on node-2 started"
    worker = world.output.started[-1]
    assert (worker.name, worker.attributes["torchelastic.local_rank"]) == (WORKER, 1)
    assert (event.trace_id, event.span_id) == (hash_trace_id("r"), worker.context.span_id)


def test_agent_event_is_complete() -> None:
    """An agent's RENDEZVOUS has no worker, so nothing of a worker; its duration is a number."""
    event = status_record("RENDEZVOUS", "AGENT", global_rank=None, worker_id=None, duration_ms=12.5, inner={})
    assert event.attributes["torchelastic.duration_ms"] == 12.5
    assert "torchelastic.global_rank" not in event.attributes
    assert "torchelastic.worker_id" not in event.attributes
    assert "12" in event.body or "0.013" in event.body or "0.012" in event.body


@pytest.mark.parametrize("key", sorted({*OUTER, *INNER} - {"metadata", "raw_error", "exit_code"}))
def test_each_key_keeps_its_name_under_the_prefix(key: str) -> None:
    """Torch's keys are lifted alike, from the outer and the inner metadata; none has a name of its own."""
    value = 77 if key in ("global_rank", "local_rank") else "text"
    event = status_record("START", **({"inner": {key: [value]}} if key in INNER else {key: value}))
    assert event.attributes[f"torchelastic.{key}"] == value


def test_known_keys_are_lifted_by_the_rule() -> None:
    """The table of known keys says the same as the rule, but for the two that have a convention."""
    exceptions = {"exit_code": "process.exit.code", "watchdog_event": "torchelastic.watchdog.event"}
    rule = {key: exceptions.get(key, f"torchelastic.{key}") for key in TORCH_KEYS}
    assert rule == TORCH_KEYS


new_keys = st.from_regex(r"\Anew_[a-z_]{1,8}\Z")


outer_metadata = st.fixed_dictionaries(
    {key: st.none() | scalars for key in OUTER if key not in ("metadata", "raw_error", "state")}
)


inner_metadata = st.fixed_dictionaries(
    {},
    optional={
        **{
            key: st.none() | scalars | st.lists(st.none() | scalars, min_size=1, max_size=1)
            for key in INNER
            if key != "exit_code"
        },
        "exit_code": st.lists(st.none() | st.integers(-64, 255), min_size=1, max_size=1),
    },
)


@given(
    outer_metadata,
    inner_metadata,
    st.dictionaries(new_keys, st.none() | scalars, max_size=3),
    st.sampled_from(
        ["START", "SUCCEEDED", "FAILED", "TERMINATED", "RENDEZVOUS", "ASSIGN_WORKER_RANKS", "NEW"]
    ),
    st.sampled_from(["AGENT", "WORKER"]),
)
def test_nothing_is_left_out_and_nothing_padded(
    outer: dict[str, Any], inner: dict[str, Any], unknown: dict[str, Any], state: str, source: str
) -> None:
    """Every value that torch says is there, as torch says it; what is null is not, and nothing else is."""
    metadata = {**outer, **unknown, "state": state, "raw_error": None, "metadata": json.dumps(inner)}
    fields = {"name": STATUS + state, "source": source, "timestamp": 0, "metadata": metadata}
    event = recorded(json.dumps(fields))

    lifted = {**outer, **unknown, "state": state}
    lifted.update({key: value[0] if isinstance(value, list) else value for key, value in inner.items()})
    expected = {f"torchelastic.{key}": value for key, value in lifted.items() if value is not None}
    if "torchelastic.exit_code" in expected:
        expected["process.exit.code"] = expected.pop("torchelastic.exit_code")
    expected.update({"torchelastic.event": STATUS + state, "torchelastic.source": source})
    given_ones = {key: value for key, value in event.attributes.items() if key not in DERIVED}
    assert given_ones == expected
    assert {key: type(value) for key, value in given_ones.items()} == {
        key: type(value) for key, value in expected.items()
    }


@given(
    outer_metadata,
    inner_metadata,
    st.sampled_from(["START", "FAILED", "RENDEZVOUS"]),
    st.sampled_from(["AGENT", "WORKER"]),
)
def test_text_and_fields_say_the_same(
    outer: dict[str, Any], inner: dict[str, Any], state: str, source: str
) -> None:
    """An event is the same whether it comes as torch's JSON or by its fields."""
    metadata = {**outer, "state": state, "metadata": json.dumps(inner)}
    fields = {"name": STATUS + state, "source": source, "timestamp": 0, "metadata": metadata}
    as_text, by_fields = recorded(json.dumps(fields)), recorded(fields)
    assert as_text._replace(trace_id=0) == by_fields._replace(trace_id=0)  # without a run id it is random


@pytest.mark.parametrize("metadata", ["no JSON", "[1, 2]", "7", "{broken", ""])
def test_inner_metadata_of_another_shape_is_kept_as_text(metadata: str) -> None:
    """What should be JSON in a string and is none is not thrown away."""
    event = status_record("START", metadata=metadata)
    assert event.attributes["torchelastic.metadata"] == metadata
    assert event.attributes["torchelastic.run_id"] == "r"


def test_longer_lists_are_kept_whole() -> None:
    """Only lists of one element are torch's way of writing a scalar."""
    event = status_record("START", inner={"role_rank": [3, 4]})
    assert event.attributes["torchelastic.role_rank"] == "[3, 4]"


def test_source_may_be_an_enumeration() -> None:
    """Torch's own ``EventSource`` by its value, when events come by their fields."""

    class Source(str, enum.Enum):
        WORKER = "WORKER"

    world = World()
    world.record({**status_event("START"), "source": Source.WORKER})
    (record,) = world.records
    assert record.attributes["torchelastic.source"] == "WORKER"
    assert [span.name for span in world.output.started] == [AGENT, GROUP, WORKER]


@pytest.mark.parametrize(
    ("code", "signal", "error_type", "words"),
    [
        (1, None, "1", "exit code 1"),
        (137, None, "137", "exit code 137"),
        (-9, "SIGKILL", "SIGKILL", "killed by SIGKILL"),
        (-11, "SIGSEGV", "SIGSEGV", "killed by SIGSEGV"),
        (-15, "SIGTERM", "SIGTERM", "killed by SIGTERM"),
        (-40, "SIG40", "SIG40", "killed by SIG40"),
        (-9999, "SIG9999", "SIG9999", "killed by SIG9999"),
    ],
)
def test_exit_code_and_signal(code: int, signal: str | None, error_type: str, words: str) -> None:
    """A negative exit code names its signal; ``error.type`` is the signal's name, else the code as text."""
    event = status_record("FAILED", inner={"exit_code": [code], "worker_pid": [4711]})
    assert event.attributes["process.exit.code"] == code
    assert event.attributes.get("torchelastic.worker.signal") == signal
    assert event.attributes["error.type"] == error_type
    assert event.attributes["torchelastic.worker_pid"] == 4711
    assert event.severity == ERROR
    assert words in event.body


def test_succeeded_worker_has_no_error() -> None:
    """Exit code 0 is a fact like any other, and no error type is made up for it."""
    event = status_record("SUCCEEDED", inner={"exit_code": [0]})
    assert event.attributes["process.exit.code"] == 0
    assert "error.type" not in event.attributes
    assert event.severity == INFO


def test_terminated_worker_is_a_warning() -> None:
    """Stopped by its agent is no failure of its own."""
    event = status_record("TERMINATED")
    assert event.severity == WARN
    assert not DERIVED & set(event.attributes)


def test_watchdog_kill_is_complete() -> None:
    """The inner keys have a prefix of their own: a worker's pid here is the victim's."""
    kill = watchdog_event(
        "kill worker process", worker_pid="4711", scope_id="step", expiration_time="1.5", signal="9"
    )
    event = recorded(json.dumps(kill))
    assert event.severity == ERROR
    assert event.attributes == {
        "torchelastic.event": "kill worker process",
        "torchelastic.source": "AGENT",
        "torchelastic.run_id": "r",
        "torchelastic.group_rank": 1,
        "torchelastic.role": "default",
        "torchelastic.hostname": "node-2",
        "torchelastic.state": "RUNNING",
        "torchelastic.total_run_time": 0,
        "torchelastic.rdzv_backend": "c10d",
        "torchelastic.agent_restarts": 1,
        "torchelastic.watchdog.event": "kill worker process",
        "torchelastic.watchdog.worker_pid": "4711",
        "torchelastic.watchdog.scope_id": "step",
        "torchelastic.watchdog.expiration_time": "1.5",
        "torchelastic.watchdog.signal": "9",
    }
    assert "4711" in event.body
    assert "step" in event.body


@pytest.mark.parametrize("name", ["watchdog started", "watchdog stopped", "timer expired"])
def test_other_watchdog_events_are_no_errors(name: str) -> None:
    """Only the kill is."""
    event = recorded(json.dumps(watchdog_event(name)))
    assert event.severity == INFO
    assert event.attributes["torchelastic.watchdog.event"] == name
