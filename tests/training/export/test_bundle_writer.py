"""Bundles are written whole or not at all."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from batchproof.service.bundle import reader as bundles
from batchproof.training.export import bundle_writer as bundle
from batchproof.training.export.bundle_writer import WriteError, next_version, write
from tests.bundles import make_bundle


@pytest.fixture
def parts(tmp_path: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return what a finished bundle is written from: the content of bundle.json and the files beside it."""
    made = bundles.read(make_bundle(tmp_path / "source"))
    content = made.manifest.model_dump(exclude={"format", "format_version", "sha256", "files"})
    return content, {name: (made.folder / name).read_bytes() for name in made.manifest.files}


def everything(models: Path) -> list[str]:
    """List all files and folders below `models`."""
    return sorted(str(path.relative_to(models)) for path in models.rglob("*"))


def test_written(tmp_path: Path, parts: tuple[dict[str, Any], dict[str, bytes]]) -> None:
    """A written bundle is read by the service, and nothing temporary is left."""
    content, files = parts
    folder = write(tmp_path / "models", content, files)
    assert folder == tmp_path / "models" / content["name"] / str(content["version"])
    assert bundles.read(folder).manifest.signature.target == content["signature"]["target"]
    assert everything(folder.parent) == sorted(
        [folder.name, *(f"{folder.name}/{name}" for name in (*files, "bundle.json"))]
    )


@pytest.mark.parametrize("broken", ["model.onnx", "golden.json"])
def test_a_failing_check_writes_nothing(
    tmp_path: Path, parts: tuple[dict[str, Any], dict[str, bytes]], broken: str
) -> None:
    """A bundle that the service would refuse is not written, and nothing of it is left."""
    content, files = parts
    with pytest.raises(WriteError, match="the finished bundle does not pass the service's own check: "):
        write(tmp_path / "models", content, {**files, broken: b"{}"})
    assert everything(tmp_path / "models") == [content["name"]]


def test_never_overwritten(tmp_path: Path, parts: tuple[dict[str, Any], dict[str, bytes]]) -> None:
    """A version that exists is refused and stays as it is."""
    content, files = parts
    folder = write(tmp_path / "models", content, files)
    before = (folder / "bundle.json").stat().st_mtime_ns
    with pytest.raises(WriteError, match="exists already: bundles are never overwritten"):
        write(tmp_path / "models", content, files)
    assert (folder / "bundle.json").stat().st_mtime_ns == before


def test_versions(tmp_path: Path) -> None:
    """The next version is one more than the newest; what is no version does not count."""
    assert next_version(tmp_path, "m") == 1
    for name in ("2", "10", ".tmp-x", "old"):
        (tmp_path / "m" / name).mkdir(parents=True)
    assert next_version(tmp_path, "m") == 11


def test_stale_folders_are_removed(tmp_path: Path, parts: tuple[dict[str, Any], dict[str, bytes]]) -> None:
    """What a killed run left an hour ago is cleaned up; a folder that another run is writing now stays."""
    content, files = parts
    parent = tmp_path / "models" / content["name"]
    for name, age_s in ((".tmp-old", 2 * bundle.STALE_S), (".tmp-new", 0.0)):
        (parent / name).mkdir(parents=True)
        moment = (parent / name).stat().st_mtime - age_s
        os.utime(parent / name, (moment, moment))
    write(tmp_path / "models", content, files)
    assert {path.name for path in parent.glob(".tmp-*")} == {".tmp-new"}


def test_no_room(tmp_path: Path, parts: tuple[dict[str, Any], dict[str, bytes]]) -> None:
    """A place that cannot be written to is refused in one sentence."""
    content, files = parts
    (tmp_path / "models").write_text("a file")
    with pytest.raises(WriteError, match="cannot be written: "):
        write(tmp_path / "models", content, files)


KILLED = """
import os, pickle, signal, sys
from pathlib import Path
from batchproof.training.export import bundle_writer
content, files, models, wanted = pickle.load(sys.stdin.buffer)
seen = 0
def killing(name, plain):
    def call(*args, **kwargs):
        global seen
        seen += 1
        if seen == wanted:
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(*args, **kwargs)
    return call
os.fsync = killing("fsync", os.fsync)
Path.rename = killing("rename", Path.rename)
bundle_writer.write(Path(models), content, files)
"""


@pytest.mark.parametrize("moment", range(1, 8))
def test_killed(tmp_path: Path, parts: tuple[dict[str, Any], dict[str, bytes]], moment: int, root: Path) -> None:
    """A run killed before any of its writes reaches the disk, or around the renaming, leaves no bundle or a whole one."""
    import pickle

    content, files = parts
    given = pickle.dumps((content, files, str(tmp_path / "models"), moment))
    done = subprocess.run([sys.executable, "-c", KILLED], input=given, cwd=root, capture_output=True, check=False)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr.decode()
    target = tmp_path / "models" / content["name"] / str(content["version"])
    if target.exists():
        bundles.read(target)
        shutil.rmtree(target)
    write(tmp_path / "models", content, files)  # what is left of the killed run is in nobody's way
