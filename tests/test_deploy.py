"""The files under deploy/ name only what exists."""

import argparse
import re
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from batchproof.service.cli.serve import add_flags
from batchproof.service.configuration.platforms import STOP_DELAY_S
from batchproof.service.configuration.settings import Settings
from batchproof.service.server.workers.supervisor import KILL_AFTER_S
from tests.live import live

ROOT = Path(__file__).resolve().parents[1]
MANIFESTS = sorted((ROOT / "deploy").glob("*.yaml"))
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def values(node: Any, key: str) -> list[Any]:
    """Return every value of `key` at any depth."""
    if isinstance(node, list):
        return [value for child in node for value in values(child, key)]
    if not isinstance(node, dict):
        return []
    here = [node[key]] if key in node else []
    return here + [value for child in node.values() for value in values(child, key)]


def documents(path: Path) -> list[Any]:
    return list(yaml.safe_load_all(path.read_text()))


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_manifest_runs_the_image_as_built(path: Path) -> None:
    """Each manifest takes the image by the tag of `make image`, on its port, as its user where one is named."""
    port = int(re.search(r"^EXPOSE (\d+)", DOCKERFILE, re.MULTILINE)[1])
    user = re.search(r"^USER (\d+):(\d+)", DOCKERFILE, re.MULTILINE)
    content = documents(path)

    assert set(values(content, "image")) <= {"batchproof:cpu"}
    assert set(values(content, "containerPort")) <= {port}
    assert set(values(content, "runAsUser")) <= {int(user[1])}
    assert set(values(content, "user")) <= {f"{user[1]}:{user[2]}"}


def test_probes_are_answered() -> None:
    """Every path that a manifest probes or scrapes answers 200 once the service is ready."""
    content = [documents(path) for path in MANIFESTS]
    paths = [probe["path"] for probe in values(content, "httpGet")]
    paths += [*values(content, "prometheus.io/path"), *values(content, "prometheus.kserve.io/path")]
    with live(ROOT / "models") as server:
        for path in paths:
            with urllib.request.urlopen(server.url + path, timeout=30) as response:
                assert response.status == 200

    assert set(paths) == {"/health/ready", "/health/live", "/v2/health/ready", "/v2/health/live", "/metrics"}


def test_arguments_are_flags() -> None:
    """The arguments that a manifest passes are a command and flags that it takes."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_flags(parser)
    for command, *flags in values([documents(path) for path in MANIFESTS], "args"):
        assert command == "serve"
        assert parser.parse_args(flags).port == "8080"


# The fields of Kubernetes' objects that the manifests use, as its API reference has them: a field that is not here is
# misspelt, stands in the wrong place, or has yet to be looked up.
LABELS = {"*": str}
SELECTOR = {"matchLabels": LABELS}
PROBE = {
    "httpGet": {"path": str, "port": (str, int)},
    "periodSeconds": int,
    "timeoutSeconds": int,
    "failureThreshold": int,
}
CONTAINER = {
    "name": str,
    "image": str,
    "args": [str],
    "ports": [{"name": str, "containerPort": int, "protocol": str}],
    "securityContext": {
        "runAsNonRoot": bool,
        "allowPrivilegeEscalation": bool,
        "readOnlyRootFilesystem": bool,
        "capabilities": {"drop": [str]},
    },
    "lifecycle": {"preStop": {"exec": {"command": [str]}}},
    "startupProbe": PROBE,
    "readinessProbe": PROBE,
    "livenessProbe": PROBE,
    "resources": {"requests": LABELS, "limits": LABELS},
    "volumeMounts": [{"name": str, "mountPath": str}],
}
VOLUMES = [{"name": str, "emptyDir": {"medium": str, "sizeLimit": str}}]
SPREAD = {"topologyKey": str, "maxSkew": int, "whenUnsatisfiable": str, "labelSelector": SELECTOR}
POD = {
    "terminationGracePeriodSeconds": int,
    "enableServiceLinks": bool,
    "automountServiceAccountToken": bool,
    "securityContext": {
        "runAsNonRoot": bool,
        "runAsUser": int,
        "runAsGroup": int,
        "seccompProfile": {"type": str},
    },
    "topologySpreadConstraints": [SPREAD],
    "containers": [CONTAINER],
    "volumes": VOLUMES,
}
SCALED = {"apiVersion": str, "kind": str, "name": str}
TARGET = {"type": str, "averageValue": str, "averageUtilization": int}
SPECS: dict[tuple[str, str], Any] = {
    ("apps/v1", "Deployment"): {
        "replicas": int,
        "selector": SELECTOR,
        "strategy": {"type": str, "rollingUpdate": {"maxUnavailable": int, "maxSurge": int}},
        "template": {"metadata": {"labels": LABELS, "annotations": LABELS}, "spec": POD},
    },
    ("v1", "Service"): {"selector": LABELS, "ports": [{"name": str, "port": int, "targetPort": str}]},
    ("policy/v1", "PodDisruptionBudget"): {"maxUnavailable": int, "selector": SELECTOR},
    ("autoscaling/v2", "HorizontalPodAutoscaler"): {
        "scaleTargetRef": SCALED,
        "minReplicas": int,
        "maxReplicas": int,
        "metrics": [
            {
                "type": str,
                "pods": {"metric": {"name": str}, "target": TARGET},
                "resource": {"name": str, "target": TARGET},
            }
        ],
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": int}},
    },
    ("keda.sh/v1alpha1", "ScaledObject"): {
        "scaleTargetRef": SCALED,
        "minReplicaCount": int,
        "maxReplicaCount": int,
        "cooldownPeriod": int,
        "triggers": [{"type": str, "metadata": LABELS}],
    },
    ("serving.kserve.io/v1alpha1", "ClusterServingRuntime"): {
        "annotations": LABELS,
        "supportedModelFormats": [{"name": str, "version": str, "autoSelect": bool, "priority": int}],
        "protocolVersions": [str],
        "containers": [CONTAINER],
        "volumes": VOLUMES,
    },
    ("serving.kserve.io/v1beta1", "InferenceService"): {
        "predictor": {
            "minReplicas": int,
            "model": {
                "modelFormat": {"name": str},
                "protocolVersion": str,
                "runtime": str,
                "storageUri": str,
            },
        },
    },
}
OBJECTS = [
    (path, content)
    for path in MANIFESTS
    for content in documents(path)
    if "kind" in content  # Compose's file has none
]


def faults(node: Any, rule: Any, where: str) -> list[str]:
    """Return every field that the rule does not have, or that is of another type."""
    if isinstance(rule, dict):
        if not isinstance(node, dict):
            return [f"{where} is no object"]
        return [
            fault
            for key, value in node.items()
            for fault in (
                faults(value, rule.get(key, rule.get("*")), f"{where}.{key}")
                if key in rule or "*" in rule
                else [f"{where}.{key} is unknown"]
            )
        ]
    if isinstance(rule, list):
        if not isinstance(node, list):
            return [f"{where} is no list"]
        return [fault for place, value in enumerate(node) for fault in faults(value, rule[0], f"{where}[{place}]")]
    types = rule if isinstance(rule, tuple) else (rule,)
    return [] if type(node) in types else [f"{where} is {node!r}, which is no {types}"]


@pytest.mark.parametrize(
    ("path", "content"), OBJECTS, ids=lambda part: part.get("kind", "") if isinstance(part, dict) else part.name
)
def test_objects_have_the_fields_of_their_kind(path: Path, content: Any) -> None:
    """Every object is of a known version and kind and has only fields of that kind, each of its type."""
    rule = SPECS[content["apiVersion"], content["kind"]]
    assert set(content) == {"apiVersion", "kind", "metadata", "spec"}
    assert not faults(content["metadata"], {"name": str, "labels": LABELS}, "metadata")
    assert not faults(content["spec"], rule, f"{path.name} spec")


def test_a_wrong_field_is_seen() -> None:
    """The rules see a field that is misspelt, in the wrong place or of another type."""
    rule = SPECS["apps/v1", "Deployment"]
    assert faults({"replica": 2}, rule, "spec") == ["spec.replica is unknown"]
    assert faults({"replicas": "2"}, rule, "spec")
    assert faults({"template": {"spec": {"containers": {}}}}, rule, "spec")
    assert faults({"template": {"spec": {"containers": [{"enableServiceLinks": False}]}}}, rule, "spec")


def pod_of(content: Any) -> Any:
    """Return the part of an object that holds containers, if any."""
    spec = content["spec"]
    return spec.get("template", {}).get("spec", spec if "containers" in spec else None)


PODS = [(path, pod) for path, content in OBJECTS if (pod := pod_of(content))]


@pytest.mark.parametrize(("path", "pod"), PODS, ids=lambda part: part.name if isinstance(part, Path) else "")
def test_pods_can_write_where_they_must_and_probe_what_is_there(path: Path, pod: Any) -> None:
    """A read-only root has a folder at /tmp, mounted volumes exist, and probes name ports that the container has."""
    volumes = {volume["name"] for volume in pod["volumes"]}
    for container in pod["containers"]:
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert mounts["/tmp"] in volumes
        assert set(mounts.values()) == volumes
        ports = {port for entry in container["ports"] for port in (entry.get("name"), entry["containerPort"])}
        assert {probe["port"] for probe in values(container, "httpGet")} <= ports


def test_objects_mean_one_another() -> None:
    """Selectors are those of the Deployment's pods, its service's port is the container's, and it is what is scaled."""
    by_kind = {content["kind"]: content for _, content in OBJECTS}
    deployment = by_kind["Deployment"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    selectors = [by_kind["Service"]["spec"]["selector"], *values([by_kind, deployment], "matchLabels")]
    assert all(selector == labels for selector in selectors)
    ports = {port["name"] for port in deployment["spec"]["template"]["spec"]["containers"][0]["ports"]}
    assert {port["targetPort"] for port in by_kind["Service"]["spec"]["ports"]} == ports
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment["metadata"]["name"]}
    assert all(scaled == target for scaled in values(list(by_kind.values()), "scaleTargetRef"))
    assert len(values(list(by_kind.values()), "scaleTargetRef")) == 2


def test_a_stop_has_the_time_that_it_takes() -> None:
    """The grace of each platform covers preStop, stop_delay_s of the image, drain_s and the time to kill workers."""
    needed = STOP_DELAY_S + Settings().drain_s + KILL_AFTER_S
    for _, pod in PODS:
        slept = [float(command[1]) for command in values(pod, "command") if command[0] == "sleep"]
        # A runtime cannot set the grace: there it is 30 s, and what is left to the workers is shorter.
        assert pod.get("terminationGracePeriodSeconds", needed + slept[0]) >= needed + slept[0]
    (grace,) = values(documents(ROOT / "deploy" / "compose.yaml"), "stop_grace_period")
    assert float(grace.removesuffix("s")) >= needed
    (strategy,) = values([content for _, content in OBJECTS], "rollingUpdate")
    assert strategy["maxUnavailable"] == 0


def test_no_restart_is_tried_for_ever() -> None:
    """Compose tries a service that cannot start (exit codes 2 and 3) a few times, and none that was stopped (0)."""
    (policy,) = values(documents(ROOT / "deploy" / "compose.yaml"), "restart")
    assert re.fullmatch(r"on-failure:[1-9]", policy)


def test_service_links_are_off() -> None:
    """The variables that Kubernetes makes for the Service that the manifest names do not reach the container."""
    (_, pod), *_ = [(path, pod) for path, pod in PODS if path.name == "kubernetes.yaml"]
    assert pod["enableServiceLinks"] is False


def test_scaling_asks_for_a_metric_that_exists() -> None:
    """The metric of both autoscalers is one that the service has."""
    names = [metric["name"] for metric in values([content for _, content in OBJECTS], "metric")]
    (query,) = values([content for _, content in OBJECTS], "query")
    page = (ROOT / "docs" / "metrics.md").read_text()
    for name in [*names, *re.findall(r"batchproof_\w+", query)]:
        assert f"| `{name}`" in page
