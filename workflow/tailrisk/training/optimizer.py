"""The optimiser of a stack: torch's fused kernels on the one tensor of all weights.

torch's functional forms are called rather than its classes: making a class imports torch's compiler, 1.9 s of CPU a
process (torch 2.13), which is more than many a stack takes to train.
"""

import torch
from torch import Tensor
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from tailrisk.config.recipe import Recipe


class Optimizer:
    """SGD with momentum, or AdamW with torch's default betas and epsilon, on `weights` [K, P]."""

    def __init__(self, recipe: Recipe, weights: Tensor) -> None:
        self._recipe, self._weights = recipe, weights
        self._first = torch.zeros_like(weights)  # momentum
        self._second = torch.zeros_like(weights)
        self._steps = torch.zeros((), device=weights.device)

    @torch.no_grad()
    def step(self, gradients: Tensor, rate: float) -> None:
        """One step along `gradients` [K, P] at learning rate `rate`."""
        recipe = self._recipe
        if recipe.optimizer == "adamw":
            adamw(
                [self._weights],
                [gradients],
                [self._first],
                [self._second],
                [],
                [self._steps],
                fused=True,
                amsgrad=False,
                beta1=0.9,
                beta2=0.999,
                lr=rate,
                weight_decay=recipe.weight_decay,
                eps=1e-8,
                maximize=False,
            )
        else:
            sgd(
                [self._weights],
                [gradients],
                [self._first if recipe.momentum else None],
                fused=True,
                weight_decay=recipe.weight_decay,
                momentum=recipe.momentum,
                lr=rate,
                dampening=0,
                nesterov=False,
                maximize=False,
            )
