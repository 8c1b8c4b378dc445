"""The training loop on several processes, or on one in the same way: every batch is cut into shards.

Each process holds all rows, the network and the optimiser's state, computes its own shards of a batch, and takes the same
step as the others. Nothing depends on their number but who computes what.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from batchproof.training.distributed.group import Group
from batchproof.training.distributed.group_error import GroupError
from batchproof.training.distributed.tree import SHARDS, pairwise
from batchproof.training.fit.loop import Epoch, FitSettings, Run, scores_of
from batchproof.training.fit.metric import judged
from batchproof.training.network.network import Network
from batchproof.training.network.objective import Objective
from batchproof.training.network.sharded import Pass, member_scores
from batchproof.training.network.tensors import HeldRows, Rows
from batchproof.training.settings import SettingError

SPREAD = 0x9E3779B9  # odd, so that multiples modulo 2^32 do not repeat; neighbours lie far apart


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
        self.group = group
        self.batches = max(1, len(train.y) // SHARDS // (settings.batch_rows // SHARDS))
        self.masks_of = [torch.Generator(self.train.y.device) for _ in group.shards]
        self.first_stream = int(np.random.SeedSequence(settings.seed).generate_state(1)[0])

    def cut(self, order: Tensor) -> Sequence[Tensor]:
        """Deal shuffled rows to the shards of batches, and return this process's [shards * rows] of each batch.

        Shards have equally many rows: up to SHARDS - 1 rows, others in every epoch, are left out.
        """
        dealt = order[: len(order) // SHARDS * SHARDS].view(-1, SHARDS)
        own = slice(self.group.shards.start, self.group.shards.stop)
        return [part[:, own].T.flatten() for part in torch.tensor_split(dealt, self.batches)]

    def backward(self, batch: Rows, step: int) -> Tensor:
        """Leave the gradient of the whole batch's loss in the network, and return the loss."""
        count = len(self.group.shards)
        x = batch.x.view(count, -1, batch.x.shape[1])
        codes = None if batch.codes is None else batch.codes.view(*x.shape[:2], -1)
        scores = member_scores(self.network, x, codes, Pass(self.group, self.generators(step)))
        values = SHARDS * x.shape[1] * scores.shape[2]  # losses of the whole batch: one a row and member
        rows = [Rows(*parts) for parts in zip(*(_shards(part, count) for part in batch), strict=True)]
        losses = [self.shard_loss(shard, part) / values for shard, part in zip(scores, rows, strict=True)]
        torch.autograd.backward(losses)
        return self.spread(pairwise(torch.stack(losses).detach()))

    def shard_loss(self, scores: Tensor, rows: Rows) -> Tensor:
        """Return the sum of the members' losses, given the scores of a shard [rows, members, outputs]."""
        members = scores.shape[1]
        losses = self.objective.losses(scores.flatten(0, 1), rows.y.repeat_interleave(members, dim=0)).view(-1, members)
        return rows.weighed(losses).sum()

    def spread(self, loss: Tensor) -> Tensor:
        """Replace each gradient by its sum over all processes; returns that of the losses."""
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


def _shards(part: Tensor | None, count: int) -> Sequence[Tensor | None]:
    return [None] * count if part is None else part.view(count, -1, *part.shape[1:]).unbind()
