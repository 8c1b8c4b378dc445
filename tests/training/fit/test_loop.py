import pytest
import torch

from batchproof.training.fit.loop import FitSettings, Hooks, Run, fit
from batchproof.training.network.network import Network, NetworkSettings
from batchproof.training.network.objective import Objective
from batchproof.training.network.tensors import Rows

BINARY = Objective("binary", 1)
SETTINGS = FitSettings(epochs=4, batch_rows=16, patience=4, seed=3)


def made_rows(rows: int, seed: int = 0) -> Rows:
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 3, generator=random)
    codes = torch.randint(0, 4, (rows, 1), generator=random)
    return Rows(x, codes, ((x[:, 0] + codes[:, 0] - 1.5) > 0).long())


def made_network(**settings: object) -> Network:
    torch.manual_seed(0)
    return Network(3, [(5, 2)], 1, NetworkSettings(widths=(8,), **settings))


def test_the_same_seed_gives_the_same_bits() -> None:
    """Two fits with dropout and shuffling agree in every weight, and leave torch's own generator as it was."""
    torch.manual_seed(99)
    before = torch.get_rng_state()
    results = []
    for _ in range(2):
        with torch.random.fork_rng([]):
            network = made_network(members=2)
        results.append(fit(network, BINARY, made_rows(50), made_rows(20, 1), SETTINGS))
    assert torch.equal(before, torch.get_rng_state())
    states = [result.network.state_dict() for result in results]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("rows", [2, 16, 17, 31, 33])
def test_no_batch_has_a_single_row(rows: int) -> None:
    """Whatever is left over joins the other batches: batch norm cannot train on one row."""
    run = Run(made_network(), BINARY, made_rows(rows), made_rows(5), SETTINGS)
    sizes = [len(part) for part in torch.tensor_split(torch.arange(rows), run.batches)]
    assert min(sizes) >= 2
    assert sum(sizes) == rows
    assert run.epoch().number == 1


def test_too_few_rows_are_refused() -> None:
    """One training row, or no validation row, is a sentence and not a crash inside batch norm."""
    with pytest.raises(ValueError, match="2 training rows and 1 validation row, got 1, 5"):
        fit(made_network(), BINARY, made_rows(1), made_rows(5), SETTINGS)


def test_the_best_epoch_is_kept() -> None:
    """The result is the averaged network of the epoch with the least validation loss, not the last one."""
    networks = {}

    def keep(state: dict[str, torch.Tensor]) -> None:
        networks[len(state["history"])] = {k[8:]: v for k, v in state.items() if k.startswith("average.")}

    settings = FitSettings(epochs=12, batch_rows=16, patience=12, learning_rate=0.3)
    result = fit(made_network(), BINARY, made_rows(40), made_rows(12, 1), settings, Hooks(checkpoint=keep))
    assert result.best.validation_loss == min(epoch.validation_loss for epoch in result.history)
    kept = networks[result.best.number]
    assert all(torch.equal(value, kept[name]) for name, value in result.network.state_dict().items())


def test_patience_stops_the_fit() -> None:
    """So many epochs without a better validation loss end it."""
    settings = FitSettings(epochs=200, batch_rows=16, patience=3, learning_rate=0.3)
    result = fit(made_network(), BINARY, made_rows(40), made_rows(12, 1), settings)
    assert result.stopped == "early"
    assert len(result.history) == result.best.number + 3


def test_an_interruption_keeps_the_best_so_far() -> None:
    """Asked to stop, the fit finishes its epoch and returns."""
    result = fit(made_network(), BINARY, made_rows(40), made_rows(12), SETTINGS, Hooks(stop=lambda: True))
    assert (result.stopped, len(result.history)) == ("interrupted", 1)


def test_a_resumed_fit_ends_in_the_same_bits() -> None:
    """A fit that goes on from a checkpoint gives the weights that it would have given undisturbed."""
    states: list[dict[str, torch.Tensor]] = []
    rows = made_rows(50), made_rows(20, 1)
    whole = fit(made_network(), BINARY, *rows, SETTINGS, Hooks(checkpoint=states.append))
    resumed = fit(made_network(), BINARY, *rows, SETTINGS, resume=states[1])
    ours, theirs = whole.network.state_dict(), resumed.network.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert [epoch.validation_loss for epoch in whole.history] == [epoch.validation_loss for epoch in resumed.history]


def test_codes_without_a_training_row_stay_at_zero() -> None:
    """The embedding of a code that training never saw is zero after the fit: weight decay and steps leave it."""
    network = fit(made_network(), BINARY, made_rows(50), made_rows(20, 1), SETTINGS).network
    weight = network.embeddings[0].weight
    assert weight[4].tolist() == [0.0, 0.0]
    assert (weight[:4].abs().sum(dim=1) > 0).all()
