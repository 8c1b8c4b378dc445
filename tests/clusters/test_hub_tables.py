"""Tables in data sets of the Hugging Face Hub: scored and trained on by the hub's own client, against a local stand-in."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyarrow import csv, parquet

from batchproof.service.__main__ import main
from batchproof.service.configuration.address import root_of
from batchproof.training.data.dataset import prepare
from batchproof.training.data.tables.local_table import local_table
from batchproof.training.settings import make
from tests.clusters.hub_server import TOKEN, Hub, hub
from tests.clusters.rows import MODEL, ROOT, table

DATA = "hf://datasets/company/birds"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Run a hub with a data set of a CSV file, two Parquet files and a branch with other rows."""
    with hub() as state:
        text = io.BytesIO()
        csv.write_csv(table(300), text)
        files = {"rows.csv": text.getvalue(), "penguins.csv": (ROOT / "examples" / "penguins.csv").read_bytes()}
        for number in range(2):
            part = io.BytesIO()
            parquet.write_table(table(600).slice(300 * number, 300), part)
            files[f"parts/{number}.parquet"] = part.getvalue()
        state.commit("datasets/company/birds", "main", files)
        state.commit("datasets/company/birds", "next", {"rows.csv": b"island\nDream\n"})
        monkeypatch.setenv("HF_ENDPOINT", state.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield state


def run(*words: str) -> int:
    """Run `batchproof predict`; returns the exit code."""
    return main(["predict", str(MODEL), *words])


@pytest.mark.parametrize("address", [f"{DATA}/rows.csv", f"{DATA}/parts", f"{DATA}@main/rows.csv"])
def test_a_table_of_the_hub_is_scored_with_the_bits_of_its_copy(tmp_path: Path, server: Hub, address: str) -> None:
    """A file, a folder of Parquet files and a file of a branch give the file that their copies here give."""
    name = address.rpartition("/")[2]
    for path, content in server.head("datasets/company/birds").items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(content)
    for source, answer in ((address, "hub.parquet"), (str(tmp_path / name), "here.parquet")):
        assert run(source, str(tmp_path / answer), "--extra", "ignore") == 0
    scored = parquet.read_table(tmp_path / "hub.parquet")
    assert scored.num_rows == (600 if name == "parts" else 300)
    assert scored.equals(parquet.read_table(tmp_path / "here.parquet"))


@pytest.mark.usefixtures("server")
def test_a_table_of_the_hub_is_trained_on() -> None:
    """A file of a data set gives the features of the file here."""
    settings = make({"target": "species"})
    with local_table(root_of(f"{DATA}/penguins.csv")) as path:
        found = prepare(path, settings)
    assert len(found.signature.inputs) == 6


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((f"{DATA}/none.csv", "out.csv"), "no file"),
        (("hf://datasets/company/none/rows.csv", "out.csv"), "none"),
        ((f"{DATA}@none/rows.csv", "out.csv"), "none"),
        ((f"{DATA}/rows.csv", f"{DATA}/out.csv"), "not written"),
        (("hf://company/churn", "out.csv"), "cannot be a table"),
        ((f"{DATA}@next/rows.csv", "out.csv"), "bill_length_mm"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(
    words: tuple[str, str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is not there, or is no table, is refused by its name."""
    monkeypatch.chdir(tmp_path)
    assert run(*words) != 0
    told = capsys.readouterr().err
    assert said in told
    assert "Traceback" not in told


@pytest.mark.usefixtures("server")
def test_a_data_set_is_no_model(capsys: pytest.CaptureFixture[str]) -> None:
    """Where a bundle is wanted, a file of a data set is refused."""
    assert main(["verify", f"{DATA}/rows.csv"]) != 0
    assert "a bundle is in a repository of models" in capsys.readouterr().err
