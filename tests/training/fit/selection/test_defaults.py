from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from batchproof.training.fit.context import Plan
from batchproof.training.fit.loop import FitSettings
from batchproof.training.fit.selection import candidates as plan
from batchproof.training.fit.selection import defaults as rules
from batchproof.training.fit.selection import quick
from batchproof.training.fit.selection.candidates import candidates_for
from batchproof.training.network.network import NetworkSettings, dimensions
from batchproof.training.settings import Settings

SIZES = (2, 50, 999, 1_000, 5_000, 20_001, 200_000, 5_000_000)


def test_settings_hold_for_every_size() -> None:
    """With the rows, batches grow, and so does the number of rows that a fit sees; no rule gives nonsense at the ends."""
    settings = [rules.fit_settings(rows) for rows in SIZES]
    assert all(small.batch_rows <= large.batch_rows for small, large in pairwise(settings))
    seen = [one.epochs * rows for one, rows in zip(settings, SIZES, strict=True)]
    assert all(small < large for small, large in pairwise(seen))
    assert all(5 <= one.epochs <= rules.EPOCHS[1] for one in settings)
    assert settings[SIZES.index(200_000)].epochs == rules.EPOCHS[0]


@pytest.mark.parametrize(("least", "most"), list(pairwise([0, *(budget.rows for budget in rules.BUDGETS)])))
def test_epochs_shrink_within_a_budget(least: int, most: float) -> None:
    """Tables with one budget are fitted with the same network and batch, in fewer epochs the more rows they have."""
    sizes = np.geomspace(least + 1, min(most, 10_000_000), 9).astype(int).tolist()
    settings = [rules.fit_settings(rows) for rows in sizes]
    assert len({(one.batch_rows, one.learning_rate) for one in settings}) == 1
    assert len({rules.network_settings(rows) for rows in sizes}) == 1
    assert all(small.epochs >= large.epochs for small, large in pairwise(settings))
    assert settings[0].epochs > settings[-1].epochs


def test_many_classes_get_wide_networks() -> None:
    """Where rows suffice; few rows get many narrow networks, and large tables what they get anyway."""
    many, few = rules.MANY_CLASSES, rules.MANY_CLASSES - 1
    assert rules.network_settings(3_000, many) == without_factors(7_000)
    assert rules.fit_settings(3_000, many).learning_rate == rules.fit_settings(7_000).learning_rate
    for rows in (rules.FULL_ROWS, 7_000, 300_000):
        assert rules.network_settings(rows, many) == without_factors(rows)
        assert rules.fit_settings(rows, many) == rules.fit_settings(rows)
    for rows in SIZES:
        assert rules.network_settings(rows, few) == rules.network_settings(rows)


def without_factors(rows: int) -> NetworkSettings:
    """Return the network for so many rows without the factors of its inputs."""
    return replace(rules.network_settings(rows), input_rate=0.0)


@pytest.mark.parametrize("rows", SIZES)
def test_inputs_have_factors_where_rows_suffice(rows: int) -> None:
    """In quick fits too; not up to FULL_ROWS, not for many classes, and not in a trial."""
    for chosen in (rules, quick):
        assert chosen.network_settings(rows).input_rate == (rules.INPUT_RATE if rows > rules.FULL_ROWS else 0.0)
        assert chosen.network_settings(rows, rules.MANY_CLASSES).input_rate == 0.0
    assert plan.shortened(candidates_for(rows, Settings(device="cpu"))[0], rows).network.input_rate == 0.0


def test_many_classes_get_wide_networks_quickly_too() -> None:
    """The same networks as by default, in fewer steps; few rows or classes change nothing."""
    many, few = rules.MANY_CLASSES, rules.MANY_CLASSES - 1
    for rows in (1_001, 5_000, 20_000, 90_000):
        fast, full = quick.network_settings(rows, many), rules.network_settings(rows, many)
        assert (fast.widths, fast.members) == (full.widths, full.members)
        plan = quick.fit_settings(rows, many)
        steps = plan.epochs * (rows // plan.batch_rows)
        assert steps >= quick.WIDE_STEPS or plan.epochs == quick.EPOCHS[1]
        assert plan.epochs < rules.fit_settings(rows).epochs
    for rows, classes in ((rules.FULL_ROWS, many), (3_000, few), (20_000, few)):
        assert quick.network_settings(rows, classes) == quick.network_settings(rows)
        assert quick.fit_settings(rows, classes) == quick.fit_settings(rows)


@pytest.mark.parametrize("rows", [1_001, 2_712, 5_000, 20_001, 200_000])
@pytest.mark.parametrize("classes", [0, 26])
def test_all_trials_cost_less_than_half_of_the_fit(rows: int, classes: int) -> None:
    """What is compared on a sample is small beside the fit that it chooses, in rows times hidden units."""
    candidates = candidates_for(rows, Settings(device="cpu"), classes)
    sample = min(rows, rules.SAMPLE_ROWS)
    tried = [plan.shortened(candidate, sample) for candidate in candidates]
    assert len(tried) > 1
    assert sum(work(one, sample) for one in tried) < work(candidates[0], rows) / 2


def work(planned: Plan, rows: int) -> int:
    """Return how much a plan computes on so many training rows."""
    return planned.fit.epochs * rows * planned.network.members * sum(planned.network.widths)


def test_a_trial_is_no_larger_than_its_fit() -> None:
    """Settings that are smaller than those of a trial hold in it too; only its rate is not lower than its own."""
    given = Settings(epochs=2, batch_rows=40, widths=(300, 20), ema=0.9, device="cpu")
    tried = plan.shortened(candidates_for(30_000, given)[0], 2_000)
    assert (tried.fit.epochs, tried.fit.batch_rows, tried.fit.average_decay) == (2, 40, 0.9)
    assert tried.network.widths == (rules.TRIAL_WIDTH, 20)
    for rate, expected in ((1e-3, rules.TRIAL_RATE), (0.5, 0.5)):
        tried = plan.shortened(candidates_for(30_000, Settings(learning_rate=rate, device="cpu"))[0], 2_000)
        assert tried.fit.learning_rate == expected


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
