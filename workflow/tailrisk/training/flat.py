"""The parameters of a stack of models side by side in one buffer."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _NormBase

from tailrisk.errors import UserError
from tailrisk.models.singly import Singly

WHOLE = 64
"""Rows are whole multiples of this many numbers, more than any vector instruction takes at once."""


class Flat:
    """All trainable parameters of K models as one tensor `weights` [K, P], and their running statistics as `buffers`.

    The modules' parameters become views of it. One tensor makes optimiser steps, averages and snapshots single
    operations, and as P is a multiple of 16 (of 64 where models are not stacked) a weight meets the same vector
    instruction in every slot: torch's fused optimisers handle the last few numbers of a tensor by other, differently
    rounded code.

    `buffers` [K, Q] holds what batch normalisation tracks; Q is 0 for most models. `decays` [P] is 1 where weight
    decay may act when biases, norms and position embeddings are spared, else 0. `gradients` [K, P] are the last ones.
    """

    def __init__(self, model: nn.Module) -> None:
        self._rows: list[list[nn.Parameter]] = []
        if isinstance(model, Singly):
            models = list(model.models)
            if odd := {p.dtype for one in models for p in one.parameters()} - {torch.float32}:
                raise UserError(f"parameters must be float32, not {odd.pop()}: recipe.precision chooses the arithmetic")
            self._rows = [[p for p in one.parameters() if p.requires_grad] for one in models]
            self.weights = _rows_of(self._rows)
            statistics = [_statistics(one) for one in models]
            self.buffers = _rows_of(statistics) if statistics[0] else self.weights.new_empty(len(models), 0)
            _view(statistics, self.buffers)
            _view(self._rows, self.weights)
            self.decays = _decays(models[0], self.weights)
        else:
            parameters = list(model.parameters())
            self.weights = torch.cat([parameter.detach().flatten(1) for parameter in parameters], dim=1)
            self.buffers = self.weights.new_empty(len(self.weights), 0)
            sizes = [parameter[0].numel() for parameter in parameters]
            for parameter, values in zip(parameters, self.weights.split(sizes, 1), strict=True):
                parameter.data = values.view(parameter.shape)
            marks = [torch.full((size,), float(p.ndim > 2)) for p, size in zip(parameters, sizes, strict=True)]
            self.decays = torch.cat(marks).to(self.weights.device)
            self._stacked = parameters
        self.gradients = torch.zeros_like(self.weights)

    def differentiate(self, loss: Tensor, slots: slice, add: bool = False) -> None:
        """Put the gradients of the scalar `loss` of the models in `slots` into `gradients` [K, P], or add them.

        The models are all where they are stacked, else one.
        """
        if self._rows:
            row = self._rows[slots.start]
            parts = torch.autograd.grad(loss, row, materialize_grads=True)  # a model may leave a parameter unused
            found = torch.cat([part.flatten() for part in parts])
            own = self.gradients[slots.start, : len(found)]
        else:
            parts = torch.autograd.grad(loss, self._stacked)
            found = torch.cat([part.flatten(1) for part in parts], dim=1)
            own = self.gradients
        if add:
            own.add_(found)
        else:
            own.copy_(found)

    def exchange(self, weights: Tensor, buffers: Tensor) -> None:
        """Swap weights and buffers with others of the same shapes, in place."""
        for own, other in ((self.weights, weights), (self.buffers, buffers)):
            kept = own.clone()
            own.copy_(other)
            other.copy_(kept)


def _rows_of(rows: Sequence[Sequence[Tensor]]) -> Tensor:
    """One row a model, zero up to a whole multiple."""
    flat = torch.stack([torch.cat([values.detach().flatten() for values in row]) for row in rows])
    return functional.pad(flat, (0, -flat.shape[1] % WHOLE))


def _view(rows: Sequence[Sequence[Tensor]], flat: Tensor) -> None:
    for row, values in zip(rows, flat.unbind(), strict=True):
        first = 0
        for parameter in row:
            parameter.data = values[first : first + parameter.numel()].view(parameter.shape)
            first += parameter.numel()


def _statistics(model: nn.Module) -> list[Tensor]:
    """What batch normalisation tracks, the only state of a model besides its parameters that training may change."""
    found: list[Tensor] = []
    for layer in model.modules():
        if isinstance(layer, _NormBase) and layer.running_mean is not None and layer.running_var is not None:
            if layer.momentum is None:
                raise UserError("batch normalisation with momentum=None counts batches: give it a number, such as 0.1")
            found += [layer.running_mean, layer.running_var]
    return found


def _decays(model: nn.Module, weights: Tensor) -> Tensor:
    names: Callable[[], set[str]] = getattr(model, "no_weight_decay", set)  # timm's way to name position embeddings
    spared = names()
    marks = [
        torch.full((parameter.numel(),), float(parameter.ndim > 1 and name not in spared))
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    ]
    flat = torch.cat(marks)
    return functional.pad(flat, (0, weights.shape[1] - len(flat))).to(weights.device)
