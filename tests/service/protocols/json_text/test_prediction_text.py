"""The text of predictions against the plain way to write them."""

import json
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import orjson
import pytest

from batchproof.service.bundle.manifest import Manifest
from batchproof.service.bundle.signature import Signature
from batchproof.service.features.decoder import Decoder
from batchproof.service.protocols.json_text.prediction_text import PredictionText
from tests.bundles import INPUTS


def manifest_of(classes: list[Any] | None, quantile_keys: tuple[str, ...] = ()) -> Any:
    """Return what the two writers read of a manifest."""
    content = {"inputs": INPUTS, "target": "t", "classes": classes}
    read = SimpleNamespace(signature=Signature.model_validate(content), decision=None)
    read.quantile_keys = quantile_keys
    read.label_places = partial(Manifest.label_places, read)
    return read


@pytest.mark.parametrize("rows", [0, 1, 2, 50])
@pytest.mark.parametrize("classes", [None, ["a", 'ü "x" %b'], [False, True], [1, 2, 3, 40]])
def test_text_is_the_decoded_predictions(classes: list[Any] | None, rows: int) -> None:
    """Joined bytes read back as the decoded predictions, key for key and digit for digit, but for notation (3e-05)."""
    manifest, rng = manifest_of(classes), np.random.default_rng(rows)
    values = rng.standard_normal((rows, 1)).astype(np.float32) * 10.0 ** rng.integers(-30, 30, (rows, 1))
    outputs = {"value": values.astype(np.float32)}
    if classes:
        shares = rng.dirichlet(np.full(len(classes), 0.1), rows).astype(np.float32)
        outputs = {"probabilities": shares}
    text = PredictionText(manifest).write(outputs)
    decoded = orjson.dumps(Decoder(manifest).decode(outputs))
    assert json.loads(b"[" + text + b"]", object_pairs_hook=list) == json.loads(decoded, object_pairs_hook=list)


@pytest.mark.parametrize("rows", [0, 1, 50])
def test_quantiles_are_the_decoded_ones(rows: int) -> None:
    """The value and its quantiles read back as the decoded predictions."""
    manifest, rng = manifest_of(None, ("0.1", "0.9")), np.random.default_rng(rows)
    outputs = {
        name: rng.normal(size=(rows, width)).astype(np.float32) for name, width in (("value", 1), ("quantiles", 2))
    }
    text = PredictionText(manifest).write(outputs)
    decoded = orjson.dumps(Decoder(manifest).decode(outputs))
    assert json.loads(b"[" + text + b"]", object_pairs_hook=list) == json.loads(decoded, object_pairs_hook=list)


def test_digits_read_back_to_the_same_bits() -> None:
    """A float32 value survives its text."""
    values = np.random.default_rng(0).random((1000, 1)).astype(np.float32)
    texts = PredictionText(manifest_of(None)).each({"value": values})
    assert np.array([json.loads(text)["value"] for text in texts], np.float32).tobytes() == values.tobytes()
