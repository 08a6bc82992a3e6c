"""``replay`` sends what was left, from wherever it is, and loses nothing at a wrong address."""

from __future__ import annotations

from pathlib import Path

import pytest

from otlp_receiver import OtlpReceiver
from tests.support.node import ALL, DEAD, MANY, Node, names
from torchelastic_otel._delivery.spool import orphans


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
    """What a bad disk spoiled is told and stays; its neighbours, and the stores behind it, are sent."""
    node.run("record('first')", DEAD)
    (store,) = orphans(node.spool)
    (item,) = store.pending("logs", 0, 10)
    store.add("logs", item.scope_id, [b"\xff\xff spoiled"], 1)
    store.close()
    node.run("record('second')", DEAD)
    code, said = node.command("replay", "--endpoint", receiver.http_endpoint)
    assert (code, names(receiver)) == (1, {"first": 1, "second": 1}), said
    assert "could not be read" in said
    assert node.left() == {"logs": 1}
