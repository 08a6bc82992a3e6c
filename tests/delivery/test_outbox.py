"""What a process records is delivered or kept, as the backend answers: real processes, real receivers."""

from __future__ import annotations

import pytest

from otlp_receiver import OtlpReceiver
from tests.support.harness import free_port
from tests.support.node import ALL, DEAD, MANY, TIMEOUT_S, Node, go_on, heard, names


def test_a_healthy_backend_gets_everything_and_the_spool_is_empty(node: Node, receiver: OtlpReceiver) -> None:
    """Nothing is said and no file is left."""
    assert node.run(MANY, receiver.http_endpoint) == (0, "")
    assert names(receiver) == ALL
    assert node.files() == []


def test_what_a_dead_backend_did_not_get_is_in_the_spool(node: Node, receiver: OtlpReceiver) -> None:
    """The process says in one line how much, where, and how to send it; ``replay`` does."""
    code, err = node.run(MANY, DEAD)
    assert code == 0
    assert "300 log records could not be delivered yet" in err
    assert "torchelastic-otel replay" in err
    assert str(node.spool) in err
    assert "internal error" not in err
    assert node.left() == {"logs": 300}
    code, said = node.command("replay", "--endpoint", receiver.http_endpoint)
    assert (code, names(receiver)) == (0, ALL), said
    assert "300 log records sent" in said
    assert len({record.attributes["log.record.uid"] for record in receiver.logs}) == 300
    assert [record.event_name for record in receiver.logs] == list(ALL)
    assert node.left() == {}


def test_a_backend_that_comes_back_gets_everything_in_the_same_process(node: Node) -> None:
    """Recorded while nobody listened, delivered as soon as somebody does."""
    port = free_port()
    process = node.start(f"{MANY}\nhear()", f"http://127.0.0.1:{port}")
    heard(process)
    with OtlpReceiver(http_port=port) as receiver:
        assert receiver.wait(lambda r: len(r.logs) >= 300, TIMEOUT_S)
        _, err = process.communicate("go on\n", timeout=TIMEOUT_S)
        assert names(receiver) == ALL
    assert process.returncode == 0
    assert "could not be delivered" not in err
    assert node.files() == []


def test_the_bridge_counts_what_becomes_of_its_own(node: Node) -> None:
    """What waited and what arrived are metrics of their own, by signal."""
    port = free_port()
    script = f"{MANY}\nflush(5)\nhear()\nflush(30)"
    process = node.start(script, f"http://127.0.0.1:{port}", OTEL_METRICS_EXPORTER="otlp")
    heard(process)
    with OtlpReceiver(http_port=port) as receiver:
        assert receiver.wait(lambda r: len(r.logs) >= 300, TIMEOUT_S)
        _, err = process.communicate("go on\n", timeout=TIMEOUT_S)
        counted = {
            point.name: point.value
            for point in receiver.metrics
            if point.attributes.get("otel.signal") == "logs"
        }
    assert counted["torchelastic_otel.exported"] == 300, err
    assert counted["torchelastic_otel.spool.kept"] == 300


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_backend_in_trouble_loses_nothing(node: Node, receiver: OtlpReceiver, status: int) -> None:
    """Refused for now: everything is kept."""
    receiver.respond(status=status)
    code, err = node.run(MANY, receiver.http_endpoint)
    assert (code, node.left()) == (0, {"logs": 300}), err


@pytest.mark.parametrize("status", [302, 401, 403])
def test_a_door_that_is_shut_loses_nothing(node: Node, receiver: OtlpReceiver, status: int) -> None:
    """Nothing is wrong with the records: they stay, the reason is said, and ``replay`` sends them later."""
    receiver.respond(status=status, headers={"Location": "http://127.0.0.1:9/"})
    code, err = node.run(f"{MANY}\nflush(5)", receiver.http_endpoint)
    assert (code, node.left()) == (0, {"logs": 300}), err
    assert f"{status}" in err
    receiver.respond()
    code, said = node.command("replay", endpoint=receiver.http_endpoint)
    assert code == 0, said
    assert node.left() == {}


def test_a_refused_batch_does_not_block_those_behind_it(node: Node, receiver: OtlpReceiver) -> None:
    """400 is final where others are taken: said with the server's words; what comes later is delivered."""
    script = "record('first')\nflush(5)\nhear()\nrecord('bad')\nflush(5)\nhear()\nrecord('good')"
    process = node.start(script, receiver.http_endpoint)
    heard(process)
    receiver.respond(status=400, message="no such field")
    go_on(process)
    heard(process)
    receiver.respond()
    _, err = process.communicate("go on\n", timeout=TIMEOUT_S)
    assert "no such field" in err
    assert names(receiver)["good"] == 1
    assert node.files() == []


def test_partial_success_is_read(node: Node, receiver: OtlpReceiver) -> None:
    """Some were refused: how many is counted, with the server's words."""
    receiver.respond(rejected=3, message="three were too long")
    _, err = node.run(MANY, receiver.http_endpoint)
    assert "three were too long" in err
    assert node.files() == []


def test_a_backend_without_logs_is_said_once_and_left_alone(node: Node, receiver: OtlpReceiver) -> None:
    """404: said by name of the signal, and nothing sent any more; what was recorded before is kept."""
    receiver.respond(status=404)
    script = "record('a')\nflush(5)\nrecord('b')\nflush(5)\nrecord('c')"
    _, err = node.run(script, receiver.http_endpoint)
    assert err.count("takes no log records") == 1
    assert len(err.splitlines()) == 1, err
    assert len([request for request in receiver.requests if request.signal == "logs"]) == 1
    assert node.left() == {"logs": 1}


def test_records_that_are_too_old_stay_and_are_said(node: Node, receiver: OtlpReceiver) -> None:
    """Refused for lateness: kept, said with what to set, and not tried again each by itself."""
    receiver.respond(status=400, message="entry too far behind, entry timestamp is 3h ago")
    _, err = node.run(f"{MANY}\nflush(5)\nflush(5)", receiver.http_endpoint)
    assert "reject_old_samples_max_age" in err
    assert node.left() == {"logs": 300}
    assert len(receiver.requests) < 60


def test_at_the_bound_the_oldest_goes(node: Node, receiver: OtlpReceiver) -> None:
    """A spool that is full keeps the newest, and says so once."""
    script = "for number in range(300):\n    record(f'e{number}')\n    if number % 50 == 0: flush(5)"
    _, err = node.run(script, DEAD, TORCHELASTIC_OTEL_SPOOL_MAX_BYTES="20000")
    assert err.count("is full") == 1
    node.command("replay", "--endpoint", receiver.http_endpoint)
    arrived = [record.event_name for record in receiver.logs]
    assert 0 < len(arrived) < 300
    assert arrived == list(ALL)[-len(arrived) :]


def test_a_spool_that_cannot_be_used_is_said_and_memory_takes_its_place(
    node: Node, receiver: OtlpReceiver
) -> None:
    """Somebody else may write there: one warning, and everything is delivered as before."""
    node.spool.mkdir(mode=0o700)
    node.spool.chmod(0o777)
    code, err = node.run(MANY, receiver.http_endpoint)
    assert (code, names(receiver)) == (0, ALL)
    assert str(node.spool) in err
    assert "memory" in err


def test_without_a_spool_nothing_is_written(node: Node, receiver: OtlpReceiver) -> None:
    """``off`` keeps everything in memory."""
    code, err = node.run(MANY, receiver.http_endpoint, TORCHELASTIC_OTEL_SPOOL_DIR="off")
    assert (code, err, names(receiver)) == (0, "", ALL)
    code, err = node.run(MANY, DEAD, TORCHELASTIC_OTEL_SPOOL_DIR="off")
    assert "lost" in err
    assert node.files() == []


@pytest.mark.parametrize("status", [400, 401, 503])
@pytest.mark.parametrize("spool", ["", "off"])
def test_credentials_are_neither_said_nor_kept(
    node: Node, receiver: OtlpReceiver, status: int, spool: str
) -> None:
    """A server echoes what it refused: the launcher's standard error, and the spool, have no part of it."""
    receiver.respond(status=status, message="no t0ken-of-ours, see https://anna:hunter2@host/?key=hunter2")
    variables = {
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20t0ken-of-ours",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://anna:hunter2@127.0.0.1:port",
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "anna:hunter2@127.0.0.1:9",
        "OTEL_METRICS_EXPORTER": "otlp",
    }
    if spool:
        variables["TORCHELASTIC_OTEL_SPOOL_DIR"] = spool
    _, err = node.run(f"{MANY}\nflush(5)", receiver.http_endpoint, **variables)
    assert "no ***, see https://***@host/?key=***" in err
    kept = b"".join(path.read_bytes() for path in node.spool.iterdir()) if node.spool.exists() else b""
    for secret in ("t0ken-of-ours", "hunter2", "anna"):
        assert secret not in err
        assert secret.encode() not in kept
    assert bool(kept) == (spool == "")
