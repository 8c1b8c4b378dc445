"""The Grafana dashboard asks for metrics and labels that the service has, and the page of metrics names them all."""

import json
import re
import subprocess
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from batchproof.service.server.http.monitoring import prometheus as exposition
from tests.bundles import make_bundle
from tests.drifting import observed
from tests.live import live
from tests.programs import command_of

METRIC = re.compile(r"\bbatchproof_[a-z_]+")
LABELS_OF_GRAFANA = {"job", "le", "__name__"}  # what Prometheus adds to every sample, or histograms have
SELECTOR = re.compile(r"(batchproof_[a-z_]+)\{([^}]*)\}")


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Return {metric: its labels} of a service that audited, answered and refused."""
    models = tmp_path_factory.mktemp("models")
    make_bundle(models)
    with live(models, "--audit-every", "1") as server:
        row = [40.0, "Oslo", 3, None, True, 1, None]
        for body in ({"rows": [row]}, {"rows": [[]]}):
            httpx.post(f"{server.url}/predict", json=body)
        found: dict[str, set[str]] = {}
        texts = (httpx.get(f"{server.url}/metrics").text, drifted())
    for family in chain(*map(text_string_to_metric_families, texts)):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def drifted() -> str:
    """Return the metrics of a model whose last hour drifted."""
    return exposition.text({}, [], {("flowers", "1"): observed()}).decode()


@pytest.fixture
def dashboard(root: Path) -> dict[str, Any]:
    """Return the dashboard."""
    content: dict[str, Any] = json.loads((root / "deploy" / "grafana" / "batchproof.json").read_text())
    return content


def queries(dashboard: dict[str, Any]) -> Iterator[str]:
    """Yield every query of the panels and variables."""
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield target["expr"]
    yield from (one["query"] for one in dashboard["templating"]["list"] if one["type"] == "query")


def test_every_query_asks_for_a_metric_that_exists(dashboard: dict[str, Any], samples: dict[str, set[str]]) -> None:
    """A metric that is renamed is renamed in the dashboard."""
    asked = {name for query in queries(dashboard) for name in METRIC.findall(query)}
    assert asked <= set(samples)
    assert len(asked) > 8


def test_alert_rules_ask_for_metrics_and_labels_that_exist(root: Path, samples: dict[str, set[str]]) -> None:
    """A rule on a metric or a label that is not there would never tell."""
    content = yaml.safe_load((root / "deploy" / "prometheus" / "batchproof.rules.yml").read_text())
    rules = content["groups"][0]["rules"]
    for rule in rules:
        names = METRIC.findall(rule["expr"])
        assert set(names) <= set(samples)
        for name, selector in SELECTOR.findall(rule["expr"]):
            assert set(re.findall(r"([a-z_]+)\s*(?:=~|!~|!=|=)", selector)) <= samples[name]
        labels = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
        assert labels <= set().union(*(samples[name] for name in names)), rule["alert"]
    assert len(rules) >= 5


def promtool(*arguments: str, content: str = "") -> str:
    """Return what Prometheus's own tool prints; it must find no fault."""
    command = [command_of(["promtool"], "prometheus"), *arguments]
    ended = subprocess.run(command, input=content, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_prometheus_accepts_the_alert_rules(root: Path) -> None:
    """Prometheus itself reads every rule, its query and its templates."""
    path = root / "deploy" / "prometheus" / "batchproof.rules.yml"
    count = len(yaml.safe_load(path.read_text())["groups"][0]["rules"])
    assert f"SUCCESS: {count} rules found" in promtool("check", "rules", str(path))


def test_prometheus_accepts_the_metrics(tmp_path: Path) -> None:
    """Prometheus itself reads what a service that answers, audits and keeps a journal exposes, and names follow its rules."""
    make_bundle(tmp_path / "models")
    row = [40.0, "Oslo", 3, None, True, 1, None]
    with live(tmp_path / "models", "--audit-every", "1", "--journal", str(tmp_path / "journal")) as server:
        for body in ({"rows": [row]}, {"rows": [[]]}):
            httpx.post(f"{server.url}/predict", json=body)
        text = httpx.get(f"{server.url}/metrics").text
    assert "batchproof_journal_rows_total" in text
    promtool("check", "metrics", content=text)
    promtool("check", "metrics", content=drifted())


def test_every_selector_uses_labels_that_exist(dashboard: dict[str, Any], samples: dict[str, set[str]]) -> None:
    """A selector on a label that its metric has not would show an empty panel."""
    for query in queries(dashboard):
        for name, selector in SELECTOR.findall(query):
            labels = set(re.findall(r"([a-z_]+)\s*(?:=~|!~|!=|=)", selector))
            assert labels <= samples[name] | LABELS_OF_GRAFANA, query


def test_every_legend_uses_labels_that_exist(dashboard: dict[str, Any], samples: dict[str, set[str]]) -> None:
    """A legend or a grouping names labels of its metric."""
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            known = set().union(*(samples[name] for name in METRIC.findall(target["expr"]))) | LABELS_OF_GRAFANA
            named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            for grouping in re.findall(r"by \(([^)]*)\)", target["expr"]):
                named |= {label.strip() for label in grouping.split(",")}
            assert named <= known, target["expr"]


def test_panels_do_not_overlap(dashboard: dict[str, Any]) -> None:
    """Each panel has a place of its own on the 24 columns."""
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken
        taken |= cells
