"""From torch's rendezvous events to records: numbers that stand in a message, and which are heartbeats."""

from __future__ import annotations

import json

import pytest

from tests.support.job_player import NOW, RENDEZVOUS
from tests.support.job_world import World, recorded, rendezvous_record
from tests.support.torch_texts import KEEP_ALIVE, rendezvous_event
from torchelastic_otel._job.event import DEBUG, INFO, WARN

NODE = "The node 'node-2_17_0'"


@pytest.mark.parametrize(
    ("message", "found", "joins", "joined"),
    [
        (f"{NODE} attempts to join the next round of the rendezvous 'r'.", {}, True, False),
        (
            f"{NODE} has joined round 3 of the rendezvous 'r' as rank 1 in a world of size 2.",
            {"round": 3, "group_rank": 1, "group_world_size": 2},
            False,
            True,
        ),
        (
            f"{NODE} has joined round 12 of the rendezvous 'as rank 7 in' as rank 0 in a world of size 64.",
            {"round": 12, "group_rank": 0, "group_world_size": 64},
            False,
            True,
        ),
        (
            f"{NODE} added itself to the participants of round 4 of the rendezvous 'r'. Pending sync.",
            {"round": 4},
            False,
            False,
        ),
        (
            f"{NODE} added itself to the wait list of round 5 of the rendezvous 'r'. Pending sync.",
            {"round": 5},
            False,
            False,
        ),
        (
            f"{NODE} added itself to the redundancy list of round 1 of the rendezvous 'r'. Pending sync.",
            {"round": 1},
            False,
            False,
        ),
        (
            f"{NODE} removed itself from the participants of round 10 of the rendezvous 'r'. Pending sync.",
            {"round": 10},
            False,
            False,
        ),
        (
            f"{NODE} marked round 0 of the rendezvous 'r' as complete. Pending sync.",
            {"round": 0},
            False,
            False,
        ),
        (f"{NODE} marked the rendezvous 'r' as closed. Pending sync.", {}, False, False),
        (f"{NODE} has closed the rendezvous 'r'.", {}, False, False),
        (f"{NODE} attempts to join the next round of the rendezvous 'round 7'.", {}, True, False),
        (
            f"{NODE} added itself to the participants of round 2 of the rendezvous 'round 9'. Pending sync.",
            {"round": 2},
            False,
            False,
        ),
        ("As part of the sync operation the node(s) 'a_1_0' have been removed …", {}, False, False),
    ],
)
def test_round_rank_and_size_are_read_from_the_message(
    message: str, found: dict[str, int], joins: bool, joined: bool
) -> None:
    """They stand nowhere else. A run id that looks like one of them does not count."""
    world = World()
    world.asks(0)
    world.record(json.dumps(rendezvous_event(message=message)))
    event = world.records[-1]
    numbers = {key: event.attributes.get(f"torchelastic.{key}") for key in ("round", "group_world_size")}
    assert numbers == {key: found.get(key) for key in numbers}
    assert event.attributes.get("torchelastic.group_rank") == found.get("group_rank")
    attempts = len([span for span in world.output.started if span.name == RENDEZVOUS])
    assert attempts == (2 if joins else 1)
    assert [span.outcome for span in world.all(RENDEZVOUS)] == ["succeeded"] * joined + [None] * joins
    assert event.body == message


def test_rendezvous_event_is_complete() -> None:
    """Every field of torch's, with the node's rank as the group's; what is empty is left out."""
    event = rendezvous_record(rank=1, local_id=0, master_endpoint="node-1:29400", node_state="SUCCEEDED")
    assert event.attributes == {
        "torchelastic.event": "dynamic_rendezvous.py:DynamicRendezvousHandler.next_rendezvous",
        "torchelastic.run_id": "r",
        "torchelastic.node_state": "SUCCEEDED",
        "torchelastic.hostname": "node-2",
        "torchelastic.pid": 17,
        "torchelastic.master_endpoint": "node-1:29400",
        "torchelastic.local_id": 0,
        "torchelastic.group_rank": 1,
    }
    assert (event.time_ns, event.severity) == (NOW, INFO)
    assert set(rendezvous_record().attributes) == {
        *("torchelastic.event", "torchelastic.run_id", "torchelastic.node_state"),
        *("torchelastic.hostname", "torchelastic.pid"),
    }


@pytest.mark.parametrize("state", ["INIT", "RUNNING", "SUCCEEDED"])
def test_error_trace_is_never_left_out(state: str) -> None:
    """Torch has it in FAILED events alone, a caller of the events API in whichever it likes."""
    trace = "Traceback (most recent call last):\nValueError: x\n"
    event = rendezvous_record(node_state=state, error_trace=trace)
    assert any("ValueError: x" in str(value) for value in event.attributes.values())


EXECUTOR_KEEP_ALIVE = "dynamic_rendezvous.py:_DistributedRendezvousOpExecutor._keep_alive"
SYNC = "dynamic_rendezvous.py:_DistributedRendezvousOpExecutor.run"
TIMER = "RendezvousKeepAliveTimer_0"


@pytest.mark.parametrize(
    ("name", "thread", "state", "heartbeat"),
    [
        (KEEP_ALIVE, TIMER, "RUNNING", True),
        (EXECUTOR_KEEP_ALIVE, TIMER, "RUNNING", True),
        (KEEP_ALIVE, None, "RUNNING", True),
        (SYNC, TIMER, "RUNNING", True),
        (SYNC, "MainThread", "RUNNING", False),
        (SYNC, None, "RUNNING", False),
        (KEEP_ALIVE, TIMER, "FAILED", False),
        (SYNC, TIMER, "FAILED", False),
        (KEEP_ALIVE, TIMER, "SUCCEEDED", False),
        ("dynamic_rendezvous.py:DynamicRendezvousHandler._keep_alive_weak", "T", "RUNNING", False),
        ("keep_alive", "MainThread", "RUNNING", False),
    ],
)
def test_heartbeats(name: str, thread: str | None, state: str, heartbeat: bool) -> None:
    """RUNNING events of the keep-alive, and the syncs on its thread; one that failed is none."""
    fields = json.dumps(rendezvous_event(name=name, node_state=state))
    world = World()
    world.record(fields, thread)
    assert len(world.records) == (0 if heartbeat else 1)
    assert recorded(fields, thread).severity == (DEBUG if heartbeat else WARN if state == "FAILED" else INFO)
