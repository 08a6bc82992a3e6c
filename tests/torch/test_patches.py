"""What was replaced in torch is put back, unless somebody else has replaced it since."""

from __future__ import annotations

from types import SimpleNamespace

from torchelastic_otel._torch.patches import Patches


def test_what_was_replaced_is_put_back() -> None:
    """Also where one attribute was replaced twice: the last replacement goes first."""
    owner, patches = SimpleNamespace(function=1), Patches()
    patches.replace(owner, "function", 2)
    patches.replace(owner, "function", 3)
    assert owner.function == 3
    patches.undo()
    assert owner.function == 1


def test_what_somebody_else_replaced_since_is_left_alone() -> None:
    """It may call ours, and it is not ours to take out."""
    owner, patches = SimpleNamespace(ours=1, theirs=1), Patches()
    patches.replace(owner, "ours", 2)
    patches.replace(owner, "theirs", 2)
    owner.theirs = 3
    patches.undo()
    assert vars(owner) == {"ours": 1, "theirs": 3}


def test_undoing_twice_undoes_once() -> None:
    """What is undone is forgotten, and new patches can follow."""
    owner, patches, undone = SimpleNamespace(function=1), Patches(), []
    patches.on_undo(lambda: undone.append("first"))
    patches.undo()
    patches.replace(owner, "function", 2)
    patches.undo()
    patches.undo()
    assert (undone, owner.function) == (["first"], 1)
