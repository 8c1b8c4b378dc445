"""The Helm chart: with its own values it is deploy/kubernetes.yaml and deploy/hpa.yaml, and other values make valid objects.

A small renderer reads the templates here: values, `if`, `not`, `toJson`, `merge` and `dict`. What it does not know fails.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from batchproof import __version__

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "deploy" / "helm" / "batchproof"
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
ACTION = re.compile(r"\{\{(-?) (.*?) \}\}")
MODELS = {"persistentVolumeClaim": {"claimName": "models", "readOnly": True}}
OTHERS: dict[str, Any] = {
    "args": ["serve", "--port", "8080", "--models", "/models"],
    "env": [{"name": "BATCHPROOF_WORKERS", "value": "2"}],
    "models": MODELS,
    "imagePullSecrets": [{"name": "registry"}],
    "nodeSelector": {"kubernetes.io/arch": "arm64"},
    "tolerations": [{"key": "batch", "operator": "Exists"}],
    "serviceAccountName": "reader",
    "autoscaling": {**VALUES["autoscaling"], "enabled": True},
}


def value_of(expression: str, scope: Mapping[str, Any]) -> Any:
    """Return the value of one of the expressions that the chart uses."""
    if expression.startswith("."):
        found: Any = scope
        for part in expression[1:].split("."):
            found = found[part]  # a value that values.yaml does not have is a KeyError
        return found
    if expression.startswith("not "):
        return not value_of(expression[4:], scope)
    if expression.startswith("toJson "):
        return json.dumps(value_of(expression[7:].removeprefix("(").removesuffix(")"), scope))
    if merged := re.fullmatch(r'merge \(dict "(\w+)" "(\w+)"\) (\S+)', expression):
        return {**value_of(merged[3], scope), merged[1]: merged[2]}
    raise AssertionError(f"the renderer does not know {expression!r}")


def lines_of(path: Path, scope: Mapping[str, Any]) -> Iterator[str]:
    """Give the lines of a template with its values; a line of `if` or `end` decides on those between."""
    shown = [True]
    for line in path.read_text().splitlines():
        if found := re.fullmatch(r"\{\{- (if (?P<test>.+)|end) \}\}", line):
            if found["test"]:
                shown.append(shown[-1] and bool(value_of(found["test"], scope)))
            else:
                shown.pop()
        elif shown[-1]:
            yield ACTION.sub(lambda action: str(value_of(action[2], scope)), line)
    assert shown == [True], f"{path.name} ends inside an if"


def rendered(release: str = "batchproof", **changes: Any) -> dict[str, Any]:
    """Return the chart's objects by their kind."""
    scope = {"Values": {**VALUES, **changes}, "Release": {"Name": release}}
    text = "\n---\n".join("\n".join(lines_of(path, scope)) for path in sorted((CHART / "templates").iterdir()))
    return {content["kind"]: content for content in yaml.safe_load_all(text) if content}


def manifests(*names: str) -> dict[str, Any]:
    texts = [(ROOT / "deploy" / name).read_text() for name in names]
    return {content["kind"]: content for text in texts for content in yaml.safe_load_all(text)}


def plain(objects: dict[str, Any]) -> dict[str, Any]:
    """Leave out what Kubernetes sets by itself where a manifest does not say it."""
    text = json.dumps(objects).replace('"type": "ClusterIP", ', "").replace('"imagePullPolicy": "IfNotPresent", ', "")
    content: dict[str, Any] = json.loads(text)
    return content


def test_the_chart_is_the_manifest() -> None:
    """With its own values the chart makes the objects of deploy/kubernetes.yaml, with the autoscaler also that of hpa.yaml."""
    assert plain(rendered()) == manifests("kubernetes.yaml")
    scaled = plain(rendered(autoscaling=OTHERS["autoscaling"]))
    wanted = manifests("kubernetes.yaml", "hpa.yaml")
    del wanted["Deployment"]["spec"]["replicas"]
    assert scaled == wanted


@pytest.mark.parametrize("version", ["1.29", "1.37"])
@pytest.mark.parametrize("changes", [{}, OTHERS], ids=["default", "others"])
def test_kubernetes_accepts_the_objects(version: str, changes: dict[str, Any]) -> None:
    """Every object fits the strict schema of its kind, with the default values and with all others set."""
    objects = rendered("scores", **changes)
    assert len(objects) == (4 if changes else 3)
    for content in objects.values():
        kubernetes_validate.validate(content, version, strict=True)


def test_every_value_is_used_and_changes_something() -> None:
    """Each value at the top of values.yaml is in a template, and each of another value changes the objects."""
    templates = "".join(path.read_text() for path in (CHART / "templates").iterdir())
    assert [name for name in VALUES if f".Values.{name}" not in templates] == []
    for name, value in OTHERS.items():
        assert rendered(**{name: value}) != rendered(), name


def test_a_release_has_its_own_name() -> None:
    """Two releases in one namespace share no name and no label."""
    first, second = json.dumps(rendered("a-release")), json.dumps(rendered("b-release"))
    assert first.replace("a-release", "b-release") == second
    assert "app: batchproof" not in "".join(path.read_text() for path in (CHART / "templates").iterdir())


def test_the_chart_has_the_version() -> None:
    """Chart.yaml has what Helm asks of a chart of this version."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["apiVersion"], chart["type"], chart["name"]) == ("v2", "application", CHART.name)
    assert chart["version"] == chart["appVersion"] == __version__
