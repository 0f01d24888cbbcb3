"""The optimiser of a stack: torch's fused kernels on the one tensor of all weights.

torch's functional forms are called rather than its classes: making a class imports torch's compiler, 1.9 s of CPU a
process (torch 2.13), which is more than many a stack takes to train.
"""

import torch
from torch import Tensor
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from tailrisk.config.recipe import Recipe
from tailrisk.training.flat import Flat


class Optimizer:
    """SGD with momentum, or AdamW with torch's default betas and epsilon, on `flat.weights` [K, P].

    `first` and `second` [K, P] are its moments (momentum is the first of SGD).
    """

    def __init__(self, recipe: Recipe, flat: Flat) -> None:
        self._recipe, self._weights = recipe, flat.weights
        self._decays = flat.decays if recipe.decay == "weights" and recipe.weight_decay else None
        self.first = torch.zeros_like(flat.weights)
        self.second = torch.zeros_like(flat.weights) if recipe.optimizer == "adamw" else flat.weights.new_empty(0)
        self._steps = torch.zeros((), device=flat.weights.device)

    @torch.no_grad()
    def step(self, gradients: Tensor, rate: float, step: int) -> None:
        """Step number `step` (from 0) along `gradients` [K, P], which are changed, at learning rate `rate`."""
        recipe = self._recipe
        if recipe.clip is not None:
            _clip(gradients, recipe.clip)
        decay = recipe.weight_decay
        if self._decays is not None:  # the fused kernels let all parameters decay, or none
            decay = 0.0
            if recipe.optimizer == "adamw":
                self._weights.mul_(1 - rate * recipe.weight_decay * self._decays)
            else:
                gradients.addcmul_(self._weights, self._decays, value=recipe.weight_decay)
        if recipe.optimizer == "adamw":
            self._steps.fill_(step)
            adamw(
                [self._weights],
                [gradients],
                [self.first],
                [self.second],
                [],
                [self._steps],
                fused=True,
                amsgrad=False,
                beta1=0.9,
                beta2=0.999,
                lr=rate,
                weight_decay=decay,
                eps=1e-8,
                maximize=False,
            )
        else:
            sgd(
                [self._weights],
                [gradients],
                [self.first if recipe.momentum else None],
                fused=True,
                weight_decay=decay,
                momentum=recipe.momentum,
                lr=rate,
                dampening=0,
                nesterov=False,
                maximize=False,
            )


def _clip(gradients: Tensor, largest: float) -> None:
    """Scale every model's gradient to a norm of at most `largest`, as torch.nn.utils.clip_grad_norm_ does for one."""
    for own in gradients:  # one by one: the last bits of a sum over rows depend on how many rows there are
        own.mul_((largest / (torch.linalg.vector_norm(own) + 1e-6)).clamp(max=1.0))
