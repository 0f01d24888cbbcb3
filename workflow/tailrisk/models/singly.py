"""Models that run one after another behind the interface of a stack."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Singly(nn.Module):
    """Records [K, B, *shape], or [1, B, *shape] for all models alike, → logits [K, B, n_outputs].

    Stacked convolutions are up to three times slower than a loop on a CPU, so networks that hold them are not stacked.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)

    def forward(self, x: Tensor) -> Tensor:
        records = x.expand(len(self.models), *x.shape[1:])
        return torch.stack([model(own) for model, own in zip(self.models, records, strict=True)])
