"""How many models are trained at once. A matter of speed alone: results do not depend on it."""

import torch

from tailrisk.config.recipe import Training
from tailrisk.models.stacked import padded


def stack_size(training: Training, device: torch.device) -> int:
    """Models of a stack, by the size of one model's largest activation (batch × widest layer).

    CPU time of a model's step (µs) by stack size, 200 features, AdamW, one shared core of an AMD EPYC, torch 2.13:

        width × depth, batch      1     2     4     8    16    32    64
        logistic, 64            782   415   234   144   106    99    96
        16 × 1, 32             1329   605   356   228   112   113   131
        32 × 2, 64             1807   760   401   278   211   207   188
        64 × 2, 256            2110  1700  1445  1286  1331  1366  1298
        256 × 2, 64            5418  4277  3787  3288  3486  3586  4215
        300 × 6, 512          59600 61900 62500

    Small stacks pay Python and dispatch for few models; large ones fall out of the cache. On a GPU larger stacks pay
    for longer; its limit is reasoned from memory, not measured.
    """
    activation = training.recipe.batch_size * padded(getattr(training.model, "width", 1))
    floats, most = (2**24, 256) if device.type == "cuda" else (2**17, 64)
    return max(2, min(most, floats // activation))
