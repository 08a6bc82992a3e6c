"""No message has what this process knows as secret, nor a URL's user, password and query."""

from __future__ import annotations

import base64
import json
import logging
from urllib.parse import quote

import pytest

from tests.support.said import Said
from torchelastic_otel._config.environment import wrong_value
from torchelastic_otel._config.exporters import plan_exporters
from torchelastic_otel._config.secrets import Redactor, redact, shown, without_credentials
from torchelastic_otel._runtime.guard import logger, note_internal_error, say_once

TOKEN = 't0ken/with+all&kinds=of "signs"'
BASIC = base64.b64encode(b"anna:hunter2x").decode()


@pytest.mark.parametrize(
    "text",
    [
        TOKEN,
        quote(TOKEN),
        quote(TOKEN, safe=""),
        json.dumps(TOKEN)[1:-1],
        repr(TOKEN)[1:-1],
        "t0ken/with+all&amp;kinds=of",
        f"Bearer {TOKEN}",
    ],
)
def test_a_header_is_taken_out_however_it_is_quoted(text: str) -> None:
    """As it is sent, as it was written, and in the forms in which servers quote."""
    environ = {"OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{quote(TOKEN)},x-tenant=blue"}
    said = Redactor.of_environment(environ)(f"Bearer refused: <{text}> of blue")
    assert "t0ken" not in said
    assert said.startswith("Bearer refused")
    assert said.endswith("of blue")


@pytest.mark.parametrize("form", [f"Basic {BASIC}", f"Basic%20{BASIC}"])
@pytest.mark.parametrize("quoted", [BASIC, "anna:hunter2x", "hunter2x"])
def test_basic_credentials_are_known_in_both_forms(form: str, quoted: str) -> None:
    """A server that decodes them may quote what it found."""
    redactor = Redactor.of_environment({"OTEL_EXPORTER_OTLP_LOGS_HEADERS": f"authorization={form}"})
    assert redactor(f"no user {quoted} here") == "no user *** here"


def test_a_header_that_was_written_wrongly_is_secret_as_well() -> None:
    """Without its name, or cut at a comma."""
    redactor = Redactor.of_environment({"OTEL_EXPORTER_OTLP_HEADERS": "authorization: Bearer abc123,def456"})
    assert redactor("abc123 and def456") == "*** and ***"


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://anna:hunter2x@collector:4318",
        "anna:hunter2x@collector:4317",
        "dns:///anna:hunter2x@collector:4317",
        "htp:/anna:hunter2x@collector",
        "https://anna:hunt/er2x@collector:port",
        "https://anna:hun@ter2x@collector",
        "https://collector/?key=hunter2x&other=hunter2y",
        "https://collector?hunter2x",
    ],
)
def test_what_is_secret_in_an_endpoint_is_nowhere(endpoint: str) -> None:
    """Well formed or not: neither in a warning about it, nor in what others say, nor on the disk."""
    secrets = ("hunter2x", "hunter2y", "anna", "hunt/er2x", "hun@ter2x", "er2x")
    redactor = Redactor.of_environment({"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint})
    warnings: list[str] = []
    for protocol in ("grpc", "http/protobuf"):
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
        plan_exporters("logs", environ, warnings.append)
    wrong_value(warnings.append, "OTEL_EXPORTER_OTLP_ENDPOINT", endpoint, "a URL", "it is not used")
    for text in (*warnings, redactor(f"cannot reach {endpoint!r}"), without_credentials(endpoint)):
        assert not any(secret in text for secret in secrets), text
        assert "collector" in text


@pytest.mark.parametrize("name", ["https_proxy", "HTTP_PROXY", "ALL_PROXY", "grpc_proxy"])
def test_a_proxys_credentials_are_known(name: str) -> None:
    """And the form in which HTTP sends them."""
    redactor = Redactor.of_environment({name: "http://anna:hunter2x@proxy:3128"})
    assert redactor(f"407 for Basic {BASIC}, hunter2x") == "407 for Basic ***, ***"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("see https://u:p@host/path", "see https://***@host/path"),
        ("to 'https://token@host:1/x?a=1&b=2#c'", "to 'https://***@host:1/x?a=***&b=***#c'"),
        ("https://host/login?next", "https://host/login?***"),
        ("resolving dns:///u:p@host:1 failed", "resolving dns:///***@host:1 failed"),
        ("u:p@host:4317 is not known", "***@host:4317 is not known"),
        ("line 3: a@b, at 12:30", "line 3: a@b, at 12:30"),
        ("is it? a=b", "is it? a=b"),
    ],
)
def test_urls_say_where_and_no_more(text: str, clean: str) -> None:
    """Also where nobody knows what is secret in them."""
    assert Redactor()(text) == clean


def test_words_that_are_too_short_to_be_secret_stay() -> None:
    """Nothing could be read any more."""
    redactor = Redactor.of_environment({"OTEL_EXPORTER_OTLP_HEADERS": "x-scope-orgid=a,mode=Bearer"})
    assert redactor("a Bearer of a message") == "a Bearer of a message"


def test_a_long_text_without_blanks_is_no_burden() -> None:
    """It takes time in proportion to its length."""
    for text in ("a" * 65536, "a:" * 32768, "//" * 32768, "://a?" * 13000):
        assert len(Redactor()(text)) > 1000


@pytest.mark.parametrize(
    ("endpoint", "clean"),
    [
        ("http://anna:hunter2x@host:4318/v1/logs?key=1", "http://host:4318/v1/logs"),
        ("host:4317", "host:4317"),
        ("unix:/run/user@1000/otel.sock", "unix:/run/user@1000/otel.sock"),
        ("dns://8.8.8.8/host:4317", "dns://8.8.8.8/host:4317"),
        ("http://host/otlp/@team", "http://host/otlp/@team"),
    ],
)
def test_an_endpoint_for_people_has_the_place_and_no_more(endpoint: str, clean: str) -> None:
    """The spool keeps it."""
    assert without_credentials(endpoint) == clean


def test_other_variables_are_quoted_as_they_are() -> None:
    """A pattern may well have an @."""
    assert shown("TORCHELASTIC_OTEL_REDACT", r"[\w.]+@[\w") == r"[\w.]+@[\w"


@pytest.mark.internal_errors("a test: ValueError")
def test_all_that_the_package_logs_is_redacted(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the environment as it is now; tracebacks, too."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=hunter2x")
    records: list[logging.LogRecord] = []
    monkeypatch.setattr(said, "emit", records.append)
    say_once("test", "the key hunter2x is wrong")
    logger.warning("the key %s is wrong", "hunter2x")
    logger.setLevel(logging.DEBUG)
    try:
        raise ValueError("hunter2x")
    except ValueError as error:
        note_internal_error("a test", error)
    texts = [logging.Formatter().format(record) for record in records]
    assert len(texts) == 3
    assert "Traceback" in texts[2]
    assert not any("hunter2x" in text for text in texts)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=another-one")
    assert redact("hunter2x another-one") == "hunter2x ***"
