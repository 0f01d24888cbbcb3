"""The learning rate over the steps of a training."""

import math

from tailrisk.config.recipe import Recipe

_FALL = {
    "cosine": lambda share: math.cos(7 * math.pi / 16 * share),
    "full_cosine": lambda share: (1 + math.cos(math.pi * share)) / 2,
    "constant": lambda share: 1.0,
}


def learning_rate(recipe: Recipe, step: int, n_steps: int) -> float:
    """Rate of step 0 … n_steps − 1: a linear rise over the warm-up, times the schedule.

    `cosine` is lr·cos(7π/16 · t/T), which ends at about a fifth of the peak, as in the paper (after FixMatch);
    `full_cosine` is lr·(1 + cos(π · t/T))/2.
    """
    rise = min(1.0, (step + 1) / (recipe.warmup * n_steps)) if recipe.warmup else 1.0
    return recipe.learning_rate * rise * _FALL[recipe.schedule](step / n_steps)
