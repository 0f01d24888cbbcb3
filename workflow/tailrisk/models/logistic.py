"""Logistic regression."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tailrisk.config.architectures import Logistic as Spec
from tailrisk.models.stacked import StackedLinear


class Logistic(nn.Module):
    """One linear layer: inputs [K, B, padded(F)] → logits [K, B, n_outputs]."""

    def __init__(self, spec: Spec, n_features: int, n_outputs: int, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.n_outputs = n_outputs
        self.head = StackedLinear(n_features, n_outputs, generators)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x)[..., : self.n_outputs]
