"""Files and folders that may not be read or written: one sentence with the path, a documented exit code, nothing half-written."""

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import unprivileged
from tests.bundles import make_bundle

pytestmark = pytest.mark.slow

TRAIN = (sys.executable, "-m", "batchproof.training")
SERVICE = (sys.executable, "-m", "batchproof.service")
SERVE = (*SERVICE, "serve", "--port", "0", "--models", "models")
DENIED = "Permission denied"
# What is closed, the exit code, and the command; names stand for files below a folder of the test.
CASES: dict[str, tuple[str, int, tuple[str, ...]]] = {
    "training table": ("table.csv", 2, (*TRAIN, "table.csv", "--target", "y", "--models", "out")),
    "test table": ("closed.csv", 2, (*TRAIN, "table.csv", "--target", "y", "--models", "out", "--test", "closed.csv")),
    "settings of training": (
        "file",
        2,
        (*TRAIN, "table.csv", "--target", "y", "--models", "out", "--settings", "file"),
    ),
    "signing key": ("file", 2, (*TRAIN, "table.csv", "--target", "y", "--models", "out", "--sign", "file")),
    "models folder of training": ("folder", 2, (*TRAIN, "table.csv", "--target", "y", "--models", "folder")),
    "parent of the models folder": ("folder", 2, (*TRAIN, "table.csv", "--target", "y", "--models", "folder/out")),
    "folder of parts": ("parts", 2, (*TRAIN, "parts", "--target", "y", "--models", "out")),
    "pattern of parts": ("parts", 2, (*TRAIN, "parts/*.parquet", "--target", "y", "--models", "out")),
    "scored pattern": ("parts", 2, (*SERVICE, "predict", "models/flowers", "parts/*.parquet", "out/")),
    "compared table": ("table.csv", 2, (*TRAIN, "compare", "table.csv", "--target", "y")),
    "proved file": ("models/flowers/1/model.onnx", 2, (*TRAIN, "prove", "models/flowers/1/model.onnx")),
    "scored table": ("table.csv", 2, (*SERVICE, "predict", "models/flowers", "table.csv", "out.csv")),
    "scored folder": ("parts", 2, (*SERVICE, "predict", "models/flowers", "parts", "out.csv")),
    "folder in a scored folder": ("parts/closed", 2, (*SERVICE, "predict", "models/flowers", "parts", "out.csv")),
    "answers' folder": ("folder", 2, (*SERVICE, "predict", "models/flowers", "table.csv", "folder/out.csv")),
    "graph": ("models/flowers/1/model.onnx", 2, (*SERVICE, "predict", "models/flowers", "table.csv", "out.csv")),
    "description": ("models/flowers/1/bundle.json", 2, (*SERVICE, "predict", "models/flowers", "table.csv", "out.csv")),
    "bundle": ("models/flowers/1", 2, (*SERVICE, "predict", "models/flowers", "table.csv", "out.csv")),
    "verified file": ("models/flowers/1/model.onnx", 2, (*SERVICE, "verify", "models/flowers/1/model.onnx")),
    "verified bundle": ("models/flowers/1/model.onnx", 2, (*SERVICE, "verify", "models/flowers/1")),
    "described bundle": ("models/flowers/1/bundle.json", 2, (*SERVICE, "bom", "models/flowers/1")),
    "replayed journal": ("folder", 2, (*SERVICE, "replay", "folder")),
    "keys of callers, written": (
        "folder",
        2,
        (*SERVICE, "key", "new", "me", "--scope", "read", "--file", "folder/out"),
    ),
    "models folder": ("models", 3, SERVE),
    "settings": ("file", 2, (*SERVE, "--settings", "file")),
    "keys of callers": ("file", 3, (*SERVE, "--keys-file", "file")),
    "TLS key": ("file", 3, (*SERVE, "--tls-cert", "file", "--tls-key", "file")),
    "trusted key": ("file", 3, (*SERVE, "--signatures", "require", "--trusted-keys", "file")),
    "journal": ("folder", 3, (*SERVE, "--journal", "folder/out")),
    "metrics": ("folder", 3, (*SERVE, "--metrics-folder", "folder/out")),
}


@pytest.fixture
def close(tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Make the files of the cases; the function takes all permissions from one of them until the test ends."""
    make_bundle(tmp_path / "models", "flowers")
    rows = "".join(f"{row % 9},{row * 0.5},{row % 2}\n" for row in range(60))
    for name in ("table.csv", "closed.csv"):
        (tmp_path / name).write_text("a,b,y\n" + rows)
    (tmp_path / "parts" / "closed").mkdir(parents=True)
    for name in ("parts/a.parquet", "parts/closed/b.parquet"):
        shutil.copy(tmp_path / "table.csv", tmp_path / name)
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    closed: list[Path] = []

    def shut(name: str) -> None:
        closed.append(tmp_path / name)
        closed[0].chmod(0)

    yield shut
    closed[0].chmod(0o755)


@pytest.mark.parametrize("case", CASES)
def test_what_may_not_be_opened_is_one_sentence(tmp_path: Path, close: Callable[[str], None], case: str) -> None:
    """The last line says what was denied and where; nothing new stands on the disk."""
    closed, status, command = CASES[case]
    before = sorted(tmp_path.rglob("*"))
    close(closed)
    placed = [part if part in command[:3] or part.startswith("-") else _placed(tmp_path, part) for part in command]
    done = unprivileged.run(placed, BATCHPROOF_LOG_LEVEL="error")
    (tmp_path / closed).chmod(0o755)

    sentence = done.stderr.strip().splitlines()[-1]
    assert done.returncode == status, done.stderr
    assert sentence.startswith("batchproof")
    assert sentence.count(DENIED) == 1
    assert "Errno" not in sentence
    assert "Traceback" not in done.stderr
    assert Path(closed).name in sentence
    assert sorted(tmp_path.rglob("*")) == before


def _placed(folder: Path, part: str) -> str:
    """Return an argument, below the folder where it names something there or something new."""
    first = part.partition("/")[0]
    return str(folder / part) if (folder / first).exists() or first.startswith("out") else part
