"""The parameters of a stack of models side by side in one buffer."""

import torch
from torch import Tensor, nn


class Flat:
    """All parameters of stacked models as one tensor `weights` [K, P].

    The module's parameters become views of it. One tensor makes optimiser steps, averages and snapshots single
    operations, and as P is a multiple of 16 a weight meets the same vector instruction in every slot: torch's fused
    optimisers handle the last few numbers of a tensor by other, differently rounded code.
    """

    def __init__(self, model: nn.Module) -> None:
        self._parameters = list(model.parameters())
        sizes = [parameter[0].numel() for parameter in self._parameters]
        self.weights = torch.cat([parameter.detach().flatten(1) for parameter in self._parameters], dim=1)
        self._gradients = torch.empty_like(self.weights)
        for parameter, values in zip(self._parameters, self.weights.split(sizes, 1), strict=True):
            parameter.data = values.view(parameter.shape)

    def gradients(self, loss: Tensor) -> Tensor:
        """Gradients [K, P] of the scalar `loss`, in the place of those before."""
        parts = torch.autograd.grad(loss, self._parameters)
        return torch.cat([part.flatten(1) for part in parts], dim=1, out=self._gradients)

    def exchange(self, other: Tensor) -> None:
        """Swap the weights with `other` [K, P], in place."""
        kept = self.weights.clone()
        self.weights.copy_(other)
        other.copy_(kept)
