"""The parameters of a stack of models side by side in one buffer."""

import torch
from torch import Tensor, nn


class Flat:
    """All parameters of stacked models as one tensor `weights` [K, P], and their gradients likewise.

    The module's parameters become views of it. One tensor makes optimiser steps, averages and snapshots single
    operations, and as P is a multiple of 16 a weight meets the same vector instruction in every slot: torch's fused
    optimisers handle the last few numbers of a tensor by other, differently rounded code.
    """

    def __init__(self, model: nn.Module) -> None:
        self._parameters = list(model.parameters())
        sizes = [parameter[0].numel() for parameter in self._parameters]
        self.weights = nn.Parameter(torch.cat([parameter.detach().flatten(1) for parameter in self._parameters], dim=1))
        self._gradients = torch.empty_like(self.weights.detach())
        self.weights.grad = self._gradients
        for parameter, values in zip(self._parameters, self.weights.detach().split(sizes, 1), strict=True):
            parameter.data = values.view(parameter.shape)

    def differentiate(self, loss: Tensor) -> None:
        """Gradients of the scalar `loss`, in place of those before."""
        gradients = torch.autograd.grad(loss, self._parameters)
        torch.cat([gradient.flatten(1) for gradient in gradients], dim=1, out=self._gradients)

    @torch.no_grad()
    def exchange(self, other: Tensor) -> None:
        """Swap the weights with `other` [K, P], in place."""
        kept = self.weights.clone()
        self.weights.copy_(other)
        other.copy_(kept)
