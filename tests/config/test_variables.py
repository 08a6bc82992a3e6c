"""The table of variables: each row once through what holds for all of them.

``PROVED_BY`` names the test of what each variable does, wherever that is.
"""

from __future__ import annotations

import ast
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from torchelastic_otel._config import otlp_variables as otlp
from torchelastic_otel._config import sdk_variables as sdk
from torchelastic_otel._config import variables as v
from torchelastic_otel._config.environment import SIGNALS
from torchelastic_otel._config.kinds import Components, Pattern, Text
from torchelastic_otel._config.row import Variable
from torchelastic_otel._config.settings import Settings

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "torchelastic_otel"


def rows(chosen: list[Variable[Any]]) -> pytest.MarkDecorator:
    """Run a test once for each row."""
    return pytest.mark.parametrize("row", [pytest.param(row, id=row.names[0]) for row in chosen])


def wrong_value(row: Variable[Any]) -> str:
    """Return a value that is none; "" if every text is one, or may be."""
    if isinstance(row.kind, Text) and not row.kind.placeholder:
        return "(" if isinstance(row.kind, Pattern) else ""
    return "no such value"


@rows(list(v.VARIABLES))
def test_unset_or_empty_is_the_default(row: Variable[Any]) -> None:
    """Manifests often set variables to nothing."""
    warnings: list[str] = []
    default = row.default if row.otherwise is None else row.otherwise.default
    for environ in (
        {},
        dict.fromkeys(row.names, ""),
        {} if row.kind.exact else dict.fromkeys(row.names, "  "),
    ):
        for signal in (None, *row.signals) if row.name else row.signals:
            assert row.value(environ, warnings.append, signal) == default
    assert warnings == []


@rows([row for row in v.VARIABLES if wrong_value(row)])
def test_a_wrong_value_is_one_warning_and_the_default(row: Variable[Any]) -> None:
    """It names the variable, the value, and what is accepted, and is the same for each signal."""
    value = wrong_value(row)
    counts: object = row.default if row.otherwise is None else row.otherwise.default
    if isinstance(row.kind, Pattern | Components):
        counts = "(?s).+" if isinstance(row.kind, Pattern) else ()
    for name in row.names:
        warnings: list[str] = []
        for signal in [each for each in row.signals if name in (row.name, row.of(each))]:
            assert row.value({name: value}, warnings.append, signal) == counts
        [warning] = set(warnings)
        assert warning.startswith(f"{name}={value!r} is not accepted: expected ")
        assert warning.endswith(".")


@rows([row for row in v.VARIABLES if row.own])
def test_a_signals_own_variable_counts_before_the_one_for_all(row: Variable[Any]) -> None:
    """The two are not merged, and no other signal is concerned."""
    for signal in SIGNALS:
        own = row.of(signal)
        environ = {own: "own", **({row.name: "general"} if row.name else {})}
        assert row.given(environ, signal) == (own, "own")
        assert row.given({**environ, own: " "}, signal) == ((row.name, "general") if row.name else (own, ""))
        for other in set(SIGNALS) - {signal}:
            assert row.given(environ, other)[1] == ("general" if row.name else "")


@rows([row for row in v.VARIABLES if row.otherwise is not None])
def test_a_limit_of_its_own_counts_before_the_common_one(row: Variable[Any]) -> None:
    """Also where it is wrong, the common one counts."""
    assert row.otherwise is not None
    warnings: list[str] = []
    assert row.value({row.otherwise.name: "7"}, warnings.append) == 7
    assert row.value({row.otherwise.name: "7", row.name: "8"}, warnings.append) == 8
    assert warnings == []
    assert row.value({row.otherwise.name: "7", row.name: "x"}, warnings.append) == 7
    [warning] = warnings
    assert warning.endswith("; 7 is used.")


@rows([row for row in v.VARIABLES if row.at_most is not None])
def test_a_value_above_that_of_another_variable_is_one_warning(row: Variable[Any]) -> None:
    """A default that is above it is nothing wrong."""
    assert row.at_most is not None
    warnings: list[str] = []
    assert row.value({row.at_most.name: "10"}, warnings.append) == 10
    assert row.value({row.at_most.name: "10", row.name: "10"}, warnings.append) == 10
    assert warnings == []
    assert row.value({row.at_most.name: "10", row.name: "20"}, warnings.append) == 10
    assert warnings == [
        f"{row.name}='20' is not accepted: expected at most {row.at_most.name} (10); 10 is used."
    ]


def test_a_long_value_is_cut_in_a_warning() -> None:
    """A pasted file does not fill the log."""
    warnings: list[str] = []
    v.HEARTBEATS.value({v.HEARTBEATS.name: "x" * 10_000}, warnings.append)
    assert len(warnings[0]) < 300


# --- the table and its users ----------------------------------------------------------------------


def test_no_variable_has_two_rows() -> None:
    """The table would contradict itself."""
    names = [name for row in v.VARIABLES for name in row.names]
    assert len(names) == len(set(names)) == len(v.NAMES)
    assert not v.NAMES & set(sdk.WITHOUT_EFFECT)


def test_each_variable_of_the_package_is_a_setting() -> None:
    """And each setting has its row, in the order of the document."""
    package = [row for row in v.VARIABLES if row.section == "package"]
    assert all(name.startswith(v.PREFIX) for row in package for name in row.names)
    assert [row.setting for row in package] == [field.name for field in fields(Settings)]
    assert not [row for row in v.VARIABLES if row.setting and row not in package]


def test_the_document_can_quote_what_is_accepted() -> None:
    """Quotes are in pairs; what a row says is one line of whole sentences."""
    for row in v.VARIABLES:
        assert row.kind.accepted.count("'") % 2 == 0, row.names
        assert row.meaning.endswith("."), row.names
        assert "\n" not in row.meaning + row.kind.accepted + row.default_text, row.names


OTHERS = {"TORCHELASTIC_OTEL_TOOLS", "TORCHELASTIC_OTEL_REQUIRE_TOOLS", "OTEL_SIGNAL"}
"""Two for tests alone, and a name of the contract."""


@pytest.mark.parametrize("where", ["src/**/*.py", "docs/*.md", "*.md", "examples/**/*.py"])
def test_no_variable_is_named_that_is_not_in_the_table(where: str) -> None:
    """A name that the code or a document spells is read, or known to have no effect."""
    known = v.NAMES | set(sdk.WITHOUT_EFFECT) | OTHERS
    unknown = {
        (path.name, name)
        for path in ROOT.glob(where)
        for name in re.findall(r"\b(?:TORCHELASTIC_)?OTEL_[A-Z_]*[A-Z](?![A-Z_{*])", path.read_text())
        if name not in known
    }
    assert unknown == set()


PROVED_BY: dict[Variable[Any], str] = {
    otlp.SDK_DISABLED: "test_a_disabled_sdk_sends_nothing_and_says_nothing",
    otlp.EXPORTER: "test_the_exporters_name_says_what_is_sent_how",
    otlp.OTLP_PROTOCOL: "test_the_protocol_is_what_is_spoken",
    otlp.OTLP_ENDPOINT: "test_the_endpoint_is_where_it_goes",
    otlp.OTLP_INSECURE: "test_insecure_turns_encryption_off",
    otlp.OTLP_HEADERS: "test_headers_arrive_decoded",
    otlp.OTLP_TIMEOUT: "test_the_timeout_is_in_seconds",
    otlp.OTLP_COMPRESSION: "test_the_compression_is_the_one_named",
    otlp.OTLP_CERTIFICATE: "test_the_client_shows_its_certificate_to_a_server_that_it_trusts",
    otlp.OTLP_CLIENT_CERTIFICATE: "test_the_client_shows_its_certificate_to_a_server_that_it_trusts",
    otlp.OTLP_CLIENT_KEY: "test_the_client_shows_its_certificate_to_a_server_that_it_trusts",
    otlp.HTTP_CREDENTIAL_PROVIDER: "test_credential_providers_are_asked",
    otlp.GRPC_CREDENTIAL_PROVIDER: "test_credential_providers_are_asked",
    sdk.SERVICE_NAME: "test_the_service_name",
    sdk.RESOURCE_ATTRIBUTES: "test_resource_attributes_of_the_user_win",
    sdk.RESOURCE_DETECTORS: "test_resource_detectors",
    sdk.TRACES_SAMPLER: "test_the_sampler_decides_which_spans_are_sent",
    sdk.TRACES_SAMPLER_ARG: "test_the_sampler_decides_which_spans_are_sent",
    sdk.ID_GENERATOR: "test_a_third_partys_id_generator_makes_the_ids",
    sdk.PROPAGATORS: "test_a_worker_joins_the_trace_by_the_propagators_of_the_environment",
    sdk.BSP_SCHEDULE_DELAY: "test_batches_of_spans_and_records",
    sdk.BSP_MAX_QUEUE_SIZE: "test_no_more_than_the_queue_holds_is_kept_in_memory",
    sdk.BSP_MAX_EXPORT_BATCH_SIZE: "test_a_request_holds_no_more_than_a_batch",
    sdk.BLRP_SCHEDULE_DELAY: "test_a_full_batch_goes_out_and_what_is_left_waits",
    sdk.BLRP_MAX_QUEUE_SIZE: "test_no_more_than_the_queue_holds_is_kept_in_memory",
    sdk.BLRP_MAX_EXPORT_BATCH_SIZE: "test_a_request_holds_no_more_than_a_batch",
    sdk.ATTRIBUTE_COUNT_LIMIT: "test_a_limit_of_spans_cuts_what_it_is_for",
    sdk.ATTRIBUTE_VALUE_LENGTH_LIMIT: "test_a_limit_of_spans_cuts_what_it_is_for",
    sdk.SPAN_ATTRIBUTE_COUNT_LIMIT: "test_a_limit_of_spans_cuts_what_it_is_for",
    sdk.SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT: "test_a_limit_of_spans_cuts_what_it_is_for",
    sdk.EVENT_ATTRIBUTE_COUNT_LIMIT: "test_a_limit_of_spans_cuts_what_it_is_for",
    sdk.LINK_ATTRIBUTE_COUNT_LIMIT: "test_a_limit_of_spans_cuts_what_it_is_for",
    sdk.SPAN_EVENT_COUNT_LIMIT: "test_a_limit_of_spans_cuts_what_it_is_for",
    sdk.SPAN_LINK_COUNT_LIMIT: "test_a_limit_of_spans_cuts_what_it_is_for",
    sdk.LOGRECORD_ATTRIBUTE_COUNT_LIMIT: "test_limits_hold_for_the_attributes_of_records",
    sdk.LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT: "test_limits_hold_for_the_attributes_of_records",
    sdk.METRIC_EXPORT_INTERVAL: "test_metrics_come_by_themselves_at_their_interval",
    sdk.METRICS_EXEMPLAR_FILTER: "test_the_exemplar_filter",
    sdk.METRICS_TEMPORALITY: "test_counters_and_histograms_are_as_preferred",
    sdk.METRICS_HISTOGRAM_AGGREGATION: "test_counters_and_histograms_are_as_preferred",
    sdk.CONFIG_FILE: "test_a_configuration_file_declares_the_providers",
    v.HEARTBEATS: "test_heartbeats_are_logged_on_demand",
    v.SPAN_EVENTS: "test_span_events_can_be_switched_off",
    v.TRACE_SEED: "test_the_schedulers_job_and_the_seed_are_in_the_trace_id",
    v.TRACE_URL: "test_the_link_is_printed_at_the_start_and_beside_a_failure",
    v.EXIT_TIMEOUT: "test_the_end_of_a_process_waits_no_longer_than_it_may",
    v.REDACT: "test_what_is_redacted_leaves_no_trace_in_any_signal",
    v.SPOOL_DIR: "test_without_a_spool_nothing_is_written",
    v.SPOOL_MAX_BYTES: "test_at_the_bound_the_oldest_goes",
    v.WORKER: "test_without_a_recorder_nothing_is_added_to_a_worker",
    v.STDERR: "test_the_end_of_standard_error_is_read_where_it_is_a_file",
    v.TERMINATION_LOG: "test_the_termination_log_can_be_left_alone",
}
"""The test of what each variable does."""


def test_each_variable_has_a_test_of_what_it_does() -> None:
    """A row that nobody proves is a promise."""
    source = "\n".join(path.read_text() for path in (ROOT / "tests").glob("**/test_*.py"))
    there = set(re.findall(r"^def (test_\w+)\(", source, re.MULTILINE))
    assert list(PROVED_BY) == list(v.VARIABLES)
    assert set(PROVED_BY.values()) - there == set()


def test_each_name_that_is_read_elsewhere_is_in_the_table() -> None:
    """What must not wait for an import reads a variable by its name: also that is a name that users know."""
    known = {name for row in v.VARIABLES for name in row.names}
    spelt = {
        (path.relative_to(SOURCE).as_posix(), node.value)
        for path in SOURCE.rglob("*.py")
        if path.parent.name != "_config"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if re.fullmatch(r"(OTEL|TORCHELASTIC_OTEL)_[A-Z_]*[A-Z]", node.value)
    }
    assert spelt
    assert [(path, name) for path, name in sorted(spelt) if name not in known] == []
