"""Stacked architectures against the plain torch modules that they stand for."""

import pytest
import torch
from torch import nn

from tailrisk.config.architectures import Logistic, TabularResNet
from tailrisk.models import build, capacity
from tailrisk.models.stacked import StackedLayerNorm, StackedLinear, padded

SPECS = [
    Logistic(architecture="logistic"),
    TabularResNet(architecture="tabular_resnet", width=17, depth=2),
    TabularResNet(architecture="tabular_resnet", width=32, depth=1),
]


class PlainBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x)


def plain(spec, n_features: int, n_outputs: int) -> nn.Module:
    """The architecture for one model, from torch's own layers."""
    if isinstance(spec, Logistic):
        return nn.Sequential(nn.Linear(n_features, n_outputs))
    blocks = [PlainBlock(spec.width) for _ in range(spec.depth)]
    head = [nn.LayerNorm(spec.width), nn.ReLU(), nn.Linear(spec.width, n_outputs)]
    return nn.Sequential(nn.Linear(n_features, spec.width), *blocks, *head)


def copy_slot(stacked: nn.Module, slot: int, single: nn.Module) -> None:
    """Give `single` the weights of one model of the stack."""
    ours = [layer for layer in stacked.modules() if isinstance(layer, StackedLinear | StackedLayerNorm)]
    theirs = [layer for layer in single.modules() if isinstance(layer, nn.Linear | nn.LayerNorm)]
    assert len(ours) == len(theirs)
    with torch.no_grad():
        for a, b in zip(ours, theirs, strict=True):
            if isinstance(b, nn.Linear):
                b.weight.copy_(a.weight[slot, : b.in_features, : b.out_features].T)
                b.bias.copy_(a.bias[slot, : b.out_features])
            else:
                b.weight.copy_(a.scale[slot, : a.width])
                b.bias.copy_(a.shift[slot, : a.width])


def spread(parameters, seed: int) -> None:
    """Move the real (non-padding) weights of a stack away from their initial values."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(0.1 * (parameter != 0) * torch.randn(parameter.shape, generator=generator))


@pytest.mark.parametrize("spec", SPECS, ids=["logistic", "width17", "width32"])
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_logits_and_gradients_equal_a_plain_module(spec, n_outputs: int) -> None:
    stacked = build(spec, (31,), n_outputs, seeds=[5, 6, 7])
    spread(stacked.parameters(), 0)
    x = torch.randn(3, 13, 31, generator=torch.Generator().manual_seed(1))
    wide = torch.zeros(3, 13, padded(31))
    wide[..., :31] = x
    logits = stacked(wide)
    (logits**2).sum().backward()
    for slot in range(3):
        single = plain(spec, 31, n_outputs)
        copy_slot(stacked, slot, single)
        expected = single(x[slot])
        torch.testing.assert_close(logits[slot], expected, rtol=1e-5, atol=1e-5)
        (expected**2).sum().backward()
        gradients = build(spec, (31,), n_outputs, seeds=[0, 0, 0])
        for source, target in zip(stacked.parameters(), gradients.parameters(), strict=True):
            target.data = source.grad
        of_slot = plain(spec, 31, n_outputs)
        copy_slot(gradients, slot, of_slot)
        for ours, theirs in zip(of_slot.parameters(), single.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs.grad, rtol=1e-4, atol=1e-5, check_dtype=True)


@pytest.mark.parametrize("spec", SPECS, ids=["logistic", "width17", "width32"])
@pytest.mark.parametrize(("n_features", "n_outputs"), [(31, 1), (16, 5)])
def test_capacity_is_the_number_of_parameters(spec, n_features: int, n_outputs: int) -> None:
    expected = sum(parameter.numel() for parameter in plain(spec, n_features, n_outputs).parameters())
    assert capacity(spec, (n_features,), n_outputs) == expected


def test_capacity_of_the_papers_network() -> None:
    spec = TabularResNet(architecture="tabular_resnet", width=300, depth=6)
    by_hand = 64 * 300 + 300 + 6 * (2 * 300 + 2 * (300 * 300 + 300)) + 2 * 300 + 300 + 1
    assert capacity(spec, (64,), 1) == by_hand


@pytest.mark.parametrize("spec", SPECS, ids=["logistic", "width17", "width32"])
def test_initial_weights_depend_on_the_own_seed_alone(spec) -> None:
    together, alone = build(spec, (31,), 1, seeds=[1, 2, 3]), build(spec, (31,), 1, seeds=[2])
    for many, one in zip(together.parameters(), alone.parameters(), strict=True):
        assert torch.equal(many[1], one[0])
    first = next(together.parameters())
    assert not torch.equal(first[0], first[1])


def test_logistic_regression_takes_flattened_images() -> None:
    spec = Logistic(architecture="logistic")
    model = build(spec, (3, 5, 7), 2, seeds=[0, 1])
    assert model(torch.zeros(1, 4, padded(3 * 5 * 7))).shape == (2, 4, 2)
    assert capacity(spec, (3, 5, 7), 2) == 2 * (3 * 5 * 7 + 1)


def test_initial_weights_are_those_of_torch_linear() -> None:
    layer = StackedLinear(100, 400, [torch.Generator().manual_seed(0)])
    for values in (layer.weight.detach()[0, :100, :400], layer.bias.detach()[0, :400]):
        assert values.abs().max() <= 0.1
        assert abs(float(values.std()) - 0.1 / 3**0.5) < 0.005  # 400 draws of U(±0.1)
