"""Population statistics: exact, layer by layer, and independent of how the rows were cut into batches."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from batchproof.training.network.batchnorm import Moments, merge, moments, recompute
from batchproof.training.network.network import Network, NetworkSettings
from batchproof.training.network.tensors import Rows

ROWS = 103


def network(*, members: int = 2, affine: bool = True) -> Network:
    """Make a small network with an embedding, in training mode, its running statistics away from the population's."""
    torch.manual_seed(3)
    made = Network(4, [(5, 3)], 2, NetworkSettings((7, 6), members, dropout=0.5, affine=affine))
    rows = make_rows()
    made.train()(rows.x[:20] * 3, None if rows.codes is None else rows.codes[:20])
    return made


def make_rows() -> Rows:
    """Make rows with a column of large mean and small spread."""
    drawn = torch.Generator().manual_seed(1)
    x = torch.randn(ROWS, 4, generator=drawn) + torch.tensor([0.0, 1000.0, -3.0, 0.5])
    return Rows(x, torch.randint(0, 5, (ROWS, 1), generator=drawn), torch.zeros(ROWS))


@pytest.mark.parametrize("batch_rows", [1, 2, 7, 50, 102])
def test_resplit(batch_rows: int) -> None:
    """The statistics of any cut into batches are those of the whole set, to 1e-12."""
    whole, cut = (recompute(network(), make_rows(), rows) for rows in (ROWS, batch_rows))
    for block, other in zip(whole.blocks, cut.blocks, strict=True):
        for name in ("norm.running_mean", "norm.running_var"):
            torch.testing.assert_close(block.get_buffer(name), other.get_buffer(name), rtol=1e-12, atol=1e-12)


def test_each_layer_is_normalised() -> None:
    """Every channel that varies comes out of its batch norm with mean beta and variance gamma squared over the rows."""
    frozen, rows = recompute(network(affine=False), make_rows()), make_rows()
    hidden = frozen.joined(rows.x.double(), rows.codes)
    for block in frozen.blocks:
        normalised = block.get_submodule("norm")(block.get_submodule("linear")(hidden))
        torch.testing.assert_close(normalised.mean(0), torch.zeros_like(normalised[0]), rtol=0, atol=1e-10)
        var = block.get_buffer("norm.running_var")
        torch.testing.assert_close(normalised.var(0, correction=0), var / (var + 1e-5), rtol=1e-9, atol=1e-12)
        hidden = block(hidden)


def test_the_given_network_stays() -> None:
    """Recomputing returns a copy: the network that was handed in keeps its running statistics and its type."""
    given = network()
    before = {name: value.clone() for name, value in given.state_dict().items()}
    recompute(given, make_rows())
    for name, value in given.state_dict().items():
        assert torch.equal(before[name], value), name
    assert given.training


def test_no_digits_cancel() -> None:
    """At mean 1e8 and variance 1 the population variance is right to 1e-6, where E[x²] − E[x]² is noise."""
    values = torch.randn(10_000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 1e8
    found = merge(moments(values[:3_333]), moments(values[3_333:]))
    assert abs(float(found.var) / float(values.numpy().var()) - 1) < 1e-6


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=60), st.data())
def test_merging_is_counting_all(values: list[float], data: st.DataObject) -> None:
    """The merged moments of two parts are those of the whole, wherever it was parted."""
    cut = data.draw(st.integers(1, len(values) - 1))
    whole = torch.tensor(values, dtype=torch.float64)[:, None]
    merged: Moments = merge(moments(whole[:cut]), moments(whole[cut:]))
    assert merged.rows == len(values)
    np.testing.assert_allclose(merged.mean, whole.mean(0), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(merged.var, whole.var(0, correction=0), rtol=1e-9, atol=1e-6)


MEMORY = """
import resource

import numpy as np
import torch

from batchproof.service.features.arrays import Arrays
from batchproof.training.network.batchnorm import BATCH_ROWS, recompute
from batchproof.training.network.network import Network, NetworkSettings
from batchproof.training.network.objective import Objective
from batchproof.training.network.tensors import CompactRows, encode
from batchproof.training.preprocessing.fitting import Encoding, fit

torch.set_num_threads(1)
numeric = np.random.default_rng(0).normal(size=(40 * BATCH_ROWS, 20))
y = (numeric[:, 0] > 0).astype(np.int64)
preprocess = fit(Arrays(numeric, None), y, classes=True, encoding=Encoding())
network = Network(preprocess.width, [], 1, NetworkSettings((64, 64), 3))
peaks = []
for count in (4 * BATCH_ROWS, 40 * BATCH_ROWS):
    rows = encode(preprocess, Objective("binary", 1), Arrays(numeric[:count], None), y[:count])
    recompute(network, rows)
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
assert isinstance(rows, CompactRows)
print((peaks[1] - peaks[0]) / (8 * preprocess.width * BATCH_ROWS))
"""


def test_memory_does_not_grow_with_the_batches() -> None:
    """Ten times the batches take less memory than five batches of float64 more: what one batch needed, the next one uses."""
    run = subprocess.run([sys.executable, "-c", MEMORY], check=True, capture_output=True, text=True)
    assert float(run.stdout) < 5
