"""Residual network for tables (Gorishniy et al., NeurIPS 2021, section 3.2)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tailrisk.config.architectures import TabularResNet as Spec
from tailrisk.models.stacked import StackedLayerNorm, StackedLinear


class Block(nn.Module):
    """x + linear(ReLU(linear(norm(x))))."""

    def __init__(self, width: int, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.norm = StackedLayerNorm(width, len(generators))
        self.inner = StackedLinear(width, width, generators)
        self.outer = StackedLinear(width, width, generators)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.outer(torch.relu(self.inner(self.norm(x))))


class TabularResNet(nn.Module):
    """linear → `depth` blocks → norm → ReLU → linear: inputs [K, B, padded(F)] → logits [K, B, n_outputs].

    Layer instead of batch normalisation: a record's logits never depend on the other records of its batch.
    """

    def __init__(self, spec: Spec, n_features: int, n_outputs: int, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.n_outputs = n_outputs
        self.stem = StackedLinear(n_features, spec.width, generators)
        self.blocks = nn.Sequential(*(Block(spec.width, generators) for _ in range(spec.depth)))
        self.norm = StackedLayerNorm(spec.width, len(generators))
        self.head = StackedLinear(spec.width, n_outputs, generators)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.stem(x))
        return self.head(torch.relu(self.norm(x)))[..., : self.n_outputs]
