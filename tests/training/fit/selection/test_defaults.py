from itertools import pairwise

from batchproof.training.fit.context import Plan
from batchproof.training.fit.loop import FitSettings
from batchproof.training.fit.selection import candidates as plan
from batchproof.training.fit.selection import defaults as rules
from batchproof.training.fit.selection.candidates import candidates_for
from batchproof.training.network.network import NetworkSettings, dimensions
from batchproof.training.settings import Settings

SIZES = (2, 50, 999, 1_000, 5_000, 20_001, 200_000, 5_000_000)


def test_settings_hold_for_every_size() -> None:
    """Batches grow with the rows, epochs shrink, and no rule gives nonsense at the ends."""
    settings = [rules.fit_settings(rows) for rows in SIZES]
    assert all(small.batch_rows <= large.batch_rows for small, large in pairwise(settings))
    assert all(small.epochs >= large.epochs for small, large in pairwise(settings[3:]))
    assert all(5 <= one.epochs <= rules.EPOCHS[1] for one in settings)
    assert settings[SIZES.index(200_000)].epochs == rules.EPOCHS[0]


def test_a_given_encoding_leaves_nothing_to_choose() -> None:
    """One plan, of that name."""
    plans = candidates_for(5_000, Settings(encoding="tree"))
    assert [(one.name, one.encoding.edges) for one in plans] == [("tree", "tree")]


def test_every_named_encoding_exists() -> None:
    """What the rules name can be planned."""
    for rows in SIZES:
        assert candidates_for(rows, Settings())


def test_embeddings_widen_slowly() -> None:
    """Four dimensions at least, twenty-four at most."""
    assert [dimensions(codes) for codes in (3, 100, 10**6)] == [4, 9, 24]


def test_patience_is_a_third_of_the_plan() -> None:
    """Of a short plan at least 5 epochs, of a long one at most 12; what is asked for is taken."""
    assert [rules.patience(epochs) for epochs in (1, 15, 16, 20, 22, 36, 150)] == [5, 5, 6, 7, 8, 12, 12]
    assert candidates_for(30_000, Settings(epochs=30))[0].fit.patience == 10
    assert candidates_for(30_000, Settings(epochs=30, patience=25))[0].fit.patience == 25
    short = plan.shortened(Plan("bins", plan.ENCODINGS["bins"], NetworkSettings(), FitSettings(patience=3)), 20_000)
    assert short.fit.patience == 3
