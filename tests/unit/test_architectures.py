"""Networks for images and signals against plain versions, their parameters, and what they refuse."""

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from small_networks import custom, resnet1d, spread, vit, wide_resnet
from torch import Tensor, nn
from torch.nn import functional

from tailrisk.config.architectures import Logistic, TabularResNet
from tailrisk.errors import UserError
from tailrisk.models import build, capacity, is_stacked

SMALL = {
    "wide_resnet": (wide_resnet(10, 2), (3, 12, 8)),
    "resnet1d": (resnet1d(16), (12, 40)),
    "vit": (vit(depth=1), (1, 32, 32)),
}


small = pytest.mark.parametrize(("spec", "shape"), SMALL.values(), ids=SMALL)


def normal(x: Tensor, weights: dict[str, Tensor], name: str, norm: str) -> Tensor:
    """Group (16) or batch normalisation from its definition."""
    grouped = x.reshape(len(x), 16, -1) if norm == "group" else x.transpose(0, 1).reshape(x.shape[1], -1)
    mean, variance = grouped.mean(-1, keepdim=True), grouped.var(-1, unbiased=False, keepdim=True)
    grouped = (grouped - mean) / (variance + 1e-5).sqrt()
    whole = grouped.reshape(x.shape) if norm == "group" else grouped.reshape(x.transpose(0, 1).shape).transpose(0, 1)
    per_channel = (1, -1) + (1,) * (x.ndim - 2)
    return whole * weights[f"{name}.weight"].reshape(per_channel) + weights[f"{name}.bias"].reshape(per_channel)


def plain_wide_resnet(x: Tensor, weights: dict[str, Tensor], depth: int, norm: str) -> Tensor:
    """The network in function calls: names of weights come from the module, the computation does not."""

    def active(x: Tensor, name: str) -> Tensor:
        y = normal(x, weights, f"{name}.0", norm)
        return torch.where(y > 0, y, 0.1 * y)

    x = functional.conv2d(x, weights["stem.weight"], padding=1)
    per_group = (depth - 4) // 6
    for block in range(3 * per_group):
        stride = 2 if block in (per_group, 2 * per_group) else 1
        name = f"blocks.{block}"
        first = active(x, f"{name}.activation")
        y = functional.conv2d(first, weights[f"{name}.residual.0.weight"], stride=stride, padding=1)
        y = functional.conv2d(active(y, f"{name}.residual.1"), weights[f"{name}.residual.2.weight"], padding=1)
        shortcut = weights.get(f"{name}.shortcut.weight")
        x = y + (x if shortcut is None else functional.conv2d(first, shortcut, stride=stride))
    x = active(x, "activation").flatten(2).mean(-1)
    return x @ weights["head.weight"].T + weights["head.bias"]


def same(x: Tensor, weight: Tensor) -> Tensor:
    """y[t] = Σ_j w[j] x[t + j − ⌊(k−1)/2⌋], zeros outside: 'same' padding as in the paper's framework."""
    kernel, samples = weight.shape[-1], x.shape[-1]
    y = torch.zeros(len(x), len(weight), samples, dtype=x.dtype)
    for j in range(kernel):
        offset = j - (kernel - 1) // 2
        times = [t for t in range(samples) if 0 <= t + offset < samples]
        y[:, :, times] += torch.einsum("oi,bit->bot", weight[:, :, j], x[:, :, [t + offset for t in times]])
    return y


def plain_resnet1d(x: Tensor, weights: dict[str, Tensor], norm: str) -> Tensor:
    def convolved(x: Tensor, name: str) -> Tensor:
        kernel = next(i for i in (0, 1) if weights.get(f"{name}.{i}.weight", torch.empty(0)).ndim == 3)
        return normal(same(x, weights[f"{name}.{kernel}.weight"]), weights, f"{name}.{kernel + 1}", norm)

    for block in range(3):
        name = f"blocks.{block}"
        y = convolved(x, f"{name}.residual.0").clamp(min=0)
        y = convolved(y, f"{name}.residual.2").clamp(min=0)
        y = convolved(y, f"{name}.residual.4")
        shortcut = convolved(x, f"{name}.shortcut") if block < 2 else normal(x, weights, f"{name}.shortcut", norm)
        x = (y + shortcut).clamp(min=0)
    return x.mean(-1) @ weights["head.weight"].T + weights["head.bias"]


@pytest.mark.parametrize("norm", ["group", "batch"])
@pytest.mark.parametrize(("depth", "shape"), [(10, (3, 13, 10)), (16, (1, 8, 8))])
def test_wide_resnet_equals_its_definition(norm: str, depth: int, shape: tuple[int, ...]) -> None:
    model = build(wide_resnet(depth, 2, norm), shape, 3, seeds=[1]).models[0].double()
    spread(model)
    x = torch.randn(4, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = plain_wide_resnet(x, dict(model.named_parameters()), depth, norm)
    torch.testing.assert_close(model(x), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_resnet1d_equals_its_definition(norm: str) -> None:
    model = build(resnet1d(16, norm), (12, 21), 5, seeds=[1]).models[0].double()
    spread(model)
    x = torch.randn(4, 12, 21, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = plain_resnet1d(x, dict(model.named_parameters()), norm)
    torch.testing.assert_close(model(x), expected, rtol=1e-10, atol=1e-10)


def test_convolutions_of_the_wide_resnet_start_as_in_he_et_al() -> None:
    model = build(wide_resnet(10, 4), (3, 32, 32), 1, seeds=[0]).models[0]
    for layer in (layer for layer in model.modules() if isinstance(layer, nn.Conv2d)):
        reached = layer.out_channels * layer.kernel_size[0] ** 2
        expected = (2 / (1.01 * reached)) ** 0.5  # LeakyReLU(0.1) keeps (1 + 0.1²)/2 of the variance
        standard_error = expected / (2 * layer.weight.numel()) ** 0.5
        assert abs(float(layer.weight.detach().std()) - expected) < 5 * standard_error


def test_resnet1d_refuses_a_width_that_groups_do_not_divide() -> None:
    with pytest.raises(ValidationError, match="width must be a multiple of 16 for group normalisation, not 20"):
        resnet1d(20)
    assert build(resnet1d(20, "batch"), (12, 30), 1, seeds=[0])(torch.zeros(1, 2, 12, 30)).shape == (1, 2, 1)


@pytest.mark.parametrize(
    ("depth", "width", "channels", "n_outputs", "expected"),
    [
        (28, 2, 1, 1, 1_466_161),
        (40, 4, 1, 1, 8_946_609),
        (28, 10, 3, 10, 36_479_194),  # widely published for CIFAR-10
    ],
)
def test_parameters_of_wide_resnets(depth: int, width: int, channels: int, n_outputs: int, expected: int) -> None:
    assert capacity(wide_resnet(depth, width), (channels, 64, 64), n_outputs) == expected


@pytest.mark.parametrize("width", [32, 128])
def test_parameters_of_resnet1d(width: int) -> None:
    norm, leads, w = 2, 12, width
    first = (8 * leads + 5 * w + 3 * w) * w + leads * w + 4 * norm * w
    second = (8 * w + 5 * 2 * w + 3 * 2 * w) * 2 * w + w * 2 * w + 4 * norm * 2 * w
    third = (8 + 5 + 3) * (2 * w) ** 2 + 4 * norm * 2 * w
    assert capacity(resnet1d(width), (leads, 1000), 5) == first + second + third + 5 * (2 * w + 1)


@pytest.mark.parametrize(("size", "width", "depth"), [("base", 768, 12), ("large", 1024, 24)])
@pytest.mark.parametrize(("channels", "side", "n_outputs"), [(1, 64, 1), (3, 128, 3)])
def test_parameters_of_vision_transformers(size, width, depth, channels, side, n_outputs) -> None:
    block = 4 * width**2 + 4 * width + 8 * width**2 + 5 * width + 4 * width  # attention, MLP, two norms
    embedding = channels * 256 * width + width + width + ((side // 16) ** 2 + 1) * width
    expected = embedding + depth * block + 2 * width + n_outputs * (width + 1)
    spec = vit(size=size, pretrained=True, weights="not/read.safetensors")
    assert capacity(spec, (channels, side, side), n_outputs) == expected
    assert round(expected / 1e6, 1) in ({85.3, 85.7} if size == "base" else {302.6, 303.2})


@small
def test_capacity_is_that_of_the_built_model(spec, shape) -> None:
    model = build(spec, shape, 3, seeds=[0])
    assert capacity(spec, shape, 3) == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("spec", "shape", "n_outputs"),
    [
        (Logistic(architecture="logistic"), (64,), 1),
        (TabularResNet(architecture="tabular_resnet", width=300, depth=6), (64,), 1),
        *((resnet1d(width), (12, 1000), 5) for width in (128, 32)),
        *((wide_resnet(28, 2), (*shape, shape[1]), shape[0]) for shape in ((1, 64), (3, 128))),
        *((wide_resnet(40, 4), (*shape, shape[1]), shape[0]) for shape in ((1, 64), (3, 128))),
        *(
            (vit(size=size), (*shape, shape[1]), shape[0])
            for size in ("base", "large")
            for shape in ((1, 64), (3, 128))
        ),
    ],
)
def test_the_documented_parameters_are_counted(spec, shape, n_outputs: int, repository: Path) -> None:
    rows = (repository / "docs" / "architectures.md").read_text(encoding="utf-8").splitlines()
    counted = f"| {n_outputs} | {capacity(spec, shape, n_outputs):,} |"
    assert sum(f"`{spec.architecture}`" in row or "the same" in row for row in rows if counted in row) == 1


@small
def test_models_answer_as_each_alone_for_own_and_common_records(spec, shape) -> None:
    assert not is_stacked(spec)
    model = build(spec, shape, 2, seeds=[3, 4]).eval()
    own = torch.randn(2, 5, *shape, generator=torch.Generator().manual_seed(0))
    logits, common = model(own), model(own[:1])
    assert logits.shape == common.shape == (2, 5, 2)
    for slot in (0, 1):
        assert torch.equal(logits[slot], model.models[slot](own[slot]))
        assert torch.equal(common[slot], model.models[slot](own[0]))
    assert not torch.equal(common[0], common[1])


@small
def test_initial_weights_depend_on_the_own_seed_alone(spec, shape) -> None:
    torch.manual_seed(7)
    expected_next = torch.rand(3)
    torch.manual_seed(7)
    together = build(spec, shape, 2, seeds=[1, 2, 3])
    assert torch.equal(torch.rand(3), expected_next)  # the caller's random numbers are left alone
    alone = build(spec, shape, 2, seeds=[2])
    for many, one in zip(together.models[1].parameters(), alone.models[0].parameters(), strict=True):
        assert torch.equal(many, one)
    first, second = (next(model.parameters()) for model in together.models[:2])
    assert not torch.equal(first, second)


@small
def test_logits_do_not_depend_on_the_other_records(spec, shape) -> None:
    model = build(spec, shape, 2, seeds=[1])
    x = torch.randn(1, 6, *shape, generator=torch.Generator().manual_seed(0))
    other = torch.randn(1, 6, *shape, generator=torch.Generator().manual_seed(1))
    other[:, 2] = x[:, 2]
    for mode in (True, False):
        model.train(mode)
        assert torch.equal(model(x)[:, 2], model(other)[:, 2])


def test_batch_normalisation_depends_on_the_other_records_in_training_only() -> None:
    model = build(wide_resnet(10, 1, "batch"), (1, 8, 8), 2, seeds=[1])
    x = torch.randn(1, 6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    other = torch.cat([x[:, :1], 2 * x[:, 1:]], dim=1)
    assert not torch.allclose(model(x)[:, 0], model(other)[:, 0], atol=1e-3)
    model.eval()
    assert torch.equal(model(x)[:, 0], model(other)[:, 0])


@small
def test_parameters_may_become_views_of_one_buffer(spec, shape) -> None:
    model, kept = (build(spec, shape, 2, seeds=[1]) for _ in range(2))
    parameters = list(model.parameters())
    buffer = torch.cat([parameter.detach().flatten() for parameter in parameters])
    for parameter, values in zip(parameters, buffer.split([p.numel() for p in parameters]), strict=True):
        parameter.data = values.view(parameter.shape)
    x = torch.randn(1, 3, *shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model(x), kept(x))
    gradients = torch.autograd.grad(model(x).square().sum(), parameters)
    assert all(bool(gradient.isfinite().all() and gradient.any()) for gradient in gradients)
    buffer.mul_(0.5)
    with torch.no_grad():
        for parameter in kept.parameters():
            parameter.mul_(0.5)
    assert torch.equal(model(x), kept(x))


@pytest.mark.parametrize(
    ("spec", "shape", "needs"),
    [
        (TabularResNet(architecture="tabular_resnet", width=8, depth=1), (12, 1000), "takes tables only"),
        (wide_resnet(10, 1), (30,), "takes images"),
        (resnet1d(16), (1, 64, 64), "takes signals"),
        (vit(), (12, 1000), "takes images"),
        (vit(), (1, 64, 48), "the same multiple of 16"),
        (vit(), (1, 40, 40), "the same multiple of 16"),
    ],
)
def test_records_that_an_architecture_cannot_take_are_refused(spec, shape, needs: str) -> None:
    for made in (lambda: build(spec, shape, 1, seeds=[0]), lambda: capacity(spec, shape, 1)):
        with pytest.raises(UserError) as refused:
            made()
        message = str(refused.value)
        assert spec.architecture in message
        assert needs in message
        assert str(list(shape)) in message


def test_stacked_architectures_are_known() -> None:
    assert is_stacked(Logistic(architecture="logistic"))
    assert not is_stacked(custom(Path()))
