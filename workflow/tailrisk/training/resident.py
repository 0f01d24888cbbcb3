"""The dataset where it is trained on: whole, on the device, batches cut out by row number."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailrisk.datasets.contract import Prepared, Task
from tailrisk.models.stacked import padded


@dataclass(frozen=True)
class Resident:
    """Inputs [N, padded(n_features)], zero beyond n_features, and labels [N] or [N, L], on the device."""

    inputs: Tensor
    labels: Tensor
    task: Task
    n_features: int
    n_outputs: int

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs [K, B, …] as float32 and labels [K, B, …] of the row numbers [K, B]."""
        flat = rows.reshape(-1)
        inputs = self.inputs.index_select(0, flat).float()
        labels = self.labels.index_select(0, flat)
        return inputs.view(*rows.shape, -1), labels.view(*rows.shape, *labels.shape[1:])


def make_resident(prepared: Prepared, device: torch.device) -> Resident:
    """Load a prepared dataset onto `device`; the kind of its numbers (uint8, float32) is kept."""
    flat = np.asarray(prepared.inputs).reshape(len(prepared.inputs), -1)
    inputs: NDArray[np.generic] = np.zeros((len(flat), padded(flat.shape[1])), dtype=flat.dtype)
    inputs[:, : flat.shape[1]] = flat
    return Resident(
        inputs=torch.from_numpy(inputs).to(device),
        labels=torch.from_numpy(np.array(prepared.labels)).to(device),
        task=prepared.task,
        n_features=flat.shape[1],
        n_outputs=prepared.n_outputs,
    )
