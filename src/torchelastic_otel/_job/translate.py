"""From what torch says to what telemetry says: an event in; name, time, attributes, severity and body out.

Pure: no clock, no environment, no state. What only the job's history can tell (which span an event belongs
to, whether a death was collateral) is left to ``_job``.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from .. import _contract as c
from .._values import (
    Attributes,
    AttributeValue,
    clean,
    clean_text,
    decode,
)
from .exceptions import describe_exception, exception_from_error_file, exception_from_traceback

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

DEBUG, INFO, WARN, ERROR = 5, 9, 13, 17
"""Severity numbers of the OpenTelemetry log data model."""

SEVERITY_TEXT = {DEBUG: "DEBUG", INFO: "INFO", WARN: "WARN", ERROR: "ERROR"}

_NOTHING: Mapping[str, object] = {}


class Kind(Enum):
    """What sort of event was recorded."""

    AGENT = "agent"
    WORKER = "worker"
    WATCHDOG = "watchdog"
    RENDEZVOUS = "rendezvous"
    USER = "user"
    BRIDGE = "bridge"
    UNPARSED = "unparsed"


@dataclass(slots=True)
class Event:
    """An event in the terms of the contract, on its way to becoming a log record.

    ``state`` is torch's (START, SUCCEEDED, …) for agent and worker events, ``node_state`` for rendezvous;
    ``joins`` and ``joined`` tell a rendezvous event that begins or ends a join; ``inner`` is torch's inner
    metadata. ``span`` is set where the event is placed. Times are nanoseconds since the epoch.
    """

    kind: Kind
    name: str
    time_ns: int
    body: str
    attributes: Attributes
    severity: int = INFO
    run_id: str | None = None
    state: str = ""
    local_rank: int | None = None
    keep_alive: bool = False
    joins: bool = False
    joined: bool = False
    inner: Mapping[str, object] | None = None
    observed_ns: int = 0
    span: SpanContext | None = None

    @property
    def heartbeat(self) -> bool:
        """Whether it is one of the keep-alive that went well, as there are two or three every 5 s."""
        return self.keep_alive and self.state == "RUNNING"

    @property
    def begins(self) -> bool:
        """Whether a job that is over would not record it: a node joins, a worker starts."""
        return self.joins or (self.kind is Kind.WORKER and self.state == "START")


_ROUND = re.compile(r"\bround (\d{1,18}) of the rendezvous '")
_JOINED = re.compile(r"has joined round (\d{1,18}) of .* as rank (\d{1,18}) in a world of size (\d{1,18})\b")
_ATTEMPTS = "attempts to join the next round"
_KEEP_ALIVE_THREAD = "RendezvousKeepAliveTimer"


def translate_text(text: str, created_ns: int, thread: str | None = None) -> Event:
    """Translate what a logging handler received: ``event.serialize()`` of torch, or anything else.

    Args:
        text: the log record's message.
        created_ns: when it was recorded, nanoseconds since the epoch.
        thread: name of the recording thread; torch's keep-alive timer is known by it.
    """
    try:
        data = decode(text)
    except (ValueError, RecursionError):
        return unparsed(text, created_ns)
    if type(data) is dict:
        if "metadata" in data and "source" in data:
            name, source, timestamp = data.get("name"), data["source"], data.get("timestamp")
            # Short ASCII without escapes holds no text that would need cleaning.
            plain = len(text) < _SHORT and text.isascii() and "\\u" not in text
            return translate_event(name, source, timestamp, data["metadata"], created_ns, plain=plain)
        if "node_state" in data and "message" in data:
            return translate_rendezvous(data, created_ns, thread)
    return unparsed(text, created_ns)


def translate_event(
    name: object, source: object, timestamp: object, metadata: object, created_ns: int, *, plain: bool = False
) -> Event:
    """Translate an ``Event`` (agent, worker, watchdog, or a user's own), given field by field.

    ``plain`` promises that no text in it needs cleaning.
    """
    name = name if type(name) is str else str(name)
    if type(source) is not str:
        source = str(getattr(source, "value", source))
    time_ns = created_ns
    if type(timestamp) is int and 0 < timestamp < 1 << 43:
        time_ns = timestamp * 1_000_000
    if not plain:
        name, source = clean_text(name), clean_text(source)
    attributes: Attributes = {c.EVENT: name, c.SOURCE: source}
    event = Event(Kind.USER, name, time_ns, name, attributes, observed_ns=created_ns)
    if type(metadata) is not dict and not isinstance(metadata, Mapping):
        _put(attributes, c.METADATA, metadata)
        metadata = _NOTHING
    run_id = metadata.get("run_id")
    if type(run_id) is str:
        event.run_id = run_id
    if name.startswith(c.TORCH_EVENT_PREFIX):
        event.kind = Kind.WORKER if source == "WORKER" else Kind.AGENT
    elif "rdzv_backend" in metadata and "agent_restarts" in metadata:
        event.kind = Kind.WATCHDOG
    else:
        for key, value in metadata.items():
            _put(attributes, clean_text(str(key)), value)
        event.body = clean_text(name)
        return event
    event.inner = _lift(metadata, attributes, plain)
    state = metadata.get("state")
    event.state = state if type(state) is str else ""
    if event.kind is Kind.WORKER:
        rank = attributes.get(c.LOCAL_RANK)
        event.local_rank = rank if type(rank) is int else None
        _worker(event, metadata.get("raw_error"))
    elif event.kind is Kind.AGENT:
        _agent(event, metadata.get("raw_error"))
    else:
        _watchdog(event)
    return event


def translate_rendezvous(data: Mapping[str, object], created_ns: int, thread: str | None = None) -> Event:
    """Translate a ``RdzvEvent``, given as a mapping of its fields."""
    name = str(data.get("name", ""))
    message = clean_text(str(data.get("message", "")))
    state = str(getattr(data["node_state"], "value", data["node_state"]))
    run_id = str(data.get("run_id", ""))
    attributes: Attributes = {
        c.EVENT: clean_text(name),
        c.RUN_ID: clean_text(run_id),
        c.NODE_STATE: clean_text(state),
    }
    for key, attribute in (
        ("hostname", c.HOSTNAME),
        ("pid", c.RDZV_PID),
        ("master_endpoint", c.MASTER_ENDPOINT),
        ("local_id", c.LOCAL_ID),
        ("rank", c.GROUP_RANK),
    ):
        value = data.get(key)
        if value is not None and value != "":
            _put(attributes, attribute, value)
    event = Event(
        Kind.RENDEZVOUS, clean_text(name), created_ns, message, attributes, run_id=run_id, state=state
    )
    event.observed_ns = created_ns
    joined = _JOINED.search(message)
    if joined is not None:
        event.joined = True
        attributes[c.ROUND] = int(joined[1])
        attributes[c.GROUP_RANK] = int(joined[2])
        attributes[c.GROUP_WORLD_SIZE] = int(joined[3])
    else:
        event.joins = _ATTEMPTS in message
        in_round = _ROUND.search(message)
        if in_round is not None:
            attributes[c.ROUND] = int(in_round[1])
    trace = str(data.get("error_trace") or "")
    # traceback.format_exc() with no exception at hand says "NoneType: None".
    if trace and not trace.startswith("NoneType: None"):
        exception_from_traceback(trace, attributes)
    event.keep_alive = name.endswith("._keep_alive") or (
        thread is not None and thread.startswith(_KEEP_ALIVE_THREAD)
    )
    if state == "FAILED":
        event.severity = WARN
    elif event.heartbeat:
        event.severity = DEBUG
    return event


def unparsed(text: str, created_ns: int) -> Event:
    """Return the raw record of something that is no event."""
    attributes: Attributes = {c.EVENT: c.EVENT_UNPARSED}
    event = Event(Kind.UNPARSED, c.EVENT_UNPARSED, created_ns, clean_text(text), attributes, WARN)
    event.observed_ns = created_ns
    return event


def _put(attributes: Attributes, name: str, value: object) -> None:
    cleaned = clean(value)
    if cleaned is not None:
        attributes[name] = cleaned


class _Names(dict[str, str]):
    """Torch's keys → attribute names; a key that the contract does not know is lifted under a prefix."""

    def __init__(self, prefix: str, known: Mapping[str, str]) -> None:
        super().__init__(known)
        self._prefix = prefix

    def __missing__(self, key: str) -> str:
        return clean_text(f"{self._prefix}{key}")


_NAMES = _Names(c.PREFIX, c.TORCH_KEYS)
_WATCHDOG_NAMES = _Names(
    c.WATCHDOG_PREFIX,
    {**c.TORCH_KEYS, "worker_pid": c.WATCHDOG_PREFIX + "worker_pid", "watchdog_event": c.WATCHDOG_EVENT},
)
_SHORT = 4096
_INT_LIMIT = 1 << 63


def _lift(metadata: Mapping[str, object], attributes: Attributes, plain: bool) -> Mapping[str, object]:
    """Put torch's metadata under the contract's names; return the parsed inner ``metadata``."""
    inner: Mapping[str, object] = _NOTHING
    names = _NAMES
    for key, value in metadata.items():
        # The common cases are spelled out: this runs for every value of every event.
        if value is None:
            continue
        if type(value) is str:
            if key == "metadata":
                inner = _inner(value, attributes)
            elif plain:
                attributes[names[key]] = value
            else:
                attributes[names[key]] = clean_text(value)
        elif type(value) is int and -_INT_LIMIT <= value < _INT_LIMIT:
            attributes[names[key]] = value
        elif key == "metadata":
            inner = _inner(value, attributes)
        else:
            _put(attributes, names[key], value)
    if "watchdog_event" in inner:
        names = _WATCHDOG_NAMES
    for key, value in inner.items():
        if type(value) is list and len(value) == 1:
            value = value[0]
        if value is None:
            continue
        if type(value) is int and -_INT_LIMIT <= value < _INT_LIMIT:
            attributes[names[key]] = value
        else:
            _put(attributes, names[key], value)
    return inner


def _inner(value: object, attributes: Attributes) -> Mapping[str, object]:
    parsed: object = value
    if isinstance(value, str):
        try:
            parsed = decode(value)
        except (ValueError, RecursionError):
            parsed = None
    if isinstance(parsed, dict):
        return parsed
    _put(attributes, c.METADATA, value)
    return {}


def signal_name(number: int) -> str:
    """Return the name of a signal, ``SIG<number>`` where Python knows none (real-time signals)."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"


_VERBS = {
    "START": "started",
    "SUCCEEDED": "succeeded",
    "FAILED": "failed",
    "TERMINATED": "was stopped by its agent",
}


def _worker(event: Event, raw: object) -> None:
    attributes = event.attributes
    # The text as it was: cut, it would be no JSON any more.
    if raw == "null":
        del attributes[c.RAW_ERROR]
    elif type(raw) is str:
        attributes.update(exception_from_error_file(raw))
    code = attributes.get(c.PROCESS_EXIT_CODE)
    how = ""
    if type(code) is int:
        how = describe_exit(code)
        if code < 0:
            attributes[c.WORKER_SIGNAL] = signal_name(-code)
    state = event.state
    if state == "FAILED":
        attributes.setdefault(c.ERROR_TYPE, error_type(attributes))
        event.severity = ERROR
    elif state == "TERMINATED":
        event.severity = WARN
    verb = _VERBS.get(state) or state.lower()
    exception = describe_exception(attributes)
    detail = f": {exception}" if exception else f": {how}" if how else ""
    event.body = clean_text(f"{describe_worker(attributes)} {verb}{detail}")


def describe_worker(attributes: Mapping[str, AttributeValue]) -> str:
    """Return "Worker 3 (local rank 1, pid 4711) on node-2", of what the attributes know."""
    rank, local = attributes.get(c.GLOBAL_RANK), attributes.get(c.LOCAL_RANK)
    pid, host = attributes.get(c.WORKER_ID), attributes.get(c.HOSTNAME)
    who = "Worker" if rank is None else f"Worker {rank}"
    where = "" if host is None else f" on {host}"
    if pid is None or pid == "None":
        return f"{who}{where}" if local is None else f"{who} (local rank {local}){where}"
    return f"{who} (pid {pid}){where}" if local is None else f"{who} (local rank {local}, pid {pid}){where}"


def describe_exit(code: int) -> str:
    """Return "killed by SIGKILL" or "exit code 3"."""
    return f"killed by {signal_name(-code)}" if code < 0 else f"exit code {code}"


def error_type(attributes: Mapping[str, AttributeValue]) -> str:
    """Return ``error.type``: the exception's class, else the signal's name, else the exit code as text."""
    for name in (c.EXCEPTION_TYPE, c.WORKER_SIGNAL, c.PROCESS_EXIT_CODE):
        value = attributes.get(name)
        if value is not None:
            return str(value)
    return "_OTHER"


def _agent(event: Event, raw: object) -> None:
    attributes, state = event.attributes, event.state
    if type(raw) is str:
        if raw.startswith("NoneType: None"):
            del attributes[c.RAW_ERROR]
        else:
            exception_from_traceback(raw, attributes)
    if state == "FAILED":
        event.severity = ERROR
        attributes.setdefault(c.ERROR_TYPE, error_type(attributes))
    duration = attributes.get(c.DURATION_MS)
    took = f" after {duration / 1000:.3f} s" if type(duration) in (int, float) else ""  # type: ignore[operator]
    event.body = {
        "RENDEZVOUS": f"The agent left the rendezvous step{took}",
        "ASSIGN_WORKER_RANKS": f"The agent left the rank assignment step{took}",
        "SUCCEEDED": "The agent's run returned; this says nothing of its workers",
        "FAILED": f"The agent's run raised {attributes.get(c.EXCEPTION_TYPE, 'an exception')}",
    }.get(state, clean_text(f"Agent {state.lower()}"))


def _watchdog(event: Event) -> None:
    attributes = event.attributes
    body = f"Watchdog: {event.name}"
    pid = attributes.get(c.WATCHDOG_PREFIX + "worker_pid")
    if pid is not None:
        body += f" (worker pid {pid}"
        scope = attributes.get(c.WATCHDOG_PREFIX + "scope_id")
        body += f", scope {scope})" if scope is not None else ")"
    if event.name == c.WATCHDOG_KILL:
        event.severity = ERROR
    event.body = clean_text(body)
