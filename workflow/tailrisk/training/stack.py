"""How many models are trained at once. A matter of speed alone: results do not depend on it."""

import torch

from tailrisk.config.recipe import Training
from tailrisk.models.stacked import padded


def stack_size(training: Training, device: torch.device) -> int:
    """Models of a stack, by the size of one model's largest activation (batch × widest layer).

    CPU time of a model's step (µs) by stack size, 200 features, AdamW, one shared core of an AMD EPYC, torch 2.13:

        width × depth, batch      1     2     4     8    16    32    64
        16 × 1, 32             1598   734   386   205   136   110    92
        32 × 2, 64             2719  1327   704   578   390   319   320
        64 × 2, 256            3999  2567  1867  1358  1312  1465  1375
        256 × 2, 64            5534  3938  3596  3347  3279  3647  4718

    Small stacks pay Python and dispatch for few models; large ones fall out of the cache. On a GPU larger stacks pay
    for longer; its limit is reasoned from memory, not measured.
    """
    activation = training.recipe.batch_size * padded(getattr(training.model, "width", 1))
    floats, most = (2**24, 256) if device.type == "cuda" else (2**17, 64)
    return max(2, min(most, floats // activation))
