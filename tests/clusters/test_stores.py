"""Bundles in a real S3 server and in a real MLflow registry: served, scored and followed, with the bits of the folder."""

import gzip
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
from pyarrow import csv, feather, fs, parquet

import batchproof.mlflow
from batchproof.scorer import Scorer
from batchproof.service.bundle.files.checksum import seal
from batchproof.service.configuration.address import root_of
from batchproof.training.data.dataset import prepare
from batchproof.training.data.tables.local_table import local_table
from batchproof.training.data.tables.table_error import TableError
from batchproof.training.settings import make
from tests.clusters.rows import MODEL, ROOT, table
from tests.clusters.s3 import s3_server
from tests.live import Live, live

BUNDLE = ROOT / "models" / "penguins" / "1"
WAIT_S = 60.0


@pytest.fixture(scope="module")
def s3() -> Iterator[fs.S3FileSystem]:
    """Run an S3 server, with the committed bundle as s3://bucket/models/penguins/1."""
    with s3_server("bucket") as server:
        upload(server.files, BUNDLE, "bucket/models/penguins/1")
        yield server.files


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


def test_tables_are_read_and_written_where_they_are(s3: fs.S3FileSystem, tmp_path: Path, kept: Path) -> None:
    """`predict` reads tables of each kind from a bucket and writes there what it writes to a folder of this machine."""
    rows = table(3000).drop_columns("id")
    home = tmp_path / "in"
    (home / "parts" / "year=2026").mkdir(parents=True)
    csv.write_csv(rows, home / "a.csv")
    (home / "b.csv.gz").write_bytes(gzip.compress((home / "a.csv").read_bytes()))
    feather.write_feather(rows, str(home / "c.arrow"))
    parquet.write_table(rows, home / "d.parquet", row_group_size=700)
    for number in range(2):
        parquet.write_table(rows.slice(number * 1500, 1500), home / "parts" / "year=2026" / f"{number}.parquet")
    fs.copy_files(str(home), "bucket/in", fs.LocalFileSystem(), s3)

    command = [sys.executable, "-m", "batchproof.service", "predict", str(MODEL), "--extra", "ignore"]
    for place in (str(home), "s3://bucket/in"):
        out = place.replace("/in", "/out/")
        files = [f"{place}/*.csv*", f"{place}/c.arrow", f"{place}/d.parquet", f"{place}/parts"]
        subprocess.run([*command, *files, out], check=True, cwd=ROOT)
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["a.csv", "b.csv", "c.arrow", "d.parquet", "parts.parquet"]
    for name in written:
        with s3.open_input_stream(f"bucket/out/{name}") as stream:
            assert stream.read() == (tmp_path / "out" / name).read_bytes(), name
    assert not list(kept.parent.glob("answers/*"))


def test_an_interrupted_job_goes_on_to_a_bucket(s3: fs.S3FileSystem, tmp_path: Path, kept: Path) -> None:
    """Parts that were finished before a kill are not scored again, and the object appears whole."""
    parquet.write_table(table(400_000).drop_columns("id"), tmp_path / "rows.parquet")
    s3.create_dir("bucket")
    command = [sys.executable, "-m", "batchproof.service", "predict", str(MODEL), tmp_path / "rows.parquet"]
    command += ["s3://bucket/late/rows.csv", "--part-rows", "16384"]
    job = subprocess.Popen(command, cwd=ROOT)
    end_s = time.monotonic() + WAIT_S
    while len(list(kept.parent.glob("answers/*/*.json"))) < 3 and job.poll() is None:
        assert time.monotonic() < end_s
        time.sleep(0.01)
    job.kill()
    job.wait()
    assert s3.get_file_info("bucket/late/rows.csv").type == fs.FileType.NotFound

    again = subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True)
    assert "were there from before" in again.stderr
    with s3.open_input_stream("bucket/late/rows.csv") as stream:
        assert csv.read_csv(stream).num_rows == 400_000


def test_training_reads_a_table_in_a_bucket(s3: fs.S3FileSystem, tmp_path: Path) -> None:
    """A file, and a folder of Parquet files with partitions, are prepared as their copies on this machine are."""
    rows = csv.read_csv(ROOT / "examples" / "penguins.csv")
    for number in range(2):
        folder = tmp_path / "parts" / f"year={2025 + number}"
        folder.mkdir(parents=True)
        parquet.write_table(rows.slice(number * 172, 172), folder / "0.parquet")
    shutil.copy(ROOT / "examples" / "penguins.csv", tmp_path / "penguins.csv")
    fs.copy_files(str(tmp_path), "bucket/train", fs.LocalFileSystem(), s3)

    settings = make({"target": "species"})
    for name in ("penguins.csv", "parts"):
        here = prepare(tmp_path / name, settings)
        with local_table(root_of(f"s3://bucket/train/{name}")) as copy:
            there = prepare(copy, settings)
        assert there.table.sha256 == here.table.sha256
        assert there.signature == here.signature
        for part in here.arrays:
            for ours, theirs in zip(here.arrays[part], there.arrays[part], strict=True):
                assert ours.tobytes() == theirs.tobytes()
        assert not copy.exists()
    held_out = (str(tmp_path / "penguins.csv"), "s3://bucket/train/penguins.csv")
    own = [prepare(tmp_path / "penguins.csv", make({"target": "species", "test": test})) for test in held_out]
    assert own[0].arrays["test"].numeric.tobytes() == own[1].arrays["test"].numeric.tobytes()
    with (
        pytest.raises(TableError, match="there is nothing at s3://bucket/train/none"),
        local_table(root_of("s3://bucket/train/none.csv")),
    ):
        pass


@pytest.mark.parametrize(
    ("source", "target", "says"),
    [
        ("s3://bucket/none.csv", "out.csv", "there is no file s3://bucket/none.csv"),
        ("s3://bucket/no*.csv", "out.csv", "no file matches s3://bucket/no*.csv"),
        ("s3://buck*/in/a.csv", "out.csv", "name of its bucket"),
        ("s3://bucket/models", "out.csv", "is a folder; a table is a file"),
        ("hf://company/rows", "out.csv", "the address of a table begins with s3://, gs://, az://"),
        ("ftp://bucket/a.csv", "out.csv", "ftp:// is not supported"),
        ("s3://bucket/one.csv", "s3://bucket/one.csv", "would be overwritten by its own answer"),
        ("s3://bucket/one.csv", "s3://no-such-bucket/one.csv", "no-such-bucket"),
        ("s3://bucket/one.csv", "s3://bucket/one.txt", "names no separator"),
    ],
)
def test_what_cannot_be_a_table_at_an_address_is_one_sentence(
    s3: fs.S3FileSystem, source: str, target: str, says: str, tmp_path: Path
) -> None:
    """Exit code 2 and one sentence that names the address."""
    with s3.open_output_stream("bucket/one.csv") as stream:
        stream.write((ROOT / "examples" / "penguins.csv").read_bytes())
    command = [sys.executable, "-m", "batchproof.service", "predict", str(MODEL), source, target, "--extra", "ignore"]
    ended = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=WAIT_S,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert ended.returncode == 2, ended.stderr
    assert says in ended.stderr
    assert len(ended.stderr.splitlines()) == 1, ended.stderr


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
