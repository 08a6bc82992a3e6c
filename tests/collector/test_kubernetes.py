"""The Kubernetes manifests: by the schemas of several versions, as built, and as they fit together."""

from __future__ import annotations

import re
import shutil
import subprocess
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.support.backends import CONFIGS, README_BLOCKS, settings, tool
from tests.support.harness import clean_environment
from torchelastic_otel._config.resource import resource_attributes

VERSIONS = ["1.28", "1.31", "1.34", "1.37"]
KUBERNETES = CONFIGS / "kubernetes"
KUSTOMIZATION = yaml.safe_load((CONFIGS / "kustomization.yaml").read_text())


def documents(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a file."""
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


SOURCES = [CONFIGS / name for name in KUSTOMIZATION["resources"]] + [KUBERNETES / "training-job.yaml"]
OBJECTS = {
    f"{found['kind']}/{found['metadata']['name']}": found for path in SOURCES for found in documents(path)
}


def check(found: Mapping[str, Any], version: str) -> None:
    """Hold an object against the schemas of a version, strictly: an unknown field is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kubernetes_validate.validate(found, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", OBJECTS)
def test_it_is_what_the_schemas_say(name: str, version: str) -> None:
    """Every object, in the oldest and newest version and between."""
    check(OBJECTS[name], version)


def test_a_misspelt_field_is_found() -> None:
    """The check above can fail."""
    wrong = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "x"},
        "spec": {"internalTraficPolicy": "Local"},
    }
    with pytest.raises(kubernetes_validate.ValidationError):
        check(wrong, VERSIONS[-1])


@pytest.fixture(scope="module")
def built() -> dict[str, dict[str, Any]]:
    """What `kubectl apply -k` would send."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl, which builds kustomizations, is not on this machine")
    ran = subprocess.run(
        [kubectl, "kustomize", str(CONFIGS)], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return {f"{one['kind']}/{one['metadata']['name']}": one for one in yaml.safe_load_all(ran.stdout)}


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_built_is_what_the_schemas_say(built: dict[str, dict[str, Any]], version: str) -> None:
    """With the generated config maps and their names put in."""
    for found in built.values():
        check(found, version)


def test_what_is_built_refers_to_itself_rightly(built: dict[str, dict[str, Any]]) -> None:
    """Each config map, account and claim that a pod names is there; all is in the one namespace."""
    for found in built.values():
        if found["kind"] not in ("Namespace", "ClusterRole", "ClusterRoleBinding"):
            assert found["metadata"]["namespace"] == KUSTOMIZATION["namespace"]
    for pod in (built["DaemonSet/torchelastic-agent"], built["Deployment/torchelastic-gateway"]):
        spec = pod["spec"]["template"]["spec"]
        assert f"ServiceAccount/{spec['serviceAccountName']}" in built
        [container] = spec["containers"]
        names = [
            source["configMapRef"]["name"] for source in container["envFrom"] if "configMapRef" in source
        ]
        names += [volume["configMap"]["name"] for volume in spec["volumes"] if "configMap" in volume]
        assert len(names) == 2
        assert all(f"ConfigMap/{name}" in built for name in names)


def test_the_cluster_runs_the_very_files(built: dict[str, dict[str, Any]]) -> None:
    """No copy of a configuration: what is mounted is byte for byte what stands here."""
    [config] = [one for name, one in built.items() if name.startswith("ConfigMap/torchelastic-collector-")]
    for name, text in config["data"].items():
        [path] = [
            path for path in (CONFIGS / name, KUBERNETES / name) if path.is_file() and name != "agent.env"
        ][:1]
        assert text == path.read_text()


PODS = {
    "agent": OBJECTS["DaemonSet/torchelastic-agent"]["spec"]["template"],
    "gateway": OBJECTS["Deployment/torchelastic-gateway"]["spec"]["template"],
}


def environment(name: str, pod: dict[str, Any]) -> dict[str, str]:
    """Return the variables of a collector's container; those of secrets and of the pod get some value."""
    [container] = pod["spec"]["containers"]
    lines = (KUBERNETES / f"{name}.env").read_text().splitlines()
    environ = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    environ |= {variable["name"]: str(variable.get("value", "some")) for variable in container["env"]}
    return environ


@pytest.mark.e2e
@pytest.mark.parametrize(("name", "pod"), list(PODS.items()), ids=list(PODS))
def test_the_collectors_arguments_and_variables_are_valid(
    name: str, pod: dict[str, Any], tmp_path: Path
) -> None:
    """The real Collector takes the files that the pod names, with the variables that it sets."""
    [container] = pod["spec"]["containers"]
    files = KUSTOMIZATION["configMapGenerator"][0]["files"]
    paths = {f"/etc/otelcol/{Path(file).name}": CONFIGS / file for file in files}
    command = [str(tool("otelcol")), "validate"]
    command += [f"--config={paths[argument.removeprefix('--config=')]}" for argument in container["args"]]
    environ = clean_environment() | settings(tmp_path) | environment(name, pod)
    ran = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize(("name", "pod"), list(PODS.items()), ids=list(PODS))
def test_a_collectors_pod_is_bounded_watched_and_unprivileged(name: str, pod: dict[str, Any]) -> None:
    """Limits, probes on the port of the health check, no capability, and every file where a variable says."""
    [container] = pod["spec"]["containers"]
    environ = environment(name, pod)
    assert set(container["resources"]["limits"]) == {"cpu", "memory"}
    limit = {"400Mi": 400, "1536Mi": 1536}[container["resources"]["limits"]["memory"]]
    assert int(environ["MEMORY_MIB"]) < int(environ["GOMEMLIMIT"].removesuffix("MiB")) < limit
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for probe in ("readinessProbe", "livenessProbe"):
        assert environ["LISTEN_HEALTH"].endswith(f":{ports[container[probe]['httpGet']['port']]}")
    secured = container["securityContext"]
    assert secured["capabilities"] == {"drop": ["ALL"]}
    assert secured["readOnlyRootFilesystem"] is True
    assert secured["allowPrivilegeEscalation"] is False
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    files = [environ[one] for one in ("GATEWAY_CA_FILE", "TLS_CERT_FILE", "TLS_KEY_FILE") if one in environ]
    assert {environ["QUEUE_DIR"], *(str(Path(file).parent) for file in files)} <= mounted


def test_the_gateways_volume_has_room_for_its_queues() -> None:
    """One queue for each signal, and one more to compact into."""
    claim = OBJECTS["PersistentVolumeClaim/torchelastic-gateway-queue"]["spec"]["resources"]["requests"][
        "storage"
    ]
    size = int(environment("gateway", PODS["gateway"])["QUEUE_BYTES"])
    assert int(claim.removesuffix("Gi")) << 30 >= 4 * size
    assert OBJECTS["Deployment/torchelastic-gateway"]["spec"]["strategy"] == {"type": "Recreate"}


def test_the_readmes_commands_make_the_secrets_that_pods_ask_for() -> None:
    """Every secret by its name, with every key, in the namespace of the pods."""
    commands = "\n".join(text for marks, text in README_BLOCKS if marks == ["kubernetes"]).replace(
        "\\\n", " "
    )
    made = {
        name: set(re.findall(r"--from-(?:file|literal)=([\w.]+)", arguments))
        for namespace, name, arguments in re.findall(
            r"kubectl -n (\S+) create secret generic (\S+) (.*)", commands
        )
        if namespace == KUSTOMIZATION["namespace"]
    }
    asked: dict[str, set[str]] = {}
    for pod in PODS.values():
        for volume in pod["spec"]["volumes"]:
            if "secret" in volume:
                keys = {item["key"] for item in volume["secret"]["items"]}
                asked.setdefault(volume["secret"]["secretName"], set()).update(keys)
        for variable in pod["spec"]["containers"][0]["env"]:
            if "secretKeyRef" in variable.get("valueFrom", {}):
                reference = variable["valueFrom"]["secretKeyRef"]
                asked.setdefault(reference["name"], set()).add(reference["key"])
    assert made == asked
    endpoint = environment("agent", PODS["agent"])["GATEWAY_ENDPOINT"]
    assert f"subjectAltName=DNS:{endpoint.partition(':')[0]}" in commands
    assert "kubectl apply -k ." in commands


def test_services_lead_to_the_collectors() -> None:
    """Selectors fit labels, target ports are the containers', and an agent serves its own node alone."""
    for name, pod in PODS.items():
        service = OBJECTS[f"Service/torchelastic-{name}"]["spec"]
        assert service["selector"].items() <= pod["metadata"]["labels"].items()
        ports = {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
        assert {port["targetPort"] for port in service["ports"]} <= ports
    assert OBJECTS["Service/torchelastic-agent"]["spec"]["internalTrafficPolicy"] == "Local"
    endpoint = environment("agent", PODS["agent"])["GATEWAY_ENDPOINT"]
    assert endpoint == "torchelastic-gateway.torchelastic-otel.svc:4317"


def test_the_role_allows_what_k8sattributes_watches() -> None:
    """Pods and namespaces, to read; and it is bound to the agents' account."""
    [rule] = OBJECTS["ClusterRole/torchelastic-agent"]["rules"]
    assert (rule["resources"], rule["verbs"]) == (["pods", "namespaces"], ["get", "list", "watch"])
    binding = OBJECTS["ClusterRoleBinding/torchelastic-agent"]
    assert binding["roleRef"]["name"] == "torchelastic-agent"
    [subject] = binding["subjects"]
    assert (subject["name"], subject["namespace"]) == ("torchelastic-agent", KUSTOMIZATION["namespace"])


def test_the_training_pods_variables_are_those_that_the_bridge_reads() -> None:
    """The example's downward-API lines end up as resource attributes, the one that agents ask for too."""
    [container] = OBJECTS["Job/train"]["spec"]["template"]["spec"]["containers"]
    environ = {
        variable["name"]: variable.get("value", f"the {variable['name']}") for variable in container["env"]
    }
    found = {name for name in resource_attributes(environ) if name.startswith("k8s.")}
    assert found == {
        f"k8s.{name}"
        for name in ("container.name", "pod.name", "pod.uid", "namespace.name", "node.name", "job.name")
    }
    assert set(re.findall(r"\$\((\w+)\)", " ".join(container["command"]))) <= set(environ)
    agent = OBJECTS["Service/torchelastic-agent"]["spec"]
    assert environ["OTEL_EXPORTER_OTLP_ENDPOINT"] == (
        f"http://torchelastic-agent.{KUSTOMIZATION['namespace']}:{agent['ports'][0]['port']}"
    )
    [mount] = container["volumeMounts"]
    assert environ["TORCHELASTIC_OTEL_SPOOL_DIR"].startswith(mount["mountPath"] + "/")
