"""Nothing recorded is lost: real processes that die, and receivers that are dead, refuse or come back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import pytest

from otlp_receiver import OtlpReceiver
from tests.support.backends import backend, tool
from tests.support.harness import free_port
from torchelastic_otel._delivery.spool import orphans

SOURCES = str(Path(__file__).parents[2] / "src")
DEAD = "http://127.0.0.1:9"
TIMEOUT_S = 60.0
KEPT = {name: os.environ[name] for name in ("HOME", "LANG", "PATH", "TMPDIR") if name in os.environ}
HEAD = """
import os, signal, sys
from torchelastic_otel import events, flush
from torchelastic_otel._intake import bridge as _bridge

def record(name, **metadata):
    events.record(events.Event(name, events.EventSource.WORKER, metadata=metadata), "otel")

def hear():
    # Everything recorded so far has left the process.
    _bridge.bridge().secure(30)
    print("ready", flush=True)
    sys.stdin.readline()
"""


class Node:
    """A machine with a spool, on which processes record events."""

    def __init__(self, spool: Path) -> None:
        self.spool = spool

    def environment(self, endpoint: str, **env: str) -> dict[str, str]:
        """Return the environment of a process that sends to ``endpoint``."""
        return {
            **KEPT,
            "PYTHONPATH": SOURCES,
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_BLRP_SCHEDULE_DELAY": "50",
            "TORCHELASTIC_OTEL_SPOOL_DIR": str(self.spool),
            **env,
        }

    def start(self, script: str, endpoint: str, **env: str) -> subprocess.Popen[str]:
        """Start a script."""
        return subprocess.Popen(
            [sys.executable, "-c", HEAD + textwrap.dedent(script)],
            env=self.environment(endpoint, **env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, script: str, endpoint: str, **env: str) -> tuple[int, str]:
        """Run a script to its end; return its exit code and standard error."""
        process = self.start(script, endpoint, **env)
        _, err = process.communicate(timeout=TIMEOUT_S)
        return process.returncode, err

    def command(self, *arguments: str, endpoint: str = DEAD, **env: str) -> tuple[int, str]:
        """Run ``torchelastic-otel``; return its exit code and what it said."""
        done = subprocess.run(
            [sys.executable, "-m", "torchelastic_otel.cli", *arguments],
            env=self.environment(endpoint, **env),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def left(self) -> Counter[str]:
        """Count what no living process owns in the spool, by signal."""
        found: Counter[str] = Counter()
        if self.spool.exists():
            for store in orphans(self.spool):
                found.update(store.counts())
                store.close()
        return found

    def files(self) -> list[str]:
        """Return the names of what is in the spool."""
        return sorted(path.name for path in self.spool.iterdir()) if self.spool.exists() else []


def heard(process: subprocess.Popen[str]) -> None:
    """Wait until the script is where it calls ``hear``."""
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


def names(receiver: OtlpReceiver) -> Counter[str]:
    """Count the records that arrived by their names."""
    return Counter(record.event_name for record in receiver.logs)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """A machine of the test's own."""
    return Node(tmp_path / "spool")


MANY = """
for number in range(300):
    record(f"e{number}")
"""
ALL = {f"e{number}": 1 for number in range(300)}


# --- a process that ends ----------------------------------------------------------------------------------


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


@pytest.mark.parametrize("ending", ["os._exit(5)", "os.kill(os.getpid(), 9)", "os.kill(os.getpid(), 15)"])
def test_what_was_flushed_to_nobody_outlives_any_end(node: Node, receiver: OtlpReceiver, ending: str) -> None:
    """However a process ends after ``flush`` returned, what it recorded is there."""
    node.run(f"{MANY}\nflush(5)\n{ending}", DEAD)
    assert node.left() == {"logs": 300}
    node.command("replay", "--endpoint", receiver.http_endpoint)
    assert names(receiver) == ALL


def test_what_was_recorded_before_a_kill_is_in_the_spool(node: Node) -> None:
    """SIGKILL from outside: the store of a process that is silent for a moment has everything."""
    process = node.start(f"{MANY}\nhear()", DEAD)
    heard(process)
    process.kill()
    process.communicate()
    assert node.left() == {"logs": 300}


def test_the_watchdogs_last_words_outlive_the_process(node: Node) -> None:
    """The watchdog kills its own agent right after this event: when it is recorded, it is in the spool."""
    script = """
    events.record(events.Event("kill worker process", events.EventSource.AGENT), "otel")
    os.kill(os.getpid(), signal.SIGKILL)
    """
    assert node.run(script, DEAD)[0] == -signal.SIGKILL
    assert node.left() == {"logs": 1}


# --- a backend that comes back ----------------------------------------------------------------------------


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


def test_a_copied_spool_can_be_replayed_elsewhere(node: Node, receiver: OtlpReceiver, tmp_path: Path) -> None:
    """A directory that was copied, without its locks, is sent from where it is now."""
    import shutil

    node.run(MANY, DEAD)
    copy = tmp_path / "copy"
    shutil.copytree(node.spool, copy, ignore=shutil.ignore_patterns("*.lock"))
    copy.chmod(0o700)
    code, said = node.command("replay", "--spool", str(copy), "--endpoint", receiver.http_endpoint)
    assert (code, names(receiver)) == (0, ALL), said
    assert node.left() == {"logs": 300}


@pytest.mark.parametrize("status", [404, 400])
def test_a_replay_to_the_wrong_address_loses_nothing(node: Node, receiver: OtlpReceiver, status: int) -> None:
    """A mistyped endpoint takes nothing and refuses everything: all of it stays for the next attempt."""
    node.run(MANY, DEAD)
    receiver.respond(status=status)
    code, said = node.command("replay", "--endpoint", receiver.http_endpoint)
    assert (code, node.left()) == (1, {"logs": 300}), said
    receiver.respond()
    assert node.command("replay", "--endpoint", receiver.http_endpoint)[0] == 0
    assert names(receiver) == ALL


def test_an_item_that_cannot_be_read_keeps_back_no_other(node: Node, receiver: OtlpReceiver) -> None:
    """What a bad disk spoiled is counted; its neighbours, and the stores behind it, are sent."""
    node.run("record('first')", DEAD)
    (store,) = orphans(node.spool)
    (item,) = store.pending("logs", 0, 10)
    store.add("logs", item.scope_id, [b"\xff\xff spoiled"], 1)
    store.close()
    node.run("record('second')", DEAD)
    code, said = node.command("replay", "--endpoint", receiver.http_endpoint)
    assert (code, names(receiver)) == (0, {"first": 1, "second": 1}), said
    assert "could not be read" in said


# --- what a backend answers -------------------------------------------------------------------------------


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
    """400 is final: counted, said with the server's words; what comes later is delivered."""
    receiver.respond(status=400, message="no such field")
    process = node.start("record('bad')\nflush(5)\nhear()\nrecord('good')", receiver.http_endpoint)
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
    """404: said by name of the signal, nothing kept, nothing sent any more."""
    receiver.respond(status=404)
    script = "record('a')\nflush(5)\nrecord('b')\nflush(5)\nrecord('c')"
    _, err = node.run(script, receiver.http_endpoint)
    assert err.count("takes no log records") == 1
    assert len([request for request in receiver.requests if request.signal == "logs"]) == 1
    assert node.files() == []


def test_records_that_are_too_old_stay_and_are_said(node: Node, receiver: OtlpReceiver) -> None:
    """Refused for lateness: kept, said with what to set, and not tried again and again."""
    receiver.respond(status=400, message="entry too far behind, entry timestamp is 3h ago")
    _, err = node.run(f"{MANY}\nflush(5)\nflush(5)", receiver.http_endpoint)
    assert "reject_old_samples_max_age" in err
    assert node.left() == {"logs": 300}
    assert len(receiver.requests) == 1


# --- bounds and disks -------------------------------------------------------------------------------------


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


def test_a_forked_child_leaves_its_parents_spool_alone(node: Node, receiver: OtlpReceiver) -> None:
    """Both record to a backend that is dead; each has a store of its own, and nothing is there twice."""
    script = """
    record("parent before")
    flush(5)
    child = os.fork()
    if not child:
        record("child")
        flush(5)
        os._exit(0)
    os.waitpid(child, 0)
    record("parent after")
    """
    code, err = node.run(script, DEAD, PYTHONWARNINGS="ignore::DeprecationWarning")
    assert code == 0, err
    node.command("replay", "--endpoint", receiver.http_endpoint)
    assert names(receiver) == {"parent before": 1, "child": 1, "parent after": 1}


# --- export -----------------------------------------------------------------------------------------------


def test_a_spool_is_written_as_otlp_json(node: Node, tmp_path: Path) -> None:
    """One request per line, a file per signal, ids in hex; the spool stays as it is."""
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    node.run(MANY, DEAD, TRACEPARENT=parent)
    code, said = node.command("export", "--output", str(tmp_path / "out"))
    assert code == 0, said
    lines = (tmp_path / "out" / "logs.jsonl").read_text().splitlines()
    records = [
        record
        for line in lines
        for resource in json.loads(line)["resourceLogs"]
        for scope in resource["scopeLogs"]
        for record in scope["logRecords"]
    ]
    assert [record["eventName"] for record in records] == list(ALL)
    assert {(record["traceId"], record["spanId"]) for record in records} == {tuple(parent.split("-")[1:3])}
    assert node.left() == {"logs": 300}


@pytest.mark.e2e
def test_a_real_collector_reads_what_was_exported(node: Node, receiver: OtlpReceiver, tmp_path: Path) -> None:
    """What ``export`` writes, the Collector's otlpjsonfile receiver reads, record for record."""
    node.run(MANY, DEAD)
    node.command("export", "--output", str(tmp_path / "out"))
    config = tmp_path / "collector.yaml"
    config.write_text(f"""
receivers:
  otlpjsonfile: {{include: ["{tmp_path}/out/*.jsonl"], start_at: beginning, poll_interval: 100ms}}
exporters:
  otlphttp: {{endpoint: "{receiver.http_endpoint}", sending_queue: {{enabled: false}}}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    logs: {{receivers: [otlpjsonfile], exporters: [otlphttp]}}
""")
    with backend([str(tool("otelcol")), "--config", str(config)], tmp_path):
        assert receiver.wait(lambda found: len(found.logs) >= 300, TIMEOUT_S)
    assert names(receiver) == ALL


def test_a_second_signal_while_the_first_is_being_told_ends_the_process(node: Node) -> None:
    """Who is impatient sends SIGTERM twice: the process ends by it, as it would with one."""
    script = """
    from torchelastic_otel._torch.launcher_signals import SignalWatch
    def tell(name):
        os.kill(os.getpid(), signal.SIGTERM)
        record("told")
    SignalWatch(tell).install()
    os.kill(os.getpid(), signal.SIGTERM)
    signal.pause()
    """
    assert node.run(script, DEAD)[0] == -signal.SIGTERM


def test_signals_are_those_of_the_process(node: Node) -> None:
    """A process that gets SIGTERM ends by it, and what it recorded before is kept."""
    process = node.start(f"{MANY}\nhear()", DEAD)
    heard(process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == -signal.SIGTERM
    assert node.left() == {"logs": 300}
