"""Jobs of schedulers: the sbatch script, run for real; JobSet, Kubeflow's TrainJob, and an image's lines."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from otlp_receiver import OtlpReceiver
from tests.support.backends import CONFIGS
from tests.support.example_runs import PROJECT, run
from tests.support.harness import free_port
from torchelastic_otel._config.resource import resource_attributes

KUBERNETES = CONFIGS / "kubernetes"
VERSIONS = ["1.28", "1.37"]


def manifest(name: str) -> dict[str, Any]:
    """Return the last object of a file."""
    found: dict[str, Any] = list(yaml.safe_load_all((KUBERNETES / name).read_text()))[-1]
    return found


JOB = manifest("training-job.yaml")
JOBSET = manifest("jobset.yaml")
TRAINJOB = manifest("trainjob.yaml")
[REPLICATED] = JOBSET["spec"]["replicatedJobs"]


def pod_of(job: dict[str, Any]) -> dict[str, Any]:
    """Return the spec of a job's pods."""
    spec: dict[str, Any] = job["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize("version", VERSIONS)
def test_a_jobsets_jobs_are_what_the_schemas_say(version: str) -> None:
    """Those that it makes are of Kubernetes itself."""
    made = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "train-node-0"},
        **REPLICATED["template"],
    }
    kubernetes_validate.validate(made, version, strict=True)


def test_a_jobset_is_the_training_job() -> None:
    """But for the name of its first pod, which a JobSet gives by itself, and its service with it."""
    ours, plain = pod_of(REPLICATED["template"]), pod_of(JOB)
    name = f"{JOBSET['metadata']['name']}-{REPLICATED['name']}-0-0.{JOBSET['metadata']['name']}:29400"
    [container], [expected] = ours["containers"], plain["containers"]
    assert f"--rdzv-endpoint={name}" in container["command"]
    expected = {
        **expected,
        "command": [
            f"--rdzv-endpoint={name}" if word.startswith("--rdzv-endpoint") else word
            for word in expected["command"]
        ],
    }
    rest = {key: value for key, value in plain.items() if key not in ("containers", "subdomain")}
    assert ours == {**rest, "containers": [expected]}
    own = {key: value for key, value in REPLICATED["template"]["spec"].items() if key != "template"}
    assert own == {key: value for key, value in JOB["spec"].items() if key != "template"}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_trainjobs_variables_are_what_the_schemas_say(version: str) -> None:
    """As those of a container, which the runtime makes of them."""
    trainer = TRAINJOB["spec"]["trainer"]
    container = {"name": "node", **{key: trainer[key] for key in ("image", "command", "env")}}
    made = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "train"},
        "spec": {"containers": [container]},
    }
    kubernetes_validate.validate(made, version, strict=True)


def test_a_trainjob_says_who_it_is_as_the_training_job_does() -> None:
    """With a run id, and in an order in which Kubernetes can put one variable into another."""
    variables = TRAINJOB["spec"]["trainer"]["env"]
    [container] = pod_of(JOB)["containers"]
    ours = {variable["name"]: variable for variable in variables}
    theirs = {variable["name"]: variable for variable in container["env"]}
    assert ours.keys() - theirs.keys() == {"PET_RDZV_ID"}
    assert theirs.keys() - ours.keys() == {"TORCHELASTIC_OTEL_SPOOL_DIR"}
    same = ours.keys() & theirs.keys() - {"K8S_CONTAINER_NAME"}
    assert {name: ours[name] for name in same} == {name: theirs[name] for name in same}
    before: set[str] = set()
    for variable in variables:
        assert set(re.findall(r"\$\((\w+)\)", variable.get("value", ""))) <= before
        before.add(variable["name"])
    environ = {name: variable.get("value", "some") for name, variable in ours.items()}
    found = {name for name in resource_attributes(environ) if name.startswith("k8s.")}
    assert {"k8s.pod.uid", "k8s.pod.name", "k8s.job.name"} <= found
    assert "--event-log-handler=otel" in TRAINJOB["spec"]["trainer"]["command"]


def test_an_image_has_what_torch_looks_for(tmp_path: Path) -> None:
    """Its lines install the wheel of ``make wheel``, look whether torch finds it, and switch it on."""
    text = re.sub(r"^#.*\n", "", (KUBERNETES / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = [line.split(" ", 1) for line in text.splitlines() if line]
    assert [word for word, _ in lines] == ["ARG", "FROM", "COPY", "RUN", "RUN", "ENV"]
    copy, install, look, variable = (rest for _, rest in lines[2:])
    assert copy.split()[0] == "dist/*.whl"
    assert "--wheel-dir dist" in (PROJECT / "Makefile").read_text()
    assert copy.split()[1] + "*.whl" in install
    assert variable == "PET_EVENT_LOG_HANDLER=otel"
    command = [sys.executable, *shlex.split(look)[1:]]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # Where the package is not installed the image is not built.
    bare = subprocess.run([command[0], "-S", "-I", *command[1:]], capture_output=True, check=False)
    assert bare.returncode == 1


SRUN = """#!/bin/bash
# Two nodes on one machine.
for node in 0 1; do SLURM_PROCID=$node SLURMD_NODENAME=node$node "$@" & pids+=($!); done
for pid in "${pids[@]}"; do wait "$pid" || exit 1; done
"""
SCONTROL = """#!/bin/bash
[ "$*" = "show hostnames node[0-1]" ] && printf 'localhost\\nlocalhost\\n'
"""


@pytest.mark.e2e
def test_the_sbatch_script_runs(receiver: OtlpReceiver, tmp_path: Path) -> None:
    """As Slurm would run it: the nodes share one trace, and the resource says which Slurm job it is."""
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    script = CONFIGS / "slurm" / "train.sbatch"
    text = script.read_text()
    assert re.findall(r"^#SBATCH --(\S+)", text, re.MULTILINE) == [
        "job-name=train",
        "nodes=2",
        "ntasks-per-node=1",
        "requeue",
    ]
    env = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.http_endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "NO_PROXY": "*",
        "SLURM_JOB_ID": "4711",
        "SLURM_JOB_NODELIST": "node[0-1]",
        "SLURM_NNODES": "2",
        "WORKERS_PER_NODE": "1",
        "RDZV_PORT": str(free_port()),
        "TORCHELASTIC_OTEL_SPOOL_DIR": str(tmp_path / "spool"),
    }
    done = run(f"PATH={tmp_path}:$PATH; bash {script} examples/one_node/worker.py", env=env)
    assert done.returncode == 0, done.stderr
    agents = [
        span
        for span in receiver.spans
        if "torchelastic.restarts" in span.attributes and not span.parent_span_id
    ]
    assert len(agents) == 2
    assert len({span.trace_id for span in receiver.spans}) == 1
    assert {span.attributes["torchelastic.run_id"] for span in agents} == {"4711-0"}
    assert {span.resource["slurm.job.id"] for span in agents} == {"4711"}
    assert {span.resource["slurm.node.name"] for span in agents} == {"node0", "node1"}
