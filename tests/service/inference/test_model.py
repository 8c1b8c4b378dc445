"""A loaded model: its fingerprint, and the check that may change how it runs."""

import pickle
from typing import Any

import pytest

from batchproof.service.bundle import reader as bundle
from batchproof.service.bundle.reader import Bundle
from batchproof.service.errors import EngineError
from batchproof.service.inference import model
from batchproof.service.inference.engine import EngineOptions
from batchproof.service.inference.model import EXACT_RUN_ROWS, Description, run_rows_of
from batchproof.service.inference.runner import Runner
from batchproof.service.invariance import check as invariance
from tests.bundles import make_bundle


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return bundle.read(make_bundle(tmp_path_factory.mktemp("models"), arithmetic="exact"))


def test_fingerprint_says_what_answers_were_made_by(read: Bundle) -> None:
    """Checksum, arithmetic, engine version, device and the verdict on invariance."""
    loaded = model.load(read, EngineOptions(device="cpu"), run_rows=64, verify=invariance.for_bundles())
    assert loaded.fingerprint == {
        "sha256": read.manifest.sha256,
        "arithmetic": "exact",
        "engine": loaded.engine.description["engine"],
        "device": "cpu",
        "invariance": "verified",
    }


def test_model_without_the_check_says_so(read: Bundle) -> None:
    """A model that was loaded without the check is never called verified."""
    loaded = model.load(read, EngineOptions(device="cpu"), run_rows=64)
    assert loaded.verification is None
    assert loaded.fingerprint["invariance"] == "unverified"


def test_a_description_reads_and_names_as_the_model_does(read: Bundle) -> None:
    """What another process is told of a model, after it was pickled, encodes the same rows and has the same names."""
    loaded = model.load(read, EngineOptions(device="cpu"), run_rows=64)
    described = pickle.loads(pickle.dumps(Description.of(loaded)))
    rows = read.golden.rows
    ours, theirs = loaded.encoder.encode_rows(rows).arrays, described.encoder.encode_rows(rows).arrays
    assert [array.tobytes() for array in theirs if array is not None] == [
        array.tobytes() for array in ours if array is not None
    ]
    assert (described.decoder.keys, described.fingerprint) == (loaded.decoder.keys, loaded.fingerprint)
    assert described.manifest == loaded.manifest


def test_runner_that_was_verified_serves(read: Bundle) -> None:
    """The runner that the check returns, tiled perhaps, is the one that the model answers with."""
    loaded = model.load(read, EngineOptions(device="cpu"), run_rows=64, verify=invariance.for_bundles("tile"))
    assert loaded.runner.tile_rows
    assert loaded.fingerprint["invariance"] == "tiled"


def test_refusal_of_the_check_is_the_models(read: Bundle) -> None:
    """Where the check refuses, there is no model."""

    def refuse(_: Bundle, __: Runner) -> Any:
        raise EngineError("bits differ")

    with pytest.raises(EngineError, match="bits differ"):
        model.load(read, EngineOptions(device="cpu"), run_rows=64, verify=refuse)


@pytest.mark.parametrize(
    "arithmetic, options, wanted, most",
    [
        ("exact", EngineOptions("cpu"), 512, EXACT_RUN_ROWS),
        ("exact", EngineOptions("cpu"), EXACT_RUN_ROWS - 1, EXACT_RUN_ROWS - 1),
        ("exact", EngineOptions("cpu", threads=2), 512, 512),
        ("float32", EngineOptions("cpu"), 512, 512),
    ],
)
def test_exact_runs_of_one_core_are_small(arithmetic: str, options: EngineOptions, wanted: int, most: int) -> None:
    """Runs have at most the wanted rows; exact ones on one core fewer, since their activations leave its cache sooner."""
    assert run_rows_of(arithmetic, options, wanted) == most


def test_runs_on_a_device_have_the_wanted_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache is the processor's: a run on CUDA has as many rows as are wanted."""
    monkeypatch.setattr(model, "provider_of", lambda _: ("CUDAExecutionProvider", {}))
    assert run_rows_of("exact", EngineOptions("cuda"), 512) == 512


def test_an_exact_model_loads_with_small_runs(read: Bundle) -> None:
    """What a loaded model answers with, and its bits: those of one run of all rows."""
    loaded = model.load(read, EngineOptions(device="cpu"), run_rows=512)
    assert loaded.runner.run_rows == EXACT_RUN_ROWS
    arrays = loaded.encoder.encode_rows([read.golden.rows[0]] * (EXACT_RUN_ROWS + 1)).arrays
    (outputs,), whole = loaded.runner.run([arrays]), loaded.engine.run(arrays)
    assert {name: array.tobytes() for name, array in outputs.items()} == {
        name: array.tobytes() for name, array in whole.items()
    }
