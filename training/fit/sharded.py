"""The training loop on several processes, or on one in the same way: every batch is cut into shards.

Each process holds all rows, the network and the optimiser's state, computes its own shards of a batch, and takes the same
step as the others. Nothing depends on their number but who computes what.
"""

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from batchproof.training.distributed.group import Group
from batchproof.training.distributed.group_error import GroupError
from batchproof.training.distributed.tree import SHARDS, pairwise, total
from batchproof.training.fit.loop import Epoch, FitSettings, Run, scores_of
from batchproof.training.fit.metric import judged
from batchproof.training.network.network import Network
from batchproof.training.network.objective import Objective
from batchproof.training.network.sharded import ShardedNetwork
from batchproof.training.network.tensors import HeldRows, Rows
from batchproof.training.settings import SettingError

SPREAD = 0x9E3779B9  # odd, so that multiples modulo 2^32 do not repeat; neighbours lie far apart
LANES = 32  # float32 values that a vector loop takes at most at a time: of a multiple, none is left to the scalar loop behind it


class ShardedRun(Run):
    """A fit in progress, of which this process computes the shards of `group`."""

    def __init__(
        self,
        network: Network,
        objective: Objective,
        train: HeldRows,
        validation: HeldRows,
        settings: FitSettings,
        *,
        group: Group,
    ) -> None:
        """Start as every run does; raises SettingError where a batch is too small to be cut."""
        rows = min(len(train.y), settings.batch_rows)
        if rows < SHARDS:
            raise SettingError(f"a batch of {rows} rows cannot be cut into {SHARDS} shards: train without --processes.")
        super().__init__(network, objective, train, validation, settings)
        self.group, self.shards = group, ShardedNetwork(self.network, group)
        self.batches = max(1, len(train.y) // SHARDS // (settings.batch_rows // SHARDS))
        self.masks_of = [torch.Generator() for _ in group.shards]
        self.first_stream = int(np.random.SeedSequence(settings.seed).generate_state(1)[0])

    def cut(self, order: Tensor) -> Sequence[Tensor]:
        """Deal shuffled rows to the shards of batches, and return this process's of each batch, [rows * shards].

        Shards have equally many rows: up to SHARDS - 1 rows, others in every epoch, are left out.
        """
        dealt = order[: len(order) // SHARDS * SHARDS].view(-1, SHARDS)
        own = slice(self.group.shards.start, self.group.shards.stop)
        return [part[:, own].flatten() for part in torch.tensor_split(dealt, self.batches)]

    def backward(self, batch: Rows, step: int) -> Tensor:
        """Leave the gradient of the whole batch's loss in the network, and return the loss."""
        count = len(self.group.shards)
        cut = Rows(*(None if part is None else part.view(-1, count, *part.shape[1:]) for part in batch))  # type: ignore[arg-type]
        scores = self.shards.scores(cut.x, cut.codes, self.generators(step))
        rows, _, members, _ = scores.shape
        further = -rows % (LANES // math.gcd(LANES, members))
        filled = [
            functional.pad(part, (0, 0) * (part.dim() - 1) + (0, further))
            for part in (scores, cut.y, cut.weight)
            if part is not None
        ]
        found = self.shards.joint(self.losses, filled)[:rows]
        values = SHARDS * rows * members  # losses of the whole batch: one a row and member
        self.shards.backward(found[..., :-1] / values)
        own = found[..., -1].transpose(1, 2).flatten(0, 1)  # losses [rows * members, shards]
        loss = self.spread(pairwise(total(own) / values))
        self.shards.split_gradient()
        return loss

    @torch.enable_grad()
    def losses(self, scores: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return gradients and losses of rows in shards [rows, shards, members, outputs + 1], given the members' scores."""
        rows, shards, members, _ = scores.shape
        scores = scores.detach().requires_grad_()
        each = y.unsqueeze(2).expand(rows, shards, members, *y.shape[2:]).flatten(0, 2)  # targets of members
        losses = self.objective.losses(scores.flatten(0, 2), each).view(rows, shards, members)
        losses = losses if weight is None else losses * weight.unsqueeze(2)
        (gradients,) = torch.autograd.grad(losses.sum(), scores)
        return torch.cat([gradients, losses.detach().unsqueeze(3)], dim=-1)

    def spread(self, loss: Tensor) -> Tensor:
        """Replace each gradient by its sum over all processes; returns that of the losses."""
        if self.group.size == 1:
            return loss
        gradients = [parameter.grad for parameter in self.network.parameters()]
        present = [gradient for gradient in gradients if gradient is not None]
        flat = self.group.sum(torch.cat([*(gradient.flatten() for gradient in present), loss.view(1)]))
        pieces = torch.split(flat, [*(gradient.numel() for gradient in present), 1])
        for gradient, piece in zip(present, pieces, strict=False):
            gradient.copy_(piece.view_as(gradient))
        return pieces[-1][0]

    def generators(self, step: int) -> Sequence[torch.Generator]:
        """Return the generators of the dropout masks of this process's shards: they follow from seed, step and shard."""
        for shard, generator in zip(self.group.shards, self.masks_of, strict=True):
            generator.manual_seed((self.first_stream + (step * SHARDS + shard) * SPREAD) % 2**32)
        return self.masks_of

    def held_loss(self) -> float:
        """Return what the averaged network is judged by on the validation rows, each process having scored its shards."""
        rows = self.validation
        cuts = torch.arange(len(rows.y), device=rows.y.device).tensor_split(SHARDS)
        most = len(cuts[0])  # rows of a shard: the first ones have one more than the last
        own = [self.held_scores(cuts[shard], most) for shard in self.group.shards]
        parts = self.group.gather(torch.stack(own)).flatten(0, 1)  # [SHARDS, most, outputs]
        scores = torch.cat([part[: len(cut)] for part, cut in zip(parts, cuts, strict=True)])
        return float(judged(self.objective, scores, rows).double().mean())

    @torch.no_grad()
    def held_scores(self, index: Tensor, most: int) -> Tensor:
        """Return the scores of these validation rows, and zeros after them [most, outputs]."""
        scores = torch.zeros(most, self.network.outputs, device=index.device)
        if len(index):
            scores[: len(index)] = scores_of(self.average.network, self.validation.take(index))
        return scores

    def epoch(self) -> Epoch:
        """Train one epoch; raises GroupError where the processes did not come to the same bits."""
        epoch = super().epoch()
        digests = self.group.texts(self.digest())
        other = next((rank for rank, digest in enumerate(digests) if digest != digests[0]), None)
        if other is not None:
            raise GroupError(
                f"after epoch {epoch.number} the weights of process {other} differ from those of process 0: their machines "
                "compute other bits. No bundle was written; use processors of one kind and the same libraries."
            )
        return epoch

    def digest(self) -> str:
        """Return the SHA-256 of the weights."""
        total = hashlib.sha256()
        for parameter in self.network.parameters():
            total.update(parameter.detach().cpu().numpy().tobytes())
        return total.hexdigest()
