"""Small images, signals and tables that a model can learn something from, as the engine takes them."""

import numpy as np
import torch

from tailrisk.config.architectures import AnyModel, Custom, Logistic, ResNet1D, TabularResNet, ViT, WideResNet
from tailrisk.models import is_stacked
from tailrisk.models.stacked import padded
from tailrisk.training.resident import Resident

SHAPES = {"table": (31,), "image": (1, 16, 16), "colour": (3, 32, 32), "signal": (12, 80)}

OWN = """
from torch import nn

def network(input_shape, n_outputs, width=8):
    return nn.Sequential(nn.Flatten(), nn.Linear(input_shape[0] * input_shape[1], width), nn.ReLU(),
                         nn.Dropout(0.3), nn.Linear(width, n_outputs))
"""
"""A user's model; with dropout, so that its random numbers are tested, too."""


def architectures(folder) -> dict[str, tuple[AnyModel, str]]:
    """Every architecture at a small size, with the kind of data that it takes. Writes a user's module to `folder`."""
    (folder / "own_networks.py").write_text(OWN)
    own = Custom(architecture="custom", function="own_networks:network", path=str(folder), arguments={"width": 6})
    return {
        "logistic": (Logistic(architecture="logistic"), "table"),
        "tabular": (TabularResNet(architecture="tabular_resnet", width=17, depth=2), "table"),
        "wrn": (WideResNet(architecture="wide_resnet", depth=10, width=1), "image"),
        "wrn-batch": (WideResNet(architecture="wide_resnet", depth=10, width=1, norm="batch"), "image"),
        "vit": (ViT(architecture="vit", depth=1, pretrained=False), "colour"),
        "resnet1d": (ResNet1D(architecture="resnet1d", width=16), "signal"),
        "resnet1d-batch": (ResNet1D(architecture="resnet1d", width=16, norm="batch"), "signal"),
        "custom": (own, "signal"),
    }


def data(kind: str, spec: AnyModel, n: int = 60) -> Resident:
    """`n` records whose binary label is seen in their mean; images as uint8."""
    generator = torch.Generator().manual_seed(3)
    shape = SHAPES[kind]
    labels = torch.randint(0, 2, (n,), generator=generator)
    inputs = torch.randn(n, *shape, generator=generator) + (labels * 0.8).view(-1, *[1] * len(shape))
    if kind in {"image", "colour"}:
        inputs = (inputs * 40 + 128).clamp(0, 255).to(torch.uint8)
    if is_stacked(spec):
        flat = torch.zeros(n, padded(shape[0]))
        flat[:, : shape[0]] = inputs
        inputs = flat
    return Resident(inputs, labels, "binary", shape, 1, flat=is_stacked(spec))


def pool_of(model: int, n: int = 40) -> np.ndarray:
    """The rows, among the first `n`, that a model is trained on."""
    return np.flatnonzero(np.random.default_rng(model).random(n) < 0.5)
