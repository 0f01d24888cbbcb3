"""Early stopping: which of its weights every model keeps."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailrisk.config.recipe import EarlyStopping
from tailrisk.training.flat import Flat


class Choice:
    """Each model's weights [K, P] of its lowest validation loss so far, their steps [K], and who is finished [K]."""

    def __init__(self, stopping: EarlyStopping, flat: Flat) -> None:
        n_models = len(flat.weights)
        self.stopping = stopping
        self.weights, self.buffers = flat.weights.clone(), flat.buffers.clone()
        self.steps = np.zeros(n_models, dtype=np.int64)
        self.finished = np.zeros(n_models, dtype=bool)
        self._flat = flat
        self._best = np.full(n_models, np.inf)
        self._stale = np.zeros(n_models, dtype=np.int64)

    def look(self, losses: NDArray[np.float64], step: int, active: NDArray[np.bool_]) -> None:
        """Take the present weights of the models whose validation loss [K] fell; finish those out of patience."""
        candidates = active & ~self.finished
        better = candidates & (losses < self._best)
        self._best[better] = losses[better]
        index = torch.from_numpy(np.flatnonzero(better)).to(self.weights.device)
        self.weights[index] = self._flat.weights[index]
        self.buffers[index] = self._flat.buffers[index]
        self.steps[better] = step
        self._stale[candidates] += 1
        self._stale[better] = 0
        self.finished |= candidates & (self._stale >= self.stopping.patience)

    def state(self) -> dict[str, Tensor]:
        """What a later look depends on, by name; the tensors are the state itself."""
        arrays = {"best": self._best, "stale": self._stale, "steps": self.steps, "finished": self.finished}
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return {"kept": self.weights, "kept_buffers": self.buffers, **tensors}
