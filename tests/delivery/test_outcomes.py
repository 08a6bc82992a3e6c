"""What a backend answers costs no more than it says: outboxes, and real servers that are particular."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from threading import Event

import pytest

from otlp_receiver import OtlpReceiver
from tests.support.outboxes import MEMORY_BYTES, Clock, keep, metrics_request, outbox_to
from tests.support.picky import TAKEN, Asked, PickyBackend, Reply, refusing
from tests.support.said import Said
from tests.support.sending import SIGNALS
from tests.support.waiting import LONG_S, soon
from torchelastic_otel._delivery.backoff import Backoff, Place
from torchelastic_otel._delivery.disk_or_memory import DiskOrMemory
from torchelastic_otel._delivery.outbox import Outbox
from torchelastic_otel._delivery.policy import ASK_AGAIN_S
from torchelastic_otel._delivery.spool import Held, open_store

MANY = [f"e{number}" for number in range(64)]
OTHERS = [name for name in MANY if name != "e20"]


def held_in(directory: Path) -> list[Held]:
    """Return what is held in the one store there, which is in use."""
    (path,) = (path for path in directory.iterdir() if path.suffix == ".spool")
    copy = directory.parent / "copy"
    copy.mkdir(mode=0o700)
    for part in directory.glob(f"{path.name}*"):
        (copy / part.name).write_bytes(part.read_bytes())
    store = open_store(copy / path.name)
    assert store is not None
    try:
        return store.held()
    finally:
        store.close()


def has_taken(signal: str, name: str, backend: PickyBackend) -> bool:
    """Tell whether an item has arrived."""
    return name in backend.taken(signal)


def trickle(outbox: Outbox, backend: PickyBackend, count: int = 8) -> None:
    """Record one after the other, each when the one before is there."""
    for number in range(count):
        name = f"later{number}"
        keep(outbox, name)
        assert backend.wait(partial(has_taken, outbox.signal, name))


# One item is at fault


PAGE = Reply(200, {"Content-Type": "text/html"}, b"<title>Blocked</title>")


@pytest.mark.parametrize("reply", [Reply(500), Reply(503), Reply(403), PAGE])
def test_an_item_that_a_backend_breaks_over_is_set_aside(directory: Path, reply: Reply, said: Said) -> None:
    """All others arrive, and what is left of it is in the spool, for somebody to look at."""
    with PickyBackend(lambda asked: reply if "e20" in asked.names else TAKEN) as backend:
        outbox = outbox_to(backend.endpoint, directory)
        keep(outbox, *MANY)
        trickle(outbox, backend)
        assert set(OTHERS) <= set(backend.taken())
        assert outbox.flush(soon())
    assert said.having("others are taken meanwhile")
    assert outbox.counts["kept", "poison"] == 1
    assert [(held.signal, held.count) for held in held_in(directory)] == [("logs", 1)]
    assert outbox.counts["exported", ""] == len(OTHERS) + 8


def test_an_item_that_makes_a_backend_hang_up_is_set_aside(directory: Path, said: Said) -> None:
    """It may crash over it, and then there is no answer."""
    with PickyBackend(lambda asked: Reply(cut=True) if "e20" in asked.names else TAKEN) as backend:
        outbox = outbox_to(backend.endpoint, directory)
        keep(outbox, *MANY)
        trickle(outbox, backend)
        assert outbox.flush(soon())
    assert said.having("others are taken meanwhile")
    assert outbox.counts["kept", "poison"] == 1


def test_without_a_disk_it_is_dropped_and_counted(said: Said) -> None:
    """There is nowhere to set it aside."""
    with PickyBackend(refusing("e20", status=500)) as backend:
        outbox = outbox_to(backend.endpoint)
        keep(outbox, *MANY)
        trickle(outbox, backend)
        assert outbox.flush(soon())
    assert said.having("telemetry is being lost")
    assert outbox.counts["dropped", "poison"] == 1
    assert outbox.counts["exported", ""] == len(OTHERS) + 8


def test_a_span_or_a_request_of_metrics_can_be_the_one(directory: Path, said: Said) -> None:
    """As a log record."""
    with PickyBackend(refusing("e20", status=500)) as backend:
        for signal in SIGNALS:
            outbox = outbox_to(backend.endpoint, directory / signal, signal=signal)
            keep(outbox, *MANY)
            trickle(outbox, backend)
            assert outbox.flush(soon())
            assert set(OTHERS) <= set(backend.taken(signal))
            assert outbox.counts["kept", "poison"] == 1


def test_a_refused_batch_costs_the_culprit_alone(directory: Path) -> None:
    """400 for what holds it: the batch is halved until it is found."""
    with PickyBackend(refusing("e20", status=400)) as backend:
        outbox = outbox_to(backend.endpoint, directory)
        keep(outbox, "first")
        assert backend.wait(lambda b: b.taken() == ["first"])
        keep(outbox, *MANY)
        assert outbox.flush(soon())
        assert backend.taken() == ["first", *OTHERS]
        assert len(backend.requests()) < 30
    assert outbox.counts == {("exported", ""): 64, ("dropped", "rejected"): 1}


def test_what_is_refused_where_nothing_was_taken_yet_stays(directory: Path) -> None:
    """It may be the wrong address: nothing is lost for it."""
    with PickyBackend(lambda asked: Reply(400)) as backend:
        outbox = outbox_to(backend.endpoint, directory)
        keep(outbox, "e0", "e1", "e2")
        assert outbox.flush(soon())
    assert outbox.counts == {("kept", "rejected"): 3}
    assert [held.count for held in held_in(directory)] == [3]


def test_what_is_too_old_costs_nothing_fresh(directory: Path) -> None:
    """A batch of both is halved."""
    reply = Reply(400, {"Content-Type": "text/plain"}, b"entry too far behind")
    with PickyBackend(lambda asked: reply if "old" in asked.names else TAKEN) as backend:
        outbox = outbox_to(backend.endpoint, directory)
        keep(outbox, "old", "fresh", "fresher")
        assert outbox.flush(soon())
        assert backend.taken() == ["fresh", "fresher"]
    assert outbox.counts["kept", "late"] == 1


# A signal that a place does not take, for now or at all


@pytest.mark.parametrize("reply", [Reply(404), Reply(405), Reply(410)])
def test_a_passing_404_costs_nothing(directory: Path, reply: Reply, said: Said) -> None:
    """Where some were taken before: an ingress that reloads."""
    with PickyBackend() as backend:
        outbox = outbox_to(backend.endpoint, directory)
        keep(outbox, "before")
        assert backend.wait(lambda b: b.taken() == ["before"])
        backend.rule = lambda asked: reply
        keep(outbox, "meanwhile")
        assert backend.wait(lambda b: len(b.requests()) > 3)
        keep(outbox, "meanwhile, too")
        backend.rule = lambda asked: TAKEN
        assert backend.wait(lambda b: len(b.taken()) == 3)
    assert outbox.flush(soon())
    assert {key: count for key, count in outbox.counts.items() if key[0] != "kept"} == {("exported", ""): 3}
    assert said.having("takes no log records") == []


def test_a_signal_that_was_never_taken_is_off_and_asked_for_again(directory: Path, said: Said) -> None:
    """What was recorded before is kept; what follows is counted, until minutes later."""
    clock = Clock()
    with PickyBackend(lambda asked: Reply(404)) as backend:
        outbox = outbox_to(backend.endpoint, directory, clock=clock)
        keep(outbox, "before")
        assert said.wait("takes no log records")
        keep(outbox, "off", "off, too")
        assert outbox.flush(soon())  # there is nothing to wait for
        assert outbox.counts["dropped", "unsupported"] == 2
        assert outbox.left(in_memory=False) == 1
        backend.rule = lambda asked: TAKEN
        clock.now += 2 * ASK_AGAIN_S
        keep(outbox, "after")
        assert backend.wait(lambda b: len(b.taken()) == 2)
        assert backend.taken() == ["before", "after"]
    assert outbox.flush(soon())
    assert outbox.counts["exported", ""] == 2


def test_grpc_that_is_unimplemented_is_off_and_asked_for_again(receiver: OtlpReceiver, said: Said) -> None:
    """Likewise, and from memory."""
    clock = Clock()
    receiver.respond(grpc_status="UNIMPLEMENTED")
    outbox = outbox_to(receiver.grpc_endpoint, protocol="grpc", clock=clock)
    keep(outbox, "before")
    assert said.wait("takes no log records")
    receiver.respond()
    clock.now += 2 * ASK_AGAIN_S
    outbox.hurry()
    assert receiver.wait(lambda r: [record.event_name for record in r.logs] == ["before"])


def test_metrics_that_add_up_are_not_lost_while_they_are_off(said: Said) -> None:
    """Their last state says all there is, and is kept."""
    clock = Clock()
    with PickyBackend(lambda asked: Reply(404)) as backend:
        outbox = outbox_to(backend.endpoint, signal="metrics", clock=clock)
        outbox.keep_metrics(metrics_request("first"), last_only=True)
        assert said.wait("takes no metrics")
        outbox.keep_metrics(metrics_request("last"), last_only=True)
        backend.rule = lambda asked: TAKEN
        clock.now += 2 * ASK_AGAIN_S
        outbox.hurry()
        assert backend.wait(lambda b: b.taken("metrics") == ["last"])
    assert outbox.counts["dropped", "unsupported"] == 0


# What one signal is told is not another's business


@pytest.mark.parametrize(
    "refused", [Reply(429, {"Retry-After": "3600"}), Reply(503, {"Retry-After": "3600"})]
)
def test_retry_after_is_one_signals_own(refused: Reply, said: Said) -> None:
    """For metrics alone: logs go on, and their success does not make metrics come again sooner."""
    clock, place = Clock(), Place()

    def rule(asked: Asked) -> Reply:
        return refused if asked.signal == "metrics" else TAKEN

    with PickyBackend(rule) as backend:
        metrics = outbox_to(backend.endpoint, signal="metrics", backoff=Backoff(place), clock=clock)
        logs = outbox_to(backend.endpoint, backoff=Backoff(place), clock=clock)
        keep(metrics, "m")
        assert said.wait("metrics cannot be sent")
        for number in range(5):
            keep(logs, f"e{number}")
            assert logs.flush(soon())
        assert not metrics.flush(soon())
        assert len(backend.requests("metrics")) == 1
        clock.now += 3599
        assert not metrics.flush(soon())
        assert len(backend.requests("metrics")) == 1
        backend.rule = lambda asked: TAKEN
        clock.now += 70
        metrics.hurry()
        assert backend.wait(lambda b: b.taken("metrics") == ["m"])


def test_a_page_in_the_way_loses_nothing(directory: Path, said: Said) -> None:
    """200 with HTML: everything is kept, and goes out when the page is gone."""
    with PickyBackend(lambda asked: PAGE) as backend:
        outbox = outbox_to(backend.endpoint, directory)
        keep(outbox, "e0", "e1")
        assert said.wait("something else listens there")
        assert outbox.counts["exported", ""] == 0
        backend.rule = lambda asked: Reply(200, {"Content-Type": "application/json"}, b"{}")
        assert backend.wait(
            lambda b: (
                {"e0", "e1"}
                <= {name for asked, reply in b.asked if reply is not PAGE for name in asked.names}
            )
        )
        assert outbox.flush(soon())
    assert outbox.counts["exported", ""] == 2


def test_back_off_is_one_signals_own(said: Said) -> None:
    """503 for metrics alone: while logs are taken the wait for metrics still doubles."""
    clock, place = Clock(), Place()
    with PickyBackend(lambda asked: Reply(503) if asked.signal == "metrics" else TAKEN) as backend:
        metrics = outbox_to(backend.endpoint, signal="metrics", backoff=Backoff(place), clock=clock)
        logs = outbox_to(backend.endpoint, backoff=Backoff(place), clock=clock)
        keep(metrics, "m")
        assert said.wait("metrics cannot be sent")
        for second in range(1, 51):
            clock.now = float(second)
            metrics.hurry()
            keep(logs, f"e{second}")
            assert logs.flush(soon())
        assert len(backend.requests("metrics")) <= 8  # 1, 2, 4, 8, 16 and 32 seconds apart, or half of that
        backend.rule = lambda asked: TAKEN
        clock.now += 60
        metrics.hurry()
        assert backend.wait(lambda b: b.taken("metrics") == ["m"])


@pytest.mark.parametrize("status", [401, 403, 503])
def test_a_door_that_is_shut_is_not_knocked_at_all_the_time(directory: Path, status: int, said: Said) -> None:
    """There is a back-off, and nothing is lost: when the door opens all goes through, in order."""
    clock = Clock()
    with PickyBackend(lambda asked: Reply(status)) as backend:
        outbox = outbox_to(backend.endpoint, directory, clock=clock)
        keep(outbox, "e0")
        assert said.wait("cannot be sent")
        for number in range(1, 20):
            keep(outbox, f"e{number}")
        assert len(backend.requests()) == 1
        backend.rule = lambda asked: TAKEN
        clock.now += 60
        outbox.hurry()
        assert backend.wait(lambda b: len(b.taken()) == 20)
        assert outbox.flush(soon())
        assert backend.taken() == [f"e{number}" for number in range(20)]
    assert outbox.counts["exported", ""] == 20
    assert outbox.counts["dropped", "shut"] == 0


def test_that_nobody_answers_is_known_to_all_signals_there(said: Said) -> None:
    """The others need not find out by themselves."""
    clock, place = Clock(), Place()
    logs = outbox_to("http://127.0.0.1:9", backoff=Backoff(place), clock=clock)
    keep(logs, "e")
    assert said.wait("cannot be sent")
    assert Backoff(place).wait_s(clock.now) > 0


def test_what_is_on_its_way_when_a_process_gives_its_spool_up_is_no_trouble(said: Said) -> None:
    """The last metrics may be collected once more while it ends: they arrive, and nobody is alarmed."""
    arrived, given_up = Event(), Event()

    def slow(_asked: Asked) -> Reply:
        arrived.set()
        given_up.wait(LONG_S)
        return TAKEN

    keeper = DiskOrMemory(None, MEMORY_BYTES)
    with PickyBackend(slow) as backend:
        outbox = outbox_to(backend.endpoint, keeper=keeper)
        keep(outbox, "last")
        assert arrived.wait(LONG_S)
        keeper.retire()
        given_up.set()
        assert outbox.flush(soon())
        assert backend.taken() == ["last"]
    assert said.texts == []
