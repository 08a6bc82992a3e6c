"""From what torch says to what telemetry says: an event in; name, time, attributes, severity and body out.

Pure: no clock, no environment, no state. What only the job's history can tell (which span an event belongs
to, whether a death was collateral) is left to ``Job``.
"""

from __future__ import annotations

from collections.abc import Mapping

from .. import _contract as c
from .._runtime.clock import Moment
from .._values import Attributes, clean, clean_text, decode
from . import sentences
from . import torch_words as words
from .event import Event, Kind
from .exceptions import exception_from_error_file, exception_from_traceback
from .severity import Known, severity_of

_NOTHING: Mapping[str, object] = {}


def translate_text(text: str, created: Moment, thread: str | None = None) -> Event:
    """Translate what a logging handler received: ``event.serialize()`` of torch, or anything else.

    Args:
        text: the log record's message.
        created: when it was recorded.
        thread: name of the recording thread; torch's keep-alive timer is known by it.
    """
    try:
        data = decode(text)
    except (ValueError, RecursionError):
        return unparsed(text, created)
    if type(data) is dict:
        if "metadata" in data and "source" in data:
            name, source, timestamp = data.get("name"), data["source"], data.get("timestamp")
            # Short ASCII without escapes holds no text that would need cleaning.
            plain = len(text) < _SHORT and text.isascii() and "\\u" not in text
            return translate_event(name, source, timestamp, data["metadata"], created, plain=plain)
        if "node_state" in data and "message" in data:
            return translate_rendezvous(data, created, thread)
    return unparsed(text, created)


def translate_event(
    name: object, source: object, timestamp: object, metadata: object, created: Moment, *, plain: bool = False
) -> Event:
    """Translate an ``Event`` (agent, worker, watchdog, or a user's own), given field by field.

    ``plain`` promises that no text in it needs cleaning.
    """
    name = name if type(name) is str else str(name)
    if type(source) is not str:
        source = str(getattr(source, "value", source))
    moment = created
    if type(timestamp) is int and 0 < timestamp < 1 << 43:
        moment = created.at_wall(timestamp * 1_000_000)
    if not plain:
        name, source = clean_text(name), clean_text(source)
    attributes: Attributes = {c.EVENT: name, c.SOURCE: source}
    event = Event(Kind.USER, name, moment, name, attributes, observed_ns=created.wall_ns)
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


def translate_rendezvous(data: Mapping[str, object], created: Moment, thread: str | None = None) -> Event:
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
    event = Event(Kind.RENDEZVOUS, clean_text(name), created, message, attributes, run_id=run_id, state=state)
    event.observed_ns = created.wall_ns
    joined = words.JOINED.search(message)
    if joined is not None:
        event.joined = True
        attributes[c.ROUND] = int(joined[1])
        attributes[c.GROUP_RANK] = int(joined[2])
        attributes[c.GROUP_WORLD_SIZE] = int(joined[3])
    else:
        event.joins = words.ATTEMPTS in message
        in_round = words.ROUND.search(message)
        if in_round is not None:
            attributes[c.ROUND] = int(in_round[1])
    trace = str(data.get("error_trace") or "")
    if trace and not trace.startswith(words.NO_EXCEPTION):
        exception_from_traceback(trace, attributes)
    event.keep_alive = name.endswith(words.KEEP_ALIVE_METHOD) or (
        thread is not None and thread.startswith(words.KEEP_ALIVE_THREAD)
    )
    event.severity = severity_of(Kind.RENDEZVOUS, state, *([Known.KEEP_ALIVE] if event.keep_alive else []))
    return event


def unparsed(text: str, created: Moment) -> Event:
    """Return the raw record of something that is no event."""
    attributes: Attributes = {c.EVENT: c.EVENT_UNPARSED}
    severity = severity_of(Kind.UNPARSED)
    event = Event(Kind.UNPARSED, c.EVENT_UNPARSED, created, clean_text(text), attributes, severity)
    event.observed_ns = created.wall_ns
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
OTHER_ERROR = "_OTHER"
"""An ``error.type`` of none of the known values, as OpenTelemetry's conventions have it."""
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


def _worker(event: Event, raw: object) -> None:
    attributes, state = event.attributes, event.state
    # The text as it was: cut, it would be no JSON any more.
    if raw == "null":
        del attributes[c.RAW_ERROR]
    elif type(raw) is str:
        attributes.update(exception_from_error_file(raw))
    code = attributes.get(c.PROCESS_EXIT_CODE)
    if type(code) is int and code < 0:
        attributes[c.WORKER_SIGNAL] = sentences.signal_name(-code)
    if state == "FAILED":
        attributes.setdefault(c.ERROR_TYPE, error_type(attributes))
    event.severity = severity_of(Kind.WORKER, state)
    event.body = clean_text(sentences.worker_event(attributes, state))


def error_type(attributes: Mapping[str, object]) -> str:
    """Return ``error.type``: the exception's class, else the signal's name, else the exit code as text."""
    for name in (c.EXCEPTION_TYPE, c.WORKER_SIGNAL, c.PROCESS_EXIT_CODE):
        value = attributes.get(name)
        if value is not None:
            return str(value)
    return OTHER_ERROR


def _agent(event: Event, raw: object) -> None:
    attributes, state = event.attributes, event.state
    if type(raw) is str:
        if raw.startswith(words.NO_EXCEPTION):
            del attributes[c.RAW_ERROR]
        else:
            exception_from_traceback(raw, attributes)
    if state == "FAILED":
        attributes.setdefault(c.ERROR_TYPE, error_type(attributes))
    event.severity = severity_of(Kind.AGENT, state)
    event.body = clean_text(sentences.agent_event(attributes, state))


def _watchdog(event: Event) -> None:
    event.severity = severity_of(Kind.WATCHDOG, event.name)
    event.body = clean_text(sentences.watchdog_event(event.attributes, event.name))
