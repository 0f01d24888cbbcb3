"""How many models are trained at once. A matter of speed and memory alone: results do not depend on it."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from tailrisk.config.recipe import Training
from tailrisk.models import is_stacked
from tailrisk.models.stacked import padded
from tailrisk.training.engine import train
from tailrisk.training.resident import Resident


def stack_size(training: Training, device: torch.device) -> int:
    """Models of a stack as measured; for stacked layers by the size of a model's largest activation.

    CPU time of a model's step (µs) by stack size, 200 features, AdamW, one shared core of an AMD EPYC, torch 2.13:

        width × depth, batch      1     2     4     8    16    32    64
        logistic, 64            782   415   234   144   106    99    96
        16 × 1, 32             1329   605   356   228   112   113   131
        32 × 2, 64             1807   760   401   278   211   207   188
        64 × 2, 256            2110  1700  1445  1286  1331  1366  1298
        256 × 2, 64            5418  4277  3787  3288  3486  3586  4215
        300 × 6, 512          59600 61900 62500

    Small stacks pay Python and dispatch for few models; large ones fall out of the cache. Convolutions and attention
    bind on arithmetic: stacked they gain nothing on a CPU and lose up to threefold, so these models run one after
    another. On a GPU larger stacks pay for longer; its limit is reasoned from memory, not measured.
    """
    if not is_stacked(training.model):
        return 1
    activation = training.recipe.batch_size * padded(getattr(training.model, "width", 1))
    floats, most = (2**24, 256) if device.type == "cuda" else (2**17, 64)
    return max(2, min(most, floats // activation))


def keeps_bits(
    training: Training, data: Resident, models: Sequence[int], pools: Sequence[NDArray[np.int64]], size: int
) -> bool:
    """Whether a model's weights after three steps are the same bits alone, again, in a full stack and in another slot.

    A stack is filled up to `size` by repeating `models` and their `pools`, of which two are enough.
    """
    short = training.model_copy(
        update={"recipe": training.recipe.model_copy(update={"epochs": 1, "early_stopping": None})}
    )

    def weights(order: Sequence[int]) -> torch.Tensor:
        numbers, own = [models[slot] for slot in order], [pools[slot] for slot in order]
        return train(short, data, numbers, own, np.empty(0, dtype=np.int64), n_steps=3).flat.weights

    full = [slot % len(models) for slot in range(size)]
    alone, stacked, turned = weights([0]), weights(full), weights(full[::-1])
    first = [slot for slot in range(size) if full[::-1][slot] == 0]
    return torch.equal(alone[0], stacked[0]) and all(torch.equal(alone[0], turned[slot]) for slot in first)
