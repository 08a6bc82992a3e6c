"""Exceptions as torch writes them down: error files of workers, tracebacks of agents."""

from __future__ import annotations

import re

from .. import _contract as c
from .._values import Attributes, clean_text, decode
from .event import Event
from .torch_words import GRACEFUL_EXIT, NO_ERROR_FILE, SIGNAL_EXCEPTION

_EXCEPTION = re.compile(r"([^\W\d][\w.]*(?:<locals>\.[\w.]+)*)(?:: |:?$)", re.DOTALL)
_HEADER = re.compile(r"(?:\A|(?<=\n\n))Traceback \(most recent call last\):\n")


def exception_from_error_file(raw: str) -> Attributes:
    """Read the exception out of an error file's JSON text as ``@record`` writes it; {} if there is none."""
    try:
        data = decode(raw)
    except (ValueError, RecursionError):
        return {}
    message = data.get("message") if isinstance(data, dict) else None
    attributes: Attributes = {}
    if isinstance(message, dict):
        extra = message.get("extraInfo")
        stack = extra.get("py_callstack") if isinstance(extra, dict) else None
        if isinstance(stack, str) and stack:
            attributes[c.EXCEPTION_STACKTRACE] = clean_text(stack)
        message = message.get("message")
    if isinstance(message, str) and message and message != NO_ERROR_FILE:
        found = _EXCEPTION.match(message)
        if found is not None:
            attributes[c.EXCEPTION_TYPE] = clean_text(found[1])
            rest = message[found.end() :]
            if rest:
                attributes[c.EXCEPTION_MESSAGE] = clean_text(rest)
        else:
            attributes[c.EXCEPTION_MESSAGE] = clean_text(message)
    return attributes


def exception_from_traceback(text: str, attributes: Attributes) -> None:
    """Read the exception out of ``traceback.format_exc()``; of a chain, the last is what was raised."""
    attributes[c.EXCEPTION_STACKTRACE] = clean_text(text)
    headers = list(_HEADER.finditer(text))
    lines = text[headers[-1].end() :].splitlines() if headers else []
    for number, line in enumerate(lines):
        if not line or line[0].isspace():
            continue
        found = _EXCEPTION.match(line)
        if found is None:
            return
        kind = clean_text(found[1].rpartition(".")[2])
        attributes[c.EXCEPTION_TYPE] = attributes[c.ERROR_TYPE] = kind
        # What follows the line is the rest of a message of several lines.
        message = "\n".join([line[found.end() :], *lines[number + 1 :]]).strip()
        if message:
            attributes[c.EXCEPTION_MESSAGE] = clean_text(message)
        return


def tells_no_failure(event: Event) -> bool:
    """Tell whether a FAILED event is no failure of the job: a signal stops it, or its node is let go."""
    words = (SIGNAL_EXCEPTION, GRACEFUL_EXIT)
    return event.attributes.get(c.ERROR_TYPE) in words or event.body.startswith(words)


def error_file_second(raw: str) -> int | None:
    """Return the second since the epoch in which the worker says that it wrote its error file, if it says."""
    try:
        data = decode(raw)
        return int(data["message"]["extraInfo"]["timestamp"])  # type: ignore[index]  # raises if it is not there
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
