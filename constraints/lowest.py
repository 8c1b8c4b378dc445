"""Print the lowest versions that pyproject.toml allows, as pip's constraints: `make lock` writes them to lowest.txt."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
EXTRAS = ("client", "cpu", "grpc", "jwt", "signing", "tables", "tensorboard", "tracing", "training", "tune")
BOUND = re.compile(r"(?P<name>[\w.-]+)(?:\[[^]]*\])?>=(?P<version>[\w.]+)")
OTHERWISE = {"torch"}  # stays at the pin of constraints/all.txt: see matrix.py


def lowest() -> Iterator[str]:
    """Yield a line for each library that the service or training imports."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    groups = [project["dependencies"], *(project["optional-dependencies"][name] for name in EXTRAS)]
    found = [BOUND.match(requirement) for group in groups for requirement in group]
    bounds = {one["name"]: one["version"] for one in found if one is not None and one["name"] not in OTHERWISE}
    yield from (f"{name}=={version}" for name, version in sorted(bounds.items()))


if __name__ == "__main__":
    print(*lowest(), sep="\n")
