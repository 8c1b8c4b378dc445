"""Bundles in a real S3 server and in a real MLflow registry: served, scored and followed, with the bits of the folder."""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from moto.server import ThreadedMotoServer
from pyarrow import fs

import batchproof.mlflow
from batchproof.scorer import Scorer
from batchproof.service.bundle.files.checksum import seal
from tests.clusters.rows import MODEL, ROOT, table
from tests.live import Live, live

BUNDLE = ROOT / "models" / "penguins" / "1"
WAIT_S = 60.0


@pytest.fixture(scope="module")
def s3() -> Iterator[fs.S3FileSystem]:
    """Run an S3 server, with the committed bundle as s3://bucket/models/penguins/1."""
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }
    files = fs.S3FileSystem(
        scheme="http", endpoint_override=f"{host}:{port}", region="us-east-1", allow_bucket_creation=True
    )
    files.create_dir("bucket")
    upload(files, BUNDLE, "bucket/models/penguins/1")
    yield files
    server.stop()


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep what is fetched in a folder of this test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "batchproof" / "bundles"


def upload(files: fs.S3FileSystem, folder: Path, target: str) -> None:
    """Upload a bundle, bundle.json last."""
    for path in sorted(folder.iterdir(), key=lambda path: path.name == "bundle.json"):
        with files.open_output_stream(f"{target}/{path.name}") as stream:
            stream.write(path.read_bytes())


def version_2(folder: Path) -> Path:
    """Return the committed bundle as its version 2."""
    shutil.copytree(BUNDLE, folder)
    content = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_bytes(seal(content | {"version": 2}))
    return folder


def answer(server: Live) -> dict[str, Any]:
    rows = json.loads((BUNDLE / "golden.json").read_text())["rows"]
    with urllib.request.urlopen(f"{server.url}/predict", json.dumps({"rows": rows}).encode(), timeout=30) as response:
        content: dict[str, Any] = json.loads(response.read())
    return content


def wait_for_version(server: Live, version: int) -> None:
    end_s = time.monotonic() + WAIT_S
    while answer(server)["model"]["version"] != version:
        assert time.monotonic() < end_s, f"version {version} was not served in time"
        time.sleep(0.2)


def test_a_service_follows_a_bucket(s3: fs.S3FileSystem, tmp_path: Path, kept: Path) -> None:
    """Two workers serve the bundle of a bucket with the bits of the folder; a version that is uploaded is served, not fetched twice."""
    with live(ROOT / "models") as server:
        wanted = answer(server)["predictions"]
    with live("s3://bucket/models", "--workers", "2", "--model-control", "poll", "--poll-s", "1") as server:
        assert answer(server)["predictions"] == wanted
        upload(s3, version_2(tmp_path / "2"), "bucket/models/penguins/2")
        wait_for_version(server, 2)
        assert answer(server)["predictions"] == wanted
    assert len(list(kept.iterdir())) == 2
    s3.delete_dir("bucket/models/penguins/2")


def test_every_command_takes_an_address(s3: fs.S3FileSystem, tmp_path: Path) -> None:
    """`predict`, `verify` and `Scorer` take an address where they take a folder, with the same bits."""
    del s3
    from pyarrow import parquet

    rows = table(500).drop_columns("id")
    parquet.write_table(rows, tmp_path / "rows.parquet")
    command = [sys.executable, "-m", "batchproof.service"]
    for model, name in ((str(MODEL), "folder"), ("s3://bucket/models/penguins", "address")):
        subprocess.run(
            [*command, "predict", model, tmp_path / "rows.parquet", tmp_path / f"{name}.parquet"], check=True, cwd=ROOT
        )
    folder, address = (parquet.read_table(tmp_path / f"{name}.parquet") for name in ("folder", "address"))
    assert folder.equals(address)
    assert Scorer("s3://bucket/models/penguins/1")(rows).equals(Scorer(MODEL)(rows))
    subprocess.run([*command, "verify", "s3://bucket/models"], check=True, cwd=ROOT, capture_output=True)


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("s3://bucket/nothing", "s3://bucket/nothing"),
        ("s3://no-such-bucket/models", "s3://no-such-bucket/models cannot be listed"),
    ],
)
def test_what_is_not_in_the_bucket_ends_the_start(s3: fs.S3FileSystem, address: str, says: str) -> None:
    """An address with nothing at it is one sentence and exit code 3."""
    del s3
    command = [sys.executable, "-m", "batchproof.service", "serve", "--models", address, "--port", "0"]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, timeout=60)

    assert ended.returncode == 3
    assert ended.stderr.startswith("batchproof: ")
    assert says in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_a_service_follows_an_alias(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An alias of MLflow's registry that moves is a reload: the service answers with the version that it means by then."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    mlflow.create_experiment("stores", artifact_location=(tmp_path / "artifacts").as_uri())
    mlflow.set_experiment("stores")
    for bundle in (BUNDLE, version_2(tmp_path / "2")):
        batchproof.mlflow.log_model(bundle, registered_model_name="penguins")
    client = mlflow.MlflowClient()
    client.set_registered_model_alias("penguins", "champion", "1")

    with live("mlflow:models:/penguins@champion", "--model-control", "poll", "--poll-s", "1") as server:
        assert answer(server)["model"]["version"] == 1
        client.set_registered_model_alias("penguins", "champion", "2")
        wait_for_version(server, 2)
    assert Scorer("mlflow:models:/penguins/1")(table(10).drop_columns("id")).num_rows == 10
