"""Who sends, as the variables and the scheduler's environment tell."""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Callable
from typing import Any

import pytest

from otlp_receiver import OtlpReceiver
from tests.support.harness import clean_environment, otlp
from tests.support.programs import python
from tests.support.recording import record_job
from torchelastic_otel._config.resource import resource_attributes
from torchelastic_otel._config.schedulers import KUBERNETES, SLURM, SLURM_NUMBERS
from torchelastic_otel._telemetry.sdk_resource import build_resource

Build = Callable[..., tuple[dict[str, Any], list[str]]]


@pytest.fixture
def resource_of(monkeypatch: pytest.MonkeyPatch) -> Build:
    """Return a function that gives the resource by these variables, and what was warned of."""
    for name in set(os.environ) - set(clean_environment()):
        monkeypatch.delenv(name)

    def build(**variables: str) -> tuple[dict[str, Any], list[str]]:
        # The SDK reads the process's own environment.
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        warnings: list[str] = []
        return dict(build_resource(os.environ, warnings.append).attributes), warnings

    return build


def test_the_resource_by_default(receiver: OtlpReceiver) -> None:
    """A name of its own, an id per process, where it runs, and nothing that is not known; of each signal."""
    assert record_job(otlp(receiver)) == ""
    resource = receiver.logs[0].resource
    assert resource["service.name"] == "torchelastic"
    assert resource["host.name"] == socket.gethostname()
    assert isinstance(resource["process.pid"], int)
    assert re.fullmatch(r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}", resource["service.instance.id"])
    assert {name.partition(".")[0] for name in resource} == {"service", "host", "process", "telemetry"}
    assert receiver.spans[0].resource == receiver.metrics[0].resource == resource


def test_a_service_name_that_the_sdk_would_take_for_none(resource_of: Build) -> None:
    """The user's word stands even where it is the SDK's default."""
    assert resource_of(OTEL_SERVICE_NAME="unknown_service")[0]["service.name"] == "unknown_service"


def test_resource_attributes_of_the_user_win(resource_of: Build) -> None:
    """Over everything that is found out, decoded, and none is lost."""
    resource, warnings = resource_of(
        OTEL_RESOURCE_ATTRIBUTES=(
            "service.name=named, service.instance.id = i-1 ,host.name=other,slurm.job.id=mine,team=a%2Cb%3D,"
        ),
        SLURM_JOB_ID="17",
        SLURM_JOB_NAME="train",
    )
    assert warnings == []
    assert resource["service.name"] == "named"
    assert resource["service.instance.id"] == "i-1"
    assert resource["host.name"] == "other"
    assert resource["slurm.job.id"] == "mine"
    assert resource["slurm.job.name"] == "train"
    assert resource["team"] == "a,b="


def test_a_malformed_resource_attribute_is_one_warning(
    resource_of: Build, caplog: pytest.LogCaptureFixture
) -> None:
    """It names the variable, which the SDK's own does not; the rest is kept."""
    resource, [warning] = resource_of(OTEL_RESOURCE_ATTRIBUTES="team=ml, oops ,zone=b,, again")
    assert warning.startswith("OTEL_RESOURCE_ATTRIBUTES: 'again', 'oops' is left out")
    assert (resource["team"], resource["zone"]) == ("ml", "b")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_empty_names_are_no_names(resource_of: Build) -> None:
    """An empty variable or attribute leaves the default."""
    resource, _ = resource_of(
        OTEL_SERVICE_NAME="", OTEL_RESOURCE_ATTRIBUTES="service.name=,service.instance.id="
    )
    assert resource["service.name"] == "torchelastic"
    assert resource["service.instance.id"]


def test_text_that_cannot_be_encoded_costs_nothing_else(receiver: OtlpReceiver) -> None:
    """Bytes in the environment that are no UTF-8 are replaced; otherwise no batch could be sent at all."""
    assert record_job(otlp(receiver), SLURM_JOB_NAME="tr\udce4in", OTEL_RESOURCE_ATTRIBUTES="a=\udcff") == ""
    resource = receiver.logs[0].resource
    assert (resource["slurm.job.name"], resource["a"]) == ("tr?in", "?")


def test_resource_detectors(receiver: OtlpReceiver, third_party: Callable[[str, str], None]) -> None:
    """OTEL_EXPERIMENTAL_RESOURCE_DETECTORS is honoured, third parties' included; the user's word wins."""
    third_party(
        "[opentelemetry_resource_detector]\nvendor = vendor_stuff:Detector",
        """
        from opentelemetry.sdk.resources import Resource, ResourceDetector

        class Detector(ResourceDetector):
            def detect(self):
                return Resource({"cloud.region": "eu", "team": "found", "service.name": "found"})
        """,
    )
    variables = {
        "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "vendor,os",
        "OTEL_RESOURCE_ATTRIBUTES": "team=mine",
    }
    assert record_job({**otlp(receiver), **variables}) == ""
    resource = receiver.logs[0].resource
    assert (resource["cloud.region"], resource["os.type"]) == ("eu", "linux")
    assert (resource["team"], resource["service.name"]) == ("mine", "found")


def test_an_unknown_resource_detector_is_one_warning(
    resource_of: Build, caplog: pytest.LogCaptureFixture
) -> None:
    """It names the variable and what there is; the SDK adds no words of its own."""
    resource, [warning] = resource_of(OTEL_EXPERIMENTAL_RESOURCE_DETECTORS="nosuch,os")
    assert warning.startswith(
        "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS='nosuch' is not accepted: expected one that"
    )
    assert warning.endswith("; it is left out.")
    assert resource["os.type"] == "linux"
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


# --- the scheduler --------------------------------------------------------------------------------


def test_slurm_tells_the_job() -> None:
    """What Slurm puts into the environment becomes slurm.*, counts as numbers."""
    found = resource_attributes(
        {
            "SLURM_JOB_ID": "17",
            "SLURM_JOB_NAME": "train",
            "SLURM_JOB_PARTITION": "gpu",
            "SLURM_CLUSTER_NAME": "big",
            "SLURMD_NODENAME": "node7",
            "SLURM_STEP_ID": "0",
            "SLURM_RESTART_COUNT": "2",
            "SLURM_PROCID": "3",
            "SLURM_ARRAY_JOB_ID": "15",
            "SLURM_ARRAY_TASK_ID": "1",
        }
    )
    assert {name: value for name, value in found.items() if name.startswith("slurm.")} == {
        "slurm.job.id": "17",
        "slurm.job.name": "train",
        "slurm.job.partition": "gpu",
        "slurm.cluster.name": "big",
        "slurm.node.name": "node7",
        "slurm.step.id": "0",
        "slurm.restart.count": 2,
        "slurm.procid": 3,
        "slurm.array.job.id": "15",
        "slurm.array.task.id": "1",
    }


@pytest.mark.parametrize("attribute", [*SLURM, *SLURM_NUMBERS, *KUBERNETES])
def test_the_first_variable_that_is_set_counts(attribute: str) -> None:
    """Each of those that the document lists."""
    names = {**SLURM, **SLURM_NUMBERS, **KUBERNETES}[attribute]
    for number, name in enumerate(names):
        environ = {**dict.fromkeys(names[:number], " "), name: "1", **dict.fromkeys(names[number + 1 :], "2")}
        assert str(resource_attributes(environ)[attribute]) == "1"


def test_kubernetes_tells_the_pod() -> None:
    """Usual names of downward-API variables become k8s.*."""
    pod = {"POD_NAME": "p", "POD_UID": "u", "POD_NAMESPACE": "n", "NODE_NAME": "h", "CONTAINER_NAME": "c"}
    found = {
        "k8s.pod.name": "p",
        "k8s.pod.uid": "u",
        "k8s.namespace.name": "n",
        "k8s.node.name": "h",
        "k8s.container.name": "c",
    }

    def kubernetes(environ: dict[str, str]) -> dict[str, str | int]:
        return {k: v for k, v in resource_attributes(environ).items() if k.startswith("k8s.")}

    assert kubernetes({"KUBERNETES_SERVICE_HOST": "10.0.0.1", **pod}) == found
    assert kubernetes({"K8S_POD_NAME": "p", "MY_NODE_NAME": "h", "K8S_CLUSTER_NAME": "k"}) == {
        "k8s.pod.name": "p",
        "k8s.node.name": "h",
        "k8s.cluster.name": "k",
    }
    # Jenkins has a NODE_NAME, too.
    assert kubernetes(pod) == {}


def test_the_instance_id_is_one_per_process() -> None:
    """The same all along, another in a fork."""
    mine = resource_attributes({})["service.instance.id"]
    assert resource_attributes({})["service.instance.id"] == mine
    printed = python(
        """
        import os
        from torchelastic_otel._config.resource import resource_attributes
        before = resource_attributes({})["service.instance.id"]
        child = os.fork()
        if child == 0:
            os._exit(resource_attributes({})["service.instance.id"] == before)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), before)
        """
    )
    assert printed.startswith("0 ")
    assert str(mine) not in printed
