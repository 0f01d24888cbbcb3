"""Layers of many models at once: every parameter carries a leading model dimension K.

A model's numbers must not depend on what is stacked beside it, to the last bit. Matrix kernels choose their path by
width and by the alignment of each matrix, which for odd sizes differs from slot to slot (measured on CPU: one output
column, or 17 columns after 8). So every width is padded with zeros to a multiple of 16 floats (64 bytes). The padding
stays exactly zero: its inputs and gradients are zero, and neither weight decay nor Adam moves a zero.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

ALIGNMENT = 16


def padded(width: int) -> int:
    """`width` rounded up to a multiple of 16."""
    return -(-width // ALIGNMENT) * ALIGNMENT


class StackedLayer(nn.Module):
    """A layer of K models; `n_parameters` counts one model's trainable parameters, padding left out."""

    n_parameters: int


class StackedLinear(StackedLayer):
    """x [K, B, padded(n_in)] → x·W + b [K, B, padded(n_out)], initialised as torch.nn.Linear: U(±1/√n_in)."""

    def __init__(self, n_in: int, n_out: int, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        weight = torch.zeros(len(generators), padded(n_in), padded(n_out))
        bias = torch.zeros(len(generators), padded(n_out))
        bound = n_in**-0.5
        for slot, generator in enumerate(generators):
            weight[slot, :n_in, :n_out].uniform_(-bound, bound, generator=generator)
            bias[slot, :n_out].uniform_(-bound, bound, generator=generator)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(bias)
        self.n_parameters = n_in * n_out + n_out

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias.unsqueeze(1), x.expand(len(self.weight), -1, -1), self.weight)


class StackedLayerNorm(StackedLayer):
    """Layer normalisation over the first `width` columns of x [K, B, padded(width)], each model with its affine map."""

    def __init__(self, width: int, n_models: int) -> None:
        super().__init__()
        self.width = width
        self.scale = nn.Parameter(functional.pad(torch.ones(n_models, width), (0, padded(width) - width)))
        self.shift = nn.Parameter(torch.zeros(n_models, padded(width)))
        self.n_parameters = 2 * width

    def forward(self, x: Tensor) -> Tensor:
        padding = x.shape[-1] - self.width
        normal = functional.layer_norm(x[..., : self.width] if padding else x, (self.width,))
        if padding:
            normal = functional.pad(normal, (0, padding))
        return torch.addcmul(self.shift.unsqueeze(1), normal, self.scale.unsqueeze(1))
