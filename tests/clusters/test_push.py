"""`batchproof push` to a real S3 server, and by the Hub's own client to a stand-in of the Hub; what is fetched back predicts equal bits."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from pyarrow import fs

from batchproof.service.bundle.documents.card import model_card
from batchproof.service.bundle.files.checksum import seal
from batchproof.service.bundle.reader import read
from tests.clusters.hub_server import TOKEN, Hub, hub
from tests.clusters.s3 import s3_server

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = ROOT / "models" / "penguins" / "1"
REPOSITORY = "company/penguins"
FILES = {path.name for path in BUNDLE.iterdir()}


@pytest.fixture(scope="module")
def s3() -> Iterator[fs.S3FileSystem]:
    """Run an S3 server with an empty bucket."""
    with s3_server("pushed") as server:
        yield server.files


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Run a stand-in of the Hub; files go by LFS, since the client's other way needs a second service."""
    with hub() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        yield running


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def batchproof(*words: object, code: int = 0) -> str:
    """Run a command; returns what it printed."""
    command = [sys.executable, "-m", "batchproof.service", *map(str, words)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == code, done.stderr
    return done.stderr if code else done.stdout


def version_of(folder: Path, **changes: object) -> Path:
    """Return the committed bundle with other fields of bundle.json, and sealed anew."""
    shutil.copytree(BUNDLE, folder)
    content = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_bytes(seal(content | changes))
    return folder


def predicted(model: object, folder: Path) -> bytes:
    """Return the predictions of the golden rows."""
    rows = json.loads((BUNDLE / "golden.json").read_text())["rows"]
    names = [feature["name"] for feature in json.loads((BUNDLE / "bundle.json").read_text())["signature"]["inputs"]]
    source, target = folder / "rows.jsonl", folder / "predictions.csv"
    source.write_text("".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows))
    batchproof("predict", model, source, target, "--overwrite")
    return target.read_bytes()


def test_a_bucket_gets_a_bundle_once(s3: fs.S3FileSystem, tmp_path: Path) -> None:
    """What is pushed is served by its address with equal bits; again it is there already, and another seal is refused."""
    assert batchproof("push", "s3://pushed/models", BUNDLE) == "wrote s3://pushed/models/penguins/1\n"
    assert predicted("s3://pushed/models", tmp_path) == predicted(BUNDLE, tmp_path)
    listed = s3.get_file_info(fs.FileSelector("pushed/models/penguins/1"))
    assert {file.base_name for file in listed} == FILES
    assert (
        max(listed, key=lambda file: file.mtime).mtime == s3.get_file_info("pushed/models/penguins/1/bundle.json").mtime
    )

    assert "has this bundle already" in batchproof("push", "s3://pushed/models", BUNDLE)
    other = version_of(tmp_path / "other", metrics={})
    says = batchproof("push", "s3://pushed/models", other, code=2)
    assert "s3://pushed/models/penguins/1 is taken by another bundle" in says
    assert s3.open_input_stream("pushed/models/penguins/1/bundle.json").read() == (BUNDLE / "bundle.json").read_bytes()


def test_an_interrupted_push_leaves_no_bundle(s3: fs.S3FileSystem, tmp_path: Path) -> None:
    """Files without bundle.json are no bundle; the same push completes it."""
    with s3.open_output_stream("pushed/half/penguins/1/model.onnx") as stream:
        stream.write(b"half")
    assert "no bundle" in batchproof("verify", "s3://pushed/half", code=2)
    batchproof("push", "s3://pushed/half", BUNDLE)
    assert predicted("s3://pushed/half/penguins", tmp_path) == predicted(BUNDLE, tmp_path)


def test_a_missing_bucket_is_one_sentence(s3: fs.S3FileSystem) -> None:
    """A bucket that is not there is refused by its address."""
    del s3
    says = batchproof("push", "s3://no-such-bucket/models", BUNDLE, code=2)
    assert says.startswith("batchproof push: s3://no-such-bucket/models/penguins/1 cannot be ")
    assert len(says.splitlines()) == 1


def test_the_hub_gets_one_commit(server: Hub, tmp_path: Path) -> None:
    """Card and bundle come in one commit, are fetched back with equal bits, and are not sent twice."""
    flags = ("--intended-use", "Teaching", "--license", "mit")
    says = batchproof("push", f"hf://{REPOSITORY}", BUNDLE, "--create", "private", *flags)
    files = server.head(REPOSITORY)

    assert says == f"wrote hf://{REPOSITORY}@{server.repositories[REPOSITORY]['main']}\n"
    assert server.visibility == {REPOSITORY: "private"}
    assert len(server.commits) == 2, "the one of the creation, and one"
    assert files.keys() == FILES | {"README.md", ".gitattributes"}
    assert all(files[path.name] == path.read_bytes() for path in BUNDLE.iterdir())
    assert f"batchproof serve --models hf://{REPOSITORY}\n" in files["README.md"].decode()
    assert predicted(f"hf://{REPOSITORY}", tmp_path) == predicted(BUNDLE, tmp_path)

    uploads = list(server.uploads)
    assert "has this bundle already" in batchproof("push", f"hf://{REPOSITORY}", BUNDLE, *flags)
    assert (len(server.commits), server.uploads) == (2, uploads)


def test_a_branch_is_created_too(server: Hub) -> None:
    """`--create` makes the repository and the branch where they are not there, and changes nothing where they are."""
    for _ in range(2):
        batchproof("push", f"hf://{REPOSITORY}@staging", BUNDLE, "--create", "public")
    assert server.visibility == {REPOSITORY: "public"}
    assert server.head(REPOSITORY).keys() == {".gitattributes"}
    assert "bundle.json" in server.head(REPOSITORY, "staging")


def test_a_branch_gets_the_next_version(server: Hub, tmp_path: Path) -> None:
    """A push to a branch changes no other branch, and files that the new bundle does not have are removed from it."""
    server.commit(REPOSITORY, "main", {"model.sig": b"{}", "notes.txt": b"mine", "bundle.json": b"{}"})
    server.commit(REPOSITORY, "staging", server.head(REPOSITORY))
    content = json.loads((BUNDLE / "bundle.json").read_text())
    files = {name: entry for name, entry in content["files"].items() if name != "report.html"}
    bundle = version_of(tmp_path / "2", version=2, files=files)
    (bundle / "report.html").unlink()
    batchproof("push", f"hf://{REPOSITORY}@staging", bundle)

    assert server.head(REPOSITORY, "staging").keys() == FILES - {"report.html"} | {"README.md", "notes.txt"}
    assert server.head(REPOSITORY).keys() == {"model.sig", "notes.txt", "bundle.json"}
    assert predicted(f"hf://{REPOSITORY}@staging", tmp_path) == predicted(BUNDLE, tmp_path)


@pytest.mark.parametrize(
    "address, setting, says",
    [
        ("hf://company/absent", {}, "hf://company/absent does not exist, or the token may not see it"),
        (f"hf://{REPOSITORY}@absent", {}, f"{REPOSITORY} has no branch absent"),
        (f"hf://{REPOSITORY}", {"HF_TOKEN": "hf_reader"}, f"hf://{REPOSITORY} does not exist, or the token may not"),
        (f"hf://{REPOSITORY}", {"HF_ENDPOINT": "http://127.0.0.1:9"}, f"hf://{REPOSITORY} cannot be written: "),
        (f"hf://{REPOSITORY}", {"HF_ENDPOINT": "http://hub.example"}, "use https; http is for this machine only"),
    ],
)
def test_the_hub_refuses(
    server: Hub, monkeypatch: pytest.MonkeyPatch, address: str, setting: dict[str, str], says: str
) -> None:
    """What the Hub does not have or allow is one sentence, and nothing is committed."""
    server.commit(REPOSITORY, "main", {})
    for name, value in setting.items():
        monkeypatch.setenv(name, value)
    refused = batchproof("push", address, BUNDLE, code=2)

    assert says in refused
    assert len(refused.splitlines()) == 1
    assert len(server.commits) == 1


def test_an_upload_that_fails_leaves_the_branch(server: Hub) -> None:
    """If the Hub fails between the upload and the commit, the branch stays as it is."""
    server.commit(REPOSITORY, "main", {"notes.txt": b"mine"})
    server.fails_at = "/commit/"
    refused = batchproof("push", f"hf://{REPOSITORY}", BUNDLE, code=2)

    assert refused.startswith(f"batchproof push: hf://{REPOSITORY} cannot be written: ")
    assert server.head(REPOSITORY) == {"notes.txt": b"mine"}


def test_the_card_is_valid_by_the_hubs_own_rules() -> None:
    """The Hub's library reads the metadata, and finds each metric of the model index."""
    manifest = read(BUNDLE).manifest
    card = huggingface_hub.ModelCard(model_card(manifest))
    results = {result.metric_type: result for result in card.data.eval_results}

    assert card.data.pipeline_tag == "tabular-classification"
    assert results.keys() == {"accuracy", "log_loss"}
    assert results["accuracy"].metric_value == manifest.metrics["accuracy"]
    assert results["accuracy"].dataset_name == "penguins.csv"
