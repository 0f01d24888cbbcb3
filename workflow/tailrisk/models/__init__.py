"""Target models: one file per architecture, registered by name."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from tailrisk.models.logistic import Logistic
from tailrisk.models.stacked import StackedLayer
from tailrisk.models.tabular_resnet import TabularResNet

ARCHITECTURES: dict[str, Callable[[Any, int, int, Sequence[torch.Generator]], nn.Module]] = {
    "logistic": Logistic,
    "tabular_resnet": TabularResNet,
}
"""By the `architecture` of a model in the configuration: (its section, features, outputs, generators) → module."""


def build(spec: Any, n_features: int, n_outputs: int, seeds: Sequence[int]) -> nn.Module:
    """Stacked models, one per seed, each with initial weights drawn from its own seed alone.

    The module maps inputs [K, B, padded(n_features)] (or [1, B, …], the same records for all models), zero beyond
    n_features, to logits [K, B, n_outputs].
    """
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return ARCHITECTURES[spec.architecture](spec, n_features, n_outputs, generators)


def capacity(spec: Any, n_features: int, n_outputs: int) -> int:
    """Number of trainable parameters of one model."""
    model = build(spec, n_features, n_outputs, seeds=[0])
    return sum(layer.n_parameters for layer in model.modules() if isinstance(layer, StackedLayer))
