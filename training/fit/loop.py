"""The training loop: epochs of shuffled batches over whole tensors; it returns the best averaged network."""

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from batchproof.training.fit.adamw import AdamW
from batchproof.training.fit.ema import Average
from batchproof.training.fit.metric import judged
from batchproof.training.network.layers.signs import project
from batchproof.training.network.network import Block, Network
from batchproof.training.network.objective import Objective
from batchproof.training.network.tensors import HeldRows, Rows, in_one

VALIDATED_ROWS = 20_000  # most validation rows that an epoch is measured on: more would cost time and change no choice
EVALUATED_ROWS = 8_192  # rows scored at a time: bounds the memory of hidden activations


@dataclass(frozen=True)
class FitSettings:
    """How a network is fitted."""

    epochs: int = 40
    batch_rows: int = 256  # at least: the rows of a last, smaller batch are spread over the others
    learning_rate: float = 2e-3  # at its peak
    weight_decay: float = 1e-2  # decoupled (AdamW)
    warmup: float = 0.05  # share of the steps
    average_decay: float = 0.99  # of the moving average, a step
    patience: int = 12  # epochs without a better validation loss before stopping
    clip_norm: float = 1.0  # largest norm of the gradient
    seed: int = 0
    device: str = "cpu"


class Epoch(NamedTuple):
    """The result of one epoch."""

    number: int  # 1 for the first
    train_loss: float  # mean over the epoch's batches, in training mode
    validation_loss: float  # of the averaged network, mean over rows
    learning_rate: float
    seconds: float


@dataclass(frozen=True)
class FitResult:
    """The best averaged network, and the epochs that led to it."""

    network: Network  # on the CPU, in eval mode
    best: Epoch
    history: tuple[Epoch, ...]
    stopped: str  # "finished", "early" or "interrupted"


@dataclass(frozen=True)
class Hooks:
    """What a fit calls after each epoch."""

    progress: Callable[[Epoch, int], None] | None = None  # gets the epoch and the number of planned epochs
    stop: Callable[[], bool] | None = None  # returns whether to end with the best so far
    checkpoint: Callable[[dict[str, Tensor]], None] | None = None  # gets the state that the next epoch depends on


SILENT = Hooks()


def fit(
    network: Network,
    objective: Objective,
    train: HeldRows,
    validation: HeldRows,
    settings: FitSettings,
    hooks: Hooks = SILENT,
    resume: Mapping[str, Tensor] | None = None,
    start: "Callable[[Network, Objective, HeldRows, HeldRows, FitSettings], Run] | None" = None,
) -> FitResult:
    """Fit `network` and return the best averaged one; the same seed, machine and threads give the same bits.

    `resume` is a state that the checkpoint hook got: the fit continues from there. `start` makes the run, a Run unless given.
    Raises ValueError with fewer than two training rows or no validation row.
    """
    if len(train.y) < 2 or len(validation.y) < 1:
        raise ValueError(f"fitting needs 2 training rows and 1 validation row, got {len(train.y)}, {len(validation.y)}")
    devices = [torch.device(settings.device)] if settings.device.startswith("cuda") else []
    with torch.random.fork_rng(devices, enabled=bool(devices)):  # on the CPU nothing draws from torch's own generator
        run = (start or Run)(network, objective, train, validation, settings)
        if resume is not None:
            run.restore(resume)
        while (stopped := run.stopped()) is None:
            epoch = run.epoch()
            if hooks.progress is not None:
                hooks.progress(epoch, settings.epochs)
            if hooks.checkpoint is not None:
                hooks.checkpoint(run.state())
            if hooks.stop is not None and hooks.stop():
                stopped = "interrupted"
                break
        return run.result(stopped)


class Run:
    """A fit in progress."""

    def __init__(
        self, network: Network, objective: Objective, train: HeldRows, validation: HeldRows, settings: FitSettings
    ) -> None:
        """Move rows and network to the device, and seed every generator."""
        device = torch.device(settings.device)
        if device.type == "cuda":
            torch.cuda.manual_seed(settings.seed)
        self.settings, self.objective = settings, objective
        self.train, self.validation = train.to(device), sampled(validation, settings.seed).to(device)
        self.network = network.to(device).train()
        silence_absent_codes(self.network, self.train)
        self.average = Average(self.network, settings.average_decay)
        self.optimizer = AdamW(self.network.parameters(), settings.learning_rate, settings.weight_decay)
        self.limits = self.network.limits()
        self.shuffler = torch.Generator().manual_seed(settings.seed)
        self.masks = torch.Generator().manual_seed(settings.seed)
        for block in self.network.blocks:
            assert isinstance(block, Block), "a network is made of blocks"
            block.dropout.generator = self.masks
        self.batches = max(1, len(train.y) // max(2, settings.batch_rows))  # none of fewer than 2 rows
        self.history: list[Epoch] = []
        self.best_network = copy.deepcopy(self.average.network)

    def epoch(self) -> Epoch:
        """Train one epoch, validate, and keep the network if it is the best so far."""
        start = time.monotonic()
        order = torch.randperm(len(self.train.y), generator=self.shuffler).to(self.train.y.device)
        first = len(self.history) * self.batches
        total = torch.zeros((), device=order.device)
        for step, index in enumerate(self.cut(order), first):
            total += self.step(self.train.take(index), step)
        train_loss = float(total) / self.batches
        validation_loss = self.held_loss()
        seconds = time.monotonic() - start
        epoch = Epoch(len(self.history) + 1, train_loss, validation_loss, self.optimizer.rate, seconds)
        if not self.history or validation_loss < self.best().validation_loss:
            self.best_network.load_state_dict(self.average.network.state_dict())
        self.history.append(epoch)
        return epoch

    def cut(self, order: Tensor) -> Sequence[Tensor]:
        """Cut shuffled numbers of rows [rows] into batches."""
        return torch.tensor_split(order, self.batches)

    def held_loss(self) -> float:
        """Return the averaged network's mean loss over the validation rows."""
        return held_loss(self.average.network, self.objective, self.validation)

    def step(self, batch: Rows, step: int) -> Tensor:
        """Run forward, backward, a clipped AdamW step and the average; returns the batch's loss."""
        settings = self.settings
        steps = settings.epochs * self.batches
        self.optimizer.rate = settings.learning_rate * share(step, steps, settings.warmup)
        self.optimizer.forget_gradients()
        loss = self.backward(batch, step)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), settings.clip_norm)
        self.optimizer.step()
        project(self.limits)
        self.average.update()
        return loss

    def backward(self, batch: Rows, step: int) -> Tensor:  # noqa: ARG002 - a sharded run draws its masks by the step
        """Leave the gradient of the batch's loss in the network, and return the loss."""
        loss = self.loss(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def loss(self, batch: Rows) -> Tensor:
        """Return the mean of the members' losses: the loss of their mean score would let members rely on one another."""
        scores = self.network.member_scores(batch.x, batch.codes)  # [rows, members, outputs]
        members = scores.shape[1]
        losses = self.objective.losses(scores.flatten(0, 1), batch.y.repeat_interleave(members, dim=0)).view(
            -1, members
        )
        return batch.weighed(losses).mean()

    def best(self) -> Epoch:
        """Return the epoch with the lowest validation loss, the first of equals."""
        return min(self.history, key=lambda epoch: (not math.isfinite(epoch.validation_loss), epoch.validation_loss))

    def stopped(self) -> str | None:
        """Return why the run is over, or None."""
        if len(self.history) >= self.settings.epochs:
            return "finished"
        if self.history and len(self.history) - self.best().number >= self.settings.patience:
            return "early"
        return None

    def result(self, stopped: str) -> FitResult:
        """Return the best network, on the CPU."""
        return FitResult(self.best_network.cpu().eval(), self.best(), tuple(self.history), stopped)

    def state(self) -> dict[str, Tensor]:
        """Return everything that the next epoch depends on, as tensors by name, ready for safetensors."""
        parts = {"network": self.network, "average": self.average.network, "best": self.best_network}
        state = {f"{name}.{key}": value for name, part in parts.items() for key, value in part.state_dict().items()}
        state |= {f"optimizer.{key}": moment for key, moment in self.optimizer.state().items()}
        state["history"] = torch.tensor(self.history, dtype=torch.float64)
        state["average.steps"] = torch.tensor(self.average.steps)
        state["random.shuffler"] = self.shuffler.get_state()
        state["random.masks"] = self.masks.get_state()
        return {key: value.detach().cpu().clone() for key, value in state.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Return to a saved `state`; torch raises KeyError or RuntimeError for a missing or misshapen entry."""
        parts = {"network": self.network, "average": self.average.network, "best": self.best_network}
        for name, part in parts.items():
            part.load_state_dict({key: state[f"{name}.{key}"] for key in part.state_dict()})
        self.optimizer.restore({key.removeprefix("optimizer."): value for key, value in state.items()})
        self.history = [Epoch(int(row[0]), *row[1:]) for row in state["history"].tolist()]
        self.average.steps = int(state["average.steps"])
        self.shuffler.set_state(state["random.shuffler"])
        self.masks.set_state(state["random.masks"])


def sampled(rows: HeldRows, seed: int) -> Rows:
    """Return the rows, or a seeded sample where there are more than VALIDATED_ROWS."""
    if len(rows.y) <= VALIDATED_ROWS:
        return rows.cut(0, len(rows.y))
    return rows.take(torch.randperm(len(rows.y), generator=torch.Generator().manual_seed(seed))[:VALIDATED_ROWS])


@torch.no_grad()
def silence_absent_codes(network: Network, rows: HeldRows) -> None:
    """Set the embedding of every code that no training row has to zero; without a gradient it stays there."""
    for index, table in enumerate(network.embeddings):
        assert isinstance(table, nn.Embedding), "each embedded column has its table"
        present = rows.codes_of(index)
        absent = torch.ones(table.num_embeddings, dtype=torch.bool, device=table.weight.device)
        absent[present.to(absent.device)] = False
        table.weight[absent] = 0.0


@torch.no_grad()
def scores_of(network: Network, rows: HeldRows) -> Tensor:
    """Return the averaged scores [rows, outputs] in eval mode, computed in bounded pieces."""
    was_training, _ = network.training, network.eval()
    cuts = (rows.cut(start, start + EVALUATED_ROWS) for start in range(0, len(rows.y), EVALUATED_ROWS))
    scores = in_one((network(piece.x, piece.codes) for piece in cuts), len(rows.y))
    network.train(was_training)
    return scores


def held_loss(network: Network, objective: Objective, rows: HeldRows) -> float:
    """Return the mean over held-out rows of what fits are chosen by: the loss, or what takes its place."""
    return float(judged(objective, scores_of(network, rows), rows).double().mean())


def share(step: int, steps: int, warmup: float) -> float:
    """Return the share of the peak learning rate at `step` of `steps`; it rises over the first `warmup` (a share)."""
    rising = max(1, round(steps * warmup))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1.0 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))
