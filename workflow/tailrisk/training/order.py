"""Which records a model sees in which step."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray


class Orders:
    """Each model's cyclic stream of its own member records: one permutation after another, cut into batches.

    `pools` holds each model's row numbers. Batches run across the ends of permutations, so that every model takes the
    same number of equally large steps, and all members of a model are seen equally often, up to one time.
    """

    def __init__(self, pools: Sequence[NDArray[np.int64]], seeds: Sequence[int], batch_size: int) -> None:
        self._pools = [torch.from_numpy(np.ascontiguousarray(pool)) for pool in pools]
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._rest = [torch.empty(0, dtype=torch.int64) for _ in pools]
        self._batch_size = batch_size

    def take(self, n_steps: int) -> torch.Tensor:
        """Row numbers [n_steps, K, batch_size] of the next steps."""
        return torch.stack([self._next(slot, n_steps) for slot in range(len(self._pools))], dim=1)

    def _next(self, slot: int, n_steps: int) -> torch.Tensor:
        pool, wanted = self._pools[slot], n_steps * self._batch_size
        parts, available = [self._rest[slot]], len(self._rest[slot])
        while available < wanted:
            parts.append(pool[torch.randperm(len(pool), generator=self._generators[slot])])
            available += len(pool)
        stream = torch.cat(parts)
        self._rest[slot] = stream[wanted:].clone()
        return stream[:wanted].view(n_steps, self._batch_size)
