"""`batchproof push` into a folder of models, and what it refuses without a store."""

import json
from pathlib import Path

import pytest

from batchproof.service.__main__ import main
from batchproof.service.bundle.signing import SIGNATURE_FILE
from batchproof.service.inference.catalogue import repository
from batchproof.service.stores.publishing import package, to_folder
from tests.bundles import make_bundle, reseal


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def status(*words: str) -> object:
    """Run a command; returns its exit status, also where the arguments end it."""
    try:
        return main(words)
    except SystemExit as ended:
        return ended.code


def test_a_folder_gets_name_and_version(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The newest version of a model is copied with its signature, byte for byte; the same push again changes nothing."""
    make_bundle(tmp_path / "from", version=2)
    bundle = make_bundle(tmp_path / "from", version=10)
    (bundle / SIGNATURE_FILE).write_bytes(b"{}")
    target = tmp_path / "to" / "flowers" / "10"

    assert main(["push", str(tmp_path / "to"), str(tmp_path / "from" / "flowers")]) == 0
    assert contents(target) == contents(bundle)
    assert target.stat().st_mode & 0o777 == 0o755
    assert main(["push", str(tmp_path / "to"), str(bundle)]) == 0
    assert capsys.readouterr().out.splitlines() == [f"wrote {target}", f"{target} has this bundle already"]


def test_a_version_is_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another bundle of the same version is refused, whole or damaged, and what is there stays."""
    first, second = make_bundle(tmp_path / "a"), make_bundle(tmp_path / "b", seed=1)
    models = str(tmp_path / "to")
    assert main(["push", models, str(first)]) == 0
    assert main(["push", models, str(second)]) == 2
    target = tmp_path / "to" / "flowers" / "1"
    assert contents(target) == contents(first)
    assert "is taken by another bundle of flowers 1 (sha256 " in capsys.readouterr().err
    for path in list(target.iterdir()):
        path.unlink()
    assert main(["push", models, str(second)]) == 2
    assert "exists and holds no bundle.json: remove it first" in capsys.readouterr().err


def test_a_bundle_that_changes_meanwhile_is_not_pushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that changes after the check ends the push, and the folder of models stays as it was."""
    checked = package.package(make_bundle(tmp_path / "from"))
    (checked.folder / "model.onnx").write_bytes(b"other")
    with pytest.raises(package.BundleError, match=r"model\.onnx changed while the bundle was pushed"):
        to_folder.push(checked, tmp_path / "to")
    assert list((tmp_path / "to" / "flowers").iterdir()) == []


def test_only_a_sound_bundle_is_pushed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A damaged bundle is refused before anything is written."""
    bundle = make_bundle(tmp_path / "from")
    (bundle / "golden.json").write_text("{}")
    assert main(["push", str(tmp_path / "to"), str(bundle)]) == 2
    assert "golden.json has 2 bytes" in capsys.readouterr().err
    assert not (tmp_path / "to").exists()


def test_files_come_before_bundle_json(tmp_path: Path) -> None:
    """bundle.json is the last file: what has it is complete."""
    names = [name for name, _ in package.package(make_bundle(tmp_path, reference_rows=20)).files()]
    assert names[-1] == "bundle.json"
    assert set(names) == {"model.onnx", "golden.json", "report.html", "reference.json", "bundle.json"}


def test_what_is_pushed_is_served(tmp_path: Path) -> None:
    """A folder that was pushed into is a folder of models."""
    for version in (1, 2):
        main(["push", str(tmp_path / "to"), str(make_bundle(tmp_path / "from", version=version))])
    folders, refusals = repository.scan(tmp_path / "to")
    assert [(folder.name, folder.version) for folder in folders] == [("flowers", 2), ("flowers", 1)]
    assert refusals == []


@pytest.mark.parametrize(
    "target, says",
    [
        ("mlflow:models:/churn@champion", "MLflow's registry takes batchproof-train --mlflow"),
        (
            "https://models.example/churn",
            "a web server takes files by its own means: copy the folder, bundle.json last",
        ),
        ("hf://owner/churn", "set HF_TOKEN, or run hf auth login"),
        ("sftp://host/churn", "sftp:// is not supported"),
    ],
)
def test_what_cannot_be_pushed_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], target: str, says: str
) -> None:
    """A place that takes no bundles, and the Hub without a token or its package, are refused with what to do."""
    for name in ("HF_TOKEN", "HF_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert status("push", target, str(make_bundle(tmp_path))) == 2
    error = capsys.readouterr().err
    assert says in error or "needs huggingface_hub, which is not installed: pip install 'huggingface_hub>=1.0'" in error
    assert len(error.splitlines()) == 1


def test_a_seal_that_is_another_of_the_same_files(tmp_path: Path) -> None:
    """Two bundles are the same only if bundle.json is, byte for byte."""
    bundle = make_bundle(tmp_path / "from")
    checked = package.package(bundle)
    reseal(bundle, lambda content: content.update(metrics={}))
    assert json.loads(checked.raw)["metrics"] != {}
    assert package.is_there(checked, checked.raw, "here")
    assert not package.is_there(checked, None, "here")
    for found in ((bundle / "bundle.json").read_bytes(), b"{}"):
        with pytest.raises(package.StoreError, match="here is taken by another bundle"):
            package.is_there(checked, found, "here")
