"""The doctor tells what is odd about the variables, or turned off by them."""

from __future__ import annotations

import pytest

from otlp_receiver import OtlpReceiver
from tests.support.doctor import SECRET, Doctor, to
from torchelastic_otel._config.environment import SIGNALS


def test_a_signal_that_is_turned_off_is_no_problem(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """It is what the user wants."""
    found = doctor({**to(receiver.http_endpoint), "OTEL_METRICS_EXPORTER": "none"})
    assert found.code == 0
    assert found.check("metrics") == ("off", "Off, by OTEL_METRICS_EXPORTER.", "")
    assert found.report["settings"]["metrics"] == {
        "exporter": {"value": "none", "source": "OTEL_METRICS_EXPORTER"}
    }


@pytest.mark.parametrize(
    "variables",
    [{"OTEL_SDK_DISABLED": "true"}, {f"OTEL_{signal.upper()}_EXPORTER": "none" for signal in SIGNALS}],
    ids=["disabled", "none"],
)
def test_nothing_sent_at_all_is_a_problem(
    doctor: Doctor, receiver: OtlpReceiver, variables: dict[str, str]
) -> None:
    """Nobody asks the doctor who wants that; the variable is named."""
    found = doctor({**to(receiver.http_endpoint), **variables})
    assert found.code == 1
    assert {found.check(signal)[0] for signal in SIGNALS} == {"off"}
    assert found.says("configuration", "problem", "Nothing is sent", "Unset OTEL_")
    assert not receiver.requests


def test_headers_that_are_replaced(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """Those of a signal are not merged with the general ones."""
    found = doctor(
        {
            **to(receiver.http_endpoint),
            "OTEL_EXPORTER_OTLP_HEADERS": f"authorization={SECRET}",
            "OTEL_EXPORTER_OTLP_LOGS_HEADERS": "x-tenant=blue",
        }
    )
    assert found.code == 0
    assert found.says(
        "configuration",
        "warning",
        "LOGS_HEADERS replaces OTEL_EXPORTER_OTLP_HEADERS: logs are sent without authorization.",
    )


@pytest.mark.parametrize(
    ("text", "said"), [("500", "looks like milliseconds, and means seconds"), ("10000", "not milliseconds")]
)
def test_a_timeout_in_milliseconds(doctor: Doctor, receiver: OtlpReceiver, text: str, said: str) -> None:
    """As the specification has it, and Python does not."""
    found = doctor({**to(receiver.http_endpoint), "OTEL_EXPORTER_OTLP_TIMEOUT": text})
    assert found.code == 0
    assert found.says("configuration", "warning", said)
    assert len([check for check in found.checks("configuration") if text in check["message"]]) == 1


def test_a_name_that_is_misspelt(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """What nothing reads, and what may be meant."""
    found = doctor(
        {
            **to(receiver.http_endpoint),
            "OTEL_EXPORTER_OTLP_HEADER": "x-tenant=blue",
            "TORCHELASTIC_OTEL_HEARTBEAT": "log",
            "TORCHELASTIC_OTEL_VERBOSE": "1",
            "OTEL_BLRP_SCHEDULED_DELAY": "100",
            # Read here, known to do nothing here, and somebody else's.
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "OTEL_BSP_EXPORT_TIMEOUT": "100",
            "OTEL_PYTHON_LOG_CORRELATION": "true",
        }
    )
    assert found.code == 0
    assert {check["message"]: check["advice"] for check in found.checks("configuration")} == {
        "OTEL_BLRP_SCHEDULED_DELAY is not a recognised variable.": "Write OTEL_BLRP_SCHEDULE_DELAY.",
        "OTEL_EXPORTER_OTLP_HEADER is not a recognised variable.": "Write OTEL_EXPORTER_OTLP_HEADERS.",
        "TORCHELASTIC_OTEL_HEARTBEAT is not a recognised variable.": "Write TORCHELASTIC_OTEL_HEARTBEATS.",
        "TORCHELASTIC_OTEL_VERBOSE is not a recognised variable.": "Unset it, or look its name up.",
    }


def test_warnings_of_the_bridge_are_told_once(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """Also where it takes more than a variable's own value to see what is wrong."""
    found = doctor(
        {
            **to(receiver.http_endpoint),
            "OTEL_TRACES_SAMPLER": "traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": "much",
            "OTEL_RESOURCE_ATTRIBUTES": "nonsense",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "brotli",
            "OTEL_EXPORTER_OTLP_HEADERS": "nonsense",
            "OTEL_BSP_MAX_QUEUE_SIZE": "10",
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "20",
        }
    )
    assert found.code == 0
    warned = [check["message"].partition("=")[0].partition(":")[0] for check in found.checks("configuration")]
    assert sorted(warned) == [
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
        "OTEL_EXPORTER_OTLP_COMPRESSION",
        "OTEL_EXPORTER_OTLP_HEADERS",
        "OTEL_RESOURCE_ATTRIBUTES",
        "OTEL_TRACES_SAMPLER_ARG",
    ]


def test_an_endpoint_that_is_none(doctor: Doctor) -> None:
    """What stops the signals is their problem, and told once."""
    found = doctor({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:port"})
    assert found.code == 1
    assert {found.check(signal)[0] for signal in SIGNALS} == {"problem"}
    assert not found.checks("configuration")


def test_a_sampler_that_takes_nothing(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """The probe arrives, and spans of jobs would not."""
    found = doctor({**to(receiver.http_endpoint), "OTEL_TRACES_SAMPLER": "always_off"})
    assert found.code == 0
    assert found.says("configuration", "warning", "OTEL_TRACES_SAMPLER=always_off samples no trace")


def test_another_exporter_is_not_tried(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """Nothing is known about where it sends."""
    found = doctor({**to(receiver.http_endpoint), "OTEL_LOGS_EXPORTER": "console"})
    assert found.code == 0
    assert found.says("logs", "ok", "Goes to the exporter 'console', which is not tried here.")


def test_an_exporter_that_is_not_installed(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """The signal would not be sent."""
    found = doctor({**to(receiver.http_endpoint), "OTEL_LOGS_EXPORTER": "otpl"})
    assert found.code == 1
    assert found.says("logs", "problem", "OTEL_LOGS_EXPORTER='otpl' is not accepted")


def test_a_configuration_file_counts_instead(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """No probe is sent past it, and the verdict does not pretend that one was."""
    pytest.importorskip("opentelemetry.configuration")
    file = doctor.folder / "otel.yaml"
    file.write_text("file_format: '1.0'\n")
    found = doctor({**to(receiver.http_endpoint), "OTEL_CONFIG_FILE": str(file)})
    assert found.code == 0
    assert found.report["verdict"] == "No problem was found, but nothing was sent."
    assert not receiver.requests


def test_a_configuration_file_that_cannot_be_used(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """The variables count then, and are tried."""
    found = doctor({**to(receiver.http_endpoint), "OTEL_CONFIG_FILE": str(doctor.folder / "none.yaml")})
    assert found.code == 0
    assert found.says("configuration", "warning", "cannot be used", "or unset the variable")
    assert len(receiver.requests) == 3
