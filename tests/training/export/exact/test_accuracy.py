"""An exact graph is the folded float64 network to float32's accuracy, and says which rows left its range."""

import numpy as np
import pytest

from batchproof.service.features.arrays import Arrays
from batchproof.service.inference.engine import Engine, EngineOptions
from batchproof.training.export.exact.accuracy import accuracy, reference_scores
from batchproof.training.export.exact.build import build
from batchproof.training.export.exact.grids import channel_scale
from batchproof.training.network.fold import Output, predictions
from batchproof.training.network.weights import Weights
from tests.networks import Net, make_net

TASKS = ["binary", "multiclass", "regression"]


def run(net: Net, headroom: float = 8.0) -> dict[str, np.ndarray]:
    """Build the exact model of a network and run the network's own rows."""
    exact = build(weights_of(net), headroom)
    return Engine(exact.model, EngineOptions(device="cpu")).run(net.raw)


def weights_of(net: Net) -> Weights:
    """Return what the exporter is given."""
    return Weights(net.preprocess, net.folded, tuple(tuple(member) for member in net.maxima))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("headroom, tolerance", [(2.0, 1e-5), (8.0, 2e-5), (32.0, 5e-5)])
def test_scores_are_the_networks(task: str, headroom: float, tolerance: float) -> None:
    """Scores lie within a small part of their spread of the float64 network's; a wider headroom costs bits."""
    net = make_net(task, widths=(128, 64), members=2, rows=500)
    found = accuracy(net.scores(), net.folded.output, run(net, headroom), headroom)
    assert found["saturated_share"] == 0.0
    assert found["score_error"] < tolerance


def test_the_reference_is_the_folded_network() -> None:
    """The reference scores are the float64 network on float64 features, in pieces as in one."""
    net = make_net("multiclass")
    assert np.array_equal(reference_scores(weights_of(net), Arrays(*net.raw)), net.scores())


def test_rows_beyond_the_headroom_are_flagged() -> None:
    """Where an input may drive a depth far beyond its headroom, exactly the rows that exceed a channel's scale are flagged."""
    net = make_net("multiclass", widths=(16,))
    net.folded.members[0].layers[0].weight[:, net.preprocess.width - 1] += 1e4  # of a category: its maxima were without
    found = run(net, headroom=0.75)
    limit = channel_scale(net.maxima[0][0], 0.75)
    layer = net.folded.members[0].layers[0]
    hidden = net.folded.inputs(net.x, net.raw.categorical) @ layer.weight.T + layer.bias
    wanted = (hidden > limit).any(axis=1)
    assert 0 < wanted.sum() < len(wanted)
    assert np.array_equal(found["saturated"][:, 0], wanted)
    assert accuracy(net.scores(), net.folded.output, found, 1.0)["saturated_share"] == wanted.mean()


def test_a_depth_that_cannot_pass_its_headroom_by_far_is_not_limited() -> None:
    """With room for all that the weights can make of any input, no row saturates, and the scores are the network's."""
    net = make_net("multiclass", widths=(16,))
    limit = channel_scale(net.maxima[0][0], 0.5)
    layer = net.folded.members[0].layers[0]
    hidden = net.folded.inputs(net.x, net.raw.categorical) @ layer.weight.T + layer.bias
    assert (hidden > limit).any()
    found = run(net, headroom=0.5)
    assert not found["saturated"].any()
    assert accuracy(net.scores(), net.folded.output, found, 0.5)["score_error"] < 1e-5


def test_accuracy_speaks_of_unsaturated_rows_only() -> None:
    """A saturated row counts in the share and in no error; with nothing but such rows no error is stated."""
    scores = np.array([[0.0, 1.0], [0.0, 2.0]])
    output = Output("binary")
    found = {
        "saturated": np.array([[False], [True]]),
        "scores": np.array([[0.0, 1.0], [0.0, 9.0]], np.float32),
        "probabilities": predictions(scores, output).astype(np.float32),
    }
    stated = accuracy(scores, output, found, 8.0)
    assert stated["saturated_share"] == 0.5
    assert stated["score_error"] == 0.0
    assert "score_error" not in accuracy(scores, output, found | {"saturated": np.ones((2, 1), bool)}, 8.0)
