"""The files under deploy/ name only what exists."""

import argparse
import re
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from batchproof.service.cli.serve import add_flags
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

    assert values(content, "image") == ["batchproof:cpu"]
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

    assert set(paths) == {"/health/ready", "/health/live", "/metrics"}


def test_arguments_are_flags() -> None:
    """The arguments that a manifest passes are a command and flags that it takes."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_flags(parser)
    for command, *flags in values([documents(path) for path in MANIFESTS], "args"):
        assert command == "serve"
        assert parser.parse_args(flags).port == "8080"
