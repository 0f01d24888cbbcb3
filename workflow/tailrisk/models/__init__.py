"""Target models: one file per architecture, registered by name."""

import random
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import nn

from tailrisk.config.architectures import AnyModel
from tailrisk.models.custom import custom
from tailrisk.models.logistic import Logistic
from tailrisk.models.resnet1d import ResNet1D
from tailrisk.models.shapes import check_shape
from tailrisk.models.singly import Singly
from tailrisk.models.stacked import StackedLayer
from tailrisk.models.tabular_resnet import TabularResNet
from tailrisk.models.vit import vit
from tailrisk.models.wide_resnet import WideResNet

STACKED: dict[str, Callable[[Any, int, int, Sequence[torch.Generator]], nn.Module]] = {
    "logistic": Logistic,
    "tabular_resnet": TabularResNet,
}
"""Many models as one module, by `architecture`: (its section, features, outputs, generators) → module.

The module maps inputs [K, B, padded(features)] (or [1, B, …], the same records for all models), zero beyond the
features, to logits [K, B, outputs].
"""

SINGLE: dict[str, Callable[[Any, tuple[int, ...], int], nn.Module]] = {
    "custom": custom,
    "resnet1d": ResNet1D,
    "vit": vit,
    "wide_resnet": WideResNet,
}
"""By `architecture`: (its section, shape of a record, outputs) → a module [B, *shape] → logits [B, outputs]."""


def is_stacked(spec: AnyModel) -> bool:
    """Whether models of this architecture are one module with a leading model dimension in every parameter."""
    return spec.architecture in STACKED


def build(spec: AnyModel, shape: tuple[int, ...], n_outputs: int, seeds: Sequence[int]) -> nn.Module:
    """K models, one per seed, each with initial weights drawn from its own seed alone.

    The module maps records [K, B, …] (or [1, B, …], the same for all models) to logits [K, B, n_outputs]. A stacked
    architecture takes them flattened and padded with zeros to padded(prod(shape)), the others as [K, B, *shape].
    UserError where the architecture cannot take records of this shape.
    """
    check_shape(spec, shape)
    if is_stacked(spec):
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        return STACKED[spec.architecture](spec, prod(shape), n_outputs, generators)
    return Singly([_single(spec, shape, n_outputs, seed) for seed in seeds])


def _single(spec: AnyModel, shape: tuple[int, ...], n_outputs: int, seed: int) -> nn.Module:
    """One model. What it draws from global generators (torch's, numpy's, Python's) is seeded; they stay as they are."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002
            random.seed(seed)
            return SINGLE[spec.architecture](spec, shape, n_outputs)
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002


def capacity(spec: AnyModel, shape: tuple[int, ...], n_outputs: int) -> int:
    """Number of trainable parameters of one model.

    Large networks are counted on the meta device, without memory and without reading pretrained weights; a model of
    the user's own is built, as its code need not work there.
    """
    if is_stacked(spec) or spec.architecture == "custom":
        model = build(spec, shape, n_outputs, seeds=[0])
    else:
        with torch.device("meta"):
            model = build(spec, shape, n_outputs, seeds=[0])
    if is_stacked(spec):
        return sum(layer.n_parameters for layer in model.modules() if isinstance(layer, StackedLayer))
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
