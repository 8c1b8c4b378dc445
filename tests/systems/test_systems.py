"""Windows and macOS, as far as Linux can tell: what those systems do not have is not needed to train, predict and check."""

import subprocess
import sys
from pathlib import Path

import pytest

from batchproof.service.bundle.files.safe_folder import opened
from batchproof.service.errors import BundleError
from tests.live import start

ROOT = Path(__file__).resolve().parents[2]
BECOME = "import sys; sys.path.insert(0, '.'); from tests.systems.elsewhere import become; become({!r})\n"
COMMANDS = """
from batchproof.service.__main__ import COMMANDS, main
from importlib import import_module
for name in COMMANDS.values():
    import_module(f"batchproof.service.cli.{name}")
import batchproof.service.client, batchproof.local_model, batchproof.scorer, batchproof.training.__main__
sys.exit(main(["--version"]))
"""


@pytest.mark.parametrize("system", ["win32", "darwin"])
def test_training_and_predicting_need_no_linux(system: str, tmp_path: Path) -> None:
    """A model is trained, predicted with, verified, described and exported, and the committed model gives the bits of Linux."""
    command = [
        sys.executable,
        str(ROOT / "tests" / "systems" / "train_and_predict.py"),
        system,
        str(ROOT),
        str(tmp_path),
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert '"probabilities":{"Adelie":0.96839565,"Chinstrap":0.02246127,"Gentoo":0.009143107}' in done.stdout


@pytest.mark.parametrize("system", ["win32", "darwin"])
def test_every_command_can_be_imported(system: str) -> None:
    """No command, nor the client, imports at its top what Windows or macOS do not have."""
    done = subprocess.run(
        [sys.executable, "-c", BECOME.format(system) + COMMANDS], check=False, capture_output=True, text=True, cwd=ROOT
    )
    assert done.stderr == ""
    assert done.stdout.startswith("batchproof ")


def test_one_worker_serves_on_macos() -> None:
    """Without what only Linux has, one worker becomes ready, answers, and stops with exit code 0."""
    code = BECOME.format("darwin") + "from batchproof.service.__main__ import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "serve", "--models", str(ROOT / "models"), "--port", "0"]
    with start(command, {}) as server:
        assert server.process.poll() is None


def test_a_folder_without_descriptors_is_read_as_strictly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where files cannot be opened relative to a folder, links and folders in it are refused all the same."""
    monkeypatch.setattr("os.supports_dir_fd", set())
    (tmp_path / "file").write_bytes(b"text")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "folder").mkdir()
    (tmp_path / "entry").symlink_to(tmp_path / "folder")
    with opened(tmp_path) as files:
        assert files.names() == {"file", "link", "folder", "entry"}
        assert files.read("file", 10) == b"text"
        for name in ("link", "folder", "entry"):
            with pytest.raises(BundleError, match=f"{name} is not a regular file"):
                files.read(name, 10)
        with pytest.raises(BundleError, match="absent is missing from"):
            files.read("absent", 10)
        with pytest.raises(BundleError, match="more than the allowed 3 bytes"):
            files.read("file", 3)
    for place in ("entry", "file", "absent"):
        with pytest.raises(BundleError, match="is not a readable folder"), opened(tmp_path / place):
            pass
