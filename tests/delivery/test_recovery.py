"""What earlier processes left is sent to where it was to go, and nowhere else."""

from __future__ import annotations

import pytest

from otlp_receiver import OtlpReceiver
from tests.support.harness import free_port
from tests.support.node import ALL, DEAD, MANY, TIMEOUT_S, Node, heard, names


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
