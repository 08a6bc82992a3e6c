"""Names, signatures, fields and enumerations are those of torch's events module."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import pytest

from tests.support.event_parity import theirs
from torchelastic_otel import events as ours


def test_every_public_name_is_there() -> None:
    """What torch's module makes public is in ours, under the same name."""
    own = {
        name
        for name, value in vars(theirs).items()
        if not name.startswith("_") and getattr(value, "__module__", "").startswith(theirs.__name__)
    }
    assert own >= {"Event", "EventSource", "NodeState", "RdzvEvent", "record", "get_logging_handler"}
    assert own | {"EventMetadataValue"} <= set(ours.__all__)
    assert ours.EventMetadataValue == theirs.EventMetadataValue


@pytest.mark.parametrize(
    "path",
    [
        "Event",
        "Event.serialize",
        "Event.deserialize",
        "Event.__str__",
        "RdzvEvent",
        "RdzvEvent.serialize",
        "RdzvEvent.deserialize",
        "RdzvEvent.__str__",
        "record",
        "record_rdzv_event",
        "construct_and_record_rdzv_event",
        "get_logging_handler",
    ],
)
def test_signatures(path: str) -> None:
    """Parameters have torch's names, order, kinds and defaults; only a keyword of ours may follow."""

    def shape(module: Any) -> list[tuple[str, object, object]]:
        value = module
        for part in path.split("."):
            value = getattr(value, part)
        parameters = inspect.signature(value).parameters.values()
        # The default of metadata is dataclasses' marker for "made anew", the same object in both.
        return [(p.name, p.kind, p.default) for p in parameters]

    expected, found = shape(theirs), shape(ours)
    extra = [("destination", inspect.Parameter.KEYWORD_ONLY, "dynamic_rendezvous")]
    assert found == expected + (extra if "rdzv_event" in path else [])


@pytest.mark.parametrize("kind", ["Event", "RdzvEvent"])
def test_fields(kind: str) -> None:
    """Fields have torch's names, order and defaults; events compare by value, and have no hash."""

    def shape(cls: Any) -> list[tuple[object, ...]]:
        return [(f.name, f.default, f.default_factory, f.kw_only) for f in dataclasses.fields(cls)]

    own, other = getattr(ours, kind), getattr(theirs, kind)
    assert shape(own) == shape(other)
    assert own.__hash__ is other.__hash__ is None
    assert own.__match_args__ == other.__match_args__


@pytest.mark.parametrize("enum", ["EventSource", "NodeState"])
def test_enums(enum: str) -> None:
    """Members have torch's names, values, order, text and hash, and equal torch's members."""

    def shape(cls: Any) -> list[tuple[object, ...]]:
        return [(m.name, m.value, str(m), f"{m}", repr(m), hash(m)) for m in cls]

    own, other = getattr(ours, enum), getattr(theirs, enum)
    assert shape(own) == shape(other)
    assert list(own) == list(other)
