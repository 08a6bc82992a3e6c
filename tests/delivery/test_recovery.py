"""What earlier processes left is sent to where it was to go, and nowhere else."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from otlp_receiver import OtlpReceiver
from tests.support.harness import free_port
from tests.support.node import ALL, DEAD, MANY, TIMEOUT_S, Node, heard, names
from tests.support.outboxes import encoded
from tests.support.picky import TAKEN, Asked, PickyBackend, Reply, refusing
from tests.support.sending import target_of
from tests.support.spools import MANY_BYTES
from tests.support.waiting import LONG_S
from torchelastic_otel._config.environment import Signal
from torchelastic_otel._delivery.policy import A_RUN, MOST_ALONE
from torchelastic_otel._delivery.recovery import Recovery, Sent, send_store
from torchelastic_otel._delivery.sender import make_sender
from torchelastic_otel._delivery.spool import Spool

NUMBERS = [f"e{number}" for number in range(600)]


def test_the_next_process_sends_what_an_earlier_one_left(node: Node) -> None:
    """Same user, same destination: what was left goes out once the backend has answered."""
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    node.run(MANY, endpoint)
    with OtlpReceiver(http_port=port) as receiver:
        process = node.start("record('next')\nhear()", endpoint)
        heard(process)
        assert receiver.wait(lambda r: len(r.logs) >= 301, TIMEOUT_S), names(receiver)
        process.communicate("go on\n", timeout=TIMEOUT_S)
        assert names(receiver) == {**ALL, "next": 1}
    assert node.left() == {}


@pytest.mark.parametrize(
    "other", [{"OTEL_EXPORTER_OTLP_HEADERS": "x-scope-orgid=b"}, {}], ids=["tenant", "place"]
)
def test_one_tenants_records_never_go_to_anothers_endpoint(
    node: Node, receiver: OtlpReceiver, other: dict[str, str]
) -> None:
    """What was recorded for other headers, or another endpoint, stays where it is; so does ``replay``."""
    first = receiver.http_endpoint if other else DEAD
    receiver.respond(status=503)
    node.run(MANY, first, OTEL_EXPORTER_OTLP_HEADERS="x-scope-orgid=a")
    receiver.respond()
    process = node.start("record('b')\nflush(5)\nhear()", receiver.http_endpoint, **other)
    heard(process)
    process.communicate("go on\n", timeout=TIMEOUT_S)
    code, said = node.command("replay", endpoint=receiver.http_endpoint, **other)
    assert names(receiver) == {"b": 1}
    assert (code, node.left()) == (1, {"logs": 300})
    assert "--endpoint" in said


def test_a_process_that_sends_nothing_ends_without_waiting_for_it(directory: Path) -> None:
    """Its end comes in two steps; what never began is waited for in neither."""
    recovery = Recovery(directory, {}, dict, {})
    for _ in range(2):
        ending = threading.Thread(target=recovery.stop, args=(threading.TIMEOUT_MAX,), daemon=True)
        ending.start()
        ending.join(LONG_S)
        assert not ending.is_alive()


# What becomes of what was left


def store_with(directory: Path, names: Sequence[str], *signals: Signal) -> Spool:
    """Return a store that an earlier process left, with items of these names."""
    store = Spool.create(directory, MANY_BYTES, {})
    for signal in signals or ("logs",):
        for part in encoded(signal, names):
            store.add(signal, store.scope(signal, part.header), part.payloads, 1)
    return store


def sent_to(backend: PickyBackend, *stores: Spool, waits: list[float] | None = None) -> Sent:
    """Send stores as recovery and replay do, without waiting; return what became of them."""

    def pause(seconds: float) -> bool:
        if waits is not None:
            waits.append(seconds)
        return True

    sent = Sent()
    for store in stores:
        signals: list[Signal] = [signal for signal in ("logs", "traces") if store.counts().get(signal)]
        senders = {
            signal: make_sender(signal, target_of(backend.endpoint, "http/protobuf", signal))
            for signal in signals
        }
        send_store(store, senders, sent, pause=pause)
        for sender in senders.values():
            sender.close()
    return sent


@pytest.mark.parametrize("bad", ["e0", "e300", "e598"])
def test_an_item_that_a_backend_breaks_over_holds_up_nobody(directory: Path, bad: str) -> None:
    """All others are sent, it is set aside, and the next store has its turn."""
    waits: list[float] = []
    with PickyBackend(refusing(bad, status=500)) as backend:
        stores = store_with(directory, NUMBERS), store_with(directory, ["next"])
        sent = sent_to(backend, *stores, waits=waits)
        assert sorted(backend.taken()) == sorted({*NUMBERS, "next"} - {bad})
        assert backend.requests().count((bad,)) == MOST_ALONE
    assert (sent.delivered, sent.held, sent.stopped) == ({"logs": 600}, {"logs": 1}, False)
    assert [(held.signal, held.count) for held in stores[0].held()] == [("logs", 1)]
    assert 0 < len(waits) < MOST_ALONE


def test_where_nothing_else_is_left_an_item_waits_and_holds_up_no_other_store(directory: Path) -> None:
    """Nothing says that it is at fault, and the stores behind it are sent."""
    with PickyBackend(refusing("bad", status=500)) as backend:
        stores = store_with(directory, ["bad"]), store_with(directory, ["next"])
        sent = sent_to(backend, *stores)
        assert backend.taken() == ["next"]
    assert stores[0].counts() == {"logs": 1}
    assert (sent.held, sent.stopped) == ({}, False)


def test_a_backend_that_is_out_of_order_is_left_alone_soon(directory: Path) -> None:
    """Everything stays for the next job, in all stores; another signal has its own way."""

    def rule(asked: Asked) -> Reply:
        return Reply(500) if asked.signal == "logs" else TAKEN

    with PickyBackend(rule) as backend:
        stores = [store_with(directory, NUMBERS, "logs", "traces") for _ in range(3)]
        sent = sent_to(backend, *stores)
        assert len(backend.requests()) < 20 + A_RUN
        assert len(backend.taken("traces")) == 1800
    assert [store.counts() for store in stores] == [{"logs": 600}] * 3
    assert sent.held == {}


@pytest.mark.parametrize("status", [401, 404, 429])
def test_a_signal_that_is_not_let_in_is_left_at_once(directory: Path, status: int) -> None:
    """One request is enough, for all stores."""

    def rule(asked: Asked) -> Reply:
        return Reply(status) if asked.signal == "logs" else TAKEN

    with PickyBackend(rule) as backend:
        stores = [store_with(directory, NUMBERS[:9], "logs", "traces") for _ in range(3)]
        sent = sent_to(backend, *stores)
        assert len(backend.requests()) == 1
        assert len(backend.taken("traces")) == 27
    assert [store.counts() for store in stores] == [{"logs": 9}] * 3
    assert not sent.stopped


def test_a_refused_batch_costs_the_culprit_alone(directory: Path) -> None:
    """It is halved until that is found."""
    with PickyBackend(refusing("e300", status=400)) as backend:
        store = store_with(directory, NUMBERS)
        sent = sent_to(backend, store)
        assert backend.taken() == [name for name in NUMBERS if name != "e300"]
    assert (sent.delivered, sent.rejected) == ({"logs": 599}, {"logs": 1})


def test_the_next_job_is_not_held_up_by_an_item_that_an_earlier_one_left(node: Node) -> None:
    """Nor are the others that were left with it."""
    with PickyBackend(lambda asked: Reply(500)) as backend:
        node.run("record('good'); record('bad'); record('better')", backend.endpoint)
        assert node.left() == {"logs": 3}
        backend.rule = refusing("bad", status=500)
        process = node.start("record('next')\nhear()", backend.endpoint)
        heard(process)
        assert backend.wait(lambda b: {"next", "good", "better"} <= set(b.taken()))
        process.communicate("go on\n", timeout=TIMEOUT_S)
        code, said = node.command("replay", endpoint=backend.endpoint)
    assert code == 1, said
    assert node.left() == {"logs": 1}
