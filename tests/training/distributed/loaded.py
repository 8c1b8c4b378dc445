"""What a training run imports on the way, loaded once for the processes that are forked."""

import torch

import batchproof.training.data.leakage
import batchproof.training.distributed.meeting
import batchproof.training.evaluation.evaluate
import batchproof.training.fit.selection.fit_best
import batchproof.training.trained_model  # noqa: F401 - loaded for the processes that are forked

torch.set_num_threads(1)
