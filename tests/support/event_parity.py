"""Events made of the same plain values in the package's own events module and in torch's.

Without torch, the tests that import this are skipped.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import strategies as st

theirs = pytest.importorskip("torch.distributed.elastic.events")

MODULES = ("torch.distributed.elastic.events", "torchelastic_otel.events")

anything = st.text(st.characters(exclude_categories=()))
scalars = st.none() | st.booleans() | st.integers() | st.floats() | anything
# More than the annotation allows: what users really put into metadata must come out the same too.
trees = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(anything | st.integers() | st.none() | st.booleans(), inner, max_size=3)
    ),
    max_leaves=8,
)
# Inputs are made as plain values, to build an event of each module from.
event_fields = st.fixed_dictionaries(
    {"name": anything, "source": st.sampled_from(["AGENT", "WORKER"])},
    optional={"timestamp": st.integers(), "metadata": st.dictionaries(anything, trees, max_size=4)},
)
rdzv_fields = st.fixed_dictionaries(
    {
        "name": anything,
        "run_id": anything,
        "message": anything,
        "hostname": anything,
        "pid": st.integers(),
        "node_state": st.sampled_from(["INIT", "RUNNING", "SUCCEEDED", "FAILED"]),
    },
    optional={
        "master_endpoint": anything,
        "rank": st.none() | st.integers(),
        "local_id": st.none() | st.integers(),
        "error_trace": anything,
    },
)
kinds = pytest.mark.parametrize(
    ("kind", "enum", "field", "inputs"),
    [
        ("Event", "EventSource", "source", event_fields),
        ("RdzvEvent", "NodeState", "node_state", rdzv_fields),
    ],
    ids=["Event", "RdzvEvent"],
)


def build(module: Any, kind: str, enum: str, field: str, fields: dict[str, Any]) -> Any:
    """Make a module's event from plain values."""
    member = getattr(module, enum)[fields[field]]
    return getattr(module, kind)(**fields | {field: member})


def outcome(call: Callable[[], object]) -> tuple[str, str]:
    """How a call ends: its result's or its exception's type and text."""
    try:
        result = call()
    except Exception as error:
        return type(error).__name__, str(error)
    return type(result).__name__, repr(result)


def told(record: logging.LogRecord) -> tuple[object, ...]:
    """Return what a handler can tell of a record, but for where the modules' own code stands."""
    return record.name, record.levelno, record.funcName, record.msg, record.args, record.exc_info
