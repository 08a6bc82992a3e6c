"""Programs that record through torch's module, the package's, or both: the same is printed, once."""

from __future__ import annotations

import json

import pytest

from tests.support.event_parity import MODULES
from tests.support.fresh_python import run

RECORD = """
    import importlib, sys
    events = importlib.import_module(sys.argv[1])
    event = events.Event("e", events.EventSource.AGENT, 5, {"text": "ü%s", "none": None, "x": 0.1})
    rdzv = events.RdzvEvent("n", "job", "m", "n0", 1, events.NodeState.FAILED)
    sys.stderr.flush()
    print("--", file=sys.stderr)
    for destination in ("console", "null", "dynamic_rendezvous", "console"):
        try:
            events.record(event, destination)
        except Exception as error:
            print(type(error).__name__, error)
    try:
        events.record(event)
        events.record_rdzv_event(rdzv)
        events.construct_and_record_rdzv_event("job", "m", events.NodeState.RUNNING)
    except Exception as error:
        print(type(error).__name__, error)
    events.get_logging_handler("console").handle(__import__("logging").makeLogRecord({"msg": event}))
    print(events.get_logging_handler().__class__, sorted(events._events_loggers))
"""


@pytest.mark.parametrize("level", [None, "INFO", "WARNING", "DEBUG", "NOTSET", "LOUD", "10", ""])
def test_same_output(level: str | None) -> None:
    """Both modules print the same on both streams and exit alike, whatever LOGLEVEL is."""
    env = {} if level is None else {"LOGLEVEL": level}
    other, own = (run(RECORD, module, **env) for module in MODULES)
    assert own.returncode == other.returncode == 0, (own.stderr, other.stderr)
    assert own.stdout == other.stdout
    # Before the mark torch may have printed warnings of its import.
    assert own.stderr.partition("--\n")[2] == other.stderr.partition("--\n")[2]
    loud = level in (None, "INFO", "DEBUG")
    assert own.stderr.count('"name": "e"') == (3 if loud else 1)


@pytest.mark.parametrize("first", [0, 1], ids=["torch first", "ours first"])
def test_both_in_one_process(first: int) -> None:
    """Events recorded through both modules in one process are each written once, in either order."""
    result = run(
        """
        import importlib, logging, sys
        first, second = sys.argv[1:]
        number = 0

        def say(events):
            global number
            events.record(events.Event("e", events.EventSource.AGENT, number), "console")
            number += 1

        a = importlib.import_module(first)
        say(a)
        say(a)
        b = importlib.import_module(second)
        for events in (a, b, b, a, b):
            say(events)
        # The handlers that torch's logger has are torch's own.
        logger = logging.getLogger("torchelastic-events-console")
        print(number, len(logger.handlers))
        """,
        *(MODULES if first == 0 else reversed(MODULES)),
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == "7 1\n"
    stamps = [json.loads(line)["timestamp"] for line in result.stderr.splitlines() if line.startswith("{")]
    assert stamps == list(range(7))
