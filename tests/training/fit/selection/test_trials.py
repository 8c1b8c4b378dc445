import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from batchproof.service.features.arrays import Arrays
from batchproof.training.fit.context import FitContext, Plan
from batchproof.training.fit.loop import FitSettings
from batchproof.training.fit.progress import Progress
from batchproof.training.fit.selection import candidates as plan
from batchproof.training.fit.selection import trials
from batchproof.training.network.network import NetworkSettings
from batchproof.training.network.objective import Objective

PLANS = [
    Plan(name, plan.ENCODINGS[name], NetworkSettings((8,)), FitSettings(epochs=3)) for name in ("bins", "tree", "plain")
]


class Lines(Progress):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        """Keep the line."""
        self.lines.append(line)


def context_of(progress: Progress, stop: object = lambda: False) -> FitContext:
    """Return a table of 400 training rows whose target follows one column."""
    random = np.random.default_rng(0)
    x = random.normal(size=(600, 2))
    parts = {"train": slice(0, 400), "validation": slice(400, 600)}
    y = (x[:, 0] > 0).astype(np.int64)
    data = SimpleNamespace(
        arrays={part: Arrays(x[rows], None) for part, rows in parts.items()},
        y=lambda part: y[parts[part]],
        weights=lambda _: None,
        row_weights=lambda _: None,
        target=SimpleNamespace(classes=(0, 1)),
        signature=SimpleNamespace(categorical=()),
        dates=(),
        split=SimpleNamespace(train=np.arange(400)),
        room_bytes=0,
        directions=np.zeros(2, np.int8),
    )
    return FitContext(data, Objective("binary", 1), progress, stop)  # type: ignore[arg-type]


def test_trials_side_by_side_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """One, two or three at a time: the same losses to the bit, told in the plans' order, torch's own generator untouched."""
    seen = []
    monkeypatch.setattr(trials.choice, "winner", lambda losses: seen.append(losses) or 0)
    torch.manual_seed(5)
    before, told = torch.get_rng_state(), []
    for workers in (1, 2, 3):
        progress = Lines()
        trials.best_on_sample(context_of(progress), PLANS, workers)
        told.append(progress.lines)
    assert [line.split(":")[0] for line in told[0]] == [
        f"candidate {i} of 3, encoding {p.name!r}" for i, p in enumerate(PLANS, 1)
    ]
    assert told[0] == told[1] == told[2]
    assert all(torch.equal(one, other) for losses in seen[1:] for one, other in zip(seen[0], losses, strict=True))
    assert torch.equal(before, torch.get_rng_state())


def test_trials_do_run_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two fits meet at a barrier that neither passes alone."""
    barrier = threading.Barrier(2, timeout=20)
    fit = FitContext.fit

    def met(self: FitContext, *given: object, **named: object) -> object:
        barrier.wait()
        return fit(self, *given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(FitContext, "fit", met)
    assert trials.best_on_sample(context_of(Lines()), PLANS[:2], 2) in (0, 1)


def test_a_stop_counts_the_first_plan_alone() -> None:
    """Asked to stop during the first trials, plans that have not been told count no more."""
    progress = Lines()
    assert trials.best_on_sample(context_of(progress, lambda: True), PLANS, 2) == 0
    assert len(progress.lines) == 1


def test_an_exception_ends_the_fits_that_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second Ctrl-C while one trial is told ends the other after its epoch, and leaves no thread behind."""

    class Interrupted(Lines):
        def say(self, line: str) -> None:
            raise KeyboardInterrupt

    stopped = []
    fit = trials.loop.fit

    def watched(*given: object) -> object:
        result = fit(*given)
        stopped.append(result.stopped)
        return result

    monkeypatch.setattr(trials.loop, "fit", watched)
    monkeypatch.setattr(trials.plans, "shortened", lambda candidate, rows: candidate)
    long = replace(PLANS[1], fit=replace(PLANS[1].fit, epochs=2_000, patience=2_000))
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        trials.best_on_sample(context_of(Interrupted()), [PLANS[0], long], 2)
    assert stopped == ["finished", "interrupted"]
    assert threading.active_count() == before
