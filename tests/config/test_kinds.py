"""Each kind of value has one parser: its edges, at one variable of the kind."""

from __future__ import annotations

from typing import Any

import pytest

from torchelastic_otel._config import otlp_variables as otlp
from torchelastic_otel._config import sdk_variables as sdk
from torchelastic_otel._config import variables as v
from torchelastic_otel._config.row import Variable

WRONG = object()
"""One warning, and the default."""


@pytest.mark.parametrize(
    ("row", "text", "value"),
    [
        # a number above 0
        (v.EXIT_TIMEOUT, "0.25", 0.25),
        (v.EXIT_TIMEOUT, " 1e3 ", 1000.0),
        (v.EXIT_TIMEOUT, "3600", 3600.0),
        (v.EXIT_TIMEOUT, "3601", WRONG),
        (v.EXIT_TIMEOUT, "0", WRONG),
        (v.EXIT_TIMEOUT, "-1", WRONG),
        (v.EXIT_TIMEOUT, "nan", WRONG),
        (v.EXIT_TIMEOUT, "inf", WRONG),
        (v.EXIT_TIMEOUT, "soon", WRONG),
        # a number from a lowest one
        (sdk.TRACES_SAMPLER_ARG, "0", 0.0),
        (sdk.TRACES_SAMPLER_ARG, "1.0", 1.0),
        (sdk.TRACES_SAMPLER_ARG, "1.5", WRONG),
        (sdk.TRACES_SAMPLER_ARG, "-0.1", WRONG),
        (sdk.TRACES_SAMPLER_ARG, "nan", WRONG),
        # a whole number
        (v.SPOOL_MAX_BYTES, "1", 1),
        (v.SPOOL_MAX_BYTES, "1e6", 1_000_000),
        (v.SPOOL_MAX_BYTES, str(2**40), 2**40),
        (v.SPOOL_MAX_BYTES, str(2**40 + 1), WRONG),
        (v.SPOOL_MAX_BYTES, "0", WRONG),
        (v.SPOOL_MAX_BYTES, "-3", WRONG),
        (v.SPOOL_MAX_BYTES, "1.5", WRONG),
        (v.SPOOL_MAX_BYTES, "inf", WRONG),
        (v.SPOOL_MAX_BYTES, "9" * 5000, WRONG),
        (v.SPOOL_MAX_BYTES, "lots", WRONG),
        (v.STDERR, "8KiB", 8192),
        (v.STDERR, "1000", 1000),
        (v.STDERR, "off", 0),
        (v.STDERR, "1MiB", WRONG),
        (v.STDERR, "KiB", WRONG),
        # a limit
        (sdk.ATTRIBUTE_COUNT_LIMIT, "0", 0),
        (sdk.ATTRIBUTE_COUNT_LIMIT, "9" * 30, int("9" * 30)),
        (sdk.ATTRIBUTE_COUNT_LIMIT, "-1", WRONG),
        (sdk.ATTRIBUTE_COUNT_LIMIT, "1.5", WRONG),
        # true or false, in the usual words
        *((v.SPAN_EVENTS, word, False) for word in ("false", "FALSE", "0", "no", "off")),
        *((v.SPAN_EVENTS, word, True) for word in ("true", "1", "yes", " ON ")),
        (v.SPAN_EVENTS, "maybe", WRONG),
        # true or false, in the specification's
        (otlp.SDK_DISABLED, "True", True),
        (otlp.SDK_DISABLED, "FALSE", False),
        (otlp.SDK_DISABLED, "yes", WRONG),
        (otlp.SDK_DISABLED, "1", WRONG),
        # a word
        (v.HEARTBEATS, " Log ", "log"),
        (v.HEARTBEATS, "span", WRONG),
        # a component
        (sdk.TRACES_SAMPLER, "Always_On", "always_on"),
        (sdk.TRACES_SAMPLER, "sometimes", WRONG),
        # components
        (sdk.PROPAGATORS, "BAGGAGE", WRONG),
        (sdk.PROPAGATORS, " baggage ,, tracecontext,", ("baggage", "tracecontext")),
        (sdk.PROPAGATORS, ",", ("tracecontext", "baggage")),
        (sdk.PROPAGATORS, "None", ("none",)),
        # a text, a template, a directory
        (v.TRACE_SEED, " a b ", " a b "),
        (sdk.SERVICE_NAME, " a b ", "a b"),
        (v.TRACE_URL, "https://tempo.example/{trace_id}?org={x}", "https://tempo.example/{trace_id}?org={x}"),
        (v.TRACE_URL, "https://tempo.example/", WRONG),
        (v.SPOOL_DIR, "/data/spool", "/data/spool"),
        *((v.SPOOL_DIR, word, "off") for word in ("off", "OFF", "no", "false", "0")),
        # a regular expression: nobody knows what a wrong one was to hide
        (v.REDACT, " pass(word)?=.* ", " pass(word)?=.* "),
        (v.REDACT, "(", r"(?s).+"),
        (v.REDACT, "x{99999999999}", r"(?s).+"),
    ],
    ids=lambda each: each.name.rpartition("OTEL_")[2] if isinstance(each, Variable) else None,
)
def test_what_a_value_is_read_as(row: Variable[Any], text: str, value: object) -> None:
    """And where it is wrong, the one warning names the variable and quotes the value."""
    warnings: list[str] = []
    found = row.value({row.name: text}, warnings.append)
    if value is WRONG or found == r"(?s).+":
        [warning] = warnings
        assert warning.startswith(f"{row.name}=")
        assert text.strip()[:9] in warning
    else:
        assert warnings == []
    if value is WRONG:
        assert found == (() if row is sdk.PROPAGATORS else row.default)
    else:
        assert found == value
        assert type(found) is type(value)
