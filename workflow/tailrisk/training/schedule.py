"""The learning rate over the steps of a training."""

import math

from tailrisk.config.recipe import Recipe


def learning_rate(recipe: Recipe, step: int, n_steps: int) -> float:
    """Rate of step 0 … n_steps − 1: a linear rise over the warm-up, times the schedule.

    `cosine` is lr·cos(7π/16 · t/T), which ends at about a fifth of the peak, as in the paper (after FixMatch).
    """
    rise = min(1.0, (step + 1) / (recipe.warmup * n_steps)) if recipe.warmup else 1.0
    fall = math.cos(7 * math.pi / 16 * step / n_steps) if recipe.schedule == "cosine" else 1.0
    return recipe.learning_rate * rise * fall
