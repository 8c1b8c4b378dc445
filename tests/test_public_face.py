"""What `batchproof` offers by name, and what importing it costs."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import batchproof
from batchproof import installation

ROOT = Path(__file__).resolve().parents[1]
FACE = (
    "AsyncClient",
    "BatchNormMLPClassifier",
    "BatchNormMLPRegressor",
    "Client",
    "RefusedError",
    "Scorer",
    "__version__",
    "load_model",
)


def run(code: str) -> str:
    """Run code in a new interpreter; returns what it prints."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT).stdout


def test_the_face_is_these_names() -> None:
    """Every name of `__all__` is there, and no other name is public by it."""
    assert tuple(batchproof.__all__) == FACE
    assert set(FACE) <= set(dir(batchproof))
    for name in FACE:
        assert getattr(batchproof, name) is not None


def test_importing_batchproof_loads_nothing() -> None:
    """`import batchproof` loads no other module of ours and none of other projects."""
    loaded = run("import sys; before = {*sys.modules}; import batchproof; print(*({*sys.modules} - before))").split()

    ours = {name for name in loaded if name.startswith("batchproof")}
    assert ours == {"batchproof"}
    assert {name.partition(".")[0] for name in loaded} - {"batchproof"} <= sys.stdlib_module_names


def test_listing_the_names_loads_nothing() -> None:
    """`dir(batchproof)` names the face without loading what is behind it."""
    code = "import sys, batchproof; dir(batchproof); print('torch' in sys.modules, 'numpy' in sys.modules)"

    assert run(code).split() == ["False", "False"]


def test_load_model_loads_no_training() -> None:
    """Predicting rows in process needs neither training nor a library of frames."""
    code = (
        "import sys; from batchproof import load_model; model = load_model('models/penguins')\n"
        "model.predict([['Dream', 44.1, 19.7, 196, 4400, 'male']])\n"
        "print(*({'torch', 'onnx', 'pandas', 'polars', 'pyarrow', 'batchproof.training'} & {*sys.modules}))"
    )

    assert run(code).split() == []


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A name that is not there fails as it does in any module."""
    with pytest.raises(AttributeError, match="module 'batchproof' has no attribute 'Clint'"):
        _ = batchproof.Clint


@pytest.mark.parametrize(
    ("name", "missing", "command"),
    [
        ("BatchNormMLPClassifier", "torch", "pip install 'onnxruntime>="),
        ("BatchNormMLPRegressor", "sklearn", "'scikit-learn>="),
    ],
)
def test_a_missing_package_is_one_sentence(name: str, missing: str, command: str) -> None:
    """Where a package of an extra is not installed, the error names the package and the command that brings it."""
    code = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name.partition('.')[0] == {missing!r}:\n"
        f"            raise ModuleNotFoundError(f'No module named {missing}', name={missing!r})\n"
        "sys.meta_path.insert(0, Absent())\n"
        "try:\n"
        f"    from batchproof import {name}\n"
        "except ImportError as error:\n"
        "    print(error)"
    )
    sentence = run(code)

    assert sentence.startswith(f"batchproof.{name} needs {missing}"), sentence
    assert command in sentence


def test_hints_are_the_extras() -> None:
    """The command for an extra names the packages that pyproject.toml lists for it, and every extra for users has one."""
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

    users = {
        name: tuple(packages) for name, packages in stated.items() if name not in ("clusters", "dev", "docs", "release")
    }
    assert users == installation.EXTRAS


def test_adapters_name_what_they_need() -> None:
    """Without its library an adapter says which command installs it: the line of the extra that its tests have."""
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(installation.CLUSTERS.values()) <= set(stated["clusters"])
    for call, missing in (
        ("spark.predict(None, 'models/penguins')", "pyspark"),
        ("ray.predict(None, 'models/penguins')", "ray"),
        ("ray.application('models')", "ray"),
        ("dask.predict(None, 'models/penguins')", "dask"),
    ):
        name = call.partition(".")[0]
        code = (
            f"import sys; sys.modules[{missing!r}] = None\n"
            f"import batchproof.{name}\n"
            "try:\n"
            f"    batchproof.{call}\n"
            "except ImportError as error:\n"
            "    print(error)"
        )
        needs = f"batchproof.{name} needs {missing}"
        assert run(code).strip() == f"{needs}, which is not installed: pip install '{installation.CLUSTERS[missing]}'"


THEIRS = {
    "dask",
    "pandas",
    "polars",
    "pyspark",
    "ray",
}  # imported only where a caller's own object or cluster is of them


def test_every_import_has_its_command() -> None:
    """Each package that a module imports is a dependency by the name that pip knows, or has the extra that brings it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[\[<>=;]", line)[0].strip() for line in project["dependencies"]}
    found = {
        name.partition(".")[0]
        for folder in ("batchproof", "service", "training")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        for name in names_of(node)
    }
    for module in found - sys.stdlib_module_names - THEIRS - {"batchproof", "_typeshed", ""}:
        if module in installation.OPTIONAL:
            assert installation.OPTIONAL[module] in installation.EXTRAS
        else:
            assert installation.INSTALLED_AS.get(module, module) in names, module
    assert set(installation.OPTIONAL) - {"tensorboard"} <= found  # PyTorch imports that one


def names_of(node: ast.AST) -> list[str]:
    """Return the full names that an import statement names."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []


@pytest.mark.parametrize(
    ("command", "missing", "sentence"),
    [
        ("service serve --models models", "simdjson", "batchproof: simdjson is not installed: pip install pysimdjson"),
        ("training examples/penguins.csv --target species", "torch", "batchproof-train: torch is not installed: pip "),
        ("training prove models/penguins", "onnx", "batchproof-train: onnx is not installed: pip install 'onnx>="),
    ],
)
def test_a_command_without_a_package_ends_in_one_sentence(command: str, missing: str, sentence: str) -> None:
    """A command that cannot import a package says how it is installed, without a traceback."""
    room, *words = command.split()
    code = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name.partition('.')[0] == {missing!r}:\n"
        f"            raise ModuleNotFoundError('No module named it', name={missing!r})\n"
        "sys.meta_path.insert(0, Absent())\n"
        f"from batchproof.{room}.__main__ import main\n"
        f"sys.exit(main({words!r}))"
    )
    ended = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, cwd=ROOT)

    assert ended.returncode in (2, 3)
    assert ended.stderr.splitlines()[-1].startswith(sentence), ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_image_gets_a_line_for_a_dockerfile(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the image, whose root is read-only, the hint is a line for a Dockerfile; elsewhere it is a pip command."""
    assert installation.hint("grpc") == "pip install 'grpcio>=1.70' 'protobuf>=5.29.1'"
    monkeypatch.setenv("CONTAINER", "batchproof")
    assert installation.hint("tables") == (
        "RUN python3 -m pip install --target /opt/batchproof 'pyarrow>=21' (in a Dockerfile FROM this image)"
    )


def test_the_async_client_names_httpx(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without httpx an AsyncClient says which package is missing and how to install it."""
    monkeypatch.setitem(sys.modules, "httpx", None)

    with pytest.raises(ImportError, match="AsyncClient needs httpx, which is not installed: pip install 'httpx>="):
        batchproof.AsyncClient("http://127.0.0.1:1")
