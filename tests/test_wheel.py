"""The distribution owns one name, `batchproof`, and works beside a project that has its own `service/` and `training/`."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import urllib.request
import venv
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.live import start

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("batchproof", "service", "training", "pyproject.toml", "README.md", "LICENSE")
BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"
ROW = {"island": "Dream", "bill_length_mm": 44.1, "bill_depth_mm": 19.7, "flipper_length_mm": 196, "body_mass_g": 4400}


STATIC = {f"batchproof/{path.relative_to(ROOT)}" for path in (ROOT / "service/server/web/static").rglob("*.*")}


def build(source: Path, kind: str, target: Path) -> Path:
    """Build `kind`, build_wheel or build_sdist, as pip does; returns the file."""
    target.mkdir(exist_ok=True)
    command = [sys.executable, "-c", BUILD, kind, str(target)]
    printed = subprocess.run(command, cwd=source, check=True, capture_output=True, text=True).stdout
    return target / printed.splitlines()[-1]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy what a build reads, links as links, so that nothing is written into the checkout."""
    folder = tmp_path_factory.mktemp("source")
    for name in PARTS:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy2(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from the checkout."""
    return build(source, "build_wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def project(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make somebody's project with folders `service/` and `training/`, and an environment that has the wheel.

    What Batchproof depends on comes from this environment, by a path file: editable installations are not followed.
    """
    folder = tmp_path_factory.mktemp("project")
    for name in ("service", "training"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("mine = True\n")
    venv.create(folder / "env", with_pip=True)
    # Away from the checkout: pip would find its metadata there and believe that the wheel is installed.
    run(folder, python_of(folder), "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel))
    (packages,) = (folder / "env" / "lib").glob("python*/site-packages")
    shared = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "shared.pth").write_text("\n".join(shared) + "\n")
    return folder


def python_of(project: Path) -> str:
    return str(project / "env" / "bin" / "python")


def environment() -> Mapping[str, str]:
    """Return this environment without the path to the checkout."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def run(project: Path, *command: str) -> str:
    return subprocess.run(command, cwd=project, check=True, capture_output=True, text=True, env=environment()).stdout


def test_the_wheel_owns_one_name(wheel: Path) -> None:
    """At the top of the wheel stand `batchproof` and its metadata, and every module of the checkout is in it."""
    names = zipfile.ZipFile(wheel).namelist()
    modules = {str(path.relative_to(ROOT)) for name in ("service", "training") for path in (ROOT / name).rglob("*.py")}

    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"batchproof"}
    assert {f"batchproof/{module}" for module in modules} <= set(names)
    assert {"batchproof/py.typed", *STATIC} <= set(names)


def test_a_source_distribution_gives_the_same_wheel(source: Path, wheel: Path, tmp_path: Path) -> None:
    """A wheel that is built from the source distribution, in which links are files, has the files of the other."""
    archive = build(source, "build_sdist", tmp_path / "sdist")
    with tarfile.open(archive) as opened:
        assert [member.name for member in opened if member.issym() or member.islnk()] == []
        opened.extractall(tmp_path, filter="data")
    again = build(tmp_path / archive.name.removesuffix(".tar.gz"), "build_wheel", tmp_path / "again")

    contents = [
        {name: opened.read(name) for name in opened.namelist() if name.startswith("batchproof/")}
        for opened in (zipfile.ZipFile(wheel), zipfile.ZipFile(again))
    ]
    assert contents[0] == contents[1]


def test_one_commit_gives_one_wheel(tmp_path: Path) -> None:
    """Two builds of a commit have the same bytes, whatever the mask of the builder's files is."""
    digests = []
    for number, mask in enumerate(("022", "077")):
        command = f'umask {mask}; exec bash "$0" "$1" "$2"'
        script, target = str(ROOT / "constraints" / "wheel.sh"), str(tmp_path / f"{number}")
        subprocess.run(["bash", "-c", command, script, sys.executable, target], check=True, capture_output=True)
        (built,) = (tmp_path / f"{number}").iterdir()
        digests.append((built.name, hashlib.sha256(built.read_bytes()).hexdigest()))

    assert digests[0] == digests[1]


def test_names_of_a_project_stay_its_own(project: Path) -> None:
    """In a project with `service/` and `training/` both the project's and ours are imported, each by its name."""
    code = (
        "import service, training, batchproof; assert service.mine and training.mine\n"
        "from batchproof import Client, AsyncClient, load_model, BatchNormMLPClassifier, BatchNormMLPRegressor\n"
        "print(batchproof.__file__); print(BatchNormMLPClassifier.__module__)"
    )
    file, module = run(project, python_of(project), "-c", code).splitlines()

    assert Path(file).is_relative_to(project)
    assert module.startswith("batchproof.")


def test_the_commands_are_there(project: Path) -> None:
    """`batchproof` and `batchproof-train` run from the wheel, and `python -m` names them too."""
    commands = project / "env" / "bin"
    version = run(project, str(commands / "batchproof"), "--version")

    assert "serve" in run(project, str(commands / "batchproof"), "--help")
    assert "--target" in run(project, str(commands / "batchproof-train"), "--help")
    assert run(project, python_of(project), "-m", "batchproof.service", "--version") == version


def test_the_wheel_serves_and_predicts(project: Path) -> None:
    """The committed model is served from the wheel, and `load_model` there gives what the service answers."""
    command = [str(project / "env" / "bin" / "batchproof"), "serve", "--models", str(ROOT / "models"), "--port", "0"]
    body = json.dumps({"rows": [{**ROW, "sex": "male"}]})
    code = (
        "import json, sys; from batchproof import load_model\n"
        f"print(json.dumps(load_model({str(ROOT / 'models' / 'penguins')!r}).predict(json.loads({body!r})['rows'])))"
    )
    with start(command, {"PYTHONPATH": ""}) as server:
        with urllib.request.urlopen(f"{server.url}/predict", body.encode()) as response:
            served = json.load(response)["predictions"]
        local = json.loads(run(project, python_of(project), "-c", code))

    assert served == local
    assert served[0]["label"] == "Adelie"
