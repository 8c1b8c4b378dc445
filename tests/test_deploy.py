"""The files under deploy/ name only what exists."""

import argparse
import re
import urllib.request
from pathlib import Path
from typing import Any

import kubernetes_validate
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


# The fields of what KServe and KEDA add to Kubernetes, as their API references have them: a field that is not here is
# misspelt, stands in the wrong place, or has yet to be looked up. Pods in them are checked by Kubernetes' own schema.
LABELS = {"*": str}
SCALED = {"apiVersion": str, "kind": str, "name": str}
POD = {"containers": ..., "volumes": ...}
SPECS: dict[tuple[str, str], Any] = {
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
        **POD,
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
    """Return every field that the rule does not have, or that is of another type; `...` stands for anything."""
    if rule is ...:
        return []
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


def is_kubernetes_own(content: Any) -> bool:
    return (content["apiVersion"], content["kind"]) not in SPECS


@pytest.mark.parametrize("version", ["1.29", "1.37"])
@pytest.mark.parametrize(
    ("path", "content"), OBJECTS, ids=lambda part: part.get("kind", "") if isinstance(part, dict) else part.name
)
def test_objects_are_what_kubernetes_accepts(path: Path, content: Any, version: str) -> None:
    """Every object fits the schema of its kind, without unknown fields, in an older and in the newest version of Kubernetes.

    What KServe and KEDA add has only known fields, and its pods fit the schema of pods.
    """
    if is_kubernetes_own(content):
        kubernetes_validate.validate(content, version, strict=True)
        return
    assert set(content) == {"apiVersion", "kind", "metadata", "spec"}
    assert not faults(content["metadata"], {"name": str, "labels": LABELS}, "metadata")
    assert not faults(content["spec"], SPECS[content["apiVersion"], content["kind"]], f"{path.name} spec")
    if pod := pod_of(content):
        kubernetes_validate.validate(as_pod(pod), version, strict=True)


def as_pod(spec: Any) -> Any:
    """Return a pod of the containers and volumes of a serving runtime."""
    named = {name: spec[name] for name in POD}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "served"}, "spec": named}


def test_a_wrong_field_is_seen() -> None:
    """A field that is misspelt, in the wrong place or of another type is seen, in Kubernetes' kinds and in others."""
    rule = SPECS["keda.sh/v1alpha1", "ScaledObject"]
    assert faults({"minReplicaCounts": 2}, rule, "spec") == ["spec.minReplicaCounts is unknown"]
    assert faults({"minReplicaCount": "2"}, rule, "spec")
    assert faults({"triggers": {}}, rule, "spec")
    (deployment,) = [content for _, content in OBJECTS if content["kind"] == "Deployment"]
    for wrong in ({"replica": 2}, {"replicas": "2"}):
        changed = {**deployment, "spec": {**deployment["spec"], **wrong}}
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(changed, "1.37", strict=True)


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
