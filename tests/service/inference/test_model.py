"""A loaded model: its fingerprint, and the check that may change how it runs."""

import pickle
from typing import Any

import pytest

from batchproof.service.bundle import reader as bundle
from batchproof.service.bundle.reader import Bundle
from batchproof.service.errors import EngineError
from batchproof.service.inference import model
from batchproof.service.inference.engine import EngineOptions
from batchproof.service.inference.model import Description
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
