"""Have Helm itself read the chart: `helm lint --strict` has nothing to say, and `helm template` makes the manifests of deploy/.

    python constraints/release_chart.py [KUBERNETES_VERSION …]

It needs the package helm-python-sdk of the extra `release`: Helm's own code (4.2) as a library. tests/test_chart.py holds the chart to the same
manifests in every run of the tests, with a renderer of its own.
"""

import sys
from pathlib import Path
from typing import Any

import helm_python

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
CHART = DEPLOY / "helm" / "batchproof"
INFORMATION = 1  # a severity: "icon is recommended"
VERSIONS = ("1.29.0", "1.37.0")


def main(versions: list[str]) -> int:
    """Print what was checked, or what is wrong."""
    faults = [fault for version in versions or VERSIONS for fault in lint(version)] + differences()
    for fault in faults:
        print(f"chart: {fault}", file=sys.stderr)
    if not faults:
        print(f"{CHART.name} chart: linted and rendered by Helm {helm_python.helm_sdk_version()}")
    return 1 if faults else 0


def lint(version: str) -> list[str]:
    """Return what `helm lint --strict` finds for a version of Kubernetes."""
    report = helm_python.lint(CHART, strict=True, kube_version=version)
    found = [f"{one['path']}: {one['error']}" for one in report["messages"] if one["severity"] > INFORMATION]
    return [f"Kubernetes {version}: {one}" for one in [*found, *report["errors"]]]


def differences() -> list[str]:
    """Return which objects of the chart are not those of the manifests, with its own values and with the autoscaler."""
    scaled = manifests("kubernetes.yaml", "hpa.yaml")
    del scaled["Deployment"]["spec"]["replicas"]  # the autoscaler's
    cases = [({}, manifests("kubernetes.yaml")), ({"autoscaling": {"enabled": True}}, scaled)]
    return [
        f"{kind} with the values {values} is not that of deploy/"
        for values, wanted in cases
        for kind, made in {**dict.fromkeys(wanted), **rendered(values)}.items()
        if made != wanted.get(kind)
    ]


def rendered(values: dict[str, Any]) -> dict[str, Any]:
    """Return the chart's objects by their kind, without what Kubernetes sets by itself where a manifest does not say it."""
    with helm_python.Chart.load(CHART) as chart:
        made = documents(chart.render(values, name="batchproof").values())
    made["Service"]["spec"].pop("type")
    made["Deployment"]["spec"]["template"]["spec"]["containers"][0].pop("imagePullPolicy")
    return made


def manifests(*names: str) -> dict[str, Any]:
    """Return the objects of files in deploy/ by their kind."""
    return documents([(DEPLOY / name).read_text() for name in names])


def documents(texts: Any) -> dict[str, Any]:
    """Return the YAML documents of the texts by their kind."""
    found = [helm_python.values_from_yaml(part) for text in texts for part in text.split("\n---\n")]
    return {content["kind"]: content for content in found if content}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
